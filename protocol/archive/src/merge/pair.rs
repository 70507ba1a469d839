//! Walking two trees at once, where both have a directory.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::destination::Destination;
use super::{MergeError, place};
use crate::cursor::{Cursor, entry_name, kind_of, list, look, shown};

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// Finding what is in the way.
    Check,
    /// Moving.
    Move,
}

/// What is done with a staged entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// There is nothing of that name.
    Free,
    /// It replaces what is there.
    Replace,
    /// Both are directories.
    Join,
    /// One is a directory and the other is not.
    InTheWay,
}

impl Fit {
    fn of(staged: &FileStat, there: Option<&FileStat>) -> Self {
        match (kind_of(staged), there.map(kind_of)) {
            (_, None) => Self::Free,
            (SFlag::S_IFDIR, Some(SFlag::S_IFDIR)) => Self::Join,
            (SFlag::S_IFDIR, Some(SFlag::S_IFLNK)) => Self::Replace,
            (SFlag::S_IFDIR, Some(_)) | (_, Some(SFlag::S_IFDIR)) => Self::InTheWay,
            (_, Some(_)) => Self::Replace,
        }
    }
}

/// The same directory of both trees.
pub(super) struct Pair<'a> {
    staged: Cursor<'a>,
    dest: Destination<'a>,
    device: nix::libc::dev_t,
    pass: Pass,
}

fn os(step: &'static str, name: &[u8], errno: Errno) -> MergeError {
    MergeError::Os { step, name: shown(name), errno }
}

impl<'a> Pair<'a> {
    pub(super) fn new(
        staging: BorrowedFd<'a>,
        dest: BorrowedFd<'a>,
        pass: Pass,
    ) -> Result<Self, MergeError> {
        let device = fstat(staging).map_err(|errno| os("look at", b".", errno))?.st_dev;
        let (staged, dest) = (Cursor::new(staging), Destination::new(dest));
        Ok(Self { staged, dest, device, pass })
    }

    pub(super) fn run(&mut self) -> Result<(), MergeError> {
        let walked = self.walk();
        if walked.is_err() {
            // Rights that were given are taken back, as far as the way back is still there.
            while self.dest.depth() > 0 {
                let _ = self.dest.leave(None);
            }
            while self.staged.depth() > 0 && self.staged.leave().is_ok() {}
        }
        walked
    }

    fn walk(&mut self) -> Result<(), MergeError> {
        let mut todo = vec![self.entries()?];
        while let Some(joins) = todo.last_mut() {
            if let Some(name) = joins.pop() {
                self.enter(&name)?;
                todo.push(self.entries()?);
                continue;
            }
            todo.pop();
            if !todo.is_empty() {
                self.leave()?;
            }
        }
        Ok(())
    }

    /// Deals with the staged entries here; answers with the directories that both have.
    fn entries(&mut self) -> Result<Vec<Vec<u8>>, MergeError> {
        loop {
            let mut joins = Vec::new();
            let mut moved = false;
            let failed = |errno| os("list", b".", errno);
            let mut listing = list(self.staged.here()).map_err(failed)?;
            for entry in listing.iter() {
                let Some(name) = entry_name(entry).map_err(failed)? else { continue };
                match self.entry(&name)? {
                    Fit::Join => joins.push(name),
                    Fit::Free | Fit::Replace => moved = self.pass == Pass::Move,
                    Fit::InTheWay => return Err(self.in_the_way(&name)),
                }
            }
            // What a listing has of a directory that changes meanwhile is not certain
            // (readdir(3)); so the last one is of one that did not.
            if !moved {
                return Ok(joins);
            }
        }
    }

    fn entry(&mut self, name: &[u8]) -> Result<Fit, MergeError> {
        let failed = |errno| os("look at", name, errno);
        let Some(stat) = look(self.staged.here(), name).map_err(failed)? else {
            return Ok(Fit::Free);
        };
        let there = look(self.dest.here(), name).map_err(failed)?;
        let fit = Fit::of(&stat, there.as_ref());
        if self.pass == Pass::Check || matches!(fit, Fit::Join | Fit::InTheWay) {
            return Ok(fit);
        }
        let done = if kind_of(&stat) == SFlag::S_IFDIR {
            let removed = match fit {
                Fit::Replace => unlinkat(self.dest.here(), name, UnlinkatFlags::NoRemoveDir),
                Fit::Free | Fit::Join | Fit::InTheWay => Ok(()),
            };
            let dest = self.dest.here();
            removed.and_then(|()| place::directory(&mut self.staged, name, &stat, dest))
        } else {
            place::file(self.staged.here(), name, &stat, self.dest.here())
        };
        match done {
            Ok(()) => Ok(fit),
            Err(Errno::EISDIR | Errno::ENOTDIR) => Ok(Fit::InTheWay),
            Err(errno) => Err(os("move", name, errno)),
        }
    }

    fn in_the_way(&self, name: &[u8]) -> MergeError {
        let path: Vec<&[u8]> = self.staged.path().chain([name]).collect();
        MergeError::InTheWay { name: shown(&path.join(&b'/')) }
    }

    fn enter(&mut self, name: &[u8]) -> Result<(), MergeError> {
        self.staged.enter(name).map_err(|errno| os("enter", name, errno))?;
        if let Err(errno) = self.dest.enter(name, self.device) {
            // Both are left together.
            self.staged.leave().map_err(|errno| os("leave", name, errno))?;
            // Exchanged for something else since it was looked at.
            let in_the_way = errno == Errno::ENOTDIR;
            return Err(if in_the_way { self.in_the_way(name) } else { os("enter", name, errno) });
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), MergeError> {
        let name = self.staged.name().to_vec();
        let failed = |errno| os("leave", &name, errno);
        match self.pass {
            Pass::Check => {
                self.staged.leave().map_err(failed)?;
                self.dest.leave(None).map_err(failed)
            }
            Pass::Move => {
                let meta = self.staged.depart().map_err(failed)?.map(|(_, meta)| meta);
                let meta = meta.filter(|meta| !meta.is_implicit());
                self.dest.leave(meta).map_err(failed)?;
                unlinkat(self.staged.here(), name.as_slice(), UnlinkatFlags::RemoveDir)
                    .map_err(|errno| os("remove", &name, errno))
            }
        }
    }
}
