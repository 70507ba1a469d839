//! Servers that say what a test wants them to.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use noxrunner_tests::SOON;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A connection, encrypted or not.
pub(crate) trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// A server on a port of its own.
pub(crate) struct Fake {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    seen: Receiver<Seen>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Method and path.
    pub(crate) line: String,
    /// The headers, in lower case.
    pub(crate) headers: String,
    /// The body, if the answer was given after reading it.
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// Its body as JSON, which its content type says it is.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert!(self.headers.contains("content-type: application/json\r\n"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A request and the way to answer it.
pub(crate) struct Asked {
    /// What was asked.
    pub(crate) seen: Seen,
    /// The connection.
    pub(crate) stream: BufReader<Box<dyn Duplex>>,
}

impl Fake {
    /// One that reads requests to their ends before it answers.
    pub(crate) fn new(answer: impl FnMut(&mut Asked) + Send + 'static) -> Self {
        Self::with(None, true, answer)
    }

    /// One that answers when it has read the headers.
    pub(crate) fn early(answer: impl FnMut(&mut Asked) + Send + 'static) -> Self {
        Self::with(None, false, answer)
    }

    /// One that answers all requests with this JSON.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let body = body.to_owned();
        Self::new(move |asked| asked.json(status, &body))
    }

    /// One behind TLS, if there is a way to encrypt.
    pub(crate) fn with(
        tls: Option<Arc<ServerConfig>>,
        reads: bool,
        answer: impl FnMut(&mut Asked) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (see, seen) = channel();
        let answer = Arc::new(Mutex::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, see, tls) = (Arc::clone(&answer), see.clone(), tls.clone());
                let stream = stream.unwrap();
                thread::spawn(move || {
                    // Who only shakes hands, or not even that, has asked for nothing.
                    if let Some(mut asked) = Asked::read(encrypted(stream, tls), reads) {
                        let _ = see.send(asked.seen.clone());
                        (answer.lock().unwrap())(&mut asked);
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request there was.
    #[track_caller]
    pub(crate) fn next(&self) -> Seen {
        self.seen.recv_timeout(SOON).unwrap()
    }

    /// All requests that there were since.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen.try_iter().map(|seen| seen.line).collect()
    }
}

fn encrypted(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> Box<dyn Duplex> {
    match tls {
        None => Box::new(stream),
        Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream)),
    }
}

impl Asked {
    fn read(stream: Box<dyn Duplex>, reads: bool) -> Option<Self> {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let (line, headers) = head.split_once("\r\n").unwrap();
        let line = line.strip_suffix(" HTTP/1.1").unwrap().to_owned();
        let headers = headers.to_ascii_lowercase();
        let mut asked = Self { seen: Seen { line, headers, body: Vec::new() }, stream };
        if reads {
            asked.seen.body = asked.body();
        }
        Some(asked)
    }

    fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        let length = self.seen.headers.lines().find_map(|l| l.strip_prefix("content-length: "));
        if let Some(length) = length {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).unwrap();
        } else if self.seen.headers.contains("transfer-encoding: chunked") {
            loop {
                let mut size = String::new();
                self.stream.read_line(&mut size).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let mut chunk = vec![0; size + 2];
                self.stream.read_exact(&mut chunk).unwrap();
                if size == 0 {
                    break;
                }
                body.extend(&chunk[..size]);
            }
        }
        body
    }

    /// Says these bytes and no more. Who is gone does not hear them.
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let stream = self.stream.get_mut();
        let _ = stream.write_all(bytes.as_ref()).and_then(|()| stream.flush());
    }

    /// Answers with a body of this type and its length.
    pub(crate) fn answer(&mut self, status: u16, kind: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.say(head);
        self.say(body);
    }

    pub(crate) fn json(&mut self, status: u16, body: &str) {
        self.answer(status, "application/json", body);
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seen.fmt(f)
    }
}

/// Compressed as servers compress archives.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
