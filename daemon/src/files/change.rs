//! Making, removing and renaming. Of a link, the link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use noxrunner_protocol::types::FileChanged;

use super::FileError;
use super::places::{Missing, Places, kind, shown};
use super::staging::Staging;
use crate::policy::Inside;
use crate::tree::{self, TreeError};

/// Permission bits of a directory that is made.
const NEW_DIRECTORY: Mode = Mode::from_bits_truncate(0o755);

/// Makes a directory. With `parents`, those above it too, and one that exists will do.
///
/// # Errors
/// Why not.
pub fn mkdir(
    places: &Places<'_>,
    inside: &Inside,
    parents: bool,
) -> Result<FileChanged, FileError> {
    if parents {
        places.make_directory(inside)?;
    } else {
        if inside.split().is_none() {
            // The places themselves are always there.
            return Err(FileError::Exists(shown(inside)));
        }
        let (parent, name) = places.hold_parent(inside, Missing::Fail)?;
        let made = places.make(parent.as_fd(), &name, NEW_DIRECTORY);
        made.map_err(|errno| FileError::of("make", &shown(inside), errno))?;
    }
    Ok(FileChanged { redirected: inside.redirected() })
}

/// Removes an entry. A directory with something in it goes at once, by a rename, and is emptied out of reach.
///
/// # Errors
/// Why not; of a directory some may be gone then.
pub fn remove(
    places: &Places<'_>,
    inside: &Inside,
    recursive: bool,
) -> Result<FileChanged, FileError> {
    let path = shown(inside);
    let failed = |errno| FileError::of("remove", &path, errno);
    let (parent, name) = places.hold_parent(inside, Missing::Fail)?;
    let (parent, name) = (parent.as_fd(), name.as_os_str());
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
    let flag = match kind(&stat) == SFlag::S_IFDIR {
        true => UnlinkatFlags::RemoveDir,
        false => UnlinkatFlags::NoRemoveDir,
    };
    match unlinkat(parent, name, flag) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) if recursive => {
            remove_tree(places, parent, name, &path)?
        }
        done => done.map_err(failed)?,
    }
    Ok(FileChanged { redirected: inside.redirected() })
}

fn remove_tree(
    places: &Places<'_>,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &str,
) -> Result<(), FileError> {
    let staging = Staging::new(places.sandbox)?;
    let removed = match renameat(parent, name, staging.fd(), name) {
        Ok(()) => tree::remove_tree(staging.fd(), name, OsStr::new("")),
        // A directory that gets another parent must itself be writable (rename(2)).
        Err(Errno::EACCES) => tree::remove_tree(parent, name, OsStr::new("")),
        Err(errno) => return Err(FileError::of("remove", path, errno)),
    };
    removed.map_err(|error| of_tree(error, path))
}

fn of_tree(error: TreeError, path: &str) -> FileError {
    let errno = match error {
        TreeError::NotADirectory { .. } => Errno::ENOTDIR,
        TreeError::MountPoint { .. } => Errno::EBUSY,
        TreeError::StillFilled { .. } => Errno::ENOTEMPTY,
        TreeError::Io { errno, .. } => errno,
    };
    FileError::of("remove", path, errno)
}

/// Renames an entry, within a place or from one to another. What is at `to` is replaced as rename(2) does it.
///
/// # Errors
/// Why not; then nothing has changed.
pub fn rename(places: &Places<'_>, from: &Inside, to: &Inside) -> Result<FileChanged, FileError> {
    let (old_parent, old_name) = places.hold_parent(from, Missing::Fail)?;
    let (new_parent, new_name) = places.hold_parent(to, Missing::Fail)?;
    match renameat(&old_parent, old_name.as_os_str(), &new_parent, new_name.as_os_str()) {
        Ok(()) => Ok(FileChanged { redirected: from.redirected() || to.redirected() }),
        Err(Errno::EINVAL) => Err(FileError::Invalid(format!(
            "{} cannot be moved into itself, to {}",
            shown(from),
            shown(to)
        ))),
        Err(Errno::ENOENT) => Err(FileError::NotFound(shown(from))),
        Err(errno) => Err(FileError::of("rename", &shown(to), errno)),
    }
}
