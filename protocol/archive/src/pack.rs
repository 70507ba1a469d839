//! From a tree to a stream: a POSIX (PAX) tar archive, with bounded memory, of a tree that
//! hostile code may be changing that very moment.
//!
//! | file | what it does |
//! |---|---|
//! | `walk` | goes through a tree by descriptors, and what it does not enter |
//! | `names` | lists a directory: sorted, bounded, and with an end |
//! | `open` | opens what was found, without waiting and without following anything |
//! | `writer` | what becomes of each entry: members, hard links, contents |
//! | `header` | headers and PAX records |
//! | `sparse` | where a file has data and where holes |
//! | `output` | the stream, in large pieces |
//! | `measure` | how much there is to pack |

mod header;
mod measure;
mod names;
mod open;
mod output;
mod sparse;
mod walk;
mod writer;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

pub use measure::measure;
use open::Opener;
use walk::Walk;
use writer::Writer;

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
    /// Bytes of their contents, as they are in the archive: without the holes of sparse files.
    pub bytes: u64,
    /// Named pipes, sockets and devices, which are left out; of a sandbox's tree also what is
    /// mounted in it.
    pub skipped: u64,
    /// Files and directories of a sandbox's tree that could not be opened and are left out:
    /// somebody holds a lease on them, or they are another user's.
    pub unreadable: u64,
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
        /// The entry it was tried on, by its name in the archive, lossily.
        name: String,
        /// How it failed.
        errno: Errno,
    },
}

impl PackError {
    fn of(step: &'static str, path: &[u8], errno: Errno) -> Self {
        Self::Os { step, name: shown(path), errno }
    }
}

/// A path in the archive, as errors show it.
fn shown(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { String::from_utf8_lossy(path).into_owned() }
}

/// Writes an archive, entry by entry, with bounded memory.
///
/// Its members are directories, files (holes kept, in GNU's PAX sparse format 1.0), symbolic
/// links and hard links, with permission bits and times in nanoseconds and without owners.
/// Entries of a directory come sorted by the bytes of their names if there are no more than
/// 10,000. A file is as long as it was when it was found: one that shrinks meanwhile is filled
/// up with zeros, one that grows is cut. Blocks; holds one or two descriptors for each level.
pub struct Packer<W: Write> {
    writer: Writer<W>,
}

impl<W: Write> Packer<W> {
    /// One with nothing in it yet.
    pub fn new(out: W, tree: Tree) -> Self {
        Self { writer: Writer::new(out, Opener::new(tree)) }
    }

    /// Adds everything in a directory, without the directory itself. Names begin with
    /// `prefix` and a slash, where it is not empty. `O_PATH` suffices for `dir`.
    ///
    /// # Errors
    /// Why the archive cannot be completed.
    pub fn contents(&mut self, dir: BorrowedFd<'_>, prefix: &[u8]) -> Result<(), PackError> {
        Walk::new(prefix).contents(dir, &mut self.writer)
    }

    /// Adds the entry `name` of a directory under the name `as_name`: a file, a link, or a
    /// directory with everything in it. `O_PATH` suffices for `parent`.
    ///
    /// # Errors
    /// Why the archive cannot be completed; `ENOENT` where there is no such entry, `EXDEV`
    /// where it is a mount in a sandbox's tree, `EINVAL` where `name` has a slash in it.
    pub fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        as_name: &[u8],
    ) -> Result<(), PackError> {
        Walk::new(as_name).entry(parent, name, &mut self.writer)
    }

    /// Ends the archive. What it was written to is not flushed.
    ///
    /// # Errors
    /// Where its end cannot be written.
    pub fn finish(self) -> Result<(W, Packed), PackError> {
        self.writer.finish()
    }
}
