//! The program against a daemon that follows a script: what goes to which
//! stream, and with what status it ends.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory with a socket on which every call gets the same answer.
struct Daemon {
    dir: TempDir,
}

impl Daemon {
    /// `answer` is the member `result` or `error` of each response.
    fn new(answer: Value) -> Self {
        let daemon = Self { dir: tempfile::tempdir().unwrap() };
        let listener = UnixListener::bind(daemon.socket()).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for line in lines.map_while(Result::ok) {
                    let request: Value = serde_json::from_str(&line).unwrap();
                    let mut response = answer.clone();
                    response["jsonrpc"] = "2.0".into();
                    response["id"] = request["id"].clone();
                    writeln!(stream, "{response}").unwrap();
                }
            }
        });
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s.sock")
    }

    fn noxctl(&self, args: &[&str]) -> Command {
        let mut command = bare(args);
        command.env("NOXRUNNER_SOCKET", self.socket());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, Vec<u8>, String) {
        finished(self.noxctl(args).output().unwrap())
    }
}

fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_noxctl"));
    command.env_clear().args(args);
    command
}

fn finished(output: Output) -> (i32, Vec<u8>, String) {
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output.stdout, stderr)
}

/// The result of an exec: status 7, bytes on standard output that are not text.
fn executed() -> Value {
    json!({"result": {
        "exitCode": 7, "stdout": "/wAK", "stderr": "b29wcwo=", "encoding": "base64",
        "durationMs": 1, "cause": "exited", "stdoutTruncated": false, "stderrTruncated": false,
        "stdoutBytes": 3, "stderrBytes": 5, "workdir": "/workspace", "redirected": false,
        "usage": {"userMs": 0.0, "sysMs": 0.0, "maxRssKib": 0, "minorFaults": 0,
            "majorFaults": 0, "voluntarySwitches": 0, "involuntarySwitches": 0},
        "warnings": ["local mode"], "hint": "try again",
    }})
}

#[test]
fn exec_passes_streams_and_status_through() {
    let daemon = Daemon::new(executed());
    let (status, stdout, stderr) = daemon.run(&["exec", "s", "x"]);
    assert_eq!((status, stdout.as_slice()), (7, &b"\xff\0\n"[..]));
    assert_eq!(stderr, "⚠ local mode\noops\nℹ try again\n");
    let (status, _, stderr) = daemon.run(&["--quiet", "exec", "--ignore-exit-code", "s", "x"]);
    assert_eq!((status, stderr.as_str()), (0, "oops\n"));
    let quiet = daemon.noxctl(&["exec", "s", "x"]).env("NOXRUNNER_QUIET", "1").output().unwrap();
    assert_eq!(finished(quiet).2, "oops\n");
    let (status, stdout, stderr) = daemon.run(&["exec", "--json", "s", "x"]);
    assert_eq!((status, stderr.as_str()), (7, ""));
    assert_eq!(serde_json::from_slice::<Value>(&stdout).unwrap(), executed()["result"]);
}

#[test]
fn cut_output_is_said_even_to_who_wants_quiet() {
    let mut answer = executed();
    answer["result"]["stdoutTruncated"] = true.into();
    answer["result"]["stdoutBytes"] = 10.into();
    let (_, _, stderr) = Daemon::new(answer).run(&["exec", "--quiet", "s", "x"]);
    assert!(stderr.contains("the first 3 of 10 bytes"), "{stderr}");
}

#[test]
fn an_error_goes_to_standard_error_with_its_hint() {
    let error = json!({"code": -32041, "message": "no sandbox \"s\"\u{1b}[2J",
        "data": {"kind": "sandboxNotFound", "hint": "create it"}});
    let daemon = Daemon::new(json!({"error": error}));
    let (status, stdout, stderr) = daemon.run(&["delete", "s"]);
    assert_eq!((status, stdout.len()), (1, 0));
    assert_eq!(stderr, "✗ no sandbox \"s\"\\u{1b}[2J\nℹ create it\n");
    let (status, stdout, stderr) = daemon.run(&["delete", "s", "--json"]);
    assert_eq!((status, stdout.len()), (1, 0));
    assert_eq!(serde_json::from_str::<Value>(&stderr).unwrap(), json!({"error": error}));
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let deleted = Daemon::new(json!({"result": {"deleted": true}}));
    let executed = Daemon::new(executed());
    for (mut command, expected) in [
        (deleted.noxctl(&["delete", "s"]), 0),
        (executed.noxctl(&["--quiet", "exec", "s", "x"]), 7),
        (bare(&["completions", "bash"]), 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let (status, _, stderr) = finished(output);
        assert_eq!(status, expected, "{command:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn without_a_daemon_the_error_names_the_socket_and_the_ways_on() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("absent.sock");
    let socket = socket.to_str().unwrap();
    for verb in [&["health"][..], &["doctor"], &["daemon", "status"], &["exec", "s", "x"]] {
        let mut args = vec!["--socket", socket];
        args.extend(verb);
        let (status, stdout, stderr) = finished(bare(&args).output().unwrap());
        assert_eq!((status, stdout.len()), (1, 0), "{verb:?}");
        for part in [socket, "noxrunnerd --local-test", "noxctl --local-test"] {
            assert!(stderr.contains(part), "{verb:?}: {stderr}");
        }
    }
    let stop = finished(bare(&["--socket", socket, "daemon", "stop"]).output().unwrap());
    assert_eq!(stop.0, 0);
    assert!(stop.2.contains(socket), "{}", stop.2);
}

#[test]
fn what_is_meant_for_a_backend_but_names_none_is_a_usage_error() {
    for url in ["x", "http://user:secret@h", "unix:///s"] {
        let output = bare(&["exec", "s", "x"]).env("NOXRUNNER_BASE_URL", url).output().unwrap();
        let (status, _, stderr) = finished(output);
        assert_eq!(status, 2, "{url}");
        assert!(stderr.contains("NOXRUNNER_BASE_URL") && !stderr.contains("secret"), "{stderr}");
    }
}

#[test]
fn an_interrupt_ends_an_exec_with_130() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut noxctl = bare(&["--socket", socket.to_str().unwrap(), "exec", "s", "x"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut String::new()).unwrap();
    let pid = noxctl.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(noxctl.wait().unwrap().code(), Some(130));
    // That hang-up is what makes the daemon kill the command.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}
