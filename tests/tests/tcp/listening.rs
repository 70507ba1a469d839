//! Where the daemon listens, and what it does not start with.

use std::net::TcpListener;
use std::process::Stdio;

use noxrunner_tests::{noxrunnerd, run, text};
use serde_json::json;

use crate::{start, token_file};

/// Why a daemon with these arguments does not start, and how it says so.
#[track_caller]
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let (socket, base) = (dir.path().join("s.sock"), dir.path().join("base"));
    std::fs::create_dir(&base).unwrap();
    let mut command = noxrunnerd(dir.path(), &socket, &base);
    let output = run(command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()));
    assert!(!socket.exists(), "{arguments:?}: the socket is left");
    (output.status.code(), text(&output.stderr))
}

#[test]
fn nobody_else_comes_in_by_mistake() {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let token = |token, mode| token_file(dir.path(), token, mode);
    let http = ["--http", "127.0.0.1:0"];
    let failed = |arguments: &[&str], part: &str| {
        let (status, stderr) = refused(arguments);
        assert!(status == Some(1) && stderr.contains(part), "{arguments:?}: {status:?} {stderr}");
    };
    failed(&["--http", "0.0.0.0:0"], "--http-allow-remote");
    failed(&["--http", "[::]:0"], "--http-allow-remote");
    failed(&["--http", &taken.to_string()], "cannot listen");
    let file = token("correct-horse-battery", 0o644);
    failed(&[&http[..], &["--http-token-file", &file]].concat(), "chmod 600");
    let file = token("short", 0o600);
    failed(&[&http[..], &["--http-token-file", &file]].concat(), "fewer than 16");
    failed(
        &[&http[..], &["--http-token-file", "/nonexistent"]].concat(),
        "cannot read the token file",
    );
    for usage in [
        &["--http-allow-remote", "--http", "0.0.0.0:0"][..],
        &["--http-allow-uid", "7"],
        &["--http", "localhost"],
        &["--http", "127.0.0.1:0", "--http-token-file", "x", "--http-allow-uid", "7"],
    ] {
        assert_eq!(refused(usage).0, Some(2), "{usage:?}");
    }
}

#[test]
fn with_a_token_it_may_listen_to_all() {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let file = token_file(dir.path(), "correct-horse-battery", 0o600);
    let all = ["--http", "0.0.0.0:0", "--http-allow-remote", "--http-token-file", &file];
    let daemon = noxrunner_tests::TestDaemon::start_with(&all);
    assert!(daemon.http().ip().is_unspecified());
    // Loopback needs none of this, and is said where people look for it.
    let daemon = start(&[]);
    assert!(daemon.http().ip().is_loopback());
    assert!(daemon.log().contains(&format!("http={}", daemon.http())), "{}", daemon.log());
    let info = daemon.call("daemon.info", json!({})).unwrap();
    assert_eq!(info["http"], daemon.http().to_string());
}
