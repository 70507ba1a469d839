//! The socket is somebody else's: the daemon comes with a client, and leaves it when it goes.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use noxrunner_tests::wire::Wire;
use noxrunner_tests::{SOON, Started, TestDaemon, eventually, program, text};
use serde_json::json;

use super::{activate, activated, executable};

fn inode(socket: &Path) -> u64 {
    let meta = fs::symlink_metadata(socket).unwrap();
    assert!(meta.file_type().is_socket());
    meta.ino()
}

#[test]
fn a_connection_starts_it_where_the_socket_is_and_nowhere_else() {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let (socket, log) = (dir.path().join("named.sock"), dir.path().join("log"));
    let mut command = activate(dir.path(), &["--listen", socket.to_str().unwrap()], &[]);
    // Nothing says which socket but the one that is handed over: not this either.
    command.args(["--log-format", "json"]);
    command.env("NOXRUNNER_SOCKET", dir.path().join("other.sock"));
    let mut daemon = Started::with_stderr(&mut command, fs::File::create(&log).unwrap());
    // The file alone says little: a socket is bound before it listens.
    let said = || fs::read_to_string(&log).unwrap();
    eventually("it listens", SOON, || said().contains("Listening on"));
    let before = inode(&socket);
    assert!(!executable(daemon.pid()).ends_with("noxrunnerd"), "before anybody has connected");

    let mut wire = Wire::open(&socket);
    let health = wire.call(1, "health", json!({}));
    assert!(health["result"]["isolation"]["tier"].is_string(), "{health}");
    assert_eq!(executable(daemon.pid()), program("noxrunnerd"));
    let listening = format!("\"socket\":\"{}\"", socket.display());
    assert!(said().contains(&listening), "{}", said());
    assert!(!dir.path().join("other.sock").exists());

    kill(daemon.pid(), Signal::SIGTERM).unwrap();
    assert!(daemon.wait().success());
    assert_eq!(inode(&socket), before, "it is not the daemon's to remove");
}

#[test]
fn the_same_socket_may_be_named() {
    // As every daemon of these tests, with --socket.
    let daemon = activated("", &[]);
    assert!(daemon.log().contains("is_handed=true"), "{}", daemon.log());
    let control = TestDaemon::start();
    assert!(control.log().contains("is_handed=false"), "{}", control.log());
}

#[test]
fn one_that_ends_leaves_the_socket_that_it_was_given() {
    let mut daemon = activated("", &[]);
    let before = inode(&daemon.socket);
    assert!(daemon.end_by(Signal::SIGTERM).success());
    assert_eq!(inode(&daemon.socket), before);
    let mut control = TestDaemon::start();
    inode(&control.socket);
    assert!(control.end_by(Signal::SIGTERM).success());
    assert!(!control.socket.exists(), "its own it removes");
}

#[test]
fn one_that_is_idle_ends_and_the_next_client_starts_it_again() {
    let mut daemon = activated("", &["--idle-exit", "1"]);
    assert!(daemon.wait_for_end(SOON).success());
    inode(&daemon.socket);
    daemon.start_again();
}

#[test]
fn one_that_is_killed_is_back_with_the_files_at_the_next_connection() {
    let mut daemon = activated("", &[]);
    daemon.create("s");
    assert_eq!(daemon.sh("s", "echo kept > file").exit_code, 0);
    daemon.end_by(Signal::SIGKILL);
    daemon.start_again();
    assert_eq!(daemon.exec("s", &["cat", "file"]).stdout, "kept\n");
}

#[test]
fn a_predecessor_that_is_still_ending_is_waited_for() {
    // It holds the lock and will let go; that its socket answers says nothing, since who answers is
    // whoever has made the socket.
    let daemon = activated("", &[]);
    let lock = fs::read_dir(&daemon.base).unwrap().map(|entry| entry.unwrap().path());
    let lock = lock.map(|dir| dir.join("daemon.lock")).find(|lock| lock.exists()).unwrap();
    assert_eq!(text(&fs::read(lock).unwrap()), daemon.socket.to_str().unwrap());
    kill(daemon.pid(), Signal::SIGSTOP).unwrap();
    let options = ["--listen", daemon.socket.to_str().unwrap()];
    let log = daemon.dir.path().join("log.second");
    let mut command = activate(daemon.dir.path(), &options, &["--log-level", "debug"]);
    let second = Started::with_stderr(&mut command, fs::File::create(&log).unwrap());
    let said = || fs::read_to_string(&log).unwrap();
    eventually("the second has made the socket anew", SOON, || said().contains("Listening on"));
    let mut wire = Wire::open(&daemon.socket);
    eventually("the second is the daemon", SOON, || {
        executable(second.pid()) == program("noxrunnerd")
    });
    kill(daemon.pid(), Signal::SIGCONT).unwrap();
    kill(daemon.pid(), Signal::SIGTERM).unwrap();
    let health = wire.call(1, "health", json!({}));
    assert!(health["result"]["isolation"]["tier"].is_string(), "{health}: {}", said());
    kill(second.pid(), Signal::SIGTERM).unwrap();
    let mut second = second;
    assert!(second.wait().success(), "{}", said());
}
