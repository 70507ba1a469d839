//! The daemon as a program: how it starts, what it refuses, how it ends.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use noxrunner_protocol::method::{DaemonInfoGet, DaemonShutdown};
use noxrunner_protocol::types::NoParams;
use noxrunner_tests::wire::Wire;
use noxrunner_tests::{
    SOON, Started, TestDaemon, Tier, eventually, noxrunnerd, number_in, program, run, text,
};
use serde_json::json;

/// Asserts that a daemon does not start there, and gives what it says.
#[track_caller]
fn does_not_start(dir: &Path, socket: &Path, base: &Path) -> String {
    let output = run(&mut noxrunnerd(dir, socket, base));
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

#[test]
fn without_a_mode_it_explains_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("noxrunnerd"));
    let output = run(command.arg("--socket").arg(dir.path().join("s")).stdin(Stdio::null()));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(text(&output.stderr).contains("noxrunnerd --local-test"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    for bad in [&["--local-test", "--frob"][..], &["--local-test", "--idle-exit", "soon"]] {
        let output = run(Command::new(program("noxrunnerd")).args(bad).stdin(Stdio::null()));
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
    let help = run(Command::new(program("noxrunnerd")).arg("--help").stdin(Stdio::null()));
    assert!(help.status.success() && text(&help.stdout).contains("--ephemeral"));
}

#[test]
fn a_second_daemon_names_the_first() {
    let daemon = TestDaemon::start();
    let other = tempfile::tempdir().unwrap();
    let socket = daemon.socket.to_str().unwrap();
    let same_socket = does_not_start(other.path(), &daemon.socket, other.path());
    assert!(
        same_socket.contains("already listening on") && same_socket.contains(socket),
        "{same_socket}"
    );
    let new = other.path().join("s.sock");
    let same_base = does_not_start(other.path(), &new, &daemon.base);
    let base = daemon.base.canonicalize().unwrap();
    assert!(
        same_base.contains(socket) && same_base.contains(base.to_str().unwrap()),
        "{same_base}"
    );
    let both = does_not_start(other.path(), &daemon.socket, &daemon.base);
    assert!(both.contains(socket), "{both}");
    assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
    let info = daemon.connect().call::<DaemonInfoGet>(&NoParams {}).unwrap();
    assert_eq!(i64::from(info.pid), i64::from(daemon.pid().as_raw()));
}

#[test]
fn a_dead_socket_is_replaced() {
    let mut daemon = TestDaemon::start();
    daemon.create("s");
    daemon.end_by(Signal::SIGKILL);
    assert!(daemon.socket.exists());
    daemon.start_again();
    assert_eq!(daemon.exec("s", &["true"]).exit_code, 0);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    let said = does_not_start(dir.path(), &file, dir.path());
    assert!(said.contains("not a socket") && said.contains(file.to_str().unwrap()), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let directory = dir.path().join("directory");
    fs::create_dir(&directory).unwrap();
    assert!(does_not_start(dir.path(), &directory, dir.path()).contains("not a socket"));
    // Somebody else's live socket, of no daemon.
    let foreign = dir.path().join("foreign");
    let _listener = UnixListener::bind(&foreign).unwrap();
    assert!(does_not_start(dir.path(), &foreign, dir.path()).contains("listening"));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let said = does_not_start(dir.path(), &open.join("s.sock"), dir.path());
    assert!(said.contains("other users") && said.contains(open.to_str().unwrap()), "{said}");
    let long = dir.path().join("x".repeat(120));
    assert!(does_not_start(dir.path(), &long, dir.path()).contains("too long"));
    let missing = dir.path().join("missing");
    let said = does_not_start(dir.path(), &dir.path().join("s.sock"), &missing);
    assert!(said.contains(missing.to_str().unwrap()), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_socket_is_private() {
    private(Tier::Full);
    private(Tier::None);
}

#[track_caller]
fn private(tier: Tier) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a/b/s.sock");
    // The mask of whoever starts it must not matter.
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(program("noxrunnerd"));
    command.args(["--local-test", "--base-dir"]).arg(dir.path()).arg("--socket").arg(&socket);
    command.args(["--isolation", tier.name()]);
    let mut child = Started::new(command.stdin(Stdio::null()));
    eventually("it listens", SOON, || UnixStream::connect(&socket).is_ok());
    let mode = |path: &Path| path.symlink_metadata().unwrap().mode() & 0o7777;
    eventually("the socket is private", SOON, || mode(&socket) == 0o600);
    assert_eq!(mode(socket.parent().unwrap()), 0o700);
    let created = Wire::open(&socket).call(1, "sandbox.create", json!({"sessionId": "s"}));
    let sandbox = Path::new(created["result"]["sandboxDir"].as_str().unwrap());
    // Without a mount tree the own user of a sandbox of root's passes through it, to places that are only its own.
    let passes = nix::unistd::geteuid().is_root() && tier == Tier::None;
    assert_eq!(mode(sandbox), if passes { 0o711 } else { 0o700 }, "{tier}");
    for place in ["workspace", "home", "tmp"] {
        assert_eq!(mode(&sandbox.join(place)), 0o700, "{place}");
    }
    Wire::open(&socket).call(1, "daemon.shutdown", json!({}));
    assert_eq!(child.wait().code(), Some(0));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the socket's directory and the sandbox's: {left:?}");
}

#[test]
fn signals_end_it_and_the_sandboxes_stay() {
    for (signal, tier) in [
        (Signal::SIGTERM, Tier::Full),
        (Signal::SIGINT, Tier::Full),
        (Signal::SIGTERM, Tier::None),
        (Signal::SIGINT, Tier::None),
    ] {
        let mut daemon = TestDaemon::of_tier(tier);
        daemon.create("s");
        let mut busy = daemon.wire();
        let cmd =
            json!(["sh", "-c", "trap '' TERM INT; echo $$ > pid; while :; do sleep 1000; done"]);
        busy.request(1, "sandbox.exec", json!({"sessionId": "s", "cmd": cmd}));
        let process = daemon.process_in("s", "pid");
        let number = number_in(&daemon.workspace("s").join("pid"));
        assert_eq!(daemon.end_by(signal).code(), Some(0), "{signal}");
        assert!(!process.is_alive() && !daemon.socket.exists(), "{signal}");
        assert_eq!(daemon.processes(), [], "{signal}");
        assert_eq!(daemon.directories().len(), 1, "{signal}");
        let left: Vec<_> =
            fs::read_dir(&daemon.base).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 1, "{signal}: {left:?}");
        daemon.start_again();
        assert_eq!(daemon.sh("s", "cat pid").stdout.trim(), number.to_string());
    }
}

#[test]
fn a_signal_that_comes_while_it_starts_ends_it_cleanly_too() {
    for round in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s.sock");
        let mut command = noxrunnerd(dir.path(), &socket, dir.path());
        let mut child = Started::new(&mut command);
        eventually("it listens", SOON, || UnixStream::connect(&socket).is_ok());
        kill(child.pid(), Signal::SIGTERM).unwrap();
        let status = child.wait();
        assert_eq!(status.code(), Some(0), "round {round}: {status}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "round {round}");
    }
}

#[test]
fn an_ephemeral_daemon_leaves_nothing() {
    for tier in ["full", "none"] {
        let mut daemon = TestDaemon::start_with(&["--ephemeral", "--isolation", tier]);
        daemon.create("a");
        daemon.create("b");
        assert_eq!(daemon.sh("a", "touch file; sleep 1000 & echo $! > pid").exit_code, 0);
        let process = daemon.process_in("a", "pid");
        assert_eq!(daemon.directories().len(), 2);
        let info = daemon.connect().call::<DaemonInfoGet>(&NoParams {}).unwrap();
        assert!(info.ephemeral);
        assert_eq!(daemon.end_by(Signal::SIGTERM).code(), Some(0));
        assert!(!process.is_alive());
        assert_eq!(daemon.processes(), []);
        assert_eq!(fs::read_dir(&daemon.base).unwrap().count(), 0);
    }
}

#[test]
fn an_idle_daemon_ends_itself_and_a_busy_one_does_not() {
    let start = || TestDaemon::start_with(&["--idle-exit", "4s"]);
    // A client or a sandbox is enough to keep one: longer than its patience.
    let by_client = start();
    let mut held = by_client.connect();
    let by_sandbox = start();
    by_sandbox.create("s");
    std::thread::sleep(std::time::Duration::from_millis(4300));
    assert_eq!(held.call::<DaemonInfoGet>(&NoParams {}).unwrap().idle_exit_seconds, Some(4));
    drop(held);
    by_sandbox.delete("s");
    for mut daemon in [by_client, by_sandbox] {
        assert_eq!(daemon.wait_for_end(SOON).code(), Some(0));
        assert!(!daemon.socket.exists() && daemon.log().contains("idle"));
        assert_eq!(fs::read_dir(&daemon.base).unwrap().count(), 0);
    }
}

#[test]
fn what_the_starter_had_open_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, marker) = (dir.path().join("s.sock"), dir.path().join("marker"));
    fs::write(&marker, "").unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec 9<\"$0\"; exec \"$@\""]).arg(&marker).arg(program("noxrunnerd"));
    command.args(["--local-test", "--base-dir"]).arg(dir.path()).arg("--socket").arg(&socket);
    let mut child = Started::new(command.stdin(Stdio::null()));
    eventually("it listens", SOON, || UnixStream::connect(&socket).is_ok());
    let answer = Wire::open(&socket).call(
        1,
        "sandbox.exec",
        json!({"sessionId": "s", "create": true, "cmd": ["sh", "-c", "ls -l /proc/self/fd"]}),
    );
    assert!(!answer["result"]["stdout"].as_str().unwrap().contains("marker"), "{answer}");
    let open = fs::read_dir(format!("/proc/{}/fd", child.pid())).unwrap();
    let open: Vec<_> = open.filter_map(|e| fs::read_link(e.unwrap().path()).ok()).collect();
    assert!(open.len() > 3 && !open.contains(&marker), "{open:?}");
    let mut connection = noxrunner_client::Connection::open(&socket).unwrap();
    assert!(connection.call::<DaemonShutdown>(&NoParams {}).unwrap().stopping);
    assert_eq!(child.wait().code(), Some(0));
}
