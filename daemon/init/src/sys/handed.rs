//! What a service manager gives a process as it starts it: a socket that listens already
//! (sd_listen_fds(3)).

use std::env;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt,
};

use super::close_from;

/// Where the first descriptor that is handed over stands: SD_LISTEN_FDS_START.
const FIRST: u32 = 3;

/// Why what a service manager handed over cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum HandedError {
    /// The variables say something else than the descriptors.
    #[error(
        "LISTEN_PID and LISTEN_FDS do not tell what was handed over ({0}): start noxrunnerd from a \
         socket unit, or without these variables"
    )]
    Malformed(#[source] io::Error),
    /// More than one.
    #[error(
        "{0} sockets were handed over, and noxrunnerd listens on one: leave a single ListenStream= \
         in the socket unit"
    )]
    Several(usize),
    /// A file, a pipe or the like.
    #[error(
        "what was handed over is no socket: use ListenStream= with a path, and nothing else, in the socket unit"
    )]
    NotASocket,
    /// A socket of a network.
    #[error(
        "a socket of the network was handed over, and noxrunnerd listens on a Unix socket only: use \
         ListenStream= with a path in the socket unit"
    )]
    NotUnix,
    /// A socket of datagrams or packets.
    #[error(
        "a Unix socket without streams was handed over: use ListenStream= in the place of \
         ListenDatagram= or ListenSequentialPacket= in the socket unit"
    )]
    NotAStream,
    /// One connection.
    #[error("a socket that does not listen was handed over: use Accept=no in the socket unit")]
    NotListening,
}

/// Takes the socket that a service manager gave this process, and what told of it out of the
/// environment, so that nobody inherits either. Every other descriptor but the standard three is
/// closed, so that nothing the starter of this program had open stays open for its life; so is what was
/// meant for another process (LISTEN_PID).
///
/// Call it first in `main`: it closes descriptors whoever owns them, and changes the
/// environment, which only a process with one thread may.
///
/// # Errors
/// Where what was handed over is not one listening Unix socket of streams. It is closed then.
pub fn take_handed() -> Result<Option<UnixListener>, HandedError> {
    let taken = take_descriptors();
    forget(&["LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID", "WATCHDOG_USEC"]);
    taken?.map(listener).transpose()
}

/// Takes out of the environment where a service manager hears of its service: that is the daemon's
/// to say, and nobody's that it starts.
pub(crate) fn forget_service_manager() {
    forget(&["NOTIFY_SOCKET"]);
}

/// Only for a process with one thread.
fn forget(variables: &[&str]) {
    for name in variables {
        // SAFETY: nobody reads the environment at the same time, by this function's contract: one
        // caller is the first in `main`, the other a child that was forked before there were threads.
        unsafe { env::remove_var(name) };
    }
}

/// The one descriptor, with every other closed.
fn take_descriptors() -> Result<Option<OwnedFd>, HandedError> {
    // SAFETY: this process has one thread, by the contract of the only caller.
    let found = unsafe { sd_notify::listen_fds_and_unset_env() };
    let mut found: Vec<RawFd> = match found {
        Ok(found) => found.collect(),
        Err(error) => {
            close_from(FIRST);
            return Err(HandedError::Malformed(error));
        }
    };
    match (found.pop(), found.len()) {
        (None, _) => {
            close_from(FIRST);
            Ok(None)
        }
        (Some(only), 0) => {
            close_from(FIRST + 1);
            // SAFETY: sd_listen_fds(3) is the protocol by which a starter gives this number
            // away, it is open since it has just been marked, and nobody else knows it yet.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(only) }))
        }
        (Some(_), others) => {
            close_from(FIRST);
            Err(HandedError::Several(others + 1))
        }
    }
}

/// The descriptor as what it has to be.
fn listener(fd: OwnedFd) -> Result<UnixListener, HandedError> {
    use std::os::fd::AsRawFd;
    let kind = getsockopt(&fd, sockopt::SockType).map_err(|_| HandedError::NotASocket)?;
    let address = getsockname::<SockaddrStorage>(fd.as_raw_fd());
    let family = address.map_err(|_| HandedError::NotASocket)?.family();
    if family != Some(AddressFamily::Unix) {
        return Err(HandedError::NotUnix);
    }
    if kind != SockType::Stream {
        return Err(HandedError::NotAStream);
    }
    if !getsockopt(&fd.as_fd(), sockopt::AcceptConn).unwrap_or(false) {
        return Err(HandedError::NotListening);
    }
    Ok(fd.into())
}
