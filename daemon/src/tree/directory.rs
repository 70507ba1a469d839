//! A directory that is held while its entries are removed, whatever becomes of its name.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::TreeError;

/// How often rights are given back that somebody takes away again.
const CHMOD_TRIES: usize = 100;

/// Entries that any directory may have, however small it says it is.
const LEAST_ENTRIES: usize = 65_536;

/// A directory, by a descriptor that needs no rights on it (`O_PATH`).
pub(super) struct Directory {
    handle: OwnedFd,
    name: OsString,
    device: nix::libc::dev_t,
}

/// What is left of an entry that was to be removed.
pub(super) enum Left {
    Nothing,
    /// A directory that is not empty.
    Filled,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Directory {
    /// Opens the directory `name` in `parent`; `ENOTDIR` if it is a link or a file.
    pub(super) fn open(parent: BorrowedFd<'_>, name: &OsStr) -> nix::Result<Self> {
        let handle = hold(parent, name)?;
        let device = fstat(&handle)?.st_dev;
        Ok(Self { handle, name: name.to_owned(), device })
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The file system it lies on (`st_dev`).
    pub(super) fn device(&self) -> nix::libc::dev_t {
        self.device
    }

    /// Gives its owner, and nobody else, every right on it. chmod(2) has no way
    /// to refuse a link and fchmod(2) refuses `O_PATH`; the name in /proc is
    /// that of this very directory.
    pub(super) fn open_up(&self) -> nix::Result<()> {
        let name = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        fchmodat(AT_FDCWD, name.as_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)
    }

    /// Does something in the directory that needs rights on it.
    pub(super) fn insist<T>(
        &self,
        act: impl Fn(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> nix::Result<T> {
        for _ in 0..CHMOD_TRIES {
            match act(self.as_fd()) {
                Err(Errno::EACCES) if self.open_up().is_ok() => {}
                done => return done,
            }
        }
        Err(Errno::EACCES)
    }

    /// Removes an entry, unless it is a directory that is not empty.
    pub(super) fn remove(&self, name: &OsStr) -> Result<Left, TreeError> {
        let unlink = |flag| self.insist(|dir| unlinkat(dir, name, flag));
        let mut done = unlink(UnlinkatFlags::NoRemoveDir);
        if done == Err(Errno::EISDIR) {
            done = unlink(UnlinkatFlags::RemoveDir);
        }
        match done {
            Ok(()) | Err(Errno::ENOENT) => Ok(Left::Nothing),
            // Exchanged for a file in between; whoever finds the directory not empty comes again.
            Err(Errno::ENOTDIR) => Ok(Left::Nothing),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(Left::Filled),
            Err(errno) => Err(TreeError::of("remove", name, errno)),
        }
    }

    /// Whether an entry was made or written after that time. Its owner can set
    /// one of its times (`st_mtime`), and removing another link of it sets the
    /// other (`st_ctime`); only both together tell.
    pub(super) fn is_newer(&self, name: &OsStr, than: SystemTime) -> bool {
        fstatat(self, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            time_of(stat.st_ctime, stat.st_ctime_nsec) > than
                && time_of(stat.st_mtime, stat.st_mtime_nsec) > than
        })
    }

    pub(super) fn list(&self) -> Result<Listing, TreeError> {
        self.insist(Listing::open).map_err(|errno| TreeError::of("read", &self.name, errno))
    }
}

/// A file's time, in seconds before or after 1970 and nanoseconds after that second.
pub(crate) fn time_of(seconds: i64, nanos: i64) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let second =
        if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    let nanos = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    second.and_then(|at| at.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// Takes hold of a directory without needing rights on it; `ENOTDIR` if it is a link or a file.
pub(super) fn hold(parent: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// The entries of a directory that may be changing.
pub(crate) struct Listing {
    dir: Dir,
    most: usize,
}

impl Listing {
    pub(crate) fn open(held: BorrowedFd<'_>) -> nix::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = Dir::openat(held, ".", flags, Mode::empty())?;
        let most = usize::try_from(fstat(&dir)?.st_size).unwrap_or(0).max(LEAST_ENTRIES);
        Ok(Self { dir, most })
    }

    /// Their names, without `.` and `..`. Ends at as many as the directory has
    /// bytes: no file system takes less than one for an entry (ext4 12, tmpfs
    /// 20), and who creates files fast enough can make readdir(3) go on for ever.
    pub(crate) fn names(&mut self) -> impl Iterator<Item = nix::Result<OsString>> {
        self.dir.iter().take(self.most).filter_map(|entry| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                (name != b"." && name != b"..").then(|| Ok(OsString::from_vec(name.to_vec())))
            }
            Err(errno) => Some(Err(errno)),
        })
    }
}
