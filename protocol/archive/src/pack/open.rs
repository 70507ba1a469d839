//! Opening what a tree has, without waiting for anybody and without following anything.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat};
use nix::unistd::geteuid;

use super::Tree;

/// How often rights are given back that somebody takes away again.
const CHMOD_TRIES: usize = 20;

/// Pauses in which who holds a lease on a file may give it back.
const PAUSES: u32 = 4;

/// How long one of them is.
const PAUSE: Duration = Duration::from_millis(20);

/// Pauses for all files of an archive: many leases must not make it take hours.
const PAUSES_IN_ALL: u32 = 50;

/// Opens what belongs to a tree.
pub(super) struct Opener {
    tree: Tree,
    pauses: u32,
}

/// What was found: a descriptor that needs no rights (`O_PATH`), and what it is.
pub(super) struct Held {
    pub(super) handle: OwnedFd,
    pub(super) stat: FileStat,
}

impl Held {
    /// Another descriptor of a directory that the caller holds.
    pub(super) fn again(dir: BorrowedFd<'_>) -> nix::Result<Self> {
        // dup(2) fails only for want of descriptors.
        let handle = dir.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        let stat = fstat(&handle)?;
        Ok(Self { handle, stat })
    }

    /// What kind of thing it is: the `S_IFMT` bits of its mode.
    pub(super) fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode) & SFlag::S_IFMT
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == SFlag::S_IFDIR
    }
}

impl Opener {
    pub(super) fn new(tree: Tree) -> Self {
        Self { tree, pauses: PAUSES_IN_ALL }
    }

    pub(super) fn tree(&self) -> Tree {
        self.tree
    }

    /// Takes hold of an entry. `O_PATH` opens nothing: no pipe, device or lease makes it wait,
    /// and of a link it takes the link. A mount in a sandbox's tree is `EXDEV`.
    pub(super) fn hold(&self, dir: &Held, name: &OsStr) -> nix::Result<Held> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = match self.tree {
            Tree::Own => openat(&dir.handle, name, flags, Mode::empty())?,
            Tree::Sandbox => {
                let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
                let how = OpenHow::new().flags(flags).resolve(resolve);
                self.insist(dir, Mode::S_IXUSR, || openat2(&dir.handle, name, how))?
            }
        };
        let stat = fstat(&handle)?;
        Ok(Held { handle, stat })
    }

    /// Opens a directory for reading.
    pub(super) fn list(&self, dir: &Held) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        self.insist(dir, Mode::S_IRUSR | Mode::S_IXUSR, || {
            openat(&dir.handle, ".", flags, Mode::empty())
        })
    }

    /// Opens a regular file for reading. `EAGAIN` where somebody holds a write lease on it and
    /// does not give it back at once (fcntl(2)).
    pub(super) fn read(&mut self, file: &Held) -> nix::Result<File> {
        // An O_PATH descriptor can be opened again only by its name in /proc, which is that of
        // this very file.
        let name = name_of(file.handle.as_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let mut pauses = PAUSES.min(self.pauses);
        loop {
            let opened = self
                .insist(file, Mode::S_IRUSR, || open(name.as_str(), flags, Mode::empty()))
                .map(File::from);
            if opened.as_ref().err() != Some(&Errno::EAGAIN) || pauses == 0 {
                return opened;
            }
            pauses -= 1;
            self.pauses -= 1;
            std::thread::sleep(PAUSE);
        }
    }

    /// Does something that its owner needs `rights` for. If they are missing on a sandbox's
    /// entry that is ours, they are given for just that long.
    fn insist<T>(
        &self,
        held: &Held,
        rights: Mode,
        act: impl Fn() -> nix::Result<T>,
    ) -> nix::Result<T> {
        for _ in 0..CHMOD_TRIES {
            let done = act();
            if self.tree == Tree::Own || done.as_ref().err() != Some(&Errno::EACCES) {
                return done;
            }
            let stat = fstat(&held.handle)?;
            if stat.st_uid != geteuid().as_raw() {
                return done;
            }
            let mode = Mode::from_bits_truncate(stat.st_mode);
            // chmod(2) cannot refuse a link and fchmod(2) refuses O_PATH.
            let name = name_of(held.handle.as_fd());
            let chmod = |to| fchmodat(AT_FDCWD, name.as_str(), to, FchmodatFlags::FollowSymlink);
            if chmod(mode | rights).is_err() {
                return done;
            }
            let done = act();
            // It was just possible; if it no longer is, somebody else changes it.
            let _ = chmod(mode);
            if done.as_ref().err() != Some(&Errno::EACCES) {
                return done;
            }
        }
        Err(Errno::EACCES)
    }
}

fn name_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
