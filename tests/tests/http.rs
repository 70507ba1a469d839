//! HTTP on the same socket, by way of curl: a program that knows nothing of this one.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use noxrunner_protocol::limits::MAX_LINE_BYTES;
use noxrunner_tests::wire::{refusal, request};
use noxrunner_tests::{SOON, TestDaemon, run, text};
use serde_json::{Value, json};

/// What curl got.
#[derive(Debug)]
struct Answer {
    status: u16,
    content_type: String,
    allow: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.content_type, "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// The words of an answer that is no JSON-RPC.
    #[track_caller]
    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

fn curl(daemon: &TestDaemon) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--unix-socket"]);
    command.arg(&daemon.socket).stdin(Stdio::null());
    command
}

/// Runs curl with these arguments on a path.
#[track_caller]
fn get(daemon: &TestDaemon, path: &str, arguments: &[&str]) -> Answer {
    let mut command = curl(daemon);
    command.args(["--write-out", "\n%{http_code}\n%{content_type}\n%header{allow}"]);
    let output = run(command.arg(format!("http://noxrunner{path}")).args(arguments));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    let mut parts = stdout.rsplitn(4, '\n').map(str::to_owned);
    let (allow, content_type) = (parts.next().unwrap(), parts.next().unwrap());
    let status = parts.next().unwrap().parse().unwrap();
    Answer { status, content_type, allow, body: parts.next().unwrap() }
}

const JSON: [&str; 2] = ["--header", "content-type: application/json"];

#[track_caller]
fn post(daemon: &TestDaemon, path: &str, body: &Value, more: &[&str]) -> Answer {
    let body = body.to_string();
    get(daemon, path, &[&JSON[..], &["--data-binary", &body], more].concat())
}

#[test]
fn a_request_is_posted_to_either_path() {
    let daemon = TestDaemon::start();
    for path in ["/", "/rpc"] {
        let answer = post(&daemon, path, &request(7, "health", json!({})), &[]);
        assert_eq!((answer.status, &answer.json()["id"]), (200, &json!(7)));
        assert_eq!(answer.json()["result"]["status"], "ok");
    }
    let charset = ["--header", "Content-Type: Application/JSON; charset=utf-8"];
    let body = request(1, "health", json!({})).to_string();
    let answer = get(&daemon, "/", &[&charset[..], &["--data-binary", &body]].concat());
    assert_eq!(answer.json()["result"]["status"], "ok");
}

#[test]
fn a_sandbox_is_used_by_post() {
    let daemon = TestDaemon::start();
    let call = |method: &str, params| post(&daemon, "/", &request(1, method, params), &[]).json();
    assert_eq!(call("sandbox.create", json!({"sessionId": "s"}))["result"]["created"], true);
    let ran = call("sandbox.exec", json!({"sessionId": "s", "cmd": ["echo", "hi"]}));
    assert_eq!(ran["result"]["stdout"], "hi\n");
    assert_eq!(call("sandbox.delete", json!({"sessionId": "s"}))["result"]["deleted"], true);
    assert_eq!(refusal(&call("sandbox.get", json!({"sessionId": "s"}))).0, "sandboxNotFound");
    assert_eq!(daemon.directories(), [""; 0]);
}

#[test]
fn post_answers_as_lines_do() {
    let daemon = TestDaemon::start();
    for body in ["{", "[]", "1", "{}", r#"{"jsonrpc":"2.0","id":-1,"method":"health"}"#] {
        let answer = get(&daemon, "/", &[&JSON[..], &["--data-binary", body]].concat());
        let line: Value = serde_json::from_str(&daemon.lines(format!("{body}\n"))[0]).unwrap();
        refusal(&line);
        assert_eq!(answer.json(), line, "{body}");
    }
    let bad = request(3, "sandbox.get", json!({"sessionid": "s"}));
    let (kind, message) = refusal(&post(&daemon, "/", &bad, &[]).json());
    assert!(kind == "invalidArgument" && message.contains("sessionid"), "{message}");

    let note = json!({"jsonrpc": "2.0", "method": "sandbox.create", "params": {"sessionId": "s"}});
    let batch = json!([request(1, "health", json!({})), note, request(2, "no.such", json!({}))]);
    let answers = post(&daemon, "/", &batch, &[]).json();
    let mut ids: Vec<_> = answers.as_array().unwrap().iter().map(|a| a["id"].as_u64()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [Some(1), Some(2)]);
    for silent in [note.clone(), json!([note])] {
        let answer = post(&daemon, "/", &silent, &[]);
        assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{silent}");
    }
    assert_eq!(daemon.directories(), [""; 0]);
}

#[test]
fn healthz_says_ok() {
    let daemon = TestDaemon::start();
    let answer = get(&daemon, "/healthz", &[]);
    assert_eq!((answer.status, answer.body.trim_end()), (200, "OK"));
}

#[test]
fn what_is_not_there_is_said_in_json() {
    let daemon = TestDaemon::start();
    for path in ["/nothing", "/rpc/x", "/healthz/"] {
        let answer = get(&daemon, path, &[]);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().contains(path), "{answer:?}");
    }
    for (path, method, allowed) in [
        ("/", "GET", "POST"),
        ("/rpc", "PUT", "POST"),
        ("/rpc", "DELETE", "POST"),
        ("/healthz", "POST", "GET"),
    ] {
        let answer = get(&daemon, path, &["--request", method]);
        assert_eq!((answer.status, answer.allow.as_str()), (405, allowed), "{method} {path}");
        assert!(answer.error().contains(allowed), "{answer:?}");
    }
}

#[test]
fn only_json_is_read() {
    let daemon = TestDaemon::start();
    let body = request(1, "sandbox.create", json!({"sessionId": "s"})).to_string();
    // What a form of a web page can send without asking, and nothing at all.
    for kind in [
        "content-type: text/plain",
        "content-type: application/x-www-form-urlencoded",
        "content-type: application/jsonx",
        "content-type:",
    ] {
        let answer = get(&daemon, "/", &["--header", kind, "--data-binary", &body]);
        assert_eq!(answer.status, 415, "{kind}");
        assert!(answer.error().contains("application/json"), "{answer:?}");
    }
    assert_eq!(daemon.directories(), [""; 0]);
    let control = get(&daemon, "/", &[&JSON[..], &["--data-binary", &body]].concat());
    assert_eq!(control.json()["result"]["created"], true);
}

#[test]
fn a_web_page_is_refused() {
    let daemon = TestDaemon::start();
    let create = request(1, "sandbox.create", json!({"sessionId": "s"}));
    for origin in ["Origin: http://localhost", "Origin: null", "origin: http://noxrunner"] {
        let answer = post(&daemon, "/", &create, &["--header", origin]);
        assert_eq!(answer.status, 403, "{origin}");
        assert!(answer.error().contains("refused"), "{answer:?}");
    }
    assert_eq!(daemon.directories(), [""; 0]);
    let control = post(&daemon, "/", &create, &[]);
    assert_eq!((control.status, &control.json()["result"]["created"]), (200, &json!(true)));
}

#[test]
fn a_body_has_at_most_four_mebibytes() {
    let daemon = TestDaemon::start();
    let request = request(1, "health", json!({})).to_string();
    let body = |bytes: usize| {
        let file = daemon.dir.path().join(format!("body{bytes}"));
        std::fs::write(&file, format!("{request}{}", " ".repeat(bytes - request.len()))).unwrap();
        format!("@{}", file.display())
    };
    let (fits, too_long) = (body(MAX_LINE_BYTES), body(MAX_LINE_BYTES + 1));
    for more in [&[][..], &["--header", "transfer-encoding: chunked"]] {
        let send =
            |body: &str| get(&daemon, "/", &[&JSON[..], &["--data-binary", body], more].concat());
        assert_eq!(send(&fits).json()["result"]["status"], "ok", "{more:?}");
        let answer = send(&too_long);
        assert_eq!(answer.status, 413, "{more:?}");
        assert_eq!(refusal(&answer.json()).0, "payloadTooLarge");
    }
}

#[test]
fn a_connection_takes_one_request_after_another() {
    let daemon = TestDaemon::start();
    let url = "http://noxrunner/healthz";
    let output = run(curl(&daemon).args(["--write-out", "%{num_connects}", url, url, url]));
    assert_eq!(text(&output.stdout), "OK\n1OK\n0OK\n0");
}

#[test]
fn a_client_that_has_finished_asking_still_gets_its_answer() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let cmd = json!(["sh", "-c", "sleep 0.3; echo done"]);
    let body = request(1, "sandbox.exec", json!({"sessionId": "s", "cmd": cmd})).to_string();
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r"done\n"), "{answer}");
}

#[test]
fn what_only_looks_like_http_is_refused_and_harms_nobody() {
    let daemon = TestDaemon::start();
    for bytes in ["HELLO\n\n", "GET\r\n\r\n", "POST / HTTP/9.9\r\n\r\n", "A\0\n"] {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{bytes:?}: {answer}");
    }
    assert_eq!(get(&daemon, "/healthz", &[]).status, 200);
}
