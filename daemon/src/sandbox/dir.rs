//! A sandbox's directory: made under a name nobody can guess, locked for as
//! long as its daemon lives, removed with everything in it.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat};
use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};
use noxrunner_protocol::SessionId;

use crate::policy::{Inside, Root};
use crate::tree::{self, TreeError};
use crate::uids::HostUid;

/// How every sandbox's directory begins, the Python tool's too.
pub const PREFIX: &str = "noxrunner_sandbox_";

/// The mode of a sandbox's directory: nobody else's.
pub const PRIVATE: u32 = 0o700;

/// The same where the sandbox's own user passes through it to what is in it.
pub const REACHABLE: u32 = 0o711;

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
    owner: Option<HostUid>,
}

impl SandboxDir {
    /// Makes a directory for a new sandbox, with its three places in it. They
    /// belong to `owner` where there is one; the directory itself stays the
    /// daemon's. `reachable` says that the owner comes in by its path, since
    /// the sandbox has no mount tree.
    ///
    /// # Errors
    /// As the file system's. Nothing is left behind then.
    pub fn create(
        base: &Path,
        id: &SessionId,
        owner: Option<HostUid>,
        reachable: bool,
    ) -> io::Result<Self> {
        let made = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}.", id.readable()))
            .rand_bytes(RANDOM)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(base)?;
        // Waited for: a sweep that looks at a directory this new lets go at once.
        let lock = Self::lock(made.path(), FlockArg::LockExclusive)?;
        for place in Root::ALL {
            let name: &OsStr = place.host_name().as_ref();
            mkdirat(&*lock, name, Mode::S_IRWXU)?;
            if let Some(owner) = &owner {
                give(lock.as_fd(), name, owner.get())?;
            }
        }
        let dir = Self { path: made.path().to_owned(), lock, owner };
        dir.set_mode(reachable)?;
        let _ = made.keep();
        Ok(dir)
    }

    /// Gives it another name, for another session. What is open or mounted of it stays so.
    ///
    /// # Errors
    /// As rename(2); then it keeps its name.
    pub fn rename(&mut self, id: &SessionId) -> io::Result<()> {
        let base = self.path.parent().unwrap_or(Path::new("/"));
        // An empty directory holds the name until this one takes its place (rename(2)).
        let made = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}.", id.readable()))
            .rand_bytes(RANDOM)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(base)?;
        std::fs::rename(&self.path, made.path())?;
        self.path = made.keep();
        Ok(())
    }

    /// Takes over a directory that is there.
    ///
    /// # Errors
    /// `EWOULDBLOCK` where another daemon has it, `ELOOP` or `ENOTDIR` where the name is no directory.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let lock = Self::lock(&path, FlockArg::LockExclusiveNonblock)?;
        Ok(Self { path, lock, owner: None })
    }

    /// Notes whose its places are, as they were found.
    pub fn owned_by(&mut self, owner: HostUid) {
        self.owner = Some(owner);
    }

    /// Gives the directory itself the mode that it has here: an earlier daemon
    /// may have isolated its sandboxes in another way.
    ///
    /// # Errors
    /// As the file system's.
    pub fn set_mode(&self, reachable: bool) -> io::Result<()> {
        let mode = if self.owner.is_some() && reachable { REACHABLE } else { PRIVATE };
        Ok(fchmod(&*self.lock, Mode::from_bits_truncate(mode))?)
    }

    /// The user and group that its places belong to, where they are not the daemon's own.
    pub fn uid(&self) -> Option<u32> {
        self.owner.as_ref().map(HostUid::get)
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

/// Gives a directory that this daemon has just made to a sandbox's user and
/// group. Never a link, nor anything else that may have taken its place: code
/// in the sandbox can exchange names, but cannot make what belongs to the daemon.
///
/// # Errors
/// As the file system's; `ENOTDIR` or `ELOOP` where it is no directory any more.
pub fn give(parent: BorrowedFd<'_>, name: &OsStr, uid: u32) -> Result<(), Errno> {
    give_held(&just_made(parent, name)?, uid)
}

/// Takes hold of a directory that was just made, or of the one that has taken its place.
///
/// # Errors
/// `ENOTDIR` or `ELOOP` where it is no directory any more.
pub fn just_made(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// The same as [`give`], for one that is held.
///
/// # Errors
/// As the file system's.
pub fn give_held(dir: &OwnedFd, uid: u32) -> Result<(), Errno> {
    if fstat(dir)?.st_uid != geteuid().as_raw() {
        return Ok(());
    }
    fchown(dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))
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
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::uids::Uids;

    fn create(base: &Path, id: &str, owner: Option<HostUid>) -> SandboxDir {
        SandboxDir::create(base, &id.parse().unwrap(), owner, true).unwrap()
    }

    fn owner_and_mode(path: &Path) -> (u32, u32, u32) {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    }

    #[test]
    fn without_a_user_of_its_own_everything_is_private() {
        let base = tempfile::tempdir().unwrap();
        let made = create(base.path(), "s", None);
        assert_eq!(made.uid(), None);
        let (uid, gid) = (geteuid().as_raw(), nix::unistd::getegid().as_raw());
        for place in ["", "workspace", "home", "tmp"] {
            assert_eq!(owner_and_mode(&made.path().join(place)), (uid, gid, 0o700), "{place}");
        }
    }

    mod root_only {
        use super::*;

        #[test]
        fn the_places_are_the_sandboxes_and_the_directory_is_the_daemons() {
            let (base, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let range = "1879048192-1879049191".parse().unwrap();
            let uids = Uids::open(&state.path().join("state"), range, base.path()).unwrap();
            let made = create(base.path(), "s", Some(uids.reserve().unwrap()));
            let uid = made.uid().unwrap();
            assert!(range.contains(uid));
            for place in ["workspace", "home", "tmp"] {
                assert_eq!(owner_and_mode(&made.path().join(place)), (uid, uid, 0o700), "{place}");
            }
            assert_eq!(owner_and_mode(made.path()), (0, 0, 0o711));
            made.set_mode(false).unwrap();
            assert_eq!(owner_and_mode(made.path()), (0, 0, 0o700));
        }

        #[test]
        fn only_a_directory_of_the_daemons_own_is_given_away() {
            let dir = tempfile::tempdir().unwrap();
            let inside = |name: &str| dir.path().join(name);
            let handle = File::open(dir.path()).unwrap();
            fs::write(inside("file"), "").unwrap();
            fs::create_dir(inside("theirs")).unwrap();
            std::os::unix::fs::chown(inside("theirs"), Some(7), Some(7)).unwrap();
            std::os::unix::fs::symlink(inside("target"), inside("link")).unwrap();
            fs::create_dir(inside("target")).unwrap();
            let give = |name: &str| give(handle.as_fd(), name.as_ref(), 1_879_048_192);
            assert_eq!(give("file"), Err(Errno::ENOTDIR));
            assert!(matches!(give("link"), Err(Errno::ENOTDIR | Errno::ELOOP)));
            assert_eq!(give("theirs"), Ok(()));
            for (name, uid) in [("file", 0), ("target", 0), ("theirs", 7)] {
                assert_eq!(owner_and_mode(&inside(name)).0, uid, "{name}");
            }
            assert_eq!(give("target"), Ok(()));
            assert_eq!(owner_and_mode(&inside("target")).0, 1_879_048_192);
        }
    }

    #[test]
    fn our_names_are_told_from_the_python_tools() {
        let base = tempfile::tempdir().unwrap();
        for id in ["a", "a.b/é", "../..", "noxrunner_sandbox_x"] {
            let made = create(base.path(), id, None);
            assert!(is_made_name(&made.name()), "{:?}", made.name());
        }
        for other in ["noxrunner_sandbox_a", "noxrunner_sandbox_a.short", "x.0123456789", ""] {
            assert!(!is_made_name(other.as_ref()), "{other}");
        }
    }
}
