//! The pipes between a command and the daemon.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown, pipe2};
use tokio::net::unix::pipe;

use crate::engine::EngineError;

/// The daemon's ends. Nobody waits for what comes out of them yet.
pub(super) struct Ours {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) stdin: Option<pipe::Sender>,
}

/// The command's ends. Dropped when it has its own, or the pipes would never end.
pub(super) struct Theirs {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Makes the pipes of a command, owned by the user of its sandbox where that is another one.
pub(super) fn make(with_stdin: bool, owner: Option<u32>) -> Result<(Ours, Theirs), EngineError> {
    let error = |e: Errno| EngineError::os("make a pipe", e);
    let (our_out, stdout) = pipe2(OFlag::O_CLOEXEC).map_err(error)?;
    let (our_err, stderr) = pipe2(OFlag::O_CLOEXEC).map_err(error)?;
    let (our_in, stdin) = if with_stdin {
        let (stdin, ours) = pipe2(OFlag::O_CLOEXEC).map_err(error)?;
        let ours = pipe::Sender::from_owned_fd(ours);
        (Some(ours.map_err(|e| EngineError::os("wait for a pipe", e))?), stdin)
    } else {
        // Each its own: sandboxes that shared an open file could signal each other by its flags.
        let null = File::open("/dev/null").map_err(|e| EngineError::os("open /dev/null", e))?;
        (None, null.into())
    };
    // Ours alone: a command's own ends are to be as it expects them.
    for ours in [&our_out, &our_err] {
        fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(error)?;
    }
    if let Some(id) = owner {
        // Else it could not open /dev/stdout and its like by name.
        let owned = [&stdout, &stderr].into_iter().chain(our_in.as_ref().map(|_| &stdin));
        for pipe in owned {
            fchown(pipe, Some(Uid::from_raw(id)), Some(Gid::from_raw(id))).map_err(error)?;
        }
    }
    let ours = Ours { stdout: our_out, stderr: our_err, stdin: our_in };
    Ok((ours, Theirs { stdin, stdout, stderr }))
}

impl Theirs {
    /// Standard input, output and error, as an init is given them.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.stdin.as_fd(), self.stdout.as_fd(), self.stderr.as_fd()]
    }
}

/// Makes one end a stream that can be waited for.
pub(super) fn receiver(pipe: OwnedFd) -> Result<pipe::Receiver, EngineError> {
    pipe::Receiver::from_owned_fd(pipe).map_err(|e| EngineError::os("wait for a pipe", e))
}
