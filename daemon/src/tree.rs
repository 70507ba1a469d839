//! A sandbox's directory tree, which sandboxed code made and may be changing
//! this very moment. It is walked by descriptor, one component at a time,
//! never following a link and never onto another file system; how deep or wide
//! it is costs neither descriptors nor stack.

mod directory;
mod remove;
mod survey;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};

use nix::errno::Errno;

pub(crate) use directory::{Listing, time_of};
pub use remove::{REMOVE_PATIENCE, remove_tree};
pub use survey::{TreeUsage, newest_mtime, usage};

/// Why a tree could not be removed or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// What was to be removed is a file, a link or a device.
    #[error("{name:?} is not a directory")]
    NotADirectory {
        /// The entry.
        name: OsString,
    },
    /// Something is mounted in the tree.
    #[error("{name:?} is a mount point; unmount it first")]
    MountPoint {
        /// The entry it is mounted on.
        name: OsString,
    },
    /// It does not get empty.
    #[error("{name:?} is filled again as fast as it is emptied; end the process that writes in it")]
    StillFilled {
        /// The directory.
        name: OsString,
    },
    /// A system call failed.
    #[error("cannot {step} {name:?}: {errno}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// The entry it was tried on.
        name: OsString,
        /// How it failed.
        errno: Errno,
    },
}

impl TreeError {
    /// The error of `step` on `name`: maps what the kernel says of mount points.
    fn of(step: &'static str, name: &OsStr, errno: Errno) -> Self {
        let name = name.to_owned();
        // unlink(2), rmdir(2): EBUSY; rename(2): EBUSY, and EXDEV across a bind mount.
        if errno == Errno::EBUSY || errno == Errno::EXDEV {
            Self::MountPoint { name }
        } else {
            Self::Io { step, name, errno }
        }
    }
}
