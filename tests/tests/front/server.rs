//! A backend that does as a test tells it, and counts what it is asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// As in `PUT /v1/sandboxes/s`.
    pub(crate) line: String,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// How many came before on its connection.
    pub(crate) earlier: usize,
}

/// What it does about it.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// An answer with a length; the connection stays open.
    Json(u16, String),
    /// These bytes, then it closes.
    Raw(Vec<u8>),
    /// It says nothing until the client closes.
    Silence,
    /// These bytes, then the same.
    Stalled(Vec<u8>),
    /// A byte every few milliseconds, without an end.
    Trickle,
    /// A head, and then more than anybody wants, without an end.
    Flood,
    /// It closes at once.
    Close,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::Json(status, body.to_owned())
    }

    /// A sandbox was made.
    pub(crate) fn created() -> Self {
        Self::json(200, r#"{"podName": "pod", "expiresAt": "2999-01-01T00:00:00Z"}"#)
    }
}

/// A server on loopback. Dropping it closes everything.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Script = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

impl Server {
    /// One that answers by this script, which gets each request and how many of the same line
    /// came before. It is well unless the script says otherwise: `GET /healthz` is not asked of it.
    #[track_caller]
    pub(crate) fn new(script: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::with_health(move |asked, before| {
            if asked.line == "GET /healthz" {
                return Reply::json(200, "OK");
            }
            script(asked, before)
        })
    }

    /// The same where the script says how well it is.
    #[track_caller]
    pub(crate) fn with_health(
        script: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (noted, is_over) = (Arc::clone(&asked), Arc::clone(&over));
        let script: Arc<Script> = Arc::new(script);
        let thread = thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.unwrap();
                let held = stream.try_clone().unwrap();
                let (noted, script) = (Arc::clone(&noted), Arc::clone(&script));
                let thread = thread::spawn(move || converse(stream, &noted, &script));
                connections.push((held, thread));
            }
            for (stream, thread) in connections {
                // Closed by the other side, where that was first.
                let _ = stream.shutdown(Shutdown::Both);
                thread.join().unwrap();
            }
        });
        Self { url, asked, over, thread: Some(thread) }
    }

    /// All that was asked, but for its health.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let all = self.asked.lock().unwrap().clone();
        all.into_iter().filter(|asked| asked.line != "GET /healthz").collect()
    }

    /// How often something was asked.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.asked().iter().filter(|asked| asked.line == line).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let address = self.url.strip_prefix("http://").unwrap();
        // Wakes it up.
        drop(TcpStream::connect(address));
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Answers what comes by one connection, to its end.
fn converse(stream: TcpStream, asked: &Mutex<Vec<Asked>>, script: &Arc<Script>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut earlier = 0;
    while let Some(request) = read(&mut reader, earlier) {
        earlier += 1;
        let before = {
            let mut all = asked.lock().unwrap();
            let before = all.iter().filter(|asked| asked.line == request.line).count();
            all.push(request.clone());
            before
        };
        if !reply(&stream, &mut reader, script(&request, before)) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// Whether the connection stays open. Who is not listened to any more is none of a test's business.
fn reply(mut stream: &TcpStream, reader: &mut BufReader<TcpStream>, reply: Reply) -> bool {
    let until_closed = |reader: &mut BufReader<TcpStream>| {
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest);
    };
    match reply {
        Reply::Json(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            return stream.write_all((head + &body).as_bytes()).is_ok();
        }
        Reply::Raw(bytes) => drop(stream.write_all(&bytes)),
        Reply::Silence => until_closed(reader),
        Reply::Stalled(bytes) => {
            let _ = stream.write_all(&bytes);
            until_closed(reader);
        }
        Reply::Trickle => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
            if stream.write_all(head).is_ok() {
                while stream.write_all(b" ").is_ok() {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        Reply::Flood => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n\"");
            while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
        }
        Reply::Close => {}
    }
    false
}

/// The next request, whole; none where the connection ends before or within it.
fn read(reader: &mut BufReader<TcpStream>, earlier: usize) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let line = head.lines().next()?.strip_suffix(" HTTP/1.1")?.to_owned();
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = Vec::new();
    if let Some(length) = length {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if head.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    Some(Asked { line, head, body, earlier })
}
