//! The daemon's socket: made in a directory that only its user can write, taken
//! over from a daemon that died, never from one that lives.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Group, chown};

use crate::lock::private_dir;

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A daemon answers there.
    #[error("a daemon is already listening on {0}: use it, or give this one another --socket")]
    InUse(String),
    /// Something that is no socket has the name.
    #[error("{0} exists and is not a socket: remove it, or use another --socket")]
    NotASocket(String),
    /// Others could replace the socket.
    #[error("{0} can be written by other users: use a directory of your own for --socket")]
    Exposed(String),
    /// Another daemon is just starting there.
    #[error("another program keeps {0} locked: try again")]
    Busy(String),
    /// The path does not fit into an address (unix(7): 107 bytes).
    #[error("the path {0} is too long for a socket: use a shorter --socket")]
    TooLong(String),
    /// The kernel refused.
    #[error("cannot listen on {0}: {1}")]
    Io(String, #[source] io::Error),
}

/// A bound socket. Its file goes when this is dropped, unless another daemon has replaced it.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    identity: Identity,
}

/// Which file a name leads to. The time tells it from a later one that was given the same number.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> io::Result<Identity> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

/// How long to wait for another daemon that is starting on the same path.
const PATIENCE: Duration = Duration::from_secs(5);

/// Binds the socket, which only its user can use, and the members of a group where one is given.
///
/// # Errors
/// Why it cannot be had. What is there then stays as it is.
pub fn bind(
    path: &Path,
    uid: u32,
    group: Option<&Group>,
) -> Result<(UnixListener, Bound), ListenError> {
    let shown = || path.display().to_string();
    let io_error = |e| ListenError::Io(shown(), e);
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    check_parent(parent, uid, group).map_err(|e| match e {
        Some(e) => io_error(e),
        None => ListenError::Exposed(parent.display().to_string()),
    })?;
    // Who probes and who replaces take turns.
    let _turn = take_turn(parent).map_err(|e| {
        let busy = e.kind() == io::ErrorKind::WouldBlock;
        if busy { ListenError::Busy(parent.display().to_string()) } else { io_error(e) }
    })?;
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io_error(e)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(ListenError::NotASocket(shown())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(ListenError::InUse(shown())),
            // Nobody listens: left by a daemon that was killed.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(io_error)?;
            }
            Err(e) => return Err(io_error(e)),
        },
    }
    let listener = UnixListener::bind(path).map_err(|e| {
        let too_long = e.kind() == io::ErrorKind::InvalidInput;
        if too_long { ListenError::TooLong(shown()) } else { io_error(e) }
    })?;
    share(path, group, 0o600).map_err(io_error)?;
    if let Some(group) = group
        && let Some(shut) = parent.ancestors().find(|dir| !passes(dir, group))
    {
        let (group, dir) = (&group.name, shut.display());
        tracing::warn!(
            "members of the group {group} cannot reach the socket through {dir}: \
             chgrp {group} {dir} && chmod g+x {dir}, or use another --socket"
        );
    }
    let identity = identity(path).map_err(io_error)?;
    let bound = Bound { path: path.to_owned(), identity };
    listener.set_nonblocking(true).map_err(io_error)?;
    Ok((listener, bound))
}

/// Makes the socket's directory where it is missing. `Err(None)`: others can write it.
fn check_parent(parent: &Path, uid: u32, group: Option<&Group>) -> Result<(), Option<io::Error>> {
    if !parent.exists() {
        let grandparent = parent.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(grandparent) = grandparent
            && !grandparent.exists()
        {
            fs::create_dir_all(grandparent).map_err(Some)?;
        }
        return match private_dir(parent, uid).map_err(Some)? {
            true => share(parent, group, 0o700).map_err(Some),
            false => Err(None),
        };
    }
    if is_trusted(parent, uid).map_err(Some)? { Ok(()) } else { Err(None) }
}

/// Whether nobody but this user and root can replace what is in a directory.
pub(super) fn is_trusted(directory: &Path, uid: u32) -> io::Result<bool> {
    let meta = fs::metadata(directory)?;
    let sticky = meta.mode() & 0o1000 != 0;
    Ok((meta.uid() == uid || meta.uid() == 0) && (meta.mode() & 0o022 == 0 || sticky))
}

/// Gives the owner's directory or socket this mode; a group that is to share it may
/// look into the one and write to the other.
fn share(path: &Path, group: Option<&Group>, mode: u32) -> io::Result<()> {
    let mode = match group {
        // First, as else it would be another group that may.
        Some(group) => {
            chown(path, None, Some(group.gid))?;
            // The socket's 0660, the directory's 0750.
            mode | if mode & 0o100 == 0 { 0o060 } else { 0o050 }
        }
        None => mode,
    };
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Whether members of the group may pass through a directory.
fn passes(dir: &Path, group: &Group) -> bool {
    // The one that a relative path begins in has no name.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let may = |meta: fs::Metadata| {
        let bit = if meta.gid() == group.gid.as_raw() { 0o010 } else { 0o001 };
        meta.mode() & bit != 0
    };
    dir.metadata().is_ok_and(may)
}

fn take_turn(parent: &Path) -> io::Result<Flock<File>> {
    let deadline = Instant::now() + PATIENCE;
    let mut dir = File::open(parent)?;
    loop {
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Ok(turn),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                dir = back;
                // flock(2) knows no deadline.
                std::thread::sleep(Duration::from_millis(10));
            }
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|current| current == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_socket_is_kept_a_dead_one_replaced_and_ours_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/s.sock");
        let uid = nix::unistd::geteuid().as_raw();
        let (listener, bound) = bind(&path, uid, None).unwrap();
        let mode = |p: &Path| fs::symlink_metadata(p).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(matches!(bind(&path, uid, None), Err(ListenError::InUse(_))));
        drop(listener);
        let (_listener, second) = bind(&path, uid, None).unwrap();
        drop(bound);
        assert!(path.exists(), "the first daemon removed the second's socket");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn other_things_at_the_path_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "precious").unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        assert!(matches!(bind(&path, uid, None), Err(ListenError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(bind(&open.join("s"), uid, None), Err(ListenError::Exposed(_))));
        let long = dir.path().join("x".repeat(120));
        assert!(matches!(bind(&long, uid, None), Err(ListenError::TooLong(_))));
    }
}
