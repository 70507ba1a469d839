//! A directory's entries: sorted, with bounded memory, and with an end.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::Tree;

/// Names that are held, and thus sorted, at once.
const BATCH: usize = 10_000;

/// Bytes that the names of all directories on the way down may take.
const MEMORY: usize = 16 * 1024 * 1024;

/// Bytes that a directory's names may take however many are held already; two names fit.
const LEAST_MEMORY: usize = 1024;

/// What a name takes besides its bytes, roughly.
const OVERHEAD: usize = 40;

/// Entries that any sandbox's directory may have, however small it says it is.
const LEAST_ENTRIES: u64 = 65_536;

/// The names in a directory, read in batches each of which is sorted.
pub(super) struct Names {
    /// Nothing once all have been read; the descriptor is then free again.
    rest: Option<OwningIter>,
    /// How many more are read.
    most: u64,
    /// The last comes first.
    batch: Vec<OsString>,
    memory: usize,
}

impl Names {
    /// Of a directory that is open for reading.
    ///
    /// readdir(3) on a directory of a sandbox's ends at as many entries as it has bytes: no
    /// local file system takes less than one for an entry (ext4 12, tmpfs 20), and who creates
    /// files fast enough could make it go on for ever. The caller's own directory may be
    /// on any file system, also on one that does not know its size.
    pub(super) fn new(dir: OwnedFd, tree: Tree) -> nix::Result<Self> {
        let most = match tree {
            Tree::Own => u64::MAX,
            Tree::Sandbox => u64::try_from(fstat(&dir)?.st_size).unwrap_or(0).max(LEAST_ENTRIES),
        };
        let rest = Some(Dir::from_fd(dir)?.into_iter());
        Ok(Self { rest, most, batch: Vec::new(), memory: 0 })
    }

    /// The next name. `held` is the memory that the names of all open directories take.
    pub(super) fn next(&mut self, held: &mut usize) -> nix::Result<Option<OsString>> {
        if self.batch.is_empty() {
            *held = held.saturating_sub(self.memory);
            self.memory = 0;
            self.read(MEMORY.saturating_sub(*held) / 2)?;
            *held += self.memory;
        }
        Ok(self.batch.pop())
    }

    fn read(&mut self, memory: usize) -> nix::Result<()> {
        let memory = memory.max(LEAST_MEMORY);
        while self.batch.len() < BATCH
            && self.memory < memory
            && let Some(rest) = &mut self.rest
        {
            let entry = if self.most > 0 { rest.next() } else { None };
            match entry {
                Some(Ok(entry)) => {
                    self.most -= 1;
                    let name = entry.file_name().to_bytes();
                    if name != b"." && name != b".." {
                        self.memory += name.len() + OVERHEAD;
                        self.batch.push(OsString::from_vec(name.to_vec()));
                    }
                }
                // getdents64(2): the directory has been removed.
                Some(Err(Errno::ENOENT)) | None => self.rest = None,
                Some(Err(errno)) => return Err(errno),
            }
        }
        self.batch.sort_unstable_by(|a: &OsString, b| order(b, a));
        Ok(())
    }
}

fn order(a: &OsStr, b: &OsStr) -> std::cmp::Ordering {
    a.as_bytes().cmp(b.as_bytes())
}
