//! Who is at the other end. A command and its input go to whoever listens, so
//! both the place of the socket and the listener are looked at first.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use crate::ConnectError;

const WRITABLE_BY_OTHERS: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The directory that holds this socket.
pub fn directory(socket: &Path) -> &Path {
    match socket.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

/// Checks that nobody but the caller and root decides what is in the socket's
/// directory: it is no link, belongs to one of them, and others may not write
/// to it unless it is sticky, as `/tmp` is.
///
/// # Errors
/// [`ConnectError::NoDaemon`] where it does not exist, otherwise what is wrong with it.
pub fn check_directory(socket: &Path) -> Result<(), ConnectError> {
    let directory = directory(socket);
    let metadata = directory.symlink_metadata().map_err(|e| failed(socket, e))?;
    let (owner, uid, mode) = (metadata.uid(), geteuid().as_raw(), metadata.mode() & 0o7777);
    let directory = directory.to_owned();
    if !metadata.is_dir() {
        return Err(ConnectError::NotADirectory { directory });
    }
    if !trusted(owner, uid) {
        return Err(ConnectError::ForeignDirectory { directory, owner, uid });
    }
    if mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0 {
        return Err(ConnectError::OpenDirectory { directory, mode });
    }
    Ok(())
}

/// Connects to the daemon on this socket, after checking that the socket's directory and
/// who listens there can be trusted.
///
/// # Errors
/// Where nobody listens, or somebody who is not trusted.
pub(crate) fn connect(socket: &Path) -> Result<UnixStream, ConnectError> {
    check_directory(socket)?;
    let stream = UnixStream::connect(socket).map_err(|e| failed(socket, e))?;
    check_server(&stream, socket)?;
    Ok(stream)
}

/// Checks that the process that listens is the caller's own or root's.
fn check_server(stream: &UnixStream, socket: &Path) -> Result<(), ConnectError> {
    let credentials =
        getsockopt(stream, PeerCredentials).map_err(|e| failed(socket, io::Error::from(e)))?;
    let (server, uid) = (credentials.uid(), geteuid().as_raw());
    if trusted(server, uid) {
        Ok(())
    } else {
        Err(ConnectError::ForeignServer { socket: socket.to_owned(), server, uid })
    }
}

/// What an error of the system means for a socket.
fn failed(socket: &Path, source: io::Error) -> ConnectError {
    let socket = socket.to_owned();
    let is = |kind| source.kind() == kind;
    // A socket whose daemon died refuses; it is as good as absent.
    if is(io::ErrorKind::NotFound) || is(io::ErrorKind::ConnectionRefused) {
        ConnectError::NoDaemon { socket }
    } else if is(io::ErrorKind::PermissionDenied) {
        ConnectError::Forbidden { socket }
    } else {
        ConnectError::Io { socket, source }
    }
}

const fn trusted(owner: u32, uid: u32) -> bool {
    owner == uid || owner == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_oneself_and_root_are_trusted() {
        assert!(trusted(7, 7) && trusted(0, 7));
        assert!(!trusted(8, 7) && !trusted(8, 0));
    }

    #[test]
    fn a_bare_name_is_in_the_current_directory() {
        assert_eq!(directory(Path::new("a.sock")), Path::new("."));
        assert_eq!(directory(Path::new("/d/a.sock")), Path::new("/d"));
    }
}
