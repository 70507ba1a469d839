//! Numbers held against every other daemon of the machine: number N by a lock
//! on byte N of an empty file. Byte 0, a number that no sandbox has, is whose
//! turn it is to look for free ones.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_UNLCK, F_WRLCK, O_NOFOLLOW, SEEK_SET, c_int, flock};

use super::UidError;

const TURN: u32 = 0;

#[derive(Debug)]
pub(super) struct Locks {
    path: PathBuf,
    file: File,
}

impl Locks {
    pub(super) fn open(path: PathBuf) -> Result<Self, UidError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(O_NOFOLLOW)
            .open(&path);
        match file {
            Ok(file) => Ok(Self { path, file }),
            Err(e) => Err(UidError::Io(path, e)),
        }
    }

    /// Takes a number. `false` where another daemon has it.
    pub(super) fn try_lock(&self, uid: u32) -> Result<bool, UidError> {
        self.check()?;
        match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&byte(F_WRLCK, uid))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(self.error(errno.into())),
        }
    }

    /// Gives a number back. Where the kernel refuses, the daemon's end does it.
    pub(super) fn unlock(&self, uid: u32) {
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&byte(F_UNLCK, uid)));
    }

    /// Waits for this daemon's turn, which lasts as long as the answer lives.
    pub(super) fn turn(&self) -> Result<Turn<'_>, UidError> {
        loop {
            match fcntl(&self.file, FcntlArg::F_OFD_SETLKW(&byte(F_WRLCK, TURN))) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.error(errno.into())),
            }
        }
        let turn = Turn(self);
        self.check()?;
        Ok(turn)
    }

    /// A lock on a file that others no longer see keeps nobody out.
    fn check(&self) -> Result<(), UidError> {
        let ours = self.file.metadata().map_err(|e| self.error(e))?;
        let there = fs::symlink_metadata(&self.path).ok();
        if there.is_some_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            Ok(())
        } else {
            Err(UidError::Replaced(self.path.clone()))
        }
    }

    fn error(&self, error: io::Error) -> UidError {
        UidError::Io(self.path.clone(), error)
    }
}

/// A daemon's turn.
#[derive(Debug)]
pub(super) struct Turn<'a>(&'a Locks);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.unlock(TURN);
    }
}

fn byte(kind: c_int, uid: u32) -> flock {
    // The constants are of other types elsewhere; all fit.
    #[allow(clippy::cast_possible_truncation)]
    let (l_type, l_whence) = (kind as i16, SEEK_SET as i16);
    flock { l_type, l_whence, l_start: i64::from(uid), l_len: 1, l_pid: 0 }
}
