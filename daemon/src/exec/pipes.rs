//! The pipes between a command and the daemon.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use tokio::net::unix::pipe;

use crate::engine::EngineError;

/// A command's standard input: the daemon's end, and the command's, which is dropped when
/// it has its own. Owned by the user of its sandbox where that is another one.
pub(super) fn input(owner: Option<u32>) -> Result<(pipe::Sender, OwnedFd), EngineError> {
    let error = |e: Errno| EngineError::os("make a pipe", e);
    let (theirs, ours) = pipe2(OFlag::O_CLOEXEC).map_err(error)?;
    if let Some(id) = owner {
        // Else it could not open /dev/stdin by name.
        fchown(&theirs, Some(Uid::from_raw(id)), Some(Gid::from_raw(id))).map_err(error)?;
    }
    let ours = pipe::Sender::from_owned_fd(ours);
    Ok((ours.map_err(|e| EngineError::os("wait for a pipe", e))?, theirs))
}

/// Makes one end a stream that can be waited for.
pub(super) fn receiver(pipe: OwnedFd) -> Result<pipe::Receiver, EngineError> {
    pipe::Receiver::from_owned_fd(pipe).map_err(|e| EngineError::os("wait for a pipe", e))
}
