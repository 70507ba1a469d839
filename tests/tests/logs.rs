//! What the daemon writes on stderr: a warning at start, logs for people or machines, no secrets.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::sys::signal::Signal;
use noxrunner_tests::wire::{Wire, request};
use noxrunner_tests::{
    SOON, Started, TestDaemon, eventually, in_both_tiers, noxrunnerd, program, run, text,
};
use serde_json::{Value, json};

#[test]
fn json_logs_are_json_to_the_last_line() {
    let mut daemon = TestDaemon::start_with(&["--log-format", "json"]);
    daemon.create("s");
    daemon.sh("s", "exit 1");
    daemon.lines("garbage\n");
    daemon.delete("s");
    daemon.end_by(Signal::SIGTERM);
    let log = daemon.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let says = |text: &str| {
        lines.iter().any(|line| line["message"].as_str().is_some_and(|m| m.contains(text)))
    };
    let tier = format!("isolation: {}", daemon.tier.name());
    for text in [tier.as_str(), "listening", "created", "deleting", "ended"] {
        assert!(says(text), "{text}: {log}");
    }
    for line in &lines {
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn a_daemon_that_cannot_start_says_so_in_json_too() {
    let daemon = TestDaemon::start();
    let dir = tempfile::tempdir().unwrap();
    let mut command = noxrunnerd(dir.path(), &daemon.socket, dir.path());
    let output = run(command.args(["--log-format", "json"]));
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("already listening"), "{stderr}");
    for line in stderr.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

/// Does with a daemon whatever takes something that could be secret.
fn use_secrets(socket: &std::path::Path) {
    let call = |method: &str, params| Wire::open(socket).call(1, method, params);
    call("sandbox.create", json!({"sessionId": "s", "env": {"TOKEN": "sekret-create-env"}}));
    for cmd in [
        &["echo", "sekret-argv"][..],
        &["rm", "sekret-denied"],
        &["sekret-missing"],
        &["sh", "-c", "echo sekret-out$X; echo sekret-err >&2; cat; exit 1"],
    ] {
        let params = json!({"sessionId": "s", "cmd": cmd, "env": {"X": "sekret-env"}, "stdin": "sekret-stdin"});
        assert!(call("sandbox.exec", params)["result"].is_object());
    }
    for params in [
        json!({"sessionId": "s", "cmd": ["ls"], "env": {"A": ["sekret-type"]}}),
        json!({"sessionId": "s", "cmd": ["ls"], "stdin": "sekret%", "stdinEncoding": "base64"}),
        json!({"sessionId": "s", "cmd": ["ls", "sekret\u{0}"]}),
        json!({"sessionId": "s", "cmd": ["sekret".repeat(40_000)], "timeoutSeconds": 0}),
    ] {
        assert!(call("sandbox.exec", params)["error"].is_object());
    }
    call("policy.check", json!({"cmd": ["sekret-check"]}));
    let mut wire = Wire::open(socket);
    wire.send(format!("sekret garbage\n{}\n", request(1, "sekret.method", json!({}))));
    assert!(wire.receive()["error"].is_object() && wire.receive()["error"].is_object());
    // A client that leaves in the middle, and one that speaks no HTTP.
    Wire::open(socket).send("{\"sekret\":");
    Wire::open(socket).send("POST /sekret HTTP/1.1\r\nauthorization: sekret\r\n\r\n");
    let last = json!({"sessionId": "s", "cmd": ["true"]});
    assert_eq!(call("sandbox.exec", last)["result"]["exitCode"], 0);
}

#[test]
fn secrets_are_in_no_log() {
    for level in ["debug", "trace"] {
        let dir = tempfile::tempdir().unwrap();
        let (socket, log) = (dir.path().join("s.sock"), dir.path().join("log"));
        let mut command = noxrunnerd(dir.path(), &socket, dir.path());
        command.args(["--log-level", level, "--ephemeral"]).env("SECRET", "sekret-of-the-daemon");
        let stderr = std::fs::File::create(&log).unwrap();
        let mut child = Started::with_stderr(&mut command, stderr);
        eventually("it listens", SOON, || UnixStream::connect(&socket).is_ok());
        use_secrets(&socket);
        Wire::open(&socket).call(1, "daemon.shutdown", json!({}));
        assert_eq!(child.wait().code(), Some(0));
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.contains("DEBUG"), "{level}: {log}");
        let told: Vec<&str> = log.lines().filter(|line| line.contains("sekret")).collect();
        assert!(told.is_empty(), "{level}: {told:#?}");
    }
}

in_both_tiers!(the_warning_at_start_names_the_tier);

fn the_warning_at_start_names_the_tier(daemon: TestDaemon) {
    let log = daemon.log();
    let first = log.lines().next().unwrap();
    let tier = format!("(isolation: {})", daemon.tier.name());
    assert!(first.contains("WARNING: local mode") && first.contains(&tier), "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
}

/// What a daemon that is started on a terminal and told to end shows there.
#[track_caller]
fn on_a_terminal(variables: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let (path, line) = (dir.path().display(), program("noxrunnerd"));
    let line =
        format!("{} --local-test --base-dir {path} --socket {}", line.display(), socket.display());
    let shown = dir.path().join("shown");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line]).arg(&shown).env_remove("NO_COLOR");
    // The end of file would be passed on to the terminal.
    let (stdin, _open) = std::io::pipe().unwrap();
    let mut child = Started::new(command.envs(variables.iter().copied()).stdin(stdin));
    // The file alone is there a moment before anybody listens.
    eventually("it listens", SOON, || UnixStream::connect(&socket).is_ok());
    let answer = Wire::open(&socket).call(1, "daemon.shutdown", json!({}));
    assert_eq!(answer["result"]["stopping"], true);
    assert_eq!(child.wait().code(), Some(0));
    std::fs::read_to_string(&shown).unwrap()
}

#[test]
fn the_warning_is_coloured_on_a_terminal_only() {
    let shown = on_a_terminal(&[]);
    assert!(shown.contains("\u{1b}[1;31m⚠ WARNING: local mode"), "{shown:?}");
    assert!(shown.contains("listening"), "{shown:?}");
    let plain = on_a_terminal(&[("NO_COLOR", "1")]);
    assert!(plain.contains("⚠ WARNING: local mode"), "{plain:?}");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
}
