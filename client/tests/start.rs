//! `--local-test` where the daemon does not come up: with no program, and with
//! one that fails.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory with noxctl alone: beside the one that was built, a daemon may stand.
fn alone() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // By a process of its own: a file that another thread's child has open for
    // writing cannot be executed.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_noxctl")).arg(dir.path()).status();
    assert!(copied.unwrap().success());
    dir
}

/// Writes a program, likewise.
fn install(program: &Path, script: &str) {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(program)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

/// Runs `noxctl --local-test` on a socket in a directory that does not exist yet.
fn local_test(program: &TempDir, socket: &Path) -> (Option<i32>, String) {
    let output = Command::new(program.path().join("noxctl"))
        .env_clear()
        .envs([("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("NOXRUNNER_X", "x"), ("SECRET", "y")])
        .args(["--local-test", "--idle-exit", "7", "list", "--socket"])
        .arg(socket)
        .stdin(Stdio::piped())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn without_a_program_the_error_says_where_it_belongs() {
    let (program, dir) = (alone(), tempfile::tempdir().unwrap());
    let (status, stderr) = local_test(&program, &dir.path().join("s.sock"));
    assert_eq!(status, Some(1));
    assert!(stderr.contains("beside noxctl"), "{stderr}");
}

#[test]
fn a_daemon_that_fails_is_shown_with_its_log() {
    let (program, dir) = (alone(), tempfile::tempdir().unwrap());
    let script = "#!/bin/sh\n\
        echo args: \"$@\"\n\
        echo at: $(pwd)\n\
        echo secret: $SECRET, home: $HOME, data: $XDG_DATA_HOME, ours: $NOXRUNNER_X\n\
        if read -r line; then echo has input; else echo no input; fi\n\
        echo '\u{1b}[2Jbad policy' >&2\n\
        exit 1\n";
    install(&program.path().join("noxrunnerd"), script);
    let socket = dir.path().join("new/s.sock");
    let (status, stderr) = local_test(&program, &socket);
    assert_eq!(status, Some(1));
    for part in [
        format!("args: --local-test --socket {} --idle-exit 7 --detach\n", socket.display()),
        "at: /\n".to_owned(),
        "secret: , home: /h, data: /d, ours: x\n".to_owned(),
        "no input\n".to_owned(),
        "  \\u{1b}[2Jbad policy\n".to_owned(),
    ] {
        assert!(stderr.contains(&part), "{part:?}: {stderr}");
    }
    let mode = |name: &str| dir.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("new"), mode("new/noxrunnerd.log")), (0o700, 0o600));
}
