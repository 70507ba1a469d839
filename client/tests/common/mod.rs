//! A daemon that follows a script, over lines and HTTP on one socket.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod archive;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A socket on which calls are answered by one function and HTTP requests by another.
pub(crate) struct Fake {
    pub(crate) dir: TempDir,
    /// What was asked for: the params of calls with their `method`, the heads of HTTP requests.
    pub(crate) seen: Receiver<Value>,
}

impl Fake {
    /// `rpc` gives the member `result` or `error` of the response to a request.
    pub(crate) fn new(
        rpc: impl Fn(&Value) -> Value + Clone + Send + 'static,
        http: impl Fn(&mut Request) + Clone + Send + 'static,
    ) -> Self {
        let (see, seen) = channel();
        let fake = Self { dir: tempfile::tempdir().unwrap(), seen };
        let listener = UnixListener::bind(fake.socket()).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = BufReader::new(stream.unwrap());
                let (rpc, http, see) = (rpc.clone(), http.clone(), see.clone());
                std::thread::spawn(move || {
                    serve(stream, rpc, http, |value| drop(see.send(value)));
                });
            }
        });
        fake
    }

    /// Without calls.
    pub(crate) fn http(http: impl Fn(&mut Request) + Clone + Send + 'static) -> Self {
        Self::new(|request| panic!("{request}"), http)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("s.sock")
    }

    pub(crate) fn noxctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_noxctl"));
        command.env_clear().env("NOXRUNNER_SOCKET", self.socket()).args(args);
        // For other machines; nothing of it may be asked.
        command.env("http_proxy", "http://127.0.0.1:9").env("ALL_PROXY", "http://127.0.0.1:9");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> (i32, Vec<u8>, String) {
        finished(self.noxctl(args).output().unwrap())
    }
}

pub(crate) fn finished(output: Output) -> (i32, Vec<u8>, String) {
    let stderr = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), output.stdout, stderr)
}

fn serve(
    mut stream: BufReader<UnixStream>,
    rpc: impl Fn(&Value) -> Value,
    http: impl Fn(&mut Request),
    see: impl Fn(Value),
) {
    let Some(first) = stream.fill_buf().ok().and_then(|bytes| bytes.first().copied()) else {
        return;
    };
    if first.is_ascii_uppercase() {
        let mut request = Request::read(stream);
        see(request.head.clone().into());
        return http(&mut request);
    }
    let mut line = String::new();
    while stream.read_line(&mut line).unwrap_or(0) > 0 {
        let request: Value = serde_json::from_str(&line).unwrap();
        let mut seen = request["params"].clone();
        seen["method"] = request["method"].clone();
        see(seen);
        let mut response = rpc(&request);
        response["jsonrpc"] = "2.0".into();
        response["id"] = request["id"].clone();
        writeln!(stream.get_mut(), "{response}").unwrap();
        line.clear();
    }
}

/// An HTTP request whose body is not read yet.
pub(crate) struct Request {
    /// Request line and headers, in lower case but for the line.
    pub(crate) head: String,
    pub(crate) stream: BufReader<UnixStream>,
}

impl Request {
    fn read(mut stream: BufReader<UnixStream>) -> Self {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).unwrap() > 0, "{head}");
        }
        Self { head, stream }
    }

    /// The chunked body, if its last chunk arrives.
    pub(crate) fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut size = String::new();
            self.stream.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16)
                .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let before = body.len() as u64;
            self.stream.by_ref().take(size).read_to_end(&mut body)?;
            let mut end = [0; 2];
            self.stream.read_exact(&mut end)?;
            assert_eq!((body.len() as u64 - before, &end), (size, b"\r\n"));
            if size == 0 {
                return Ok(body);
            }
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // Whoever has had enough hangs up.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    pub(crate) fn json(&mut self, status: u16, body: &Value) {
        let body = body.to_string();
        let length = body.len();
        self.write(
            format!(
                "HTTP/1.1 {status} Whatever\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
    }

    /// Begins an archive in chunks, with more headers.
    pub(crate) fn begin(&mut self, headers: &str) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-tar\r\n";
        self.write(format!("{head}transfer-encoding: chunked\r\n{headers}\r\n").as_bytes());
    }

    pub(crate) fn chunk(&mut self, bytes: &[u8]) {
        let head = format!("{:x}\r\n", bytes.len());
        self.write(&[head.as_bytes(), bytes, b"\r\n"].concat());
    }

    /// A whole archive.
    pub(crate) fn archive(&mut self, bytes: &[u8]) {
        self.begin("");
        bytes.chunks(1000).for_each(|chunk| self.chunk(chunk));
        self.chunk(b"");
    }
}

/// The result of an upload of so many members.
pub(crate) fn uploaded(written: u64) -> Value {
    json!({"written": written, "bytes": 5, "skipped": 0, "rerooted": 0, "setIdCleared": 0,
        "dest": "/workspace", "redirected": false})
}

pub(crate) fn storage_full() -> Value {
    json!({"error": "no room (delete something)", "kind": "storageFull",
        "hint": "delete something"})
}
