//! Requests that make no sense, and what they are told.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use noxrunner_tests::archive::{built, curl, http_download};
use noxrunner_tests::doors::http_answer;
use noxrunner_tests::{ON_TCP, TestDaemon, run, text};
use serde_json::Value;

use super::{listing, with_sandbox};

/// The status and the body of what curl is told to ask.
#[track_caller]
fn ask(daemon: &TestDaemon, path: &str, arguments: &[&str]) -> (u16, Value) {
    let output = run(curl(daemon, path).args(arguments).args(["-w", "\n%{http_code}"]));
    assert!(output.status.success(), "{output:?}");
    let all = text(&output.stdout);
    let (body, status) = all.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn every_error_is_json_and_says_what_to_do() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tar");
    std::fs::write(&file, built("w", "add('x', b'x')")).unwrap();
    let data = format!("@{}", file.display());
    let tar = ["-H", "content-type: application/x-tar", "--data-binary", &data];
    let (up, down) = ("/v1/sandboxes/s/files/upload", "/v1/sandboxes/s/files/download");
    let with = |more: &[&'static str]| -> Vec<String> {
        tar.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    for (path, arguments, status, part) in [
        ("/v1/sandboxes/none/files/upload".to_owned(), with(&[]), 404, "no sandbox"),
        ("/v1/sandboxes/none/files/download".to_owned(), vec![], 404, "no sandbox"),
        (format!("{down}?src=none"), vec![], 404, "/workspace/none"),
        (format!("{down}?src=a%00b"), vec![], 400, "NUL"),
        (format!("{down}?source=x"), vec![], 400, "source"),
        (format!("{down}?format=zip"), vec![], 400, "tar.gz"),
        (format!("{up}?dst=x"), with(&[]), 400, "dst"),
        (format!("{up}?dest=x&dest=y"), with(&[]), 400, "twice"),
        (up.to_owned(), vec![], 405, "POST"),
        (down.to_owned(), with(&[]), 405, "GET"),
        (up.to_owned(), with(&["-H", "content-type: text/plain"]), 415, "application/x-tar"),
        (up.to_owned(), with(&["-H", "origin: http://example.org"]), 403, "web pages"),
        ("/v1/sandboxes/s/files/sideways".to_owned(), vec![], 404, "files/upload"),
        ("/v1/sandboxes//files/download".to_owned(), vec![], 400, "character"),
        ("/v1/sandboxes/a%FFb/files/download".to_owned(), vec![], 400, "UTF-8"),
    ] {
        // A later header of one name is sent beside the earlier one: leave the earlier one out.
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if arguments.contains(&"content-type: text/plain") {
            arguments.drain(..2);
        }
        let (got, body) = ask(&daemon, &path, &arguments);
        assert_eq!(got, status, "{path} {arguments:?}: {body}");
        let error = body["error"].as_str().unwrap_or_else(|| panic!("{path}: no JSON error"));
        assert!(error.contains(part), "{path}: {error}");
    }
    assert_eq!(listing(&workspace), [""; 0]);
    let (status, body) = ask(&daemon, &format!("{up}?dest=a+b%2Bc"), &tar);
    assert_eq!((status, body["dest"].as_str()), (200, Some("/workspace/a b+c")), "{body}");
    assert_eq!(listing(&workspace), ["a b+c/", "a b+c/x: x"]);
}

#[test]
fn a_session_of_any_name_is_reached() {
    let daemon = TestDaemon::start();
    for (id, encoded) in [("a/b", "a%2Fb"), ("grüße ?#%", "gr%C3%BC%C3%9Fe%20%3F%23%25")] {
        daemon.create(id);
        assert_eq!(daemon.sh(id, "echo \"$NOXRUNNER_SESSION\" > f").exit_code, 0);
        let (status, body) = http_download(&daemon, encoded, "src=f&format=tar").unwrap();
        assert_eq!(status, 200);
        assert!(String::from_utf8_lossy(&body).contains(id), "{id}");
    }
    let mut head = curl(&daemon, "/v1/sandboxes/a%2Fb/files/download?src=/etc");
    let head = text(&run(head.args(["-D", "-", "-o", "/dev/null"])).stdout).to_lowercase();
    assert!(head.contains("x-noxrunner-redirected: true"), "{head}");
    assert!(head.contains("content-type: application/x-tar"), "{head}");
}

#[test]
fn who_sends_all_before_reading_hears_why() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start_with(&ON_TCP));
    let body = vec![b'x'; 8 << 20];
    let tar = "content-type: application/x-tar";
    for (path, header, status) in [
        ("/v1/sandboxes/s/files/upload", "content-type: text/plain", 415),
        ("/v1/sandboxes/s/files/upload?dst=x", tar, 400),
        ("/v1/sandboxes/s/files/upload?dest=a%00b", tar, 400),
        ("/v1/sandboxes/s/files/nowhere", tar, 404),
        ("/v1/sandboxes/none/files/upload", tar, 404),
        ("/v1/sandboxes/s/files/upload", tar, 400),
        ("/v1/sandboxes/s", tar, 405),
        ("/v1/sandboxes/s/exec", tar, 415),
        ("/v1/sandboxes/s/exec", "content-type: application/json", 413),
        ("/v1/sandboxes/s/files/upload", "origin: http://example.org", 403),
        ("/nowhere", tar, 404),
        ("/", tar, 415),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{header}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), &body].concat();
        let socket = UnixStream::connect(&daemon.socket).unwrap();
        hears(&socket, &request, status, &format!("socket: {path} {header}"));
        let tcp = TcpStream::connect(daemon.http()).unwrap();
        hears(&tcp, &request, status, &format!("TCP: {path} {header}"));
    }
    assert_eq!(listing(&workspace), [""; 0]);
}

/// Sends all of a request, whatever is answered meanwhile.
#[track_caller]
fn hears<S: Sync>(stream: &S, request: &[u8], status: u16, what: &str)
where
    for<'a> &'a S: Read + Write,
{
    thread::scope(|scope| {
        // Taken when it comes: a reset may discard what is unread (RFC 9112, section 9.6).
        let answer = scope.spawn(move || http_answer(&mut BufReader::new(stream)));
        let began = Instant::now();
        let mut to = stream;
        let sent = to.write_all(request);
        // The daemon reads on for a second behind its answer, which was sent after the beginning.
        let is_late = began.elapsed() >= Duration::from_secs(1);
        assert!(sent.is_ok() || is_late, "{what}: {sent:?}");
        let (got, answer) = answer.join().unwrap();
        assert_eq!(got, status, "{what}: {}", String::from_utf8_lossy(&answer));
    })
}
