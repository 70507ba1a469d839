//! What clients come in by, whatever the sandboxes live on.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group};

use super::{RunError, var};
use crate::config::Config;
use crate::serve::activation;
use crate::serve::listen::{self, Bound};
use crate::serve::tcp::{self, TcpDoor};

/// Where the daemon is to listen.
pub(crate) fn socket_path(
    config: &Config,
    handed: Option<&UnixListener>,
    uid: u32,
) -> Result<PathBuf, RunError> {
    match handed {
        Some(handed) => Ok(activation::path_of(handed, config.told_socket(), uid)?),
        None => {
            let socket = config.socket(var, uid);
            std::path::absolute(&socket).map_err(|e| RunError::Os("name the socket", e))
        }
    }
}

/// What clients come in by.
pub(crate) struct Doors {
    pub(crate) listener: tokio::net::UnixListener,
    /// The socket's file, where it is the daemon's to remove.
    pub(crate) bound: Option<Bound>,
    pub(crate) tcp: Option<TcpDoor>,
    /// Whose members may use the socket too.
    pub(crate) group: Option<Group>,
}

impl Doors {
    /// Listens.
    pub(crate) fn open(
        config: &Config,
        handed: Option<UnixListener>,
        socket: &Path,
        uid: u32,
    ) -> Result<Self, RunError> {
        let group = config.socket_group.as_deref().map(socket_group).transpose()?;
        let (listener, bound) = match handed {
            Some(handed) => (handed, None),
            None => {
                let (listener, bound) = listen::bind(socket, uid, group.as_ref())?;
                (listener, Some(bound))
            }
        };
        let listener = tokio::net::UnixListener::from_std(listener);
        let listener = listener.map_err(|e| RunError::Os("listen", e))?;
        let tcp = config.http.map(|address| tcp::bind(address, &config.tcp)).transpose()?;
        Ok(Self { listener, bound, tcp, group })
    }
}

/// The group of this name or number.
fn socket_group(name: &str) -> Result<Group, RunError> {
    let failed = |why: String| RunError::SocketGroup(name.to_owned(), why);
    let found = match name.parse() {
        Ok(number) => Group::from_gid(Gid::from_raw(number)),
        Err(_) => Group::from_name(name),
    };
    let found = found.map_err(|e| failed(e.to_string()))?;
    found.ok_or_else(|| failed("there is no such group: groupadd makes one".to_owned()))
}
