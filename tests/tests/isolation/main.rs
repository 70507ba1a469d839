//! What the tier `full` holds. Every denial has its positive control: the same act succeeds
//! outside, and fails inside with exactly this error.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod calls;
mod files;
mod ipc;
mod network;
mod processes;
mod remains;

use noxrunner_tests::TestDaemon;
use noxrunner_tests::attack::{in_namespaces, inside, outside};

/// A daemon whose sandbox `s` is of the tier `full`, whatever else would work.
#[track_caller]
fn full() -> TestDaemon {
    let daemon = TestDaemon::start_with(&["--isolation", "full"]);
    assert_eq!(daemon.create("s").isolation.tier, noxrunner_protocol::types::Tier::Full);
    daemon
}

/// Where an attack succeeds.
#[derive(Debug, Clone, Copy)]
enum Control {
    /// Outside, as any user.
    Outside,
    /// Outside, as root of its own namespaces.
    InNamespaces,
}

/// A name, the lines, where they succeed, and what they come to inside.
type Attack<'a> = (&'a str, &'a str, Control, &'a str);

/// Runs attacks in the sandbox `s` and where they succeed, and names all that come out otherwise.
#[track_caller]
fn denied(daemon: &TestDaemon, attacks: &[Attack<'_>]) {
    let mut wrong = Vec::new();
    for (name, code, control, want) in attacks {
        let outside = match control {
            Control::Outside => outside(code),
            Control::InNamespaces => in_namespaces(code),
        };
        let inside = inside(daemon, "s", code);
        if outside != "ok" || inside != *want {
            wrong.push(format!("{name}: outside {outside}, inside {inside} and not {want}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
