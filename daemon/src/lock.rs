//! One daemon for each user and base directory.
//!
//! The lock is a file in a directory of the user's own in the base directory,
//! under a BSD lock (flock(2)) for the daemon's life. It holds the path of the
//! daemon's socket, so that a second daemon can name the first.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::libc::O_NOFOLLOW;

/// Held for the daemon's life. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct BaseLock {
    dir: PathBuf,
    file: PathBuf,
    _lock: Flock<File>,
}

/// Why the base directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon of this user has it.
    #[error(
        "a noxrunnerd of this user already keeps its sandboxes in {base}: it listens on {socket}"
    )]
    Held {
        /// The base directory.
        base: String,
        /// The other daemon's socket.
        socket: String,
    },
    /// The lock's directory is somebody else's.
    #[error(
        "{0} must be a directory of this user's with mode 0700: remove it or choose another --base-dir"
    )]
    Foreign(String),
    /// The kernel refused.
    #[error("cannot lock the base directory with {0}: {1}")]
    Io(String, #[source] io::Error),
}

/// A private directory of a user, made where it is missing. `false` where what is there is not one.
///
/// # Errors
/// As the file system's.
pub fn private_dir(path: &Path, uid: u32) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    let meta = fs::symlink_metadata(path)?;
    Ok(meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0)
}

impl BaseLock {
    /// Takes the lock and writes the socket's path into it. A holder that does
    /// not answer on its socket, since it is just ending, is waited for as long as `patience`.
    /// `handed` says that this process has that socket from a service manager: whoever answers
    /// there is nobody then.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn take(
        base: &Path,
        uid: u32,
        socket: &Path,
        handed: bool,
        patience: Duration,
    ) -> Result<Self, LockError> {
        let dir = base.join(format!("noxrunner-{uid}"));
        let file = dir.join("daemon.lock");
        let error = |e| LockError::Io(file.display().to_string(), e);
        let deadline = Instant::now() + patience;
        loop {
            if !private_dir(&dir, uid).map_err(error)? {
                return Err(LockError::Foreign(dir.display().to_string()));
            }
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(O_NOFOLLOW)
                .open(&file);
            let opened = match opened {
                // A daemon that is just ending took the directory away.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(error)?,
            };
            let mut lock = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((mut held, nix::errno::Errno::EWOULDBLOCK)) => {
                    let holder = holder(&mut held);
                    // One that does not answer is about to listen or about to be gone.
                    let answers =
                        || !(handed && holder == socket) && UnixStream::connect(&holder).is_ok();
                    if answers() || Instant::now() > deadline {
                        let (base, socket) = (base.display(), holder.display());
                        return Err(LockError::Held {
                            base: base.to_string(),
                            socket: socket.to_string(),
                        });
                    }
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
                Err((_, errno)) => return Err(error(errno.into())),
            };
            // A daemon that was just ending may have removed the file that was opened.
            let current = fs::symlink_metadata(&file).map(|m| (m.dev(), m.ino()));
            let ours = lock.metadata().map(|m| (m.dev(), m.ino())).map_err(error)?;
            if !current.is_ok_and(|current| current == ours) {
                continue;
            }
            lock.set_len(0).and_then(|()| lock.rewind()).map_err(error)?;
            lock.write_all(socket.as_os_str().as_bytes()).map_err(error)?;
            return Ok(Self { dir, file, _lock: lock });
        }
    }
}

/// The socket of the daemon that holds the lock; empty where it has only just taken it.
fn holder(file: &mut File) -> PathBuf {
    let mut socket = Vec::new();
    // What cannot be read cannot be named either.
    let _ = file.take(4096).read_to_end(&mut socket);
    PathBuf::from(std::ffi::OsString::from_vec(socket))
}

impl Drop for BaseLock {
    fn drop(&mut self) {
        // While the lock is held, so that nobody else's file is removed.
        let _ = fs::remove_file(&self.file);
        // Stays where the socket lies in it too.
        let _ = fs::remove_dir(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_learns_of_the_first_and_nothing_is_left() {
        let base = tempfile::tempdir().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let first =
            BaseLock::take(base.path(), uid, Path::new("/first"), false, Duration::ZERO).unwrap();
        let error = BaseLock::take(base.path(), uid, Path::new("/second"), false, Duration::ZERO)
            .unwrap_err();
        assert!(matches!(&error, LockError::Held { socket, .. } if socket == "/first"), "{error}");
        drop(first);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
        drop(
            BaseLock::take(base.path(), uid, Path::new("/second"), false, Duration::ZERO).unwrap(),
        );
    }

    #[test]
    fn a_directory_that_others_may_use_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        DirBuilder::new().mode(0o755).create(base.path().join(format!("noxrunner-{uid}"))).unwrap();
        let error =
            BaseLock::take(base.path(), uid, Path::new("/s"), false, Duration::ZERO).unwrap_err();
        assert!(matches!(error, LockError::Foreign(_)), "{error}");
    }
}
