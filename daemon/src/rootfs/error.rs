//! Why there is no root file system for sandboxes.

use std::io;
use std::path::PathBuf;

/// Why there is no root file system for sandboxes.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// An entry of `expose` in the policy file cannot be followed.
    #[error("the policy's `expose` has {}: {problem}", entry.display())]
    Expose {
        /// The entry, as the file has it.
        entry: PathBuf,
        /// What is wrong with it, and what to do.
        problem: ExposeProblem,
    },
    /// A directory that no sandbox may see is not there to be kept from them.
    #[error("cannot look at the daemon's own directory {}: {error}", path.display())]
    Protected {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// Without the mounts there is no telling what a directory has in it.
    #[error("cannot read the mounts from {}: {error}; is /proc mounted?", super::mounts::MOUNTINFO)]
    Mounts {
        /// What the kernel says.
        error: io::Error,
    },
}

/// What is wrong with an entry of `expose`, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ExposeProblem {
    /// It is neither absolute nor below the home directory.
    #[error("write a path that begins with `/` or `~/`")]
    NotAbsolute,
    /// It is below a home directory, and the daemon has none.
    #[error("the daemon has no HOME; write a path that begins with `/`")]
    NoHome,
    /// It does not exist.
    #[error("there is no such file or directory; make it, or take it out of the list")]
    Missing,
    /// It is a device, a FIFO or a socket.
    #[error("is neither a file nor a directory; name one of these")]
    NotAFile,
    /// The kernel does not let the daemon look at it.
    #[error("cannot be looked at: {0}")]
    Unreadable(io::Error),
    /// Sandboxes have something of their own there.
    #[error("would hide or be hidden by the sandboxes' own {}; name something else, or move it", place.display())]
    InTheWay {
        /// The place of the sandboxes' own.
        place: PathBuf,
    },
    /// It would bring a directory of the daemon's own into sandboxes.
    #[error(
        "{0}, a directory of the daemon's own; name a directory that has nothing to do with it"
    )]
    Protected(Conflict),
}

/// How a directory and one that no sandbox may see overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The protected directory.
    pub protected: PathBuf,
    /// Where it or a part of it would be seen, a path on the host.
    pub at: PathBuf,
    /// Whether all of the other directory lies in the protected one.
    pub within: bool,
    /// Whether the way there is a bind mount or the like.
    pub alias: bool,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (at, protected) = (self.at.display(), self.protected.display());
        match (self.within, self.alias) {
            (true, false) => write!(f, "it is or lies in {protected}"),
            (true, true) => write!(f, "it is or lies in {protected} by way of a mount"),
            (false, false) => write!(f, "it holds {protected}"),
            (false, true) => write!(f, "{at} is or lies in {protected} by way of a mount"),
        }
    }
}
