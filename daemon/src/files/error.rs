//! What can go wrong with a file operation.

use nix::errno::Errno;
use noxrunner_archive::{MergeError, PackError, StageError};

/// Why a file operation was not carried out. Paths are as the sandbox names them.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A param does not make sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such file or directory.
    #[error("{0} does not exist")]
    NotFound(String),
    /// A link on the way leads out of the sandbox.
    #[error("{0} leads out of the sandbox through a link")]
    LeadsOut(String),
    /// Links lead to links, without end.
    #[error("{0} leads through too many links")]
    TooManyLinks(String),
    /// Something on the way is no directory, or the thing itself should be one.
    #[error("{0} is not a directory")]
    NotADirectory(String),
    /// A directory is where a file should be.
    #[error("{0} is a directory")]
    IsADirectory(String),
    /// It is a named pipe, a socket or a device.
    #[error("{0} is not a regular file")]
    NotAFile(String),
    /// It exists already.
    #[error("{0} exists already")]
    Exists(String),
    /// The directory has something in it.
    #[error("{0} is not empty")]
    NotEmpty(String),
    /// One of the three places that every sandbox has.
    #[error("{0} is a place of the sandbox itself")]
    IsPlace(String),
    /// A process in the sandbox holds a lease on it (fcntl(2), `F_SETLEASE`).
    #[error("{0} is leased by a process in the sandbox")]
    Leased(String),
    /// What is on the way changes as fast as it is looked at.
    #[error("{0} cannot be reached: directories on the way are being renamed")]
    Unsteady(String),
    /// The mode of a file or directory forbids it, even to its owner.
    #[error("{0} may not be used: its mode forbids it")]
    Forbidden(String),
    /// More entries than an answer has room for.
    #[error("{path} has more than {most} entries")]
    TooManyEntries {
        /// The directory.
        path: String,
        /// How many fit.
        most: usize,
    },
    /// The archive is larger than an answer.
    #[error("the archive of {path} has more than {most} bytes")]
    TooLarge {
        /// What was packed.
        path: String,
        /// How many bytes fit.
        most: u64,
    },
    /// There is no room left.
    #[error("no room is left for {0}")]
    NoRoom(String),
    /// An archive could not be unpacked.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// An unpacked archive could not be put in place.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// A tree could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The system refused.
    #[error("cannot {step} {path}: {errno}")]
    Os {
        /// What was tried.
        step: &'static str,
        /// What it was tried on.
        path: String,
        /// How it failed.
        errno: Errno,
    },
}

impl FileError {
    /// What the kernel's word for a failed `step` on `path` means here.
    pub(crate) fn of(step: &'static str, path: &str, errno: Errno) -> Self {
        let path = path.to_owned();
        // `Errno` is not an enumeration of ours, and has more than a hundred members.
        #[allow(clippy::wildcard_enum_match_arm)]
        match errno {
            Errno::ENOENT => Self::NotFound(path),
            // openat2(2): RESOLVE_BENEATH.
            Errno::EXDEV => Self::LeadsOut(path),
            Errno::ELOOP => Self::TooManyLinks(path),
            Errno::ENOTDIR => Self::NotADirectory(path),
            Errno::EISDIR => Self::IsADirectory(path),
            Errno::EEXIST => Self::Exists(path),
            Errno::ENOTEMPTY => Self::NotEmpty(path),
            Errno::EAGAIN => Self::Unsteady(path),
            Errno::EACCES | Errno::EPERM => Self::Forbidden(path),
            Errno::ENOSPC | Errno::EDQUOT => Self::NoRoom(path),
            Errno::ENAMETOOLONG => Self::Invalid(format!("{path} is too long a name")),
            errno => Self::Os { step, path, errno },
        }
    }
}
