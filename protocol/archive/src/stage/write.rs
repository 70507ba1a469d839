//! Writing members.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, fstat, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{
    Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat,
};

use super::room::{Enough, Room};
use super::{Report, Rules, StageError};
use crate::cursor::{Cursor, Identity, Meta, kind_of, look, shown};
use crate::name::{Place, place};
use crate::read::{Kind, Member, Reader};

/// Longest target of a symbolic link, in bytes (`PATH_MAX`, limits.h, without its NUL).
const MAX_TARGET: usize = 4095;

/// Writes members beneath a directory, none of them through a link.
pub(super) struct Writer<'a> {
    rules: &'a Rules<'a>,
    cursor: Cursor<'a>,
    room: Room,
    pub(super) report: Report,
}

impl<'a> Writer<'a> {
    pub(super) fn new(staging: BorrowedFd<'a>, rules: &'a Rules<'a>) -> Result<Self, StageError> {
        let cursor = Cursor::new(staging);
        let room = Room::new(rules.limits.keep_free);
        let mut writer = Self { rules, cursor, room, report: Report::default() };
        let enough = writer.room.look(staging, 0);
        writer.enough(enough)?;
        Ok(writer)
    }

    /// Gives the directories that it is in their modes and times.
    pub(super) fn finish(mut self) -> Result<Report, StageError> {
        self.retreat(0)?;
        Ok(self.report)
    }

    pub(super) fn member(
        &mut self,
        member: &Member,
        reader: &mut Reader<'_>,
    ) -> Result<(), StageError> {
        if member.kind == Kind::Special {
            self.report.skipped_special += 1;
            return Ok(());
        }
        let (path, rerooted) = match place(&member.name, member.kind == Kind::Directory)? {
            Place::Destination if member.kind == Kind::Directory => return Ok(()),
            Place::Destination => {
                let what = "a member that is no directory has the name of the whole tree";
                return Err(StageError::Damaged(what.to_owned()));
            }
            Place::Nowhere => {
                self.report.skipped_special += 1;
                return Ok(());
            }
            Place::Beneath { path, rerooted } => (path, rerooted),
        };
        let Some((name, parents)) = path.split_last() else { return Ok(()) };
        let written = match &member.kind {
            Kind::File { .. } => self.file(parents, name, member, reader)?,
            Kind::Directory => self.directory(parents, name, member)?,
            Kind::Symlink(target) => self.symlink(parents, name, target, member)?,
            Kind::HardLink(target) => self.hard_link(parents, name, target)?,
            Kind::Special => false,
        };
        if !written {
            self.report.skipped_links += 1;
            return Ok(());
        }
        self.report.written += 1;
        self.report.rerooted += u64::from(rerooted);
        let loses = matches!(member.kind, Kind::File { .. } | Kind::Directory);
        self.report.set_id_cleared += u64::from(loses && member.mode & 0o7000 != 0);
        Ok(())
    }

    fn enough(&self, looked: nix::Result<Enough>) -> Result<(), StageError> {
        match looked {
            Ok(Enough::Yes) => Ok(()),
            Ok(Enough::No) => Err(StageError::NoRoom { keep_free: self.rules.limits.keep_free }),
            Err(errno) => Err(self.failed("look for free space", b".", errno)),
        }
    }

    fn failed(&self, step: &'static str, name: &[u8], errno: Errno) -> StageError {
        if matches!(errno, Errno::ENOSPC | Errno::EDQUOT) {
            return StageError::NoRoom { keep_free: self.rules.limits.keep_free };
        }
        StageError::Os { step, name: shown(name), errno }
    }

    /// Leaves directories until it is only so deep.
    fn retreat(&mut self, depth: usize) -> Result<(), StageError> {
        while self.cursor.depth() > depth {
            let name = self.cursor.name().to_vec();
            self.cursor
                .leave()
                .map_err(|errno| self.failed("finish the directory", &name, errno))?;
        }
        Ok(())
    }

    /// Leaves directories until it is on the way to `path`; how much of it that is.
    fn retreat_towards(&mut self, path: &[Vec<u8>]) -> Result<usize, StageError> {
        let common = self.cursor.path().zip(path).take_while(|(at, to)| at == to).count();
        self.retreat(common)?;
        Ok(common)
    }

    /// Enters a directory, makes those that are missing.
    fn go(&mut self, path: &[Vec<u8>]) -> Result<(), StageError> {
        let common = self.retreat_towards(path)?;
        for name in path.iter().skip(common) {
            self.step(name, Meta::implicit())?;
        }
        Ok(())
    }

    /// Enters a directory; makes it, to become so when it is left, if there is none.
    fn step(&mut self, name: &[u8], meta: Meta) -> Result<(), StageError> {
        let here = self.cursor.here();
        let there = look(here, name).map_err(|errno| self.failed("look at", name, errno))?;
        let make = match there.map(|stat| kind_of(&stat)) {
            None => true,
            Some(SFlag::S_IFDIR) => false,
            Some(SFlag::S_IFLNK) => {
                unlinkat(here, name, UnlinkatFlags::NoRemoveDir)
                    .map_err(|errno| self.failed("replace the link", name, errno))?;
                true
            }
            Some(_) => return Err(both(name)),
        };
        if make {
            mkdirat(here, name, Mode::S_IRWXU)
                .map_err(|errno| self.failed("make the directory", name, errno))?;
        }
        if let Err(errno) = self.cursor.enter(name) {
            return Err(self.failed("enter the directory", name, errno));
        }
        if make {
            let dir = self.cursor.here();
            let own = |uid| fchown(dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)));
            self.rules
                .owner
                .map_or(Ok(()), own)
                .map_err(|errno| self.failed("give away the directory", name, errno))?;
            self.cursor.set_meta(meta);
        }
        Ok(())
    }

    fn directory(
        &mut self,
        parents: &[Vec<u8>],
        name: &[u8],
        member: &Member,
    ) -> Result<bool, StageError> {
        self.count_room(0)?;
        self.go(parents)?;
        let meta = Meta { mode: member.mode & 0o777, mtime: mtime(member), marked: false };
        self.step(name, meta)?;
        // A mark that is there already may be about a directory in it.
        let marked = self.cursor.meta().is_some_and(|before| before.marked);
        self.cursor.set_meta(Meta { marked, ..meta });
        Ok(true)
    }

    fn count_room(&mut self, size: u64) -> Result<(), StageError> {
        let enough = self.room.member(self.cursor.here(), size);
        self.enough(enough)
    }

    /// Makes an entry, in the place of a file or link that is there already: that is removed
    /// first, so what is written does not reach its other names.
    fn make<T>(
        &self,
        step: &'static str,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> Result<T, StageError> {
        let here = self.cursor.here();
        match make(here) {
            Err(Errno::EEXIST) => {}
            other => return other.map_err(|errno| self.failed(step, name, errno)),
        }
        match unlinkat(here, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => make(here).map_err(|errno| self.failed(step, name, errno)),
            Err(Errno::EISDIR) => Err(both(name)),
            Err(errno) => Err(self.failed("replace", name, errno)),
        }
    }

    fn file(
        &mut self,
        parents: &[Vec<u8>],
        name: &[u8],
        member: &Member,
        reader: &mut Reader<'_>,
    ) -> Result<bool, StageError> {
        let Kind::File { size, extents } = &member.kind else { return Ok(false) };
        let stored: u64 = extents.iter().map(|extent| extent.length).sum();
        self.count_room(stored)?;
        self.go(parents)?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = self.make("create", name, |here| openat(here, name, flags, mode))?;
        let file = File::from(file);
        let failed = |writer: &Self, error: io::Error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
            writer.failed("write", name, errno)
        };
        for extent in extents {
            let (mut offset, mut left) = (extent.offset, extent.length);
            while left > 0 {
                let data = reader.data(left, offset)?;
                let count = data.len() as u64;
                file.write_all_at(data, offset).map_err(|error| failed(self, error))?;
                (offset, left) = (offset + count, left - count);
                self.report.bytes += count;
                let enough = self.room.written(self.cursor.here(), count);
                self.enough(enough)?;
            }
        }
        // A hole at the end is often told by a part without bytes.
        let end = extents.iter().rfind(|extent| extent.length > 0);
        if end.map_or(0, |last| last.offset + last.length) < *size {
            file.set_len(*size).map_err(|error| failed(self, error))?;
        }
        let finish = || {
            if let Some(uid) = self.rules.owner {
                fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
            }
            fchmod(&file, Mode::from_bits_truncate(member.mode & 0o777))?;
            futimens(&file, &TimeSpec::UTIME_OMIT, &mtime(member))
        };
        finish().map_err(|errno| self.failed("finish", name, errno))?;
        Ok(true)
    }

    fn symlink(
        &mut self,
        parents: &[Vec<u8>],
        name: &[u8],
        target: &[u8],
        member: &Member,
    ) -> Result<bool, StageError> {
        if target.len() > MAX_TARGET || target.contains(&0) {
            return Err(StageError::Damaged(format!("the link {:?} has no target", shown(name))));
        }
        if target.is_empty() || !(self.rules.link_stays)(&parents.join(&b'/'), target) {
            return Ok(false);
        }
        self.count_room(0)?;
        self.go(parents)?;
        self.make("make the link", name, |here| symlinkat(target, here, name))?;
        let here = self.cursor.here();
        let finish = || {
            if let Some(uid) = self.rules.owner {
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
                fchownat(here, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            let flags = UtimensatFlags::NoFollowSymlink;
            utimensat(here, name, &TimeSpec::UTIME_OMIT, &mtime(member), flags)
        };
        finish().map_err(|errno| self.failed("finish the link", name, errno))?;
        Ok(true)
    }

    fn hard_link(
        &mut self,
        parents: &[Vec<u8>],
        name: &[u8],
        target: &[u8],
    ) -> Result<bool, StageError> {
        self.count_room(0)?;
        let Some(target) = self.find(target)? else { return Ok(false) };
        self.go(parents)?;
        let failed = |errno| self.failed("link", name, errno);
        let identity = Identity::of(&fstat(&target).map_err(failed)?);
        let there = look(self.cursor.here(), name).map_err(failed)?;
        if there.is_some_and(|stat| Identity::of(&stat) == identity) {
            return Ok(true);
        }
        // The name in /proc is that of this very file, even where the directory that it is in
        // may not be searched any more; `AT_EMPTY_PATH` takes a capability (linkat(2)).
        let held = format!("/proc/self/fd/{}", target.as_raw_fd());
        self.make("link", name, |here| {
            linkat(AT_FDCWD, held.as_str(), here, name, LinkatFlags::AT_SYMLINK_FOLLOW)
        })?;
        Ok(true)
    }

    /// Takes hold of a regular file that was staged; nothing where that name has none.
    fn find(&mut self, name: &[u8]) -> Result<Option<OwnedFd>, StageError> {
        let path = match place(name, false) {
            Ok(Place::Beneath { path, rerooted: false }) => path,
            _ => return Ok(None),
        };
        let Some((name, parents)) = path.split_last() else { return Ok(None) };
        let common = self.retreat_towards(parents)?;
        for parent in parents.iter().skip(common) {
            match self.cursor.enter(parent) {
                Ok(()) => {}
                Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
                Err(errno) => return Err(self.failed("enter the directory", parent, errno)),
            }
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let held = match openat(self.cursor.here(), name.as_slice(), flags, Mode::empty()) {
            Ok(held) => held,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("look for", name, errno)),
        };
        let stat = fstat(held.as_fd()).map_err(|errno| self.failed("look at", name, errno))?;
        Ok((kind_of(&stat) == SFlag::S_IFREG).then_some(held))
    }
}

fn mtime(member: &Member) -> TimeSpec {
    TimeSpec::new(member.mtime.0, member.mtime.1.into())
}

fn both(name: &[u8]) -> StageError {
    StageError::Damaged(format!("it has both a directory and a file named {:?}", shown(name)))
}
