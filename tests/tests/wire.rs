//! Lines from outside: what any client in any language sees.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use noxrunner_protocol::limits::{MAX_CALLS_IN_FLIGHT, MAX_LINE_BYTES};
use noxrunner_tests::wire::{Wire, refusal, request};
use noxrunner_tests::{SOON, TestDaemon, eventually};
use serde_json::{Value, json};

const HEALTH: &str = r#"{"jsonrpc":"2.0","id":1,"method":"health"}"#;

/// The ids of answers, sorted: answers come in the order in which they are ready.
fn ids(answers: &[Value]) -> Vec<u64> {
    let mut ids: Vec<u64> = answers.iter().map(|a| a["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids
}

fn answers(daemon: &TestDaemon, text: impl AsRef<[u8]>) -> Vec<Value> {
    daemon.lines(text).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A request to wait in the sandbox `s` until the file `go` is there.
fn waits_for_go(id: u64) -> Value {
    let script = format!("touch waiting{id}; until [ -e go ]; do sleep 0.1; done; echo went");
    let params = json!({"sessionId": "s", "cmd": ["sh", "-c", script], "timeoutSeconds": 100});
    request(id, "sandbox.exec", params)
}

#[test]
fn a_sandbox_is_created_used_and_deleted() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let result = daemon.sh("s", "echo hello; echo world >&2");
    assert_eq!((result.exit_code, result.stdout.as_str()), (0, "hello\n"));
    assert_eq!(result.stderr, "world\n");
    daemon.delete("s");
    assert_eq!(daemon.directories(), [""; 0]);
    let error = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap_err();
    assert_eq!(error.kind.name(), "sandboxNotFound");
}

#[test]
fn requests_arrive_in_one_write_or_in_many() {
    let daemon = TestDaemon::start();
    let (first, second) = (request(1, "health", json!({})), request(2, "daemon.info", json!({})));
    let mut wire = daemon.wire();
    wire.send(format!("{first}\n{second}\n"));
    assert_eq!(ids(&[wire.receive(), wire.receive()]), [1, 2]);
    for byte in format!("{first}\n").bytes() {
        wire.send([byte]);
    }
    let answer = wire.receive();
    assert_eq!((&answer["id"], &answer["result"]["status"]), (&json!(1), &json!("ok")));
}

#[test]
fn blank_lines_crlf_and_a_last_line_without_an_end_are_fine() {
    let daemon = TestDaemon::start();
    let line = |id| request(id, "health", json!({}));
    let text = format!("\r\n \t \n{}\r\n\n{}\n\r\n{}", line(1), line(2), line(3));
    assert_eq!(ids(&answers(&daemon, text)), [1, 2, 3]);
    assert_eq!(daemon.lines("\n\r\n  \n"), [""; 0]);
    assert_eq!(daemon.lines(""), [""; 0]);
}

#[test]
fn ids_come_back_as_they_were() {
    let daemon = TestDaemon::start();
    let long = format!("\"{}\"", "x".repeat(100_000));
    let good = ["0", "18446744073709551615", "null", r#""""#, r#""a\"b\n\u0000ü""#, &long];
    for id in good {
        let answer =
            answers(&daemon, format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"health"}}"#));
        assert_eq!(answer.len(), 1, "{id}");
        assert_eq!(answer[0]["id"], serde_json::from_str::<Value>(id).unwrap());
        assert_eq!(answer[0]["result"]["status"], "ok", "{id}");
    }
    for id in ["-1", "1.5", "1e2", "18446744073709551616", "true", "[]", "{}"] {
        let answer =
            answers(&daemon, format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"health"}}"#));
        assert_eq!(answer.len(), 1, "{id}");
        assert_eq!(
            (refusal(&answer[0]).0.as_str(), &answer[0]["id"]),
            ("invalidRequest", &Value::Null)
        );
    }
}

#[test]
fn garbage_is_answered_and_the_connection_goes_on() {
    let daemon = TestDaemon::start();
    let deep = "[".repeat(100_000);
    let deep_params = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"health","params":{}}}"#,
        r#"{"a":"#.repeat(100_000)
    );
    for (line, kind) in [
        (&b"{"[..], "parseError"),
        (b"hello", "parseError"),
        (b"\xff\xfe", "parseError"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", "parseError"),
        (b"\0", "parseError"),
        (b"{} {}", "parseError"),
        (deep.as_bytes(), "parseError"),
        (deep_params.as_bytes(), "parseError"),
        (b"1", "invalidRequest"),
        (b"\"x\"", "invalidRequest"),
        (b"{}", "invalidRequest"),
        (b"[]", "invalidRequest"),
        (br#"{"jsonrpc":"2.0","id":1}"#, "invalidRequest"),
        (br#"{"jsonrpc":"2.0","id":1,"method":7}"#, "invalidRequest"),
        (br#"{"jsonrpc":2.0,"id":1,"method":"health"}"#, "invalidRequest"),
        (br#"{"id":1,"method":"health"}"#, "invalidRequest"),
    ] {
        let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        let mut wire = daemon.wire();
        wire.send([line, b"\n"].concat());
        let answer = wire.receive();
        assert_eq!((refusal(&answer).0.as_str(), &answer["id"]), (kind, &Value::Null), "{shown}");
        assert_eq!(wire.call(9, "health", json!({}))["result"]["status"], "ok", "{shown}");
    }
    let old = answers(&daemon, r#"{"jsonrpc":"1.0","id":7,"method":"health"}"#);
    assert_eq!((refusal(&old[0]).0.as_str(), &old[0]["id"]), ("invalidRequest", &json!(7)));
    let more =
        answers(&daemon, r#"{"jsonrpc":"2.0","id":1,"method":"health","more":[1],"x":null}"#);
    assert_eq!(more[0]["result"]["status"], "ok");
}

#[test]
fn a_batch_is_answered_in_one_line() {
    let daemon = TestDaemon::start();
    let note = json!({"jsonrpc": "2.0", "method": "health"});
    let (good, bad) = (request(1, "health", json!({})), request(2, "no.such", json!({})));
    let lines = daemon.lines(format!("{}\n", json!([good, note, 3, bad])));
    assert_eq!(lines.len(), 1);
    let answers: Vec<Value> = serde_json::from_str(&lines[0]).unwrap();
    let by_id = |id: Value| answers.iter().find(|a| a["id"] == id).unwrap();
    assert_eq!(answers.len(), 3, "{lines:?}");
    assert_eq!(by_id(json!(1))["result"]["status"], "ok");
    assert_eq!(refusal(by_id(json!(2))).0, "methodNotFound");
    assert_eq!(refusal(by_id(Value::Null)).0, "invalidRequest");
    // Nobody asked for anything: nothing comes, not even an empty array.
    assert_eq!(daemon.lines(format!("[{note},{note}]\n")), [""; 0]);
    let empty: Value = serde_json::from_str(&daemon.lines("[]\n")[0]).unwrap();
    assert_eq!(refusal(&empty).0, "invalidRequest");
}

#[test]
fn of_a_batch_that_is_too_long_nothing_runs() {
    let daemon = TestDaemon::start();
    let batch = |n: u64| {
        let create = |id| request(id, "sandbox.create", json!({"sessionId": format!("s{id}")}));
        format!("{}\n", Value::Array((1..=n).map(create).collect()))
    };
    let lines = daemon.lines(batch(65));
    assert_eq!(lines.len(), 1, "{lines:?}");
    let answer: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((refusal(&answer).0.as_str(), &answer["id"]), ("limitExceeded", &Value::Null));
    assert_eq!(daemon.directories(), [""; 0]);
    let lines = daemon.lines(batch(64));
    let made: Vec<Value> = serde_json::from_str(&lines[0]).unwrap();
    assert!(made.iter().all(|answer| answer["result"]["created"] == true), "{made:?}");
    assert_eq!(daemon.directories().len(), 64);
}

#[test]
fn the_calls_of_a_batch_run_at_the_same_time() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    // Each ends only when the other one runs.
    let meets = |id, own: &str, other: &str| {
        let script = format!("touch {own}; until [ -e {other} ]; do sleep 0.01; done");
        let cmd = json!(["sh", "-c", script]);
        request(id, "sandbox.exec", json!({"sessionId": "s", "timeoutSeconds": 15, "cmd": cmd}))
    };
    let lines = daemon.lines(format!("{}\n", json!([meets(1, "a", "b"), meets(2, "b", "a")])));
    let answers: Vec<Value> = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|a| a["result"]["exitCode"] == 0), "{answers:?}");
}

#[test]
fn notifications_are_not_run() {
    let daemon = TestDaemon::start();
    let mut note = request(0, "sandbox.create", json!({"sessionId": "s"}));
    note.as_object_mut().unwrap().remove("id");
    assert_eq!(daemon.lines(format!("{note}\n[{note}]\n")), [""; 0]);
    assert_eq!(daemon.directories(), [""; 0]);
    // The same with an id of null is a request.
    note["id"] = Value::Null;
    let lines = daemon.lines(format!("{note}\n"));
    let answer: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&answer["id"], &answer["result"]["created"]), (&Value::Null, &json!(true)));
    assert_eq!(daemon.directories().len(), 1);
}

#[test]
fn a_line_of_the_limit_passes() {
    let daemon = TestDaemon::start();
    let line = |bytes: usize| format!("{HEALTH}{}\n", " ".repeat(bytes - HEALTH.len()));
    assert_eq!(ids(&answers(&daemon, line(MAX_LINE_BYTES))), [1]);
}

#[test]
fn a_carriage_return_before_the_newline_does_not_count() {
    let daemon = TestDaemon::start();
    let line = format!("{HEALTH}{}\r\n", " ".repeat(MAX_LINE_BYTES - HEALTH.len()));
    let answer = answers(&daemon, line).remove(0);
    assert_eq!(answer["result"]["status"], "ok", "{answer}");
}

#[test]
fn a_longer_line_is_refused_once_and_the_connection_closed() {
    let daemon = TestDaemon::start();
    for length in [MAX_LINE_BYTES + 1, 2 * MAX_LINE_BYTES] {
        let mut wire = daemon.wire();
        let text = format!("{HEALTH}{}\n{HEALTH}\n", " ".repeat(length - HEALTH.len()));
        match wire.stream().write_all(text.as_bytes()) {
            Ok(()) => {}
            // It need not take all of what it does not read.
            Err(e) => assert!(
                matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
                "{e}"
            ),
        }
        let answer = wire.receive();
        assert_eq!((refusal(&answer).0.as_str(), &answer["id"]), ("payloadTooLarge", &Value::Null));
        wire.closed();
    }
}

#[test]
fn answers_come_as_they_are_ready() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let mut wire = daemon.wire();
    wire.send(format!("{}\n{HEALTH}\n", waits_for_go(7)));
    assert_eq!(wire.receive()["id"], 1);
    fs::write(daemon.workspace("s").join("go"), "").unwrap();
    let slow = wire.receive();
    assert_eq!((&slow["id"], &slow["result"]["stdout"]), (&json!(7), &json!("went\n")));
}

#[test]
fn sixty_four_calls_are_in_flight_and_the_next_one_waits() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let workspace = daemon.workspace("s");
    let calls = MAX_CALLS_IN_FLIGHT as u64;
    let mut wire = daemon.wire();
    (2..calls + 2).for_each(|id| wire.send(format!("{}\n", waits_for_go(id))));
    eventually("all of them run", 3 * SOON, || {
        (2..calls + 2).all(|id| workspace.join(format!("waiting{id}")).exists())
    });
    wire.send(format!("{HEALTH}\n"));
    wire.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = std::io::Read::read(&mut wire.stream(), &mut [0]);
    assert_eq!(early.unwrap_err().kind(), ErrorKind::WouldBlock, "it was read and answered");
    // Only this connection waits.
    assert_eq!(daemon.wire().call(1, "health", json!({}))["result"]["status"], "ok");
    wire.stream().set_read_timeout(Some(SOON)).unwrap();
    fs::write(workspace.join("go"), "").unwrap();
    let all: Vec<Value> = (0..=calls).map(|_| wire.receive()).collect();
    assert_eq!(ids(&all), (1..=calls + 1).collect::<Vec<_>>());
}

#[test]
fn answers_of_a_batch_beyond_sixteen_mebibytes_are_one_error() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let four = 4 * 1024 * 1024;
    let script = format!("head -c {four} /dev/zero; head -c {four} /dev/zero >&2");
    let params = json!({"sessionId": "s", "cmd": ["sh", "-c", script], "encoding": "base64",
        "maxOutputBytes": four});
    let exec = |id| request(id, "sandbox.exec", params.clone());
    let mut wire = daemon.wire();
    wire.stream().set_read_timeout(Some(3 * SOON)).unwrap();
    wire.send(format!("{}\n", json!([exec(1), exec(2)])));
    let answer = wire.receive();
    assert_eq!((refusal(&answer).0.as_str(), &answer["id"]), ("payloadTooLarge", &Value::Null));
    // One alone fits, and the connection goes on.
    wire.send(format!("{}\n", exec(3)));
    assert_eq!(wire.receive()["result"]["stdoutBytes"], four);
}

#[test]
fn a_stalled_client_holds_nobody_up() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let mut stalled = Wire::open(&daemon.socket);
    let params = json!({"sessionId": "s", "cmd": ["head", "-c", "1000000", "/dev/zero"],
        "encoding": "base64"});
    (0..8).for_each(|id| stalled.request(id, "sandbox.exec", params.clone()));
    for id in 0..20 {
        let answer = daemon.wire().call(id, "health", json!({}));
        assert_eq!(answer["result"]["status"], "ok");
    }
    let all: Vec<Value> = (0..8).map(|_| stalled.receive()).collect();
    assert_eq!(ids(&all), (0..8).collect::<Vec<_>>());
}
