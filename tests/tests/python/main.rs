//! The published Python client, unmodified, drives a real daemon through everything that it can do.
//!
//! Each scenario is a script in `clients/python` that says nothing unless something is wrong. Where
//! the tests run as a user who cannot read the sources, it is put where that user can.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;

use noxrunner_tests::python::{Python, put};
use noxrunner_tests::{ON_TCP, TestDaemon, Tier, in_both_tiers, run, text};

/// What the scripts share.
const SCENARIO: &str = include_str!("../../clients/python/scenario.py");

/// Runs a script against a daemon.
#[track_caller]
fn play(daemon: &TestDaemon, name: &str, script: &str) -> Output {
    let dir = daemon.dir.path().join("scripts");
    fs::create_dir_all(&dir).unwrap();
    put(&dir, "scenario.py", SCENARIO);
    let script = put(&dir, name, script);
    let mut python = Python::with_noxrunner().interpreter();
    run(python.arg(script).arg(daemon.base_url()).arg(daemon.tier.name()))
}

/// All goes well, and nothing is left in the daemon.
#[track_caller]
fn goes_well(daemon: &TestDaemon, name: &str, script: &str) {
    let output = play(daemon, name, script);
    let said = (text(&output.stdout), text(&output.stderr));
    assert_eq!(said, (String::new(), String::new()), "{name}");
    assert_eq!(output.status.code(), Some(0), "{name}");
    assert_eq!(daemon.directories(), [""; 0], "{name} leaves sandboxes");
}

macro_rules! scenarios {
    ($($test:ident: $file:literal),+ $(,)?) => {
        in_both_tiers!(with ON_TCP; $($test),+);
        $(fn $test(daemon: TestDaemon) {
            goes_well(&daemon, $file, include_str!(concat!("../../clients/python/", $file)));
        })+
    };
}

scenarios! {
    sandboxes_are_made_with_every_option: "create.py",
    commands_and_lines_of_a_shell: "execute.py",
    files_go_in_and_out: "files.py",
    ready_kept_expired_deleted: "life.py",
    many_at_once: "together.py",
}

#[test]
fn the_answer_of_a_command_that_takes_the_default_time_arrives() {
    let daemon = TestDaemon::start_with(&ON_TCP);
    let script = include_str!("../../clients/python/default_timeout.py");
    goes_well(&daemon, "default_timeout.py", script);
}

/// Connections that say nothing, or begin a request and leave it there, are nobody's trouble.
#[test]
fn it_works_on_beside_six_hundred_idle_and_two_hundred_half_sent_connections() {
    // Not while the connections wait: it may take long to make.
    Python::with_noxrunner();
    let daemon = TestDaemon::start_with(&[&ON_TCP[..], &["--header-timeout", "100s"]].concat());
    let connect = |_| TcpStream::connect(daemon.http()).unwrap();
    let _idle: Vec<TcpStream> = (0..600).map(connect).collect();
    let mut half_sent: Vec<TcpStream> = (0..200).map(connect).collect();
    for stream in &mut half_sent {
        stream.write_all(b"PUT /v1/sandboxes/half HTTP/1.1\r\nhost: localhost\r\n").unwrap();
    }
    goes_well(&daemon, "together.py", include_str!("../../clients/python/together.py"));
    // All of them are there still.
    for stream in &mut half_sent {
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0]).unwrap_err();
    }
}

#[test]
fn what_goes_wrong_in_a_scenario_fails_it() {
    let daemon = TestDaemon::of_tier_with(Tier::None, &ON_TCP);
    let wrong =
        "from scenario import refused, client\nrefused(404, 'x', client.create_sandbox, 's')\n";
    let output = play(&daemon, "wrong.py", wrong);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not refused"), "{}", text(&output.stderr));
}
