//! How HTTP reaches a daemon's socket. The only part of transfers that knows of sockets.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use crate::TransferError;
use crate::trust;

/// Connects every request to one socket, whatever host its address names.
#[derive(Debug)]
pub(crate) struct SocketConnector {
    /// Where the daemon listens.
    pub(crate) socket: PathBuf,
    /// Ends every wait once there is something to read in it.
    pub(crate) stop: Option<Arc<OwnedFd>>,
    /// Set when the daemon answers, or hangs up, before it has read all of a request.
    pub(crate) answered: Arc<AtomicBool>,
}

impl Connector for SocketConnector {
    type Out = SocketTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<SocketTransport>, ureq::Error> {
        let stream = trust::connect(&self.socket).map_err(|e| wrapped(e.into()))?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let (stop, answered) = (self.stop.clone(), Arc::clone(&self.answered));
        answered.store(false, Ordering::Relaxed);
        Ok(Some(SocketTransport { stream, buffers, stop, answered }))
    }
}

/// One connection, for one request.
#[derive(Debug)]
pub(crate) struct SocketTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
    stop: Option<Arc<OwnedFd>>,
    answered: Arc<AtomicBool>,
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    /// Sends, unless the daemon has answered already: then nothing more of the request
    /// interests it, and what it said is to be read rather than a broken pipe reported.
    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let mut rest = self.buffers.output().get(..amount).unwrap_or_default();
        while !rest.is_empty() && !self.answered.load(Ordering::Relaxed) {
            let both = PollFlags::POLLIN | PollFlags::POLLOUT;
            if wait(self.stream.as_fd(), self.stop.as_deref(), both)?.contains(PollFlags::POLLIN) {
                self.answered.store(true, Ordering::Relaxed);
                break;
            }
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.stream.as_raw_fd(), rest, flags) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                // A socket closed with something unread in it is reset, see unix(7) and
                // unix_release_sock() in Linux; what it sent before can still be read.
                Err(Errno::EPIPE | Errno::ECONNRESET) => {
                    self.answered.store(true, Ordering::Relaxed);
                }
                Err(errno) => return Err(ureq::Error::Io(errno.into())),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        wait(self.stream.as_fd(), self.stop.as_deref(), PollFlags::POLLIN)?;
        let read = loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Whether all of an answer is there is decided by its length or last chunk.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break 0,
                other => break other?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Never used again.
    fn is_open(&mut self) -> bool {
        false
    }
}

/// Waits until a socket is ready, and says for what.
fn wait(
    stream: BorrowedFd<'_>,
    stop: Option<&OwnedFd>,
    events: PollFlags,
) -> Result<PollFlags, ureq::Error> {
    let mut fds = vec![PollFd::new(stream, events)];
    fds.extend(stop.map(|stop| PollFd::new(stop.as_fd(), PollFlags::POLLIN)));
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(ureq::Error::Io(errno.into())),
            Ok(_) => break,
        }
    }
    let mut ready = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    let stream = ready.next().unwrap_or(PollFlags::empty());
    match ready.next() {
        Some(stop) if !stop.is_empty() => Err(wrapped(TransferError::Stopped)),
        Some(_) | None => Ok(stream),
    }
}

/// One of our errors, as what the HTTP client passes through.
fn wrapped(error: TransferError) -> ureq::Error {
    ureq::Error::Other(Box::new(error))
}

/// There are no names to look up, which a statically linked program could not do either.
#[derive(Debug)]
pub(crate) struct NoNames;

impl Resolver for NoNames {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}
