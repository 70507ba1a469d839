//! What is tried again, and what never is.

use std::process::Stdio;
use std::time::{Duration, Instant};

use noxrunner_tests::TestDaemon;
use noxrunner_tests::archive::{Door, built, http_download};
use serde_json::{Value, json};

use super::server::{Asked, Reply, Server};

const TOUCH: &str = r#"{"expiresAt": "2999-01-01T00:00:00Z"}"#;

/// What the backend does well.
fn well(asked: &Asked) -> Reply {
    match asked.line.split(' ').next().unwrap() {
        "PUT" => Reply::created(),
        "DELETE" => Reply::json(204, ""),
        "GET" => Reply::json(200, "archive"),
        _ if asked.line.ends_with("touch") => Reply::json(200, TOUCH),
        _ => Reply::json(200, r#"{"exitCode": 0, "stdout": "hi\n", "stderr": ""}"#),
    }
}

/// The ways to fail that may pass.
fn may_pass() -> Vec<(&'static str, Reply)> {
    vec![
        ("closed", Reply::Close),
        ("cut", Reply::Raw(b"HTTP/1.1 200 O".to_vec())),
        ("502", Reply::json(502, "<html>")),
        ("503", Reply::json(503, r#"{"error": "starting"}"#)),
        ("504", Reply::json(504, "")),
    ]
}

/// Which of them a sandbox is called after.
fn named(asked: &Asked) -> Reply {
    let name = asked.line.split('/').nth(3).unwrap();
    may_pass().into_iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn what_can_be_done_twice_is_tried_three_times() {
    // Fails twice.
    let server = Server::new(|asked, before| if before < 2 { named(asked) } else { well(asked) });
    let front = TestDaemon::front_of(&server.url, &[]);
    in_parallel(|name| {
        let id = json!({"sessionId": name});
        front.create(name);
        let touched = front.call("sandbox.touch", id).unwrap();
        assert_eq!(touched["expiresAt"], "2999-01-01T00:00:00Z");
        assert_eq!(http_download(&front, name, "src=x").unwrap(), (200, b"archive".to_vec()));
        front.delete(name);
        let path = format!("/v1/sandboxes/{name}");
        for line in [
            format!("PUT {path}"),
            format!("POST {path}/touch"),
            format!("GET {path}/files/download?src=x"),
            format!("DELETE {path}"),
        ] {
            assert_eq!(server.count(&line), 3, "{line}");
        }
    });
    // Fails always.
    let server = Server::new(|asked, _| named(asked));
    let front = TestDaemon::front_of(&server.url, &[]);
    in_parallel(|name| {
        let begun = Instant::now();
        let (kind, _) = front.refused("sandbox.create", json!({"sessionId": name}));
        assert_eq!(kind, if name == "503" { "notReady" } else { "upstream" }, "{name}");
        assert_eq!(server.count(&format!("PUT /v1/sandboxes/{name}")), 3, "{name}");
        // There are pauses between.
        assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    });
}

/// Does something with each of the ways to fail, at once: there are pauses in all of it.
fn in_parallel(does: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for (name, _) in may_pass() {
            let does = &does;
            scope.spawn(move || does(name));
        }
    });
}

#[test]
fn what_cannot_is_tried_once() {
    let server = Server::new(|asked, _| named(asked));
    let front = TestDaemon::front_of(&server.url, &[]);
    let archive = built("w", "add('x', b'x')");
    for (name, _) in may_pass() {
        let params = json!({"sessionId": name, "cmd": ["ls"], "create": true});
        front.refused("sandbox.exec", params);
        for door in Door::BOTH {
            door.upload(&front, name, "d", &archive).unwrap_err();
        }
        let path = format!("/v1/sandboxes/{name}");
        assert_eq!(server.count(&format!("POST {path}/exec")), 1, "{name}");
        assert_eq!(server.count(&format!("POST {path}/files/upload?dest=d")), 2, "{name}");
        assert_eq!(server.count(&format!("PUT {path}")), 0, "{name}");
    }
    // What does not pass is not tried again either.
    let server = Server::new(|_, _| Reply::json(500, "no"));
    let front = TestDaemon::front_of(&server.url, &[]);
    front.refused("sandbox.create", json!({"sessionId": "s"}));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_deletion_whose_answer_got_lost_is_one() {
    let server = Server::new(|_, before| match before {
        0 => Reply::Close,
        _ => Reply::json(404, r#"{"error": "no such sandbox"}"#),
    });
    let front = TestDaemon::front_of(&server.url, &[]);
    front.delete("s");
    assert_eq!(server.count("DELETE /v1/sandboxes/s"), 2);
    // The first answer counts where it comes.
    let (kind, _) = front.refused("sandbox.delete", json!({"sessionId": "s"}));
    assert_eq!((kind.as_str(), server.asked().len()), ("sandboxNotFound", 3));
}

#[test]
fn a_command_makes_its_sandbox_once_it_is_known_to_be_missing() {
    let server = Server::new(|asked, before| match (asked.line.as_str(), before) {
        ("POST /v1/sandboxes/s/exec", 0) => Reply::json(404, r#"{"error": "no sandbox"}"#),
        _ => well(asked),
    });
    let front = TestDaemon::front_of(&server.url, &[]);
    let params = json!({"sessionId": "s", "cmd": ["ls"], "create": true, "timeoutSeconds": 29.5});
    assert_eq!(front.call("sandbox.exec", params).unwrap()["stdout"], "hi\n");
    let asked = server.asked();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    let exec = "POST /v1/sandboxes/s/exec";
    assert_eq!(lines, [exec, "PUT /v1/sandboxes/s", exec]);
    let body = |n: usize| serde_json::from_slice::<Value>(&asked[n].body).unwrap();
    // Whole seconds, which is all that some backends read.
    assert_eq!(body(0)["timeoutSeconds"].to_string(), "30");
    assert_eq!(body(1), json!({"ttlSeconds": 900}));
    assert!(asked[0].head.contains("\r\ncontent-type: application/json\r\n"));
    assert!(asked[0].head.contains("\r\nhost: 127.0.0.1:"));
}

#[test]
fn a_connection_that_was_kept_and_is_closed_loses_no_command() {
    // Closes a connection when it is used again, as one does that was about to close it: what was
    // asked on it may or may not have been heard.
    let server = Server::new(|asked, _| if asked.earlier > 0 { Reply::Close } else { well(asked) });
    let front = TestDaemon::front_of(&server.url, &[]);
    for _ in 0..5 {
        front.create("s");
        assert_eq!(front.exec("s", &["ls"]).stdout, "hi\n");
    }
    assert_eq!(server.count("POST /v1/sandboxes/s/exec"), 5);
    // Connections are kept for what can be done twice.
    assert!(server.asked().iter().any(|asked| asked.earlier > 0));
}

#[test]
fn a_backend_that_says_little_is_understood() {
    let server = Server::new(|asked, _| match asked.line.as_str() {
        line if line.starts_with("PUT") => {
            Reply::json(200, r#"{"podName": "pod-1", "expiresAt": "2999-01-01T00:00:00+00:00Z"}"#)
        }
        line if line.ends_with("/touch") => Reply::json(200, "touched"),
        line if line.contains("/upload") => Reply::json(200, "done"),
        _ => Reply::json(
            200,
            r#"{"exitCode": 124, "stdout": "a\ufffd", "stderr": "", "durationMs": 5}"#,
        ),
    });
    let front = TestDaemon::front_of(&server.url, &[]);
    let made = front.create("s");
    assert_eq!(
        (made.pod_name.as_str(), made.created, made.sandbox_dir.as_str()),
        ("pod-1", true, "")
    );
    assert!(!front.create("s").created);
    let touched = front.call("sandbox.touch", json!({"sessionId": "s"})).unwrap();
    assert!(touched["expiresAt"].as_str().unwrap().ends_with('Z'), "{touched}");
    let mut output = front.noxctl(&["exec", "s", "x"]);
    let output = noxrunner_tests::run(output.stdin(Stdio::null()));
    assert_eq!(output.status.code(), Some(124));
    assert!(String::from_utf8_lossy(&output.stderr).contains("U+FFFD"), "{output:?}");
    let ran = front.exec("s", &["x"]);
    assert_eq!((ran.cause, ran.duration_ms), (noxrunner_protocol::types::Cause::Exited, 5));
    assert!(ran.warnings.is_empty(), "{:?}", ran.warnings);
    let archive = built("w", "add('x', b'x')");
    let said = Door::Http.upload(&front, "s", "d", &archive).unwrap();
    assert_eq!((&said["dest"], &said["written"]), (&json!("d"), &json!(0)));
    assert!(said["warnings"].to_string().contains("does not count"), "{said}");
    let sent = server.asked().pop().unwrap();
    assert_eq!(sent.body, archive);
    assert!(sent.head.contains("\r\ncontent-type: application/x-tar\r\n"), "{}", sent.head);
}
