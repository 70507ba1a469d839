//! Clients that know nothing of this project's code.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::path::Path;
use std::process::{Command, Stdio};

use noxrunner_tests::{TestDaemon, run, text};
use serde_json::Value;

#[test]
fn twenty_lines_of_python_are_a_client() {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/session.py");
    // Also there where the tests run as a user who cannot read the sources.
    let source = include_str!("../clients/session.py");
    assert!(source.lines().count() <= 20, "{}", source.lines().count());
    let imports: Vec<&str> = source.lines().filter(|line| line.contains("import")).collect();
    assert_eq!(imports, ["import json", "import socket", "import sys"], "{}", client.display());

    let daemon = TestDaemon::start();
    let script = daemon.dir.path().join("session.py");
    std::fs::write(&script, source).unwrap();
    let python = || {
        let mut command = Command::new("python3");
        command
            .args([&script, &daemon.socket])
            .stdin(Stdio::null())
            .env("PYTHONIOENCODING", "utf-8");
        command
    };
    let output = run(&mut python());
    assert_eq!(text(&output.stderr), "");
    assert_eq!(
        (output.status.code(), text(&output.stdout).as_str()),
        (Some(0), "hello from python ✓\n")
    );
    assert_eq!(daemon.directories(), [""; 0]);
    // What goes wrong reaches its user.
    let denied = source.replace("\"echo\"", "\"echo\", 7");
    std::fs::write(&script, denied).unwrap();
    let output = run(&mut python());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cmd[1]"), "{}", text(&output.stderr));
}

/// What a shell line prints, with the socket in `$S`.
#[track_caller]
fn shell(daemon: &TestDaemon, script: &str) -> String {
    let mut command = Command::new("sh");
    let output = run(command.args(["-c", script]).env("S", &daemon.socket).stdin(Stdio::null()));
    assert!(output.status.success(), "{script}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn netcat_is_a_client() {
    let daemon = TestDaemon::start();
    let health = r#"echo '{"jsonrpc":"2.0","id":1,"method":"health"}'"#;
    let answer: Value =
        serde_json::from_str(&shell(&daemon, &format!("{health} | nc -N -U $S"))).unwrap();
    assert_eq!((&answer["id"], &answer["result"]["status"]), (&1.into(), &"ok".into()));

    // It closes its writing side at the end of its input, and its answers still come.
    daemon.create("s");
    let exec = r#"{"jsonrpc":"2.0","id":2,"method":"sandbox.exec","params":
        {"sessionId":"s","cmd":["sh","-c","sleep 0.3; echo slow"]}}"#;
    let exec = exec.replace('\n', " ");
    let answer = shell(&daemon, &format!("echo '{exec}' | nc -N -U $S"));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["result"]["stdout"], "slow\n");
}
