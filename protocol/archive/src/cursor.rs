//! A way through a tree that nobody else can reach: the staging directory.
//!
//! It holds one descriptor, whatever the depth. The way back is `..`, and it is checked that
//! this is where the cursor came from.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::dir::{Dir, Entry};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc::{dev_t, ino_t};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, futimens,
};
use nix::sys::time::TimeSpec;

/// The mtime of a staged directory that no member asked for, in seconds; one with
/// [`Meta::marked`] besides.
const IMPLICIT_MTIME: i64 = 0x4e6f_7852;

/// The mode of such a directory.
const IMPLICIT_MODE: u32 = 0o755;

/// What a directory gets back when it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Its permission bits (0777).
    pub(crate) mode: u32,
    /// When it was last modified.
    pub(crate) mtime: TimeSpec,
    /// Whether it, or a directory in it at any depth, is there only because something is in
    /// it. Its sticky bit, which no member of an archive gets, says so.
    pub(crate) marked: bool,
}

impl Meta {
    /// That of a directory that is there only because something is in it.
    pub(crate) fn implicit() -> Self {
        let mtime = TimeSpec::new(IMPLICIT_MTIME, 0);
        Self { mode: IMPLICIT_MODE, mtime, marked: true }
    }

    /// That of a staged directory.
    pub(crate) fn of(stat: &FileStat) -> Self {
        let mtime = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
        let marked = stat.st_mode & Mode::S_ISVTX.bits() != 0;
        Self { mode: stat.st_mode & 0o777, mtime, marked }
    }

    /// Whether no member asked for it. A directory that one did ask for can pass for such a
    /// one only if its archive wants it to; it then keeps what the destination has.
    pub(crate) fn is_implicit(&self) -> bool {
        *self == Self::implicit()
    }

    /// The same for a directory that is in its place: without the mark, and modified now if no
    /// member says when.
    pub(crate) fn in_place(self) -> Self {
        let mtime = if self.is_implicit() { TimeSpec::UTIME_NOW } else { self.mtime };
        Self { mtime, marked: false, ..self }
    }

    /// Gives it to the directory, the mark included.
    pub(crate) fn apply(&self, dir: BorrowedFd<'_>) -> nix::Result<()> {
        let sticky = if self.marked { Mode::S_ISVTX } else { Mode::empty() };
        fchmod(dir, Mode::from_bits_truncate(self.mode) | sticky)?;
        futimens(dir, &TimeSpec::UTIME_OMIT, &self.mtime)
    }
}

/// Which directory it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(dev_t, ino_t);

impl Identity {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self(stat.st_dev, stat.st_ino)
    }
}

pub(crate) fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// The status of an entry, of a link that of the link; nothing where there is none.
pub(crate) fn look(dir: BorrowedFd<'_>, name: &[u8]) -> nix::Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

struct Level {
    name: Vec<u8>,
    identity: Identity,
    meta: Meta,
}

/// A place in a tree.
pub(crate) struct Cursor<'a> {
    top: BorrowedFd<'a>,
    /// The directory of the last level; nothing at the top.
    here: Option<OwnedFd>,
    levels: Vec<Level>,
}

impl<'a> Cursor<'a> {
    /// One at the top of a tree.
    pub(crate) fn new(top: BorrowedFd<'a>) -> Self {
        Self { top, here: None, levels: Vec::new() }
    }

    /// The directory it is in.
    pub(crate) fn here(&self) -> BorrowedFd<'_> {
        self.here.as_ref().map_or(self.top, AsFd::as_fd)
    }

    /// How many directories deep it is.
    pub(crate) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The names on the way.
    pub(crate) fn path(&self) -> impl Iterator<Item = &[u8]> {
        self.levels.iter().map(|level| level.name.as_slice())
    }

    /// The name of the directory it is in; `.` at the top.
    pub(crate) fn name(&self) -> &[u8] {
        self.levels.last().map_or(b".", |level| level.name.as_slice())
    }

    /// What the directory gets when it is left; nothing at the top.
    pub(crate) fn meta(&self) -> Option<Meta> {
        self.levels.last().map(|level| level.meta)
    }

    /// Sets what the directory gets when it is left. A mark is passed on to those above.
    pub(crate) fn set_meta(&mut self, meta: Meta) {
        if meta.marked {
            self.levels.iter_mut().for_each(|level| level.meta.marked = true);
        }
        if let Some(level) = self.levels.last_mut() {
            level.meta = meta;
        }
    }

    /// Enters a directory, with every right on it until it is left; `ENOTDIR` if it is a link
    /// or a file.
    pub(crate) fn enter(&mut self, name: &[u8]) -> nix::Result<()> {
        let here = self.here();
        let stat = fstatat(here, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if kind_of(&stat) != SFlag::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        if stat.st_mode & 0o700 != 0o700 {
            // By name: nobody else is here who could put something else in its place.
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777) | Mode::S_IRWXU;
            fchmodat(here, name, mode, FchmodatFlags::FollowSymlink)?;
        }
        let dir = openat(here, name, open_flags(), Mode::empty())?;
        let identity = Identity::of(&stat);
        self.levels.push(Level { name: name.to_vec(), identity, meta: Meta::of(&stat) });
        self.here = Some(dir);
        Ok(())
    }

    /// Leaves the directory and gives it its mode and time. Does nothing at the top.
    pub(crate) fn leave(&mut self) -> nix::Result<()> {
        // The mode last: it may take away the right to go from there to `..`.
        match self.depart()? {
            Some((dir, meta)) => meta.apply(dir.as_fd()),
            None => Ok(()),
        }
    }

    /// Leaves the directory as it is, and hands out what it holds and what it was to get;
    /// nothing at the top.
    pub(crate) fn depart(&mut self) -> nix::Result<Option<(OwnedFd, Meta)>> {
        let meta = self.meta();
        let left = self.climb()?;
        Ok(left.zip(meta))
    }

    fn climb(&mut self) -> nix::Result<Option<OwnedFd>> {
        self.levels.pop();
        let above = match (self.levels.last(), &self.here) {
            (Some(level), Some(dir)) => {
                let above = openat(dir, "..", open_flags(), Mode::empty())?;
                if Identity::of(&fstat(&above)?) != level.identity {
                    return Err(Errno::ESTALE);
                }
                Some(above)
            }
            _ => None,
        };
        Ok(std::mem::replace(&mut self.here, above))
    }
}

fn open_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Opens a directory to list it. [`entry_name`] is for what it lists.
pub(crate) fn list(dir: BorrowedFd<'_>) -> nix::Result<Dir> {
    Dir::openat(dir, ".", open_flags(), Mode::empty())
}

/// The name of a listed entry, but for `.` and `..`.
pub(crate) fn entry_name(entry: nix::Result<Entry>) -> nix::Result<Option<Vec<u8>>> {
    let entry = entry?;
    let name = entry.file_name().to_bytes();
    Ok((name != b"." && name != b"..").then(|| name.to_vec()))
}

/// A name for messages.
pub(crate) fn shown(name: &[u8]) -> String {
    OsStr::from_bytes(name).to_string_lossy().into_owned()
}
