//! The daemon started by systemd: by a connection to a socket that somebody else made, with somebody
//! who wants to hear how it is, from the units in systemd/.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod inherited;
mod refused;
mod socket;
mod status;
mod tidying;
mod units;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use noxrunner_tests::{TestDaemon, program, run};

/// Listens in the place of a socket unit, and becomes the daemon when somebody connects.
const ACTIVATE: &str = "systemd-socket-activate";

/// A program of systemd's.
#[track_caller]
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let found = run(Command::new("sh").args(["-c", "command -v \"$0\"", name]));
    assert!(found.status.success(), "{name} is missing: apt-get install systemd");
    command.stdin(Stdio::null());
    command
}

/// What a daemon of [`TestDaemon`] is started under to be activated on the socket that it is told
/// (`$3`), with more options of [`ACTIVATE`].
fn activating(options: &str) -> Vec<String> {
    tool(ACTIVATE);
    let script =
        format!(r#"exec {ACTIVATE} -E NOXRUNNER_TEST_DIR {options} --listen "$3" "$0" "$@""#);
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

/// A daemon that was activated.
#[track_caller]
fn activated(options: &str, arguments: &[&str]) -> TestDaemon {
    let wrapper = activating(options);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    TestDaemon::start_under(&wrapper, arguments)
}

/// `systemd-socket-activate … noxrunnerd --local-test …` with its sandboxes in a directory, not yet
/// run: what the daemon is told of a socket is in `arguments`.
fn activate<S: AsRef<OsStr>>(dir: &Path, options: &[S], arguments: &[&str]) -> Command {
    let base = dir.join("base");
    std::fs::create_dir_all(&base).unwrap();
    let mut command = tool(ACTIVATE);
    command.args(["-E", "NOXRUNNER_TEST_DIR"]).args(options).arg(program("noxrunnerd"));
    command.args(["--local-test", "--pool", "0", "--base-dir"]).arg(base).args(arguments);
    command.env("NOXRUNNER_TEST_DIR", dir);
    command
}

/// What a process executes.
#[track_caller]
fn executable(pid: nix::unistd::Pid) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}
