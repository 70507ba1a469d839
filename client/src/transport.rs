//! How HTTP gets its bytes there and back: over a daemon's socket, or TCP, with TLS or without.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::TransferError;
use crate::request::Route;
use crate::trust;
use crate::v1::{Backend, Problem, addresses};
use crate::wire::{Stream, Wire};

/// How long a connection may take to come about, and again its TLS.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Connects every request to where its route leads.
#[derive(Debug)]
pub(crate) struct RouteConnector {
    /// The way to who answers.
    pub(crate) route: Route,
    /// Ends every wait once there is something to read in it.
    pub(crate) stop: Option<Arc<OwnedFd>>,
    /// How long the other side may be silent.
    pub(crate) patience: Option<Duration>,
    /// Set when the other side answers, or hangs up, before it has read all of a request.
    pub(crate) answered: Arc<AtomicBool>,
}

impl Connector for RouteConnector {
    type Out = RouteTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<RouteTransport>, ureq::Error> {
        let (stream, backend) = match &self.route {
            Route::Socket(socket) => {
                (Stream::Unix(trust::connect(socket).map_err(|e| wrapped(e.into()))?), None)
            }
            Route::Backend(backend) => {
                let stream = connect(&details.addrs).map_err(|e| wrapped(e.into()))?;
                (Stream::Tcp(stream), Some(backend))
            }
        };
        let mut wire = Wire { stream, stop: self.stop.clone(), patience: Some(CONNECT_TIME) };
        let tls = match backend.filter(|backend| backend.base.is_tls()) {
            Some(backend) => Some(handshake(backend, &mut wire).map_err(wrapped)?),
            None => None,
        };
        wire.patience = self.patience;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let answered = Arc::clone(&self.answered);
        answered.store(false, Ordering::Relaxed);
        Ok(Some(RouteTransport { wire, tls, buffers, answered }))
    }
}

/// Connects to the first address where somebody answers. Each gets a fair share of the time.
fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Problem> {
    let deadline = Instant::now() + CONNECT_TIME;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (tried, address) in addresses.iter().enumerate() {
        let share = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let left = deadline.saturating_duration_since(Instant::now()) / share;
        match TcpStream::connect_timeout(address, left.max(Duration::from_millis(10))) {
            Ok(stream) => {
                // A request is one write or many large ones. Where it fails it is only slower.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(Problem::Unreachable(last))
}

/// Agrees with a backend on how to encrypt, and makes sure that it is who it should be.
fn handshake(backend: &Backend, wire: &mut Wire) -> Result<Box<ClientConnection>, TransferError> {
    let name = ServerName::try_from(backend.base.host().to_owned())
        .map_err(|e| TransferError::BadAnswer(e.to_string()))?;
    let mut tls = ClientConnection::new(backend.tls()?, name).map_err(Problem::Tls)?;
    tls.complete_io(wire).map_err(TransferError::from_io)?;
    Ok(Box::new(tls))
}

/// One connection, for one request.
#[derive(Debug)]
pub(crate) struct RouteTransport {
    wire: Wire,
    tls: Option<Box<ClientConnection>>,
    buffers: LazyBuffers,
    answered: Arc<AtomicBool>,
}

impl Transport for RouteTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    /// Sends, unless the other side has answered already: then nothing more of the request
    /// interests it, and what it said is to be read rather than a broken pipe reported.
    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let rest = self.buffers.output().get(..amount).unwrap_or_default();
        let answered = match &mut self.tls {
            None => send(&mut self.wire, rest, &self.answered)?,
            Some(tls) => send_encrypted(&mut self.wire, tls, rest, &self.answered)?,
        };
        if answered {
            self.answered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let into = self.buffers.input_append_buf();
        let read = match &mut self.tls {
            None => or_end(self.wire.read(into))?,
            Some(tls) => receive_encrypted(&mut self.wire, tls, into)?,
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Never used again.
    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// Sends bytes as they are, and says whether the other side has answered before the last.
fn send(wire: &mut Wire, mut rest: &[u8], answered: &AtomicBool) -> io::Result<bool> {
    while !rest.is_empty() && !answered.load(Ordering::Relaxed) {
        if wire.wait(PollFlags::POLLIN | PollFlags::POLLOUT)?.contains(PollFlags::POLLIN) {
            return Ok(true);
        }
        match wire.send(rest)? {
            Some(sent) => rest = rest.get(sent..).unwrap_or_default(),
            None => return Ok(true),
        }
    }
    Ok(false)
}

/// As [`send`], but what arrives has to be decrypted to see whether it is an answer: servers
/// also send tickets to resume sessions (RFC 8446, 4.6.1).
fn send_encrypted(
    wire: &mut Wire,
    tls: &mut ClientConnection,
    mut rest: &[u8],
    answered: &AtomicBool,
) -> io::Result<bool> {
    while (!rest.is_empty() || tls.wants_write()) && !answered.load(Ordering::Relaxed) {
        if !tls.wants_write() {
            let taken = io::Write::write(&mut tls.writer(), rest)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        if wire.wait(PollFlags::POLLIN | PollFlags::POLLOUT)?.contains(PollFlags::POLLIN) {
            let ended = or_end(tls.read_tls(wire))? == 0;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            if ended || state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
                return Ok(true);
            }
            continue;
        }
        match tls.write_tls(wire) {
            Ok(_) => {}
            Err(e) if is_hang_up(&e) => return Ok(true),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

fn receive_encrypted(
    wire: &mut Wire,
    tls: &mut ClientConnection,
    into: &mut [u8],
) -> io::Result<usize> {
    loop {
        match tls.reader().read(into) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // Closed without a word: whether all of an answer is there is decided below.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            other => return other,
        }
        or_end(tls.read_tls(wire))?;
        tls.process_new_packets().map_err(io::Error::other)?;
        while tls.wants_write() {
            match tls.write_tls(wire) {
                Err(e) if is_hang_up(&e) => break,
                other => drop(other?),
            }
        }
    }
}

/// A connection that is reset has ended: whether all of an answer is there is decided by its
/// length or last chunk.
fn or_end(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(0),
        other => other,
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// One of our errors, as what the HTTP client passes through.
fn wrapped(error: TransferError) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

/// The addresses of where a route leads. A socket has none.
#[derive(Debug)]
pub(crate) struct Names(pub(crate) Route);

impl Resolver for Names {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut resolved = self.empty();
        if let Route::Backend(backend) = &self.0 {
            let found = addresses(backend.base.host()).map_err(|e| wrapped(e.into()))?;
            // As many as fit in there.
            for address in found.into_iter().take(16) {
                resolved.push(SocketAddr::new(address, backend.base.port()));
            }
        }
        Ok(resolved)
    }
}
