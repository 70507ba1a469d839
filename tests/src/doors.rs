//! The three ways to speak to a daemon, as bare bytes: a client of each that any
//! program could be.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use tungstenite::{Message, WebSocket};

use crate::SOON;

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Lines of JSON.
    Lines,
    /// POST, one request after another.
    Post,
    /// Messages of a WebSocket.
    WebSocket,
}

/// All of them.
pub const DOORS: [Door; 3] = [Door::Lines, Door::Post, Door::WebSocket];

/// A client at one of the doors.
pub enum Visitor {
    /// Of lines.
    Lines(BufReader<UnixStream>),
    /// Of HTTP.
    Post(BufReader<UnixStream>),
    /// Of a WebSocket.
    WebSocket(Box<WebSocket<UnixStream>>),
}

/// Connects and sends nothing.
#[track_caller]
pub fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// Whether the other side has closed all of it (POLLHUP, poll(2)), whatever is unread.
#[track_caller]
pub fn is_hung_up(stream: &UnixStream) -> bool {
    let mut asked = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut asked, PollTimeout::ZERO).unwrap();
    asked[0].revents().unwrap().contains(PollFlags::POLLHUP)
}

/// A WebSocket, its handshake done.
#[track_caller]
pub fn websocket(socket: &Path) -> WebSocket<UnixStream> {
    tungstenite::client("ws://noxrunner/", connect(socket)).unwrap().0
}

/// The head of a POST with a body of so many bytes.
pub fn post_head(length: usize) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: noxrunner\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
}

impl Door {
    /// Connects; a WebSocket agrees on being one.
    #[track_caller]
    pub fn open(self, socket: &Path) -> Visitor {
        match self {
            Self::Lines => Visitor::Lines(BufReader::new(connect(socket))),
            Self::Post => Visitor::Post(BufReader::new(connect(socket))),
            Self::WebSocket => Visitor::WebSocket(Box::new(websocket(socket))),
        }
    }
}

impl Visitor {
    /// Sends a message of any bytes without a newline.
    #[track_caller]
    pub fn say(&mut self, message: impl AsRef<[u8]>) {
        let message = message.as_ref();
        match self {
            Self::Lines(stream) => stream.get_ref().write_all(&[message, b"\n"].concat()).unwrap(),
            Self::Post(stream) => {
                let head = post_head(message.len()).into_bytes();
                stream.get_ref().write_all(&[&head, message].concat()).unwrap();
            }
            // Binary, as text has to be UTF-8.
            Self::WebSocket(socket) => socket.send(Message::binary(message.to_vec())).unwrap(),
        }
    }

    /// The next answer.
    #[track_caller]
    pub fn hear(&mut self) -> Value {
        let text = match self {
            Self::Lines(stream) => {
                let mut line = Vec::new();
                stream.read_until(b'\n', &mut line).unwrap();
                assert!(line.ends_with(b"\n"), "the connection ended after {} bytes", line.len());
                line
            }
            Self::Post(stream) => http_answer(stream).1,
            Self::WebSocket(socket) => {
                let message = socket.read().unwrap();
                assert!(message.is_text(), "no text: {message:?}");
                message.into_data().to_vec()
            }
        };
        serde_json::from_slice(&text).unwrap()
    }

    /// The socket itself.
    pub fn stream(&self) -> &UnixStream {
        match self {
            Self::Lines(stream) | Self::Post(stream) => stream.get_ref(),
            Self::WebSocket(socket) => socket.get_ref(),
        }
    }
}

/// The status and the body of the next HTTP answer, which says how long it is.
#[track_caller]
pub fn http_answer(stream: &mut impl BufRead) -> (u16, Vec<u8>) {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line
    };
    let status = line();
    let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let code = code.unwrap_or_else(|| panic!("no status: {status:?}"));
    let mut length = 0;
    loop {
        let header = line();
        if header.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (code, body)
}
