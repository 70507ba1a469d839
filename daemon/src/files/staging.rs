//! Where things are made before they are moved into place: `staging/` in the
//! sandbox's own directory, on the same file system as its places and out of reach
//! of what runs in it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::FileError;
use crate::tree::{self, TreeError};

const NAME: &str = "staging";

/// Names of what is staged. One daemon owns a sandbox, and its successor begins with an empty directory.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A directory of its own for one operation. Dropping it removes it with what is still in it.
#[derive(Debug)]
pub(super) struct Staging {
    all: OwnedFd,
    own: OwnedFd,
    name: OsString,
}

impl Staging {
    pub(super) fn new(sandbox: BorrowedFd<'_>) -> Result<Self, FileError> {
        let failed = |errno| FileError::of("make", "a staging directory", errno);
        match mkdirat(sandbox, NAME, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let all = directory(sandbox, NAME.as_ref()).map_err(failed)?;
        let name: OsString = SERIAL.fetch_add(1, Ordering::Relaxed).to_string().into();
        mkdirat(&all, name.as_os_str(), Mode::S_IRWXU).map_err(failed)?;
        let own = directory(all.as_fd(), &name).map_err(failed)?;
        Ok(Self { all, own, name })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = tree::remove_tree(self.all.as_fd(), &self.name, OsStr::new("")) {
            tracing::error!(%error, "cannot remove what was staged; the daemon's next start tries again");
        }
    }
}

fn directory(parent: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Removes what a daemon that was killed left staged.
///
/// # Errors
/// What could not be removed.
pub fn clear(sandbox: BorrowedFd<'_>) -> Result<(), TreeError> {
    tree::remove_tree(sandbox, NAME.as_ref(), OsStr::new(""))
}
