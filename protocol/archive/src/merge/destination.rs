//! The way through the destination, which somebody may be changing.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, UtimensatFlags, fchmodat, fstat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::geteuid;

use crate::cursor::{Identity, Meta};

struct Level {
    identity: Identity,
    /// As it was when it was entered.
    stat: FileStat,
    /// Whether it was given rights since.
    opened_up: bool,
}

/// A place in the destination, held by a descriptor that needs no rights on it (`O_PATH`).
pub(super) struct Destination<'a> {
    top: BorrowedFd<'a>,
    /// The directory of the last level; nothing at the top.
    here: Option<OwnedFd>,
    levels: Vec<Level>,
}

impl<'a> Destination<'a> {
    pub(super) fn new(top: BorrowedFd<'a>) -> Self {
        Self { top, here: None, levels: Vec::new() }
    }

    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.here.as_ref().map_or(self.top, AsFd::as_fd)
    }

    /// How many directories deep it is.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Enters a directory; `ENOTDIR` if it is a link or a file, `EXDEV` if it lies on another
    /// file system, where nothing could be moved to.
    pub(super) fn enter(&mut self, name: &[u8], device: nix::libc::dev_t) -> nix::Result<()> {
        let dir = hold(self.here(), name)?;
        let stat = fstat(&dir)?;
        if stat.st_dev != device {
            return Err(Errno::EXDEV);
        }
        let opened_up = stat.st_mode & 0o700 != 0o700 && stat.st_uid == geteuid().as_raw();
        if opened_up {
            chmod(&dir, stat.st_mode | Mode::S_IRWXU.bits())?;
        }
        self.levels.push(Level { identity: Identity::of(&stat), stat, opened_up });
        self.here = Some(dir);
        Ok(())
    }

    /// Leaves the directory; it gets this mode and time, or its own mode back. Does nothing at
    /// the top.
    pub(super) fn leave(&mut self, meta: Option<Meta>) -> nix::Result<()> {
        let Some((level, dir)) = self.levels.pop().zip(self.here.take()) else { return Ok(()) };
        // Before the mode, which may take away the right to go from here to `..`.
        let above = self.levels.last().map(|level| (hold(dir.as_fd(), b".."), level.identity));
        match meta.map(|meta| give(&dir, &level.stat, meta)) {
            Some(Err(Errno::EPERM)) if level.stat.st_uid != geteuid().as_raw() => {}
            Some(done) => done?,
            None if level.opened_up => chmod(&dir, level.stat.st_mode)?,
            None => {}
        }
        if let Some((above, identity)) = above {
            // It may have been moved since; then this is not the way back.
            let above = above?;
            if Identity::of(&fstat(&above)?) != identity {
                return Err(Errno::ESTALE);
            }
            self.here = Some(above);
        }
        Ok(())
    }
}

fn hold(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// fchmod(2) and futimens(3) refuse `O_PATH`; the name in /proc is that of this very directory.
fn in_proc(dir: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", dir.as_raw_fd())
}

fn chmod(dir: &OwnedFd, mode: u32) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(mode & 0o7777);
    fchmodat(AT_FDCWD, in_proc(dir).as_str(), mode, FchmodatFlags::FollowSymlink)
}

fn give(dir: &OwnedFd, stat: &FileStat, meta: Meta) -> nix::Result<()> {
    chmod(dir, stat.st_mode & 0o7000 | meta.mode)?;
    let (name, flags) = (in_proc(dir), UtimensatFlags::FollowSymlink);
    utimensat(AT_FDCWD, name.as_str(), &TimeSpec::UTIME_OMIT, &meta.mtime, flags)
}
