//! One connection, one call at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use noxrunner_protocol::message::{self, Id};
use noxrunner_protocol::{Method, limits};

use crate::error::{CallError, ConnectError};
use crate::trust;

/// Longest answer that is read, in bytes: the daemon's bound and room for the envelope.
const MAX_ANSWER_BYTES: u64 = limits::MAX_RESPONSE_BYTES as u64 + 64 * 1024;

/// A connection to a daemon that is the caller's own or root's.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
    socket: PathBuf,
    last_id: u64,
}

impl Connection {
    /// Connects to the daemon on this socket, after checking that the socket's
    /// directory and who listens there can be trusted.
    ///
    /// # Errors
    /// Where nobody listens, or somebody who is not trusted.
    pub fn open(socket: &Path) -> Result<Self, ConnectError> {
        let stream = BufReader::with_capacity(64 * 1024, trust::connect(socket)?);
        Ok(Self { stream, socket: socket.to_owned(), last_id: 0 })
    }

    /// The socket it was opened on.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How long calls wait while the daemon says nothing; forever at first and with `None`.
    ///
    /// # Errors
    /// Where the system refuses, as it does for a time of 0.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(timeout)
    }

    /// Calls a method and waits for its result.
    ///
    /// # Errors
    /// Where the daemon refuses the call, or no answer of this call's arrives.
    pub fn call<M: Method>(&mut self, params: &M::Params) -> Result<M::Result, CallError> {
        self.last_id += 1;
        let mut line = message::request::<M>(self.last_id, params).map_err(CallError::Params)?;
        if line.len() > limits::MAX_LINE_BYTES {
            return Err(CallError::TooLong { bytes: line.len() });
        }
        line.push('\n');
        match self.stream.get_mut().write_all(line.as_bytes()) {
            Ok(()) => self.answer::<M>(),
            // A daemon that turns a client away says why before it closes.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.answer::<M>(),
            Err(e) => Err(CallError::Io(e)),
        }
    }

    /// Waits until the daemon closes the connection, for whoever keeps it open
    /// only because something is leased to it. What still arrives is dropped.
    ///
    /// # Errors
    /// Where the connection breaks instead, or the timeout passes.
    pub fn wait_closed(mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop)
    }

    fn answer<M: Method>(&mut self) -> Result<M::Result, CallError> {
        let line = self.line()?;
        let bad = |source| CallError::BadAnswer { method: M::NAME, source };
        match message::parse_response::<M>(&line).map_err(bad)? {
            (Id::Number(id), Ok(result)) if id == self.last_id => Ok(result),
            (Id::Number(id), Err(error)) if id == self.last_id => Err(CallError::Refused(error)),
            // An error without an id is about the connection, and this call is all there is on it.
            (Id::Null, Err(error)) => Err(CallError::Refused(error)),
            (Id::Null | Id::Number(_) | Id::String(_), _) => {
                Err(CallError::WrongId { method: M::NAME })
            }
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, CallError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(MAX_ANSWER_BYTES);
        bounded.read_until(b'\n', &mut line).map_err(broken)?;
        match bounded.limit() {
            _ if line.ends_with(b"\n") => Ok(line),
            0 => Err(CallError::AnswerTooLong),
            _ => Err(CallError::Closed),
        }
    }
}

fn broken(error: io::Error) -> CallError {
    let is = |kind| error.kind() == kind;
    if is(io::ErrorKind::WouldBlock) || is(io::ErrorKind::TimedOut) {
        CallError::TimedOut
    } else if is(io::ErrorKind::ConnectionReset) {
        CallError::Closed
    } else {
        CallError::Io(error)
    }
}
