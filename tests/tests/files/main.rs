//! Files of sandboxes, from outside: over the socket, with the real daemon.
//!
//! | file | what it shows |
//! |---|---|
//! | `content` | reading in ranges, writing whole or not at all |
//! | `entries` | listing and describing, odd names |
//! | `change` | making, removing, renaming |
//! | `links` | links lead where they lead inside, and nowhere else |
//! | `in_the_way` | pipes, sockets, devices and leases: an answer within a second |
//! | `swaps` | code that exchanges a directory and a link as fast as it can |
#![allow(clippy::unwrap_used)]

mod change;
mod content;
mod entries;
mod in_the_way;
mod links;
mod swaps;

use noxrunner_protocol::types::ExecResult;
use noxrunner_tests::TestDaemon;
use serde_json::{Value, json};

/// Calls a method about a file of the sandbox `s`, with more params.
#[track_caller]
fn call(daemon: &TestDaemon, method: &str, params: Value) -> Value {
    let params = with_session(params);
    daemon.call(method, params.clone()).unwrap_or_else(|e| panic!("{method} {params}: {e}"))
}

/// The same where it is refused: the kind and the message.
#[track_caller]
fn refused(daemon: &TestDaemon, method: &str, params: Value) -> (String, String) {
    daemon.refused(method, with_session(params))
}

fn with_session(mut params: Value) -> Value {
    params["sessionId"] = json!("s");
    params
}

/// A daemon with the sandbox `s`.
#[track_caller]
fn with_sandbox(daemon: TestDaemon) -> TestDaemon {
    daemon.create("s");
    daemon
}

/// What a command that must succeed prints, as the sandbox itself sees things.
#[track_caller]
fn inside(daemon: &TestDaemon, script: &str) -> String {
    let ExecResult { exit_code, stdout, stderr, .. } = daemon.sh("s", script);
    assert_eq!(exit_code, 0, "{script}: {stderr}");
    stdout
}
