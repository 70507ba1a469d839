//! From a stream to an empty directory.

mod room;
mod write;

use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::read::{Reader, Stream};
use write::Writer;

/// How much an archive may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the unpacked stream, headers and padding included; holes of sparse files
    /// do not count.
    pub bytes: u64,
    /// Most members.
    pub members: u64,
    /// Bytes that stay free on the file system it is unpacked on.
    pub keep_free: u64,
}

/// What is done with members.
pub struct Rules<'a> {
    /// How much there may be.
    pub limits: Limits,
    /// The user and group that everything is to belong to, where that is not this process's own.
    pub owner: Option<u32>,
    /// Whether a symbolic link in a directory (relative to the destination, empty for the
    /// destination itself) with this target stays inside; [`crate::stays_beneath`] for one.
    pub link_stays: &'a dyn Fn(&[u8], &[u8]) -> bool,
}

/// What became of an archive's members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Members that were written.
    pub written: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// Links left out because they lead out, or to what the archive does not have.
    pub skipped_links: u64,
    /// Devices, named pipes and other things left out that are neither files, directories nor links.
    pub skipped_special: u64,
    /// Members with an absolute path or `..` in it, written by their last name.
    pub rerooted: u64,
    /// Files that lost a set-user-id, set-group-id or sticky bit.
    pub set_id_cleared: u64,
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It ends before its end.
    #[error("the archive is cut off: {0}")]
    Truncated(&'static str),
    /// It is damaged, or no archive.
    #[error("the archive is damaged or not a tar archive: {0}")]
    Damaged(String),
    /// It has more than it may.
    #[error("the archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: u64,
    },
    /// It has more members than it may.
    #[error("the archive has more than {limit} members")]
    TooManyMembers {
        /// The bound.
        limit: u64,
    },
    /// Unpacking it would leave too little room.
    #[error("unpacking the archive would leave less than {keep_free} bytes free")]
    NoRoom {
        /// The bytes that stay free.
        keep_free: u64,
    },
    /// What the archive comes from failed.
    #[error("cannot read the archive: {0}")]
    Input(io::Error),
    /// The system refused.
    #[error("cannot {step} {name:?}: {errno}")]
    Os {
        /// What was tried.
        step: &'static str,
        /// The member it was tried for, lossily.
        name: String,
        /// How it failed.
        errno: Errno,
    },
}

/// Unpacks a tar archive, plain or compressed by gzip, into an empty directory that nobody
/// else can reach. Blocks; holds at most four descriptors, and memory that does not grow with
/// the archive, but for the map of a sparse file (16 bytes for each of its parts).
///
/// A later member replaces an earlier file or link of its name, and no member is written
/// through a link. Files and directories get their permission bits, without set-id and sticky
/// bits; they and links get their times.
///
/// What is staged is for [`crate::merge`]: directories that no member asked for, and those
/// around them, carry a sticky bit there, which `merge` takes off again.
///
/// # Errors
/// Why not. The directory then has some of the archive; remove it.
pub fn stage(
    input: &mut dyn Read,
    staging: BorrowedFd<'_>,
    rules: &Rules<'_>,
) -> Result<Report, StageError> {
    let stream = Stream::open(input, rules.limits.bytes)?;
    let mut reader = Reader::new(stream, rules.limits.members);
    let mut writer = Writer::new(staging, rules)?;
    while let Some(member) = reader.next()? {
        writer.member(&member, &mut reader)?;
    }
    writer.finish()
}
