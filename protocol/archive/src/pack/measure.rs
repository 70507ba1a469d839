//! How much there is to pack, for who shows progress.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

use nix::sys::stat::SFlag;

use super::open::{Held, Opener};
use super::walk::{LeftOut, Visitor, Walk};
use super::writer::Links;
use super::{PackError, Tree, sparse};

/// The bytes of contents that packing a tree will bring ([`Packed::bytes`](super::Packed)): of
/// the entry `name` of a directory, or of everything in it. Reads no contents; hard links count
/// once, and of a sparse file what is allocated, so that it is an estimate of those. For the
/// caller's own tree ([`Tree::Own`]): what cannot be read is an error. Blocks.
///
/// # Errors
/// What packing that tree would also end with.
pub fn measure(dir: BorrowedFd<'_>, name: Option<&OsStr>) -> Result<u64, PackError> {
    let mut sum = Sum { opener: Opener::new(Tree::Own), links: Links::default(), bytes: 0 };
    match name {
        Some(name) => Walk::new(b"").entry(dir, name, &mut sum)?,
        None => Walk::new(b"").contents(dir, &mut sum)?,
    }
    Ok(sum.bytes)
}

struct Sum {
    opener: Opener,
    links: Links,
    bytes: u64,
}

impl Visitor for Sum {
    fn opener(&mut self) -> &mut Opener {
        &mut self.opener
    }

    fn visit(&mut self, entry: &Held, _path: &[u8]) -> Result<(), PackError> {
        let stat = &entry.stat;
        if entry.kind() == SFlag::S_IFREG && self.links.get(stat).is_none() {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            self.bytes += size.min(sparse::allocated(stat));
            self.links.remember(stat, b"");
        }
        Ok(())
    }

    fn left_out(&mut self, _why: LeftOut) {}
}
