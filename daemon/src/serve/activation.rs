//! The socket that a service manager handed over: the daemon did not make it, so it neither probes,
//! chmods nor removes it, and is found where that manager has bound it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::listen::is_trusted;

/// Why a socket that was handed over is not the daemon's.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// It has no name, an abstract one, or one that depends on where its maker stood.
    #[error(
        "the socket that was handed over is not bound to an absolute path, where clients would find \
         it: use ListenStream= with one in the socket unit"
    )]
    NoPath,
    /// The command line wants another one.
    #[error(
        "--socket {told} is not the socket that was handed over, {handed}: leave --socket out, or \
         change ListenStream= in the socket unit"
    )]
    Another {
        /// What `--socket` says.
        told: PathBuf,
        /// Where the socket is.
        handed: PathBuf,
    },
    /// Others could replace the socket.
    #[error("{0} can be written by other users: use DirectoryMode=0700 in the socket unit")]
    Exposed(PathBuf),
    /// The kernel refused.
    #[error("cannot use the socket that was handed over: {0}")]
    Io(#[source] io::Error),
}

/// Where the socket is, by getsockname(2). `told` is what the command line wants.
///
/// # Errors
/// Why the daemon cannot listen there.
pub fn path_of(
    handed: &UnixListener,
    told: Option<&Path>,
    uid: u32,
) -> Result<PathBuf, ActivationError> {
    let address = handed.local_addr().map_err(ActivationError::Io)?;
    let path = address.as_pathname().filter(|path| path.is_absolute());
    let path = path.ok_or(ActivationError::NoPath)?.to_owned();
    if let Some(told) = told
        && !is_same(told, &path)
    {
        return Err(ActivationError::Another { told: told.to_owned(), handed: path });
    }
    // What is bound has a name in a directory, or it has none at all.
    let parent = path.parent().unwrap_or(&path);
    if !is_trusted(parent, uid).map_err(ActivationError::Io)? {
        return Err(ActivationError::Exposed(parent.to_owned()));
    }
    // As accepting in a runtime wants it.
    handed.set_nonblocking(true).map_err(ActivationError::Io)?;
    Ok(path)
}

/// Whether both names lead to one file: `/var/run` is `/run`.
fn is_same(told: &Path, handed: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    told == handed || file(told).is_some_and(|told| file(handed) == Some(told))
}
