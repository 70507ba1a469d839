//! Room on the file system that an archive is unpacked on.

use std::os::fd::BorrowedFd;

use nix::sys::statvfs::fstatvfs;

/// Bytes that are written between two looks.
const BYTES: u64 = 32 * 1024 * 1024;

/// Members that are written between two looks: small files and directories take room, too.
const MEMBERS: u64 = 1000;

/// Looks from time to time whether enough stays free.
pub(super) struct Room {
    keep_free: u64,
    bytes: u64,
    members: u64,
}

/// Whether there was enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enough {
    Yes,
    No,
}

impl Room {
    pub(super) fn new(keep_free: u64) -> Self {
        Self { keep_free, bytes: 0, members: 0 }
    }

    /// Looks whether `coming` bytes fit.
    pub(super) fn look(&mut self, dir: BorrowedFd<'_>, coming: u64) -> nix::Result<Enough> {
        (self.bytes, self.members) = (0, 0);
        let stat = fstatvfs(dir)?;
        // Their types differ between architectures; all are unsigned.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        let (blocks, size) = (stat.blocks_available() as u64, stat.fragment_size() as u64);
        let free = blocks.saturating_mul(size);
        // Some file systems make inodes as they go and report none at all.
        let inodes = stat.files() == 0 || stat.files_available() > 0;
        let enough = inodes && free >= self.keep_free.saturating_add(coming);
        Ok(if enough { Enough::Yes } else { Enough::No })
    }

    /// Counts a member with so much data that is to be written.
    pub(super) fn member(&mut self, dir: BorrowedFd<'_>, size: u64) -> nix::Result<Enough> {
        self.members += 1;
        if self.members >= MEMBERS || size >= BYTES {
            return self.look(dir, size);
        }
        Ok(Enough::Yes)
    }

    /// Counts bytes that were written.
    pub(super) fn written(&mut self, dir: BorrowedFd<'_>, bytes: u64) -> nix::Result<Enough> {
        self.bytes += bytes;
        if self.bytes >= BYTES {
            return self.look(dir, 0);
        }
        Ok(Enough::Yes)
    }
}
