//! The three places of a sandbox, reached by descriptors. Code inside may be
//! changing them this very moment, so nothing that was looked at is looked up
//! again by its name: every step goes from a directory that is held.
//!
//! A link leads where it leads inside the sandbox. The kernel follows those
//! that stay in their place (openat2(2), `RESOLVE_BENEATH`); one that is absolute
//! or crosses from place to place is read, and its target decided upon as any path.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};

use super::FileError;
use crate::policy::{Inside, PathUse, RootNames, decide};
use crate::sandbox::Sandbox;
use crate::sandbox::dir::{give_held, just_made};

/// Links that are followed on the way to a file; path_resolution(7) has the same number.
const MOST_LINKS: usize = 40;

/// How often a lookup is begun anew that was disturbed by renames.
const MOST_TRIES: usize = 100;

/// The mode of a directory that is made on the way to a file.
const ON_THE_WAY: Mode = Mode::from_bits_truncate(0o755);

/// A sandbox's places, for one file operation.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The sandbox's own directory, which code inside does not reach.
    pub(super) sandbox: BorrowedFd<'a>,
    /// By which names the places are known.
    pub(super) names: &'a RootNames,
    /// Whom things belong to that are made, where that is not the daemon's own user.
    pub(super) owner: Option<u32>,
}

/// What a lookup does with a link in the last place of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastLink {
    Follow,
    Keep,
}

/// A path as the sandbox names it, for people.
pub(super) fn shown(inside: &Inside) -> String {
    String::from_utf8_lossy(&inside.display_path()).into_owned()
}

pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

impl<'a> Places<'a> {
    /// Those of a sandbox.
    pub fn of(sandbox: &'a Sandbox, names: &'a RootNames) -> Self {
        Self { sandbox: sandbox.dir.fd(), names, owner: sandbox.host_uid() }
    }

    /// Where a path leads that a caller named.
    ///
    /// # Errors
    /// Where it has a NUL byte.
    pub fn decide(&self, path: &[u8], used_as: PathUse) -> Result<Inside, FileError> {
        decide(path, used_as, self.names).map_err(|e| FileError::Invalid(format!("the path {e}")))
    }

    /// Takes hold of what a path leads to, without opening it (`O_PATH`): nothing
    /// stalls here, whatever it is.
    pub(super) fn hold(&self, inside: &Inside, last: LastLink) -> Result<OwnedFd, FileError> {
        let lost = |errno| FileError::of("reach", &shown(inside), errno);
        let place = self.open_place(inside).map_err(lost)?;
        if inside.rest().as_os_str().is_empty() {
            return Ok(place);
        }
        match beneath(place.as_fd(), inside, last) {
            Err(Errno::EXDEV) => {
                let real = self.without_links(inside, last)?;
                if real.rest().as_os_str().is_empty() {
                    return self.open_place(&real).map_err(lost);
                }
                let place = self.open_place(&real).map_err(lost)?;
                beneath(place.as_fd(), &real, last).map_err(lost)
            }
            held => held.map_err(lost),
        }
    }

    /// The same for a directory.
    pub(super) fn hold_directory(&self, inside: &Inside) -> Result<OwnedFd, FileError> {
        let held = self.hold(inside, LastLink::Follow)?;
        let stat = fstat(&held).map_err(|e| FileError::of("look at", &shown(inside), e))?;
        if kind(&stat) == SFlag::S_IFDIR {
            Ok(held)
        } else {
            Err(FileError::NotADirectory(shown(inside)))
        }
    }

    /// The same for a directory that is made where it is missing, with those above it. Says whether it was.
    pub(crate) fn make_directory(&self, inside: &Inside) -> Result<(OwnedFd, bool), FileError> {
        match self.hold_directory(inside) {
            Err(FileError::NotFound(_)) => {}
            held => return Ok((held?, false)),
        }
        let Some((parent, name)) = inside.split() else {
            self.make(self.sandbox, inside.root().host_name().as_ref(), Mode::S_IRWXU)
                .map_err(|e| FileError::of("make", &shown(inside), e))?;
            return Ok((self.hold_directory(inside)?, true));
        };
        let (parent, _) = self.make_directory(&parent)?;
        match self.make(parent.as_fd(), name, ON_THE_WAY) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(FileError::of("make", &shown(inside), errno)),
        }
        match self.hold_directory(inside) {
            // Its name is there: a link to nothing.
            Err(FileError::NotFound(_)) => Err(FileError::NotADirectory(shown(inside))),
            held => Ok((held?, true)),
        }
    }

    /// Makes one directory in one that is held.
    pub(super) fn make(&self, parent: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> nix::Result<()> {
        mkdirat(parent, name, mode)?;
        let made = just_made(parent, name)?;
        // mkdir(2) takes from the mode what the daemon's umask has.
        fchmod(&made, mode)?;
        self.owner.map_or(Ok(()), |uid| give_held(&made, uid))
    }

    /// Takes hold of the directory that an entry is in or is to be in, and gives its name there.
    pub(super) fn hold_parent(
        &self,
        inside: &Inside,
        missing: Missing,
    ) -> Result<(OwnedFd, OsString), FileError> {
        let (parent, name) = inside.split().ok_or_else(|| FileError::IsPlace(shown(inside)))?;
        let parent = match missing {
            Missing::Make => self.make_directory(&parent)?.0,
            Missing::Fail => self.hold_directory(&parent)?,
        };
        Ok((parent, name.to_owned()))
    }

    /// The same entry by a path that has no link on the way.
    pub(super) fn without_links(
        &self,
        inside: &Inside,
        last: LastLink,
    ) -> Result<Inside, FileError> {
        let mut real = inside.clone();
        for _ in 0..MOST_LINKS {
            match self.first_link(&real, last)? {
                None => return Ok(real),
                Some(target) => {
                    real = self.decide(&target, PathUse::Directory)?;
                    if real.redirected() {
                        return Err(FileError::LeadsOut(shown(inside)));
                    }
                }
            }
        }
        Err(FileError::TooManyLinks(shown(inside)))
    }

    /// The path with its first link replaced by where that leads; `None` where it has none.
    fn first_link(&self, inside: &Inside, last: LastLink) -> Result<Option<Vec<u8>>, FileError> {
        let lost = |errno| FileError::of("reach", &shown(inside), errno);
        let mut held = self.open_place(inside).map_err(lost)?;
        let mut walked = inside.root().path().as_bytes().to_vec();
        let mut names = inside.rest().iter();
        while let Some(name) = names.next() {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let entry = openat(&held, name, flags, Mode::empty()).map_err(lost)?;
            let is_link = kind(&fstat(&entry).map_err(lost)?) == SFlag::S_IFLNK;
            let rest = names.as_path().as_os_str().as_bytes();
            if is_link && !(rest.is_empty() && last == LastLink::Keep) {
                // An empty name is the link that is held (readlinkat(2)).
                let target = readlinkat(&entry, "").map_err(lost)?;
                let target = target.as_bytes();
                if target.starts_with(b"/") && !self.names.means_own(target) {
                    return Err(FileError::LeadsOut(shown(inside)));
                }
                let mut path = if target.starts_with(b"/") { Vec::new() } else { walked };
                path.push(b'/');
                path.extend_from_slice(target);
                path.push(b'/');
                path.extend_from_slice(rest);
                return Ok(Some(path));
            }
            walked.push(b'/');
            walked.extend_from_slice(name.as_bytes());
            held = entry;
        }
        Ok(None)
    }

    fn open_place(&self, inside: &Inside) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.sandbox, inside.root().host_name(), flags, Mode::empty())
    }
}

/// What is done where a directory on the way is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Fail,
}

fn beneath(place: BorrowedFd<'_>, inside: &Inside, last: LastLink) -> nix::Result<OwnedFd> {
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    if last == LastLink::Keep {
        flags |= OFlag::O_NOFOLLOW;
    }
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut tries = 0;
    loop {
        match openat2(place, inside.rest(), how) {
            // openat2(2): a rename elsewhere made it impossible to tell.
            Err(Errno::EAGAIN) if tries < MOST_TRIES => tries += 1,
            held => return held,
        }
    }
}

/// Opens a regular file that is held. It is known for one before, so that no named
/// pipe or device is ever opened; a lease on it makes this fail at once (open(2), `O_NONBLOCK`).
///
/// # Errors
/// Where it is something else, is leased, or its mode forbids it.
pub(super) fn open_file(held: &OwnedFd, how: OFlag, path: &str) -> Result<OwnedFd, FileError> {
    let stat = fstat(held).map_err(|e| FileError::of("look at", path, e))?;
    match kind(&stat) {
        SFlag::S_IFREG => {}
        SFlag::S_IFDIR => return Err(FileError::IsADirectory(path.to_owned())),
        _ => return Err(FileError::NotAFile(path.to_owned())),
    }
    // The name in /proc is that of this very file.
    let name = format!("/proc/self/fd/{}", held.as_raw_fd());
    let flags = how | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(name.as_str(), flags, Mode::empty()).map_err(|errno| match errno == Errno::EAGAIN {
        true => FileError::Leased(path.to_owned()),
        false => FileError::of("open", path, errno),
    })
}

#[cfg(test)]
mod tests;
