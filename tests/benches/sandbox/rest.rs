//! The REST API, on a connection that is kept.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use noxrunner_tests::TestDaemon;
use noxrunner_tests::doors::http_answer;
use serde_json::{Value, json};

/// A client that asks for one thing after the other.
pub(crate) struct Rest<S> {
    stream: BufReader<S>,
}

impl Rest<UnixStream> {
    /// On the daemon's socket.
    pub(crate) fn on_socket(daemon: &TestDaemon) -> Self {
        Self { stream: BufReader::new(UnixStream::connect(&daemon.socket).unwrap()) }
    }
}

impl Rest<TcpStream> {
    /// On TCP.
    pub(crate) fn on_tcp(daemon: &TestDaemon) -> Self {
        let stream = TcpStream::connect(daemon.http()).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }
}

impl<S: Read + Write> Rest<S> {
    /// Runs a command in a sandbox that exists.
    pub(crate) fn exec(&mut self, session: &str, nonce: u64) {
        let body = json!({"cmd": ["/bin/echo", nonce.to_string()]}).to_string();
        let request = format!(
            "POST /v1/sandboxes/{session}/exec HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (status, answer) = http_answer(&mut self.stream);
        let result: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((status, &result["stdout"]), (200, &json!(format!("{nonce}\n"))), "{result}");
    }
}
