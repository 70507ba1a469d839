//! The directory that a command runs in: found and made by descriptor, so that
//! no link on the way leads out of the sandbox.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};

use super::dir::give;
use crate::policy::Inside;

/// Why a working directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WorkdirError {
    /// Something on the way is no directory.
    #[error("the working directory {0} is not a directory")]
    NotADirectory(String),
    /// A link on the way leads out of the sandbox.
    #[error("the working directory {0} leads out of the sandbox through a link")]
    LeadsOut(String),
    /// The kernel refused.
    #[error("cannot use the working directory {0}: {1}")]
    Os(String, Errno),
}

/// Makes sure that a directory exists, and says whether it had to be made. What
/// is made belongs to `owner`, where that is not the daemon's own user.
///
/// # Errors
/// Why it cannot be used.
pub fn ensure(
    sandbox: BorrowedFd<'_>,
    inside: &Inside,
    owner: Option<u32>,
) -> Result<bool, WorkdirError> {
    let shown = || String::from_utf8_lossy(&inside.display_path()).into_owned();
    let error = |errno| {
        if errno == Errno::ENOTDIR {
            WorkdirError::NotADirectory(shown())
        } else if matches!(errno, Errno::EXDEV | Errno::ELOOP) {
            WorkdirError::LeadsOut(shown())
        } else {
            WorkdirError::Os(shown(), errno)
        }
    };
    let name = inside.root().host_name();
    let (top, mut made) = match open_top(sandbox, name) {
        Err(Errno::ENOENT) => {
            make(sandbox, name.as_ref(), Mode::S_IRWXU, owner).map_err(error)?;
            (open_top(sandbox, name).map_err(error)?, true)
        }
        other => (other.map_err(error)?, false),
    };
    if inside.rest().as_os_str().is_empty() {
        return Ok(made);
    }
    match open_beneath(top.as_fd(), inside.rest()) {
        Ok(_) => return Ok(made),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(error(errno)),
    }
    // From the top each time: a link on the way may lead back up, as long as it stays inside.
    let mut parent = PathBuf::new();
    for name in inside.rest() {
        let whole = parent.join(name);
        match open_beneath(top.as_fd(), &whole) {
            Ok(_) => {}
            Err(Errno::ENOENT) => {
                make_beneath(top.as_fd(), &parent, name, owner).map_err(error)?;
                open_beneath(top.as_fd(), &whole).map_err(error)?;
                made = true;
            }
            Err(errno) => return Err(error(errno)),
        }
        parent = whole;
    }
    Ok(made)
}

fn open_top(sandbox: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(sandbox, name, flags, Mode::empty())
}

fn open_beneath(top: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(top, path, how) {
            // openat2(2): a rename elsewhere made it impossible to tell; ask again.
            Err(Errno::EAGAIN) => {}
            other => return other,
        }
    }
}

fn make_beneath(
    top: BorrowedFd<'_>,
    parent: &Path,
    name: &OsStr,
    owner: Option<u32>,
) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(0o755);
    if parent.as_os_str().is_empty() {
        make(top, name, mode, owner)
    } else {
        make(open_beneath(top, parent)?.as_fd(), name, mode, owner)
    }
}

fn make(parent: BorrowedFd<'_>, name: &OsStr, mode: Mode, owner: Option<u32>) -> Result<(), Errno> {
    match mkdirat(parent, name, mode) {
        Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
        Ok(()) => owner.map_or(Ok(()), |uid| give(parent, name, uid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod root_only {
        use std::fs::{self, File};
        use std::os::unix::fs::MetadataExt;

        use super::*;
        use crate::policy::{PathUse, RootNames, decide};

        #[test]
        fn what_is_made_for_a_sandbox_is_the_sandboxes() {
            const UID: u32 = 1_879_048_192;
            let dir = tempfile::tempdir().unwrap();
            let handle = File::open(dir.path()).unwrap();
            let ensure = |path: &[u8], owner| {
                let names = RootNames::with_host_dir(dir.path()).unwrap();
                let place = decide(path, PathUse::Directory, &names).unwrap();
                ensure(handle.as_fd(), &place, owner).unwrap()
            };
            let owner = |name: &str| {
                let meta = fs::symlink_metadata(dir.path().join(name)).unwrap();
                (meta.uid(), meta.gid(), meta.mode() & 0o7777)
            };
            // The top was removed, too.
            assert!(ensure(b"/workspace/a/b", Some(UID)));
            assert_eq!(owner("workspace"), (UID, UID, 0o700));
            assert_eq!((owner("workspace/a").0, owner("workspace/a/b").0), (UID, UID));
            // What was there stays whose it was.
            fs::create_dir(dir.path().join("workspace/roots")).unwrap();
            assert!(ensure(b"/workspace/roots/c", Some(UID)));
            assert_eq!((owner("workspace/roots").0, owner("workspace/roots/c").0), (0, UID));
            assert!(ensure(b"/tmp/d", None));
            assert_eq!((owner("tmp").0, owner("tmp/d").0), (0, 0));
        }
    }
}
