//! Which daemon is meant.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use noxrunner_client::{ConnectError, Connection};
use noxrunner_protocol::socket::{SOCKET_ENV, SYSTEM_SOCKET, default_path};

use crate::error::CliError;

/// Environment variable that names a backend of the whole cluster, for the tools before this one.
const BASE_URL_ENV: &str = "NOXRUNNER_BASE_URL";

/// A socket, and whether it was only assumed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The socket to try first.
    pub(crate) socket: PathBuf,
    /// Whether the machine's daemon will do where nobody answers there.
    or_system: bool,
}

impl Target {
    /// The daemon that a verb about sandboxes speaks to.
    ///
    /// # Errors
    /// [`CliError::RemoteBackend`] where the environment names a remote backend and nothing
    /// says that this machine is meant: what was meant for elsewhere must not run here.
    pub(crate) fn choose(
        socket: Option<&Path>,
        local_test: bool,
        env: impl Fn(&str) -> Option<OsString>,
        uid: u32,
    ) -> Result<Self, CliError> {
        let own = Self::own(socket, &env, uid);
        let remote = env(BASE_URL_ENV).is_some_and(|url| !url.is_empty());
        if remote && !local_test && !is_named(socket, &env) {
            return Err(CliError::RemoteBackend);
        }
        // Who asks for a daemon to be started wants that one, not the machine's.
        Ok(Self { or_system: own.or_system && !local_test, ..own })
    }

    /// The user's own daemon, or the one that is named.
    pub(crate) fn own(
        socket: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString>,
        uid: u32,
    ) -> Self {
        let named = is_named(socket, &env);
        let socket = socket.map_or_else(|| default_path(&env, uid), Path::to_owned);
        Self { or_system: !named && socket != Path::new(SYSTEM_SOCKET), socket }
    }

    /// Connects to the daemon that answers.
    pub(crate) fn connect(&self) -> Result<Connection, CliError> {
        match Connection::open(&self.socket) {
            Err(ConnectError::NoDaemon { socket: own }) if self.or_system => {
                match Connection::open(Path::new(SYSTEM_SOCKET)) {
                    Err(ConnectError::NoDaemon { .. }) => Err(CliError::NoDaemon { own }),
                    other => Ok(other?),
                }
            }
            other => Ok(other?),
        }
    }
}

/// Whether the user says which socket, rather than have it assumed.
fn is_named(socket: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> bool {
    socket.is_some() || env(SOCKET_ENV).is_some_and(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(
        socket: Option<&str>,
        local_test: bool,
        vars: &[(&str, &str)],
        uid: u32,
    ) -> Option<(String, bool)> {
        let env = |name: &str| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| v.into());
        match Target::choose(socket.map(Path::new), local_test, env, uid) {
            Ok(t) => Some((t.socket.into_os_string().into_string().unwrap(), t.or_system)),
            Err(CliError::RemoteBackend) => None,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_first_that_is_given() {
        let own = "/tmp/noxrunner-7/noxrunnerd.sock";
        let env = [(SOCKET_ENV, "/e")];
        assert_eq!(choose(Some("/s"), false, &env, 7), Some(("/s".into(), false)));
        assert_eq!(choose(None, false, &env, 7), Some(("/e".into(), false)));
        assert_eq!(choose(None, true, &env, 7), Some(("/e".into(), false)));
        assert_eq!(choose(None, false, &[], 7), Some((own.into(), true)));
        assert_eq!(choose(None, true, &[], 7), Some((own.into(), false)));
        assert_eq!(choose(None, false, &[], 0), Some((SYSTEM_SOCKET.into(), false)));
    }

    #[test]
    fn what_is_meant_for_a_remote_backend_never_runs_here() {
        let url = (BASE_URL_ENV, "http://127.0.0.1:8080");
        assert_eq!(choose(None, false, &[url], 7), None);
        assert_eq!(choose(None, false, &[url, (SOCKET_ENV, "")], 7), None);
        assert!(choose(None, false, &[(BASE_URL_ENV, "")], 7).is_some());
        assert!(choose(None, true, &[url], 7).is_some());
        assert!(choose(Some("/s"), false, &[url], 7).is_some());
        assert!(choose(None, false, &[url, (SOCKET_ENV, "/e")], 7).is_some());
    }
}
