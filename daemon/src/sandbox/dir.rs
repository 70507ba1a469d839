//! A sandbox's directory: made under a name nobody can guess, locked for as
//! long as its daemon lives, removed with everything in it.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use nix::sys::stat::Mode;
use noxrunner_protocol::SessionId;

use crate::policy::{Inside, Root};
use crate::tree::{self, TreeError};

/// How every sandbox's directory begins, the Python tool's too.
pub const PREFIX: &str = "noxrunner_sandbox_";

/// Random characters at the end of a directory's name: 59 bits.
const RANDOM: usize = 10;

/// Whether a name is one that [`SandboxDir::create`] gives.
pub fn is_made_name(name: &OsStr) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let rest = name.as_bytes().strip_prefix(PREFIX.as_bytes());
    let dot =
        rest.and_then(|rest| rest.iter().rposition(|b| *b == b'.').map(|at| rest.split_at(at)));
    dot.is_some_and(|(readable, random)| {
        readable.iter().all(plain)
            && random.len() == RANDOM + 1
            && random[1..].iter().all(u8::is_ascii_alphanumeric)
    })
}

/// A directory that is ours: nobody else's daemon adopts or removes it while this lives.
#[derive(Debug)]
pub struct SandboxDir {
    path: PathBuf,
    // A BSD lock, flock(2): systemd-tmpfiles leaves what is locked so alone, and it goes with the process.
    lock: Flock<File>,
}

impl SandboxDir {
    /// Makes a directory for a new sandbox, mode 0700, with its three places in it.
    ///
    /// # Errors
    /// As the file system's. Nothing is left behind then.
    pub fn create(base: &Path, id: &SessionId) -> io::Result<Self> {
        let made = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}.", id.readable()))
            .rand_bytes(RANDOM)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(base)?;
        // Waited for: a sweep that looks at a directory this new lets go at once.
        let lock = Self::lock(made.path(), FlockArg::LockExclusive)?;
        for place in Root::ALL {
            DirBuilder::new().mode(0o700).create(made.path().join(place.host_name()))?;
        }
        Ok(Self { path: made.keep(), lock })
    }

    /// Takes over a directory that is there.
    ///
    /// # Errors
    /// `EWOULDBLOCK` where another daemon has it, `ELOOP` or `ENOTDIR` where the name is no directory.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let lock = Self::lock(&path, FlockArg::LockExclusiveNonblock)?;
        Ok(Self { path, lock })
    }

    fn lock(path: &Path, how: FlockArg) -> io::Result<Flock<File>> {
        let dir =
            OpenOptions::new().read(true).custom_flags(O_DIRECTORY | O_NOFOLLOW).open(path)?;
        Flock::lock(dir, how).map_err(|(_, errno)| errno.into())
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a place inside is on this machine.
    pub fn host_path(&self, inside: &Inside) -> PathBuf {
        self.path.join(inside.root().host_name()).join(inside.rest())
    }

    /// Its last name.
    pub fn name(&self) -> OsString {
        self.path.file_name().unwrap_or_default().to_owned()
    }

    /// The directory itself, for every look inside.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Removes it with everything in it, the manifest last. Nothing may run in it any more.
    ///
    /// # Errors
    /// What could not be removed. The rest is gone, and the manifest says that the sandbox is not to come back.
    pub fn remove(&self) -> Result<(), TreeError> {
        let base = self.path.parent().unwrap_or(Path::new("/"));
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let base = open(base, flags, Mode::empty()).map_err(|errno| TreeError::Io {
            step: "open",
            name: base.as_os_str().to_owned(),
            errno,
        })?;
        tree::remove_tree(base.as_fd(), &self.name(), super::manifest::NAME.as_ref())
    }
}

/// The bytes of a path as C takes them.
///
/// # Errors
/// `EINVAL` for a path with a NUL, which no file has.
pub fn c_path(path: &Path) -> Result<std::ffi::CString, Errno> {
    std::ffi::CString::new(path.to_path_buf().into_os_string().into_vec())
        .map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_told_from_the_python_tools() {
        let base = tempfile::tempdir().unwrap();
        for id in ["a", "a.b/é", "../..", "noxrunner_sandbox_x"] {
            let made = SandboxDir::create(base.path(), &id.parse().unwrap()).unwrap();
            assert!(is_made_name(&made.name()), "{:?}", made.name());
        }
        for other in ["noxrunner_sandbox_a", "noxrunner_sandbox_a.short", "x.0123456789", ""] {
            assert!(!is_made_name(other.as_ref()), "{other}");
        }
    }
}
