//! From a tree to a stream.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

/// Whose tree is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// The caller's own: what cannot be read is an error.
    Own,
    /// A sandbox's, which may change meanwhile: what vanishes is left out, what is mounted in
    /// it is not entered, and what its owner may not read is opened all the same.
    Sandbox,
}

/// What was packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Members written.
    pub members: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// Named pipes, sockets and devices, which are left out.
    pub skipped: u64,
}

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It is deeper than an archive of ours is.
    #[error("{name} is more than {} directories deep", crate::MAX_DEPTH)]
    TooDeep {
        /// Where, lossily.
        name: String,
    },
    /// What the archive goes to failed.
    #[error("cannot write the archive: {0}")]
    Output(io::Error),
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

/// Writes an archive, entry by entry, with bounded memory.
pub struct Packer<W: Write> {
    out: W,
    packed: Packed,
}

impl<W: Write> Packer<W> {
    /// One with nothing in it yet.
    pub fn new(out: W, _tree: Tree) -> Self {
        Self { out, packed: Packed::default() }
    }

    /// Adds everything in a directory, without the directory itself. Names begin with
    /// `prefix` and a slash, where it is not empty.
    ///
    /// # Errors
    /// Why the archive cannot be completed.
    pub fn contents(&mut self, _dir: BorrowedFd<'_>, _prefix: &[u8]) -> Result<(), PackError> {
        Ok(())
    }

    /// Adds the entry `name` of a directory under the name `as_name`: a file, a link, or a
    /// directory with everything in it.
    ///
    /// # Errors
    /// Why the archive cannot be completed; `ENOENT` where there is no such entry.
    pub fn entry(
        &mut self,
        _parent: BorrowedFd<'_>,
        _name: &OsStr,
        _as_name: &[u8],
    ) -> Result<(), PackError> {
        Ok(())
    }

    /// Ends the archive. What it was written to is not flushed.
    ///
    /// # Errors
    /// Where its end cannot be written.
    pub fn finish(self) -> Result<(W, Packed), PackError> {
        Ok((self.out, self.packed))
    }
}
