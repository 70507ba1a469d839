//! Requests that are no requests, or make no sense: each gets a reason, and nothing happens.

use std::io::Write;
use std::net::Shutdown;

use noxrunner_tests::TestDaemon;
use serde_json::json;

use crate::{Answer, JSON, answer, ask, connect, request, start};

/// Sends bytes and gives what comes back.
#[track_caller]
fn say(daemon: &TestDaemon, bytes: impl AsRef<[u8]>) -> Answer {
    let mut stream = connect(daemon);
    // The daemon may answer, and close, before it has read all of it.
    let _ = stream.write_all(bytes.as_ref());
    answer(stream)
}

#[test]
fn what_is_no_http_has_a_reason() {
    let daemon = start(&[]);
    let create =
        "PUT /v1/sandboxes/s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
    for (name, bytes, status) in [
        ("no version", "GET /healthz\r\n\r\n".to_owned(), 400),
        ("another version", "GET /healthz HTTP/9.9\r\n\r\n".to_owned(), 400),
        (
            "JSON-RPC as lines",
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\"}\n".to_owned(),
            400,
        ),
        ("a header without a colon", "GET / HTTP/1.1\r\nhost\r\n\r\n".to_owned(), 400),
        ("a space before the colon", format!("{create}\r\ncontent-length : 2\r\n\r\n{{}}"), 400),
        ("a folded header", format!("{create}\r\nx: a\r\n b\r\n\r\n"), 400),
        ("a NUL in a header", format!("{create}\r\nx: a\0b\r\n\r\n"), 400),
        (
            "two lengths",
            format!("{create}\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{{}}x"),
            400,
        ),
        ("a length that is none", format!("{create}\r\ncontent-length: 2x\r\n\r\n{{}}"), 400),
        ("a negative length", format!("{create}\r\ncontent-length: -2\r\n\r\n{{}}"), 400),
        ("a length with a plus", format!("{create}\r\ncontent-length: +2\r\n\r\n{{}}"), 400),
        (
            "chunked is not the last coding",
            format!("{create}\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "a chunk of no size",
            format!("{create}\r\ntransfer-encoding: chunked\r\n\r\nx\r\n\r\n"),
            400,
        ),
        (
            "a chunk larger than there are numbers",
            format!("{create}\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n"),
            400,
        ),
        ("headers of a megabyte", format!("{create}\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)), 431),
        ("a thousand headers", format!("{create}\r\n{}\r\n", "x: y\r\n".repeat(1000)), 431),
        ("a path of 100,000 bytes", format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000)), 414),
    ] {
        let answer = say(&daemon, bytes);
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert!(answer.error().len() > 20, "{name}: {answer:?}");
    }
    // A request that hides behind another one is not run, whichever length comes first (RFC 9112,
    // section 6.3: the chunks count, and the connection ends).
    let hidden = request("PUT /v1/sandboxes/hidden", &[JSON], "{}");
    let length = format!("content-length: {}", hidden.len() + 5);
    let chunked = "transfer-encoding: chunked";
    for headers in [[length.as_str(), chunked], [chunked, length.as_str()]] {
        let mut stream = connect(&daemon);
        let bytes = request("PUT /v1/sandboxes/s/exec", &headers, "") + "0\r\n\r\n" + &hidden;
        stream.write_all(bytes.as_bytes()).unwrap();
        let first = answer(&mut stream);
        assert_eq!(first.status, 405, "{first:?}");
        assert!(first.head.contains("connection: close"), "{first:?}");
        assert_eq!(std::io::Read::read(&mut stream, &mut [0]).unwrap_or(0), 0);
    }
    assert_eq!(daemon.directories(), [""; 0]);
    assert_eq!(say(&daemon, request("PUT /v1/sandboxes/s", &[JSON], "{}")).status, 200);
}

#[test]
fn a_body_that_makes_no_sense_has_a_reason() {
    let daemon = start(&[]);
    daemon.create("s");
    let deep = format!("{{\"image\": {}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let put = |body: &str| ask(&daemon, "PUT /v1/sandboxes/t", &[JSON], body);
    for (body, part) in [
        ("{", "not a JSON object"),
        ("[]", "object"),
        ("{}{}", "not a JSON object"),
        (r#"{"ttlSeconds": 0}"#, "ttlSeconds"),
        (r#"{"ttlSeconds": -1}"#, "ttlSeconds"),
        (r#"{"ttlSeconds": 1.5}"#, "ttlSeconds"),
        (r#"{"ttlSeconds": "60"}"#, "ttlSeconds"),
        (r#"{"ttlSeconds": 99999999999999999999}"#, "ttlSeconds"),
        (r#"{"ttlSeconds": 1e999}"#, "out of range"),
        (r#"{"memoryLimit": "lots"}"#, "memoryLimit"),
        (r#"{"cpuLimit": -1}"#, "cpuLimit"),
        (r#"{"image": 7}"#, "image"),
        (r#"{"image": "\ud800"}"#, "not a JSON object"),
        (deep.as_str(), "not a JSON object"),
    ] {
        let answer = put(body);
        assert_eq!(answer.status, 400, "{}: {answer:?}", &body[..body.len().min(80)]);
        assert!(answer.error().contains(part), "{answer:?}");
    }
    let exec = |body: &str| ask(&daemon, "POST /v1/sandboxes/s/exec", &[JSON], body);
    for (body, part) in [
        ("{}", "cmd"),
        (r#"{"cmd": []}"#, "cmd"),
        (r#"{"cmd": "touch ran"}"#, "cmd"),
        (r#"{"cmd": ["touch", 7]}"#, "cmd[1]"),
        (r#"{"cmd": ["touch", "ran\u0000"]}"#, "NUL"),
        (r#"{"cmd": ["touch", "ran"], "workdir": "/tmp\u0000"}"#, "NUL"),
        (r#"{"cmd": ["touch", "ran"], "env": {"A": "\u0000"}}"#, "NUL"),
        (r#"{"cmd": ["touch", "ran"], "env": {"A=B": "c"}}"#, "A=B"),
        (r#"{"cmd": ["touch", "ran"], "env": {"": "c"}}"#, "env"),
        (r#"{"cmd": ["touch", "ran"], "env": {"A": 1}}"#, "env"),
        (r#"{"cmd": ["touch", "ran"], "timeoutSeconds": 0}"#, "timeoutSeconds"),
        (r#"{"cmd": ["touch", "ran"], "timeoutSeconds": 86401}"#, "timeoutSeconds"),
        (r#"{"cmd": ["touch", "ran"], "timeoutSeconds": "soon"}"#, "timeoutSeconds"),
    ] {
        let answer = exec(body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(answer.error().contains(part), "{body}: {answer:?}");
    }
    let utf8 = [b"{\"cmd\": [\"touch\", \"ran\xff\"]}".as_slice()].concat();
    let head = request("POST /v1/sandboxes/s/exec", &[JSON], "");
    let head = head.trim_end().to_owned() + &format!("\r\ncontent-length: {}\r\n\r\n", utf8.len());
    let answer = say(&daemon, [head.as_bytes(), &utf8].concat());
    assert!(answer.status == 400 && answer.error().contains("UTF-8"), "{answer:?}");
    assert_eq!(daemon.sh("s", "ls").stdout, "");
    assert_eq!(exec(r#"{"cmd": ["touch", "ran"]}"#).status, 200);
    assert_eq!(daemon.sh("s", "ls").stdout, "ran\n");
    assert_eq!(daemon.directories().len(), 1, "a create that was refused made something");
}

#[test]
fn a_policy_lowers_the_longest_timeout() {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, "max_timeout = '40s'").unwrap();
    let daemon = start(&["--policy", policy.to_str().unwrap()]);
    daemon.create("s");
    let exec = |timeout: u32| {
        let body = format!(r#"{{"cmd": ["touch", "ran{timeout}"], "timeoutSeconds": {timeout}}}"#);
        ask(&daemon, "POST /v1/sandboxes/s/exec", &[JSON], &body)
    };
    assert_eq!(exec(40).status, 200);
    let refused = exec(41);
    assert!(refused.status == 400 && refused.error().contains("max_timeout"), "{refused:?}");
    let exec = json!({"sessionId": "s", "cmd": ["touch", "ran"], "timeoutSeconds": 41});
    let refused = daemon.call("sandbox.exec", exec).unwrap_err();
    assert_eq!(refused.kind.name(), "invalidArgument");
    assert_eq!(daemon.sh("s", "ls").stdout, "ran40\n");
}

#[test]
fn what_is_not_there_is_said() {
    let daemon = start(&[]);
    daemon.create("s");
    for (line, status, part) in [
        ("GET /v1/sandboxes/s", 405, "PUT, DELETE"),
        ("POST /v1/sandboxes/s", 405, "PUT, DELETE"),
        ("PUT /v1/sandboxes/s/exec", 405, "POST"),
        ("GET /v1/sandboxes/s/touch", 405, "POST"),
        ("POST /v1/sandboxes/s/files/download", 405, "GET"),
        ("GET /v1/sandboxes/s/files/upload", 405, "POST"),
        ("POST /v1/sandboxes/s/frobnicate", 404, "frobnicate"),
        ("POST /v1/sandboxes/a/b/touch", 404, "%2F"),
        ("GET /v1/sandboxes", 404, "/v1/sandboxes/ID"),
        ("GET /v2", 404, "/v2"),
        ("PUT /v1/sandboxes/", 400, "session id"),
        ("PUT /v1/sandboxes/%FF", 400, "UTF-8"),
        ("PUT /v1/sandboxes/a%00b", 400, "control"),
        ("PUT /v1/sandboxes/t?ttl=5", 400, "ttl"),
        ("DELETE /v1/sandboxes/t", 404, "\"t\""),
        ("POST /v1/sandboxes/t/touch", 404, "\"t\""),
        ("GET /v1/sandboxes/t/files/download", 404, "\"t\""),
        ("GET /v1/sandboxes/s/files/download?src=nothing", 404, "nothing"),
        ("GET /v1/sandboxes/s/files/download?dest=x", 400, "src"),
        ("GET /v1/sandboxes/s/files/download?format=zip", 400, "tar.gz"),
    ] {
        let answer = ask(&daemon, line, &[], "");
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(answer.error().contains(part), "{line}: {answer:?}");
        let allowed = answer.head.lines().find(|header| header.starts_with("allow: "));
        assert_eq!(allowed.is_some(), status == 405, "{line}: {answer:?}");
    }
    assert_eq!(daemon.directories().len(), 1);
    // One id has many spellings, and two ids are two sandboxes.
    for id in ["a%2Fb", "ab", "%61b", "..%2F..", "%252F"] {
        assert_eq!(ask(&daemon, &format!("PUT /v1/sandboxes/{id}"), &[], "").status, 200, "{id}");
    }
    let list = daemon.call("sandbox.list", json!({})).unwrap();
    let ids = list["sandboxes"].as_array().unwrap().iter().map(|s| s["sessionId"].clone());
    assert_eq!(ids.collect::<Vec<_>>(), ["%2F", "../..", "a/b", "ab", "s"]);
}

#[test]
fn a_client_that_goes_ends_its_command() {
    let daemon = start(&[]);
    daemon.create("s");
    let mut stream = connect(&daemon);
    let body = r#"{"cmd": ["sh", "-c", "touch up; exec sleep 77"]}"#;
    stream.write_all(request("POST /v1/sandboxes/s/exec", &[JSON], body).as_bytes()).unwrap();
    let up = daemon.workspace("s").join("up");
    noxrunner_tests::eventually("it runs", noxrunner_tests::SOON, || up.exists());
    let processes =
        || daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap()["execs"].clone();
    assert_eq!(processes(), 1);
    // TCP cannot tell a client that has only finished asking from one that is gone.
    stream.shutdown(Shutdown::Write).unwrap();
    noxrunner_tests::eventually("it ends", noxrunner_tests::SOON, || processes() == 0);
}
