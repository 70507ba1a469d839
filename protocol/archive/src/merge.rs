//! From the staging directory into a tree.
//!
//! A first pass looks at what both trees have and moves nothing; the second one moves. A whole
//! tree that the destination does not have is moved by one rename.

mod destination;
mod pair;
mod place;

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use pair::{Pair, Pass};

/// Why what was staged is not in place.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A directory is where a file is to be, or the other way round. Nothing was moved,
    /// unless somebody put it there meanwhile.
    #[error("{name} is in the way: one is a directory and the other is not")]
    InTheWay {
        /// Its path in the destination, lossily.
        name: String,
    },
    /// The system refused.
    #[error("cannot {step} {name:?}: {errno}")]
    Os {
        /// What was tried.
        step: &'static str,
        /// The entry it was tried on, lossily.
        name: String,
        /// How it failed.
        errno: Errno,
    },
}

/// Moves everything in `staging`, which [`crate::stage`] filled and nobody else can reach, into
/// `dest`, on the same file system: directories are joined, files and links replaced, and
/// nothing is followed. A directory replaces a link of its name. `staging` is empty afterwards.
///
/// A directory that was there gets the permission bits and the time of the member it is joined
/// with, if there was such a member; it keeps its set-id and sticky bits, and everything if it
/// belongs to somebody whose directories this process may not change. Directories of this
/// process's user that it has no rights on are given them while entries are moved.
///
/// `dest` may be changed meanwhile by somebody else. Nothing outside of it is touched then; what
/// is no longer as it was found is an error. Blocks; holds at most six descriptors.
///
/// # Errors
/// Why not all of it is there.
pub fn merge(staging: BorrowedFd<'_>, dest: BorrowedFd<'_>) -> Result<(), MergeError> {
    Pair::new(staging, dest, Pass::Check)?.run()?;
    Pair::new(staging, dest, Pass::Move)?.run()
}
