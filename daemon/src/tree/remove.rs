//! Removing a tree.
//!
//! A directory that is not empty is moved up into the tree's top directory
//! under a fresh name before it is emptied there. So no walk is deeper than one
//! level, whatever the depth, and no parent has to be found again.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::fstat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::TreeError;
use super::directory::{Directory, Left};

/// How long a tree may go on being filled while it is removed. It counts from
/// the first sign of a writer; a tree that nobody writes in takes the time it takes.
pub const REMOVE_PATIENCE: Duration = Duration::from_secs(10);

/// How often the right to move a directory is given back where somebody takes it away again.
const MOVE_TRIES: usize = 100;

/// Removes the directory `name` in `parent` with everything in it. Its entry
/// `last`, if it has one, goes after everything else: the manifest, without
/// which nobody would know the rest for a sandbox's.
///
/// Nothing is followed: of a link, the link is removed. Directories without
/// rights are given them where the daemon owns them. What is gone already is
/// not missed. Blocks; holds at most six descriptors.
///
/// # Errors
/// [`TreeError::NotADirectory`] if `name` is something else;
/// [`TreeError::MountPoint`] if it is one or has one inside, which is never
/// entered; [`TreeError::StillFilled`] if a process goes on creating files for
/// longer than [`REMOVE_PATIENCE`]; [`TreeError::Io`] for everything else.
/// What was removed until then stays removed.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr, last: &OsStr) -> Result<(), TreeError> {
    remove_tree_within(parent, name, last, REMOVE_PATIENCE)
}

/// [`remove_tree`] with a patience of one's own.
pub(super) fn remove_tree_within(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    last: &OsStr,
    patience: Duration,
) -> Result<(), TreeError> {
    let top = match Directory::open(parent, name) {
        Ok(top) => top,
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::ENOTDIR) => return Err(TreeError::NotADirectory { name: name.to_owned() }),
        Err(errno) => return Err(TreeError::of("open", name, errno)),
    };
    let device = fstat(parent).map_err(|errno| TreeError::of("stat", name, errno))?.st_dev;
    if device != top.device() {
        return Err(TreeError::MountPoint { name: name.to_owned() });
    }
    let moved = Vec::new();
    let started = SystemTime::now();
    Remover { top, moved, next_serial: 0, started, patience, first_sign: None }.run(parent, last)
}

struct Remover {
    top: Directory,
    /// Serial numbers of the directories that were moved up and are still to be removed.
    moved: Vec<u64>,
    next_serial: u64,
    started: SystemTime,
    patience: Duration,
    /// When a writer was first noticed.
    first_sign: Option<Instant>,
}

impl Remover {
    fn run(&mut self, parent: BorrowedFd<'_>, last: &OsStr) -> Result<(), TreeError> {
        let mut keep = Some(last);
        loop {
            self.clear_top(keep)?;
            if keep.take().is_some() {
                // Should it be a directory with something in it, it goes in the next round.
                self.top.remove(last)?;
            }
            match unlinkat(parent, self.top.name(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => self.notice_writer(None)?,
                Err(errno) => return Err(TreeError::of("remove", self.top.name(), errno)),
            }
        }
    }

    /// Removes what is in the top directory, but for the entry `keep`.
    fn clear_top(&mut self, keep: Option<&OsStr>) -> Result<(), TreeError> {
        let mut listing = self.top.list()?;
        for entry in listing.names() {
            let entry = entry.map_err(|errno| TreeError::of("read", self.top.name(), errno))?;
            if keep == Some(&entry) {
                continue;
            }
            if self.top.is_newer(&entry, self.started) {
                self.notice_writer(None)?;
            }
            if let Left::Filled = self.top.remove(&entry)? {
                self.clear(&entry)?;
                while let Some(serial) = self.moved.pop() {
                    self.clear(&fresh_name(serial))?;
                }
            }
        }
        Ok(())
    }

    /// Removes a directory in the top directory. Directories in it that are not empty are moved up.
    fn clear(&mut self, name: &OsStr) -> Result<(), TreeError> {
        loop {
            let dir = match self.top.insist(|top| Directory::open(top, name)) {
                Ok(dir) if dir.device() == self.top.device() => dir,
                Ok(_) => return Err(TreeError::MountPoint { name: name.to_owned() }),
                // Taken away, or exchanged for a file that the next round removes.
                Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
                Err(errno) => return Err(TreeError::of("open", name, errno)),
            };
            let mut listing = dir.list()?;
            for entry in listing.names() {
                let entry = entry.map_err(|errno| TreeError::of("read", name, errno))?;
                if dir.is_newer(&entry, self.started) {
                    self.notice_writer(Some(name))?;
                }
                if let Left::Filled = dir.remove(&entry)? {
                    self.move_up(&dir, &entry)?;
                }
            }
            match self.top.insist(|top| unlinkat(top, name, UnlinkatFlags::RemoveDir)) {
                Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => self.notice_writer(Some(name))?,
                Err(errno) => return Err(TreeError::of("remove", name, errno)),
            }
        }
    }

    fn move_up(&mut self, dir: &Directory, name: &OsStr) -> Result<(), TreeError> {
        let mut tries = 0;
        loop {
            let serial = self.next_serial;
            self.next_serial += 1;
            match renameat(dir, name, &self.top, fresh_name(serial).as_os_str()) {
                Ok(()) => {
                    self.moved.push(serial);
                    return Ok(());
                }
                Err(Errno::ENOENT) => return Ok(()),
                // The tree has something of that name.
                Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR | Errno::EISDIR) => {}
                // A directory that gets another `..` must itself be writable (rename(2)).
                Err(Errno::EACCES) if tries < MOVE_TRIES => {
                    tries += 1;
                    let opened_up = Directory::open(dir.as_fd(), name)
                        .and_then(|moving| moving.open_up())
                        .and_then(|()| dir.open_up())
                        .and_then(|()| self.top.open_up());
                    match opened_up {
                        // Taken away or exchanged: the next rename will tell.
                        Ok(()) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
                        Err(errno) => return Err(TreeError::of("open up", name, errno)),
                    }
                }
                Err(errno) => return Err(TreeError::of("move", name, errno)),
            }
        }
    }

    /// Bears with a writer for a while. One is noticed when an emptied directory
    /// is not empty, or when an entry is newer than the removal. What is to be
    /// done without either sign has an end, so the removal has one.
    fn notice_writer(&mut self, name: Option<&OsStr>) -> Result<(), TreeError> {
        let first = *self.first_sign.get_or_insert_with(Instant::now);
        if first.elapsed() <= self.patience {
            return Ok(());
        }
        Err(TreeError::StillFilled { name: name.unwrap_or(self.top.name()).to_owned() })
    }
}

/// The name that a directory is moved up under. Should the tree have one of that name, the next is tried.
fn fresh_name(serial: u64) -> OsString {
    format!(".removing-{serial}").into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn remover(dir: &tempfile::TempDir, patience: Duration) -> Remover {
        let parent = fs::File::open(dir.path()).unwrap();
        let top = Directory::open(parent.as_fd(), OsStr::new(".")).unwrap();
        let started = SystemTime::now();
        Remover { top, moved: Vec::new(), next_serial: 0, started, patience, first_sign: None }
    }

    #[test]
    fn the_last_entry_outlasts_all_others() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "manifest.json", "z"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir_all(dir.path().join("b/manifest.json/c")).unwrap();
        let last = OsStr::new("manifest.json");
        remover(&dir, REMOVE_PATIENCE).clear_top(Some(last)).unwrap();
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [last]);
    }

    #[test]
    fn patience_counts_from_the_first_sign_of_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let mut patient = remover(&dir, Duration::from_secs(3600));
        assert_eq!(patient.notice_writer(None), Ok(()));
        patient.first_sign = Instant::now().checked_sub(Duration::from_secs(3601));
        let name = OsStr::new("x");
        let error = TreeError::StillFilled { name: name.to_owned() };
        assert_eq!(patient.notice_writer(Some(name)), Err(error));
    }

    #[test]
    fn only_what_is_newer_than_the_removal_is_a_sign_of_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        let mut quiet = remover(&dir, REMOVE_PATIENCE);
        quiet.started += Duration::from_secs(60);
        quiet.clear_top(None).unwrap();
        assert_eq!(quiet.first_sign, None);
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        let mut disturbed = remover(&dir, REMOVE_PATIENCE);
        disturbed.started -= Duration::from_secs(60);
        disturbed.clear_top(None).unwrap();
        assert!(disturbed.first_sign.is_some());
    }
}
