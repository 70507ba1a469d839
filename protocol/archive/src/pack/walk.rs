//! Going through a tree by descriptors.
//!
//! Every entry is taken hold of before anything is asked about it, and all that follows is done
//! with that descriptor: whatever becomes of its name, a link put in its place is not followed.

use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::names::Names;
use super::open::{Held, Opener};
use super::{PackError, Tree, shown};
use crate::MAX_DEPTH;

/// Who is shown what a walk finds.
pub(super) trait Visitor {
    fn opener(&mut self) -> &mut Opener;

    /// An entry, by its name in the archive. Directories come before what is in them.
    fn visit(&mut self, entry: &Held, path: &[u8]) -> Result<(), PackError>;

    /// An entry that is left out.
    fn left_out(&mut self, why: LeftOut);
}

/// Why an entry of a sandbox's tree is not in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// It is not what was listed any more.
    Vanished,
    /// Something is mounted there.
    Mount,
    /// It could not be opened.
    Unreadable,
}

/// What to do about a failure: which of them the owner of a sandbox's tree can bring about at
/// will, so that they must not spoil the archive.
pub(super) fn tolerate(tree: Tree, errno: Errno) -> Option<LeftOut> {
    match (tree, errno) {
        (Tree::Own, _) => None,
        (Tree::Sandbox, Errno::ENOENT) => Some(LeftOut::Vanished),
        (Tree::Sandbox, Errno::EXDEV) => Some(LeftOut::Mount),
        // EAGAIN: a lease. ENOKEY: encrypted by fscrypt, with a key that was taken away.
        (Tree::Sandbox, Errno::EACCES | Errno::EPERM | Errno::EAGAIN | Errno::ENOKEY) => {
            Some(LeftOut::Unreadable)
        }
        (Tree::Sandbox, _) => None,
    }
}

/// A directory on the way down.
struct Level {
    dir: Held,
    names: Names,
    /// Where its name ends in the path.
    path_end: usize,
}

/// A walk, and where it is.
pub(super) struct Walk {
    /// The name in the archive.
    path: Vec<u8>,
    levels: Vec<Level>,
    /// What the names that are still to be visited take.
    memory: usize,
}

impl Walk {
    /// One whose top has that name in the archive; none if it is empty.
    pub(super) fn new(top: &[u8]) -> Self {
        let end = top.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
        Self { path: top[..end].to_vec(), levels: Vec::new(), memory: 0 }
    }

    /// Visits everything in a directory.
    pub(super) fn contents(
        mut self,
        dir: BorrowedFd<'_>,
        visitor: &mut impl Visitor,
    ) -> Result<(), PackError> {
        let entered = Held::again(dir).and_then(|dir| self.level(dir, visitor.opener()));
        self.levels.push(entered.map_err(|errno| PackError::of("read", &self.path, errno))?);
        self.run(visitor)
    }

    /// Visits an entry, and if it is a directory everything in it.
    pub(super) fn entry(
        mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        visitor: &mut impl Visitor,
    ) -> Result<(), PackError> {
        let found = if name.as_bytes().contains(&b'/') {
            Err(Errno::EINVAL)
        } else {
            Held::again(parent).and_then(|parent| visitor.opener().hold(&parent, name))
        };
        let found = found.map_err(|errno| PackError::of("open", name.as_bytes(), errno))?;
        if !found.is_directory() {
            return visitor.visit(&found, &self.path);
        }
        self.check_depth()?;
        let entered = self.level(found, visitor.opener());
        let level = entered.map_err(|errno| PackError::of("read", name.as_bytes(), errno))?;
        if !self.path.is_empty() {
            visitor.visit(&level.dir, &self.path)?;
        }
        self.levels.push(level);
        self.run(visitor)
    }

    fn run(&mut self, visitor: &mut impl Visitor) -> Result<(), PackError> {
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_end);
            let next = level.names.next(&mut self.memory);
            let next = next.map_err(|errno| PackError::of("read", &self.path, errno))?;
            match next {
                Some(name) => self.step(&name, visitor)?,
                None => {
                    self.levels.pop();
                }
            }
        }
        Ok(())
    }

    /// Visits an entry of the directory where the walk is, and enters it if it can be entered.
    fn step(&mut self, name: &OsString, visitor: &mut impl Visitor) -> Result<(), PackError> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.as_bytes());
        let opener = visitor.opener();
        let tree = opener.tree();
        let failed = |step, errno, path: &[u8], visitor: &mut _| match tolerate(tree, errno) {
            Some(why) => {
                Visitor::left_out(visitor, why);
                Ok(())
            }
            None => Err(PackError::of(step, path, errno)),
        };
        let found = match opener.hold(&level.dir, name) {
            Ok(found) => found,
            Err(errno) => return failed("open", errno, &self.path, visitor),
        };
        if !found.is_directory() {
            return visitor.visit(&found, &self.path);
        }
        // Some file systems have others in them without a mount: subvolumes of btrfs.
        if tree == Tree::Sandbox && found.stat.st_dev != level.dir.stat.st_dev {
            return failed("open", Errno::EXDEV, &self.path, visitor);
        }
        self.check_depth()?;
        match self.level(found, visitor.opener()) {
            Ok(level) => {
                visitor.visit(&level.dir, &self.path)?;
                self.levels.push(level);
                Ok(())
            }
            Err(errno) => failed("read", errno, &self.path, visitor),
        }
    }

    fn level(&self, dir: Held, opener: &Opener) -> nix::Result<Level> {
        let names = Names::new(opener.list(&dir)?, opener.tree())?;
        Ok(Level { dir, names, path_end: self.path.len() })
    }

    /// Refuses a directory with more names in its path than an archive may have.
    fn check_depth(&self) -> Result<(), PackError> {
        let depth = self.path.split(|&b| b == b'/').filter(|name| !name.is_empty()).count();
        if depth > MAX_DEPTH {
            return Err(PackError::TooDeep { name: shown(&self.path) });
        }
        Ok(())
    }
}
