//! A connection whose waits end: when somebody wants to stop, or the other side is silent for
//! too long.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

use crate::TransferError;
use crate::v1::Problem;

/// A connection of either kind.
#[derive(Debug)]
pub(crate) enum Stream {
    /// To a daemon's socket.
    Unix(UnixStream),
    /// To a backend elsewhere.
    Tcp(TcpStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// A connection and what ends a wait for it.
#[derive(Debug)]
pub(crate) struct Wire {
    /// The connection.
    pub(crate) stream: Stream,
    /// Ends every wait once there is something to read in it.
    pub(crate) stop: Option<Arc<OwnedFd>>,
    /// How long one wait may take.
    pub(crate) patience: Option<Duration>,
}

impl Wire {
    /// Waits until the connection is ready, and says for what.
    ///
    /// # Errors
    /// [`TransferError::Stopped`] or [`Problem::Silent`] inside, or what the system says.
    pub(crate) fn wait(&self, events: PollFlags) -> io::Result<PollFlags> {
        let deadline = self.patience.map(|patience| (Instant::now() + patience, patience));
        let mut fds = vec![PollFd::new(self.stream.as_fd(), events)];
        fds.extend(self.stop.as_ref().map(|stop| PollFd::new(stop.as_fd(), PollFlags::POLLIN)));
        loop {
            let left = match deadline {
                None => PollTimeout::NONE,
                Some((deadline, _)) => {
                    // Rounded up, or the last millisecond would be spent asking.
                    let left = deadline.saturating_duration_since(Instant::now());
                    let left = left + Duration::from_micros(999);
                    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
                }
            };
            match poll(&mut fds, left) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(0) => match deadline {
                    Some((deadline, patience)) if Instant::now() >= deadline => {
                        let silent = Problem::Silent { seconds: patience.as_secs_f64() };
                        return Err(io::Error::other(TransferError::from(silent)));
                    }
                    Some(_) | None => {}
                },
                Ok(_) => break,
            }
        }
        let mut ready = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let stream = ready.next().unwrap_or(PollFlags::empty());
        match ready.next() {
            Some(stop) if !stop.is_empty() => Err(io::Error::other(TransferError::Stopped)),
            Some(_) | None => Ok(stream),
        }
    }

    /// Sends as much as there is room for; none where the other side has hung up.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.stream.as_fd().as_raw_fd(), bytes, flags) {
            Ok(sent) => Ok(Some(sent)),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Some(0)),
            // A socket closed with something unread in it is reset, see unix(7) and
            // unix_release_sock() in Linux; what it sent before can still be read.
            Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::POLLIN)?;
        loop {
            let read = match &mut self.stream {
                Stream::Unix(stream) => stream.read(into),
                Stream::Tcp(stream) => stream.read(into),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::POLLOUT)?;
            match self.send(bytes)? {
                Some(0) if !bytes.is_empty() => {}
                Some(sent) => return Ok(sent),
                None => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
