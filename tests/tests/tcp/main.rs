//! HTTP on TCP: who is let in, what is refused, and how many may come.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod crowds;
mod listening;
mod odd;
mod who;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use noxrunner_tests::{SOON, TestDaemon};
use serde_json::Value;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The words of an error, which is JSON whatever its status.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"));
        body["error"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }

    /// A result.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Reads one answer.
#[track_caller]
pub(crate) fn answer(stream: impl Read) -> Answer {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "the connection ended after {head:?}");
    }
    let status = head[9..12].parse().unwrap();
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    Answer { status, head, body: String::from_utf8(body).unwrap() }
}

/// Connects, for bytes as they are.
#[track_caller]
pub(crate) fn connect(daemon: &TestDaemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.http()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// The bytes of a request: its first line, more headers, its body.
pub(crate) fn request(line: &str, headers: &[&str], body: &str) -> String {
    let mut request = format!("{line} HTTP/1.1\r\nhost: localhost\r\n");
    for header in headers {
        request += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        request += &format!("content-length: {}\r\n", body.len());
    }
    request + "\r\n" + body
}

pub(crate) const JSON: &str = "content-type: application/json";

/// Sends a request on a connection of its own.
#[track_caller]
pub(crate) fn ask(daemon: &TestDaemon, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut stream = connect(daemon);
    stream.write_all(request(line, headers, body).as_bytes()).unwrap();
    answer(stream)
}

/// A daemon that listens on TCP.
#[track_caller]
pub(crate) fn start(arguments: &[&str]) -> TestDaemon {
    TestDaemon::start_with(&[&["--http", "127.0.0.1:0"], arguments].concat())
}

/// A file with a token that only its owner can read.
#[track_caller]
pub(crate) fn token_file(dir: &Path, token: &str, mode: u32) -> String {
    use std::os::unix::fs::PermissionsExt;
    let file = dir.join("token");
    std::fs::write(&file, token).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    file.into_os_string().into_string().unwrap()
}
