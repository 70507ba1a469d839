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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn count(names: &mut Names) -> u64 {
        let mut held = 0;
        let count = std::iter::from_fn(|| names.next(&mut held).unwrap()).count() as u64;
        assert_eq!(held, 0, "all memory is given back");
        count
    }

    /// As if somebody filled the directory as fast as it is read: it was empty when opened.
    #[test]
    fn a_sandboxs_directory_that_is_filled_meanwhile_ends() {
        const MADE: u64 = LEAST_ENTRIES + 5_000;
        let dir = tempfile::tempdir().unwrap();
        let open = |tree| Names::new(File::open(dir.path()).unwrap().into(), tree).unwrap();
        let (mut sandbox, mut own) = (open(Tree::Sandbox), open(Tree::Own));
        for number in 0..MADE {
            File::create(dir.path().join(number.to_string())).unwrap();
        }
        let own = count(&mut own);
        if own < MADE {
            println!("this file system itself does not list what came after the opening");
            return;
        }
        assert_eq!(own, MADE, "the control");
        // `.` and `..` may be among those that were read.
        assert!((LEAST_ENTRIES - 2..=LEAST_ENTRIES).contains(&count(&mut sandbox)));
    }

    #[test]
    fn names_held_elsewhere_make_batches_small_and_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..500 {
            File::create(dir.path().join(format!("{number:0100}"))).unwrap();
        }
        let mut names = Names::new(File::open(dir.path()).unwrap().into(), Tree::Own).unwrap();
        let mut held = MEMORY;
        let mut found = Vec::new();
        while let Some(name) = names.next(&mut held).unwrap() {
            assert!(held <= MEMORY + LEAST_MEMORY + 300, "{held}");
            found.push(name);
        }
        assert!(!found.is_sorted(), "no batches");
        found.sort();
        found.dedup();
        assert_eq!((found.len(), held), (500, MEMORY));
    }
}
