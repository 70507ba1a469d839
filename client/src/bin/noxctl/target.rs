//! Which daemon is meant, or which backend in its place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use noxrunner_client::v1::BaseUrl;
use noxrunner_client::{ConnectError, Connection};
use noxrunner_protocol::socket::{SOCKET_ENV, SYSTEM_SOCKET, default_path};

use crate::cli::{self, Global};
use crate::error::CliError;

/// Environment variable that names a backend; the tool before this one reads it, too.
const BASE_URL_ENV: &str = "NOXRUNNER_BASE_URL";

/// Environment variable that names the file with a backend's token.
pub(crate) const TOKEN_FILE_ENV: &str = "NOXRUNNER_TOKEN_FILE";

/// Who is spoken to.
#[derive(Debug)]
pub(crate) enum Choice {
    /// A daemon of this machine.
    Here(Target),
    /// A backend, wherever it is.
    Backend(BaseUrl),
}

/// A socket, and whether it was only assumed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The socket to try first.
    pub(crate) socket: PathBuf,
    /// Whether the machine's daemon will do where nobody answers there.
    or_system: bool,
}

impl Target {
    /// Who a verb about sandboxes speaks to: what a flag says, then what the environment says,
    /// a socket before a backend, then the user's own daemon.
    ///
    /// # Errors
    /// A usage error where the flags contradict each other, or the environment names a backend
    /// by what is no URL: what was meant for elsewhere must not run here.
    pub(crate) fn choose(
        global: &Global,
        env: impl Fn(&str) -> Option<OsString>,
        uid: u32,
    ) -> Result<Choice, CliError> {
        let (socket, local_test) = (global.socket.as_deref(), global.local_test);
        // Seen here again, since one may stand before the verb and one behind it.
        if (global.base_url.is_some() || global.token_file.is_some())
            && (socket.is_some() || local_test)
        {
            let both = "--base-url and --token-file are about a backend, --socket and \
                --local-test about this machine: leave out one or the other";
            return Err(cli::usage("", both));
        }
        let backend = match (&global.base_url, env(BASE_URL_ENV)) {
            (Some(base), _) => Some(base.clone()),
            (None, Some(text)) if !text.is_empty() && !local_test && !is_named(socket, &env) => {
                let base = text.to_str().unwrap_or_default().parse();
                Some(base.map_err(|e| cli::usage("", format!("{BASE_URL_ENV}: {e}")))?)
            }
            (None, Some(_) | None) => None,
        };
        if let Some(base) = backend {
            return Ok(Choice::Backend(base));
        }
        if global.token_file.is_some() {
            let missing =
                format!("--token-file is for a backend: name it with --base-url or {BASE_URL_ENV}");
            return Err(cli::usage("", missing));
        }
        let own = Self::own(socket, &env, uid);
        // Who asks for a daemon to be started wants that one, not the machine's.
        Ok(Choice::Here(Self { or_system: own.or_system && !local_test, ..own }))
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
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    /// The socket and whether it is only assumed, or the backend.
    fn choose(line: &str, vars: &[(&str, &str)], uid: u32) -> Result<(String, bool), String> {
        let env = |name: &str| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| v.into());
        let global = Cli::try_parse_from(line.split(' ')).unwrap().global;
        match Target::choose(&global, env, uid) {
            Ok(Choice::Here(t)) => {
                Ok((t.socket.into_os_string().into_string().unwrap(), t.or_system))
            }
            Ok(Choice::Backend(base)) => Err(base.to_string()),
            Err(CliError::Usage(error)) => Err(error.to_string()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_first_that_is_given() {
        let own = "/tmp/noxrunner-7/noxrunnerd.sock";
        let env = [(SOCKET_ENV, "/e")];
        let here = |socket: &str, assumed| Ok((socket.to_owned(), assumed));
        assert_eq!(choose("noxctl --socket /s list", &env, 7), here("/s", false));
        assert_eq!(choose("noxctl list", &env, 7), here("/e", false));
        assert_eq!(choose("noxctl --local-test list", &env, 7), here("/e", false));
        assert_eq!(choose("noxctl list", &[], 7), here(own, true));
        assert_eq!(choose("noxctl --local-test list", &[], 7), here(own, false));
        assert_eq!(choose("noxctl list", &[], 0), here(SYSTEM_SOCKET, false));
    }

    #[test]
    fn what_is_meant_for_a_backend_never_runs_here() {
        let url = (BASE_URL_ENV, "http://127.0.0.1:8080/");
        let backend = || Err("http://127.0.0.1:8080".to_owned());
        assert_eq!(choose("noxctl list", &[url], 7), backend());
        assert_eq!(choose("noxctl list", &[url, (SOCKET_ENV, "")], 7), backend());
        let flag = "noxctl --base-url http://127.0.0.1:8080 list";
        assert_eq!(choose(flag, &[(SOCKET_ENV, "/e"), (BASE_URL_ENV, "x")], 7), backend());
        choose("noxctl list", &[(BASE_URL_ENV, "")], 7).unwrap();
        choose("noxctl --local-test list", &[url], 7).unwrap();
        choose("noxctl --socket /s list", &[url], 7).unwrap();
        choose("noxctl list", &[url, (SOCKET_ENV, "/e")], 7).unwrap();
        for (line, vars, part) in [
            ("noxctl list", &[(BASE_URL_ENV, "127.0.0.1")][..], "NOXRUNNER_BASE_URL"),
            ("noxctl --socket /s list --base-url http://h", &[], "leave out one"),
            ("noxctl --local-test list --base-url http://h", &[], "leave out one"),
            ("noxctl list --token-file /t", &[], "--base-url"),
        ] {
            let error = choose(line, vars, 7).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
