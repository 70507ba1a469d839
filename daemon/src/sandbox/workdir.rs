//! The directory that a command runs in: found and made by descriptor, so that
//! no link on the way leads out of the sandbox.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};

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

/// Makes sure that a directory exists, and says whether it had to be made.
///
/// # Errors
/// Why it cannot be used.
pub fn ensure(sandbox: BorrowedFd<'_>, inside: &Inside) -> Result<bool, WorkdirError> {
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
            mkdirat(sandbox, name, Mode::S_IRWXU).map_err(error)?;
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
                make(top.as_fd(), &parent, name).map_err(error)?;
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

fn make(top: BorrowedFd<'_>, parent: &Path, name: &OsStr) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(0o755);
    let made = if parent.as_os_str().is_empty() {
        mkdirat(top, name, mode)
    } else {
        mkdirat(open_beneath(top, parent)?, name, mode)
    };
    match made {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}
