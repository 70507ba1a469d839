//! What is asked of a backend, verb by verb, and what is printed of its answers.

use std::fs;
use std::time::Instant;

use noxrunner_tests::SOON;
use serde_json::{Value, json};

use super::fake::Fake;
use super::{ask, fails, noxctl, said};

const RAN: &str = r#"{"exitCode": 7, "stdout": "out\n", "stderr": "err\n", "durationMs": 3}"#;
const CREATED: &str = r#"{"podName": "pod-1", "expiresAt": "2026-01-01T00:00:00Z", "node": 4}"#;

#[test]
fn every_verb_is_the_request_that_the_api_has_for_it() {
    let fake = Fake::new(|asked| match asked.seen.line.as_str() {
        "GET /nox/healthz" => asked.answer(200, "text/plain", "OK\n"),
        line if line.starts_with("PUT") => asked.json(200, CREATED),
        line if line.starts_with("DELETE") => asked.say("HTTP/1.1 204 No Content\r\n\r\n"),
        line if line.ends_with("/exec") => asked.json(200, RAN),
        _ => asked.answer(200, "text/plain", ""),
    });
    let url = format!("{}/nox/", fake.url());
    let of = |arguments: &[&str]| {
        let said = ask(&url, arguments);
        let seen = fake.next();
        assert_eq!(fake.lines(), [""; 0], "{arguments:?}");
        (said, seen)
    };
    let done = |text: &str| (0, format!("✓ {text}\n"), String::new());
    let (said, seen) = of(&["health"]);
    assert_eq!((said, seen.line.as_str()), (done("Manager is healthy"), "GET /nox/healthz"));
    let limits = ["--ttl", "60", "--image", "i", "--cpu", "500m", "--mem", "1Gi"];
    let (said, seen) = of(&[&["create", "a/b %ä"][..], &limits, &["--storage", "2Gi"]].concat());
    assert_eq!(said, done("Sandbox created: pod-1"));
    assert_eq!(seen.line, "PUT /nox/v1/sandboxes/a%2Fb%20%25%C3%A4");
    let body = json!({"ttlSeconds": 60, "image": "i", "cpuLimit": "500m", "memoryLimit": "1Gi",
        "ephemeralStorageLimit": "2Gi"});
    assert_eq!(seen.json(), body);
    let (said, seen) = of(&["touch", "s"]);
    assert_eq!(
        (said, seen.line.as_str()),
        (done("TTL extended"), "POST /nox/v1/sandboxes/s/touch")
    );
    assert!(seen.headers.contains("content-length: 0\r\n"), "{seen:?}");
    let flags = ["exec", "--env", "A=b=c", "--workdir", "/tmp", "--timeout-seconds", "5"];
    let (said, seen) = of(&[&flags[..], &["s", "--", "echo", "a b"]].concat());
    assert_eq!(said, (7, "out\n".to_owned(), "err\n".to_owned()));
    assert_eq!(seen.line, "POST /nox/v1/sandboxes/s/exec");
    let body = json!({"cmd": ["echo", "a b"], "workdir": "/tmp", "env": {"A": "b=c"},
        "timeoutSeconds": 5});
    // 5 and not 5.0, which some backends do not read.
    assert_eq!(seen.json().to_string(), body.to_string());
    let (said, _) = of(&["exec", "--ignore-exit-code", "s", "x"]);
    assert_eq!(said.0, 0);
    let (said, seen) = of(&["delete", "s"]);
    assert_eq!((said, seen.line.as_str()), (done("Sandbox deleted"), "DELETE /nox/v1/sandboxes/s"));
}

#[test]
fn json_has_what_the_backend_said() {
    let fake = Fake::new(|asked| match asked.seen.line.as_str() {
        "GET /healthz" => asked.answer(200, "text/plain", "OK"),
        line if line.ends_with("/exec") => asked.json(200, RAN),
        line if line.ends_with("/touch") => asked.json(404, r#"{"error": "no such"}"#),
        _ => asked.json(200, CREATED),
    });
    let of = |arguments: &[&str]| -> Value {
        let (_, stdout, stderr) = ask(&fake.url(), &[&["--json"], arguments].concat());
        assert_eq!(stderr, "");
        serde_json::from_str(&stdout).unwrap()
    };
    assert_eq!(of(&["health"]), json!({"status": "ok"}));
    let created = json!({"podName": "pod-1", "expiresAt": "2026-01-01T00:00:00Z"});
    assert_eq!(of(&["create", "s"]), created);
    assert_eq!(of(&["exec", "s", "x"]), serde_json::from_str::<Value>(RAN).unwrap());
    assert_eq!(of(&["delete", "s"]), json!({"deleted": true}));
    let (status, _, stderr) = ask(&fake.url(), &["--json", "touch", "s"]);
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!((status, &error["error"]["data"]["kind"]), (1, &json!("sandboxNotFound")));
}

#[test]
fn an_exec_makes_a_sandbox_that_is_not_there_and_nothing_more() {
    let mut there = false;
    let fake = Fake::new(move |asked| match asked.seen.line.as_bytes()[1] {
        b'U' => {
            there = true;
            asked.json(200, CREATED);
        }
        _ if there => asked.json(200, RAN),
        // As a backend says it that writes no JSON.
        _ => asked.answer(404, "text/plain", "sandbox not found\n"),
    });
    assert_eq!(ask(&fake.url(), &["exec", "s", "x"]).0, 7);
    let (put, post) = ("PUT /v1/sandboxes/s", "POST /v1/sandboxes/s/exec");
    let seen: Vec<_> = (0..3).map(|_| fake.next()).collect();
    assert_eq!(seen.iter().map(|seen| &seen.line).collect::<Vec<_>>(), [post, put, post]);
    assert_eq!(seen[1].json(), json!({"ttlSeconds": 900}));
    assert_eq!(seen[0].body, seen[2].body);
    assert_eq!(ask(&fake.url(), &["exec", "s", "x"]).0, 7);
    assert_eq!(fake.lines(), [post]);
    // Nothing but a sandbox that is not there has it made.
    for status in [400, 401, 403, 500, 503] {
        let fake = Fake::json(status, r#"{"error": "no"}"#);
        fails(ask(&fake.url(), &["exec", "s", "x"]), &["no", &fake.url()]);
        assert_eq!(fake.lines(), [post], "{status}");
    }
    // A page in its place is no answer of a backend's.
    let fake = Fake::new(|asked| asked.answer(404, "text/html", "<html>"));
    fails(ask(&fake.url(), &["exec", "s", "x"]), &["HTML page with status 404"]);
    assert_eq!(fake.lines(), [post]);
}

#[test]
fn what_the_api_does_not_have_is_said_before_anything_is_asked() {
    let fake = Fake::json(200, CREATED);
    for (arguments, what) in [
        (&["list"][..], "list"),
        (&["get", "s"], "get"),
        (&["policy"], "policy"),
        (&["policy", "check", "ls"], "policy"),
        (&["doctor"], "doctor"),
        (&["openrpc"], "openrpc"),
        (&["exec", "-i", "s", "cat"], "exec -i"),
        (&["create", "--network", "host", "s"], "create --network"),
        (&["create", "--pids", "9", "s"], "create --pids"),
        (&["create", "--env", "A=b", "s"], "create --env"),
        (&["create", "--lease", "connection", "s"], "create --lease"),
    ] {
        let what = format!("no `{what}`");
        fails(ask(&fake.url(), arguments), &[&what, &fake.url(), "leave out --base-url"]);
    }
    assert_eq!(fake.lines(), [""; 0]);
    // The positive control.
    assert_eq!(ask(&fake.url(), &["create", "s"]).0, 0);
    assert_eq!(fake.lines(), ["PUT /v1/sandboxes/s"]);
}

#[test]
fn waiting_for_a_sandbox_asks_until_it_is_ready() {
    let mut asked_before = 0;
    let fake = Fake::new(move |asked| {
        asked_before += 1;
        match asked_before {
            1 => asked.json(200, CREATED),
            2 => asked.json(503, r#"{"error": "starting"}"#),
            3 => asked.answer(502, "text/html", "<html>"),
            _ => asked.json(200, r#"{"exitCode": 0, "stdout": "ready\n"}"#),
        }
    });
    let (status, stdout, stderr) = ask(&fake.url(), &["create", "--wait", "s"]);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(stdout, "✓ Sandbox created: pod-1\n✓ Pod is ready\n");
    let seen: Vec<_> = (0..4).map(|_| fake.next()).collect();
    assert_eq!(seen[3].json()["cmd"], json!(["echo", "ready"]));
    // One that never is.
    let begun = Instant::now();
    let fake = Fake::new(|asked| match asked.seen.line.starts_with("PUT") {
        true => asked.json(200, CREATED),
        false => asked.json(503, r#"{"error": "starting"}"#),
    });
    let command = ["create", "--wait", "--wait-timeout", "3", "s"];
    let (status, stdout, stderr) = ask(&fake.url(), &command);
    assert_eq!((status, stdout.as_str()), (1, "✓ Sandbox created: pod-1\n"));
    assert!(stderr.contains("within 3 s") && stderr.contains("starting"), "{stderr}");
    assert!(begun.elapsed() < SOON / 2);
    // One that says no.
    let fake = Fake::new(|asked| match asked.seen.line.starts_with("PUT") {
        true => asked.json(200, CREATED),
        false => asked.json(401, r#"{"error": "who are you"}"#),
    });
    let (status, _, stderr) = ask(&fake.url(), &["create", "--wait", "s"]);
    assert!(status == 1 && stderr.contains("who are you"), "{stderr}");
    assert_eq!(fake.lines().len(), 2);
}

#[test]
fn the_environment_names_a_backend_and_flags_are_stronger() {
    let fake = Fake::new(|asked| asked.answer(200, "text/plain", "OK"));
    let other = Fake::new(|asked| asked.answer(200, "text/plain", "OK"));
    let env =
        |command: &mut std::process::Command| said(command.env("NOXRUNNER_BASE_URL", fake.url()));
    assert_eq!(env(&mut noxctl(&["health"])).0, 0);
    assert_eq!(fake.lines(), ["GET /healthz"]);
    assert_eq!(env(&mut noxctl(&["--base-url", &other.url(), "health"])).0, 0);
    assert_eq!((fake.lines().len(), other.lines().len()), (0, 1));
    // A socket in the environment comes before a backend there.
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let (status, _, stderr) = env(noxctl(&["health"]).env("NOXRUNNER_SOCKET", &socket));
    assert!(status == 1 && stderr.contains("s.sock"), "{stderr}");
    let other_socket = dir.path().join("other.sock");
    let (status, _, stderr) = env(noxctl(&["health", "--socket"]).arg(other_socket));
    assert!(status == 1 && stderr.contains("other.sock"), "{stderr}");
    // But not before one that is named by a flag.
    let flag = ["--base-url", &other.url(), "health"];
    assert_eq!(said(noxctl(&flag).env("NOXRUNNER_SOCKET", &socket)).0, 0);
    assert_eq!((fake.lines().len(), other.lines().len()), (0, 1));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    for arguments in [
        &["--base-url", "http://h", "--socket", "/s", "health"][..],
        &["--socket", "/s", "health", "--base-url", "http://h"],
        &["--base-url", "http://h", "--local-test", "health"],
        &["--base-url", "ftp://h", "health"],
        &["--base-url", "http://u:p@h", "health"],
        &["health", "--token-file", "/t"],
    ] {
        let (status, stdout, stderr) = said(&mut noxctl(arguments));
        assert_eq!((status, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
    }
}
