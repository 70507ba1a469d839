//! What every verb needs: where to write, and the way to its daemon.

use nix::unistd::geteuid;
use noxrunner_client::v1::{Client, Token};
use noxrunner_client::{Connection, Transfers};

use crate::cli::Global;
use crate::error::CliError;
use crate::render::Out;
use crate::start;
use crate::target::{Choice, TOKEN_FILE_ENV, Target};

/// What the global flags and the environment come to.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Where to write.
    pub(crate) out: &'a Out,
    /// Which daemon of this machine is meant, if one is.
    pub(crate) target: Target,
    /// Seconds after which a daemon started from here ends when it is idle.
    pub(crate) idle_exit: u64,
    /// The backend that is meant in its place.
    pub(crate) backend: Option<Client>,
    local_test: bool,
    verb: &'static str,
}

impl<'a> Context<'a> {
    /// For verbs about sandboxes.
    ///
    /// # Errors
    /// Where what is said of a backend contradicts itself, or its token is nowhere.
    pub(crate) fn new(global: &Global, verb: &'static str, out: &'a Out) -> Result<Self, CliError> {
        let env = |name: &str| std::env::var_os(name);
        let backend = match Target::choose(global, env, geteuid().as_raw())? {
            Choice::Here(target) => {
                let local_test = global.local_test;
                let idle_exit = global.idle_exit;
                return Ok(Self { out, target, idle_exit, backend: None, local_test, verb });
            }
            Choice::Backend(base) => {
                let file = global.token_file.clone();
                let named = || env(TOKEN_FILE_ENV).filter(|path| !path.is_empty());
                let file = file.or_else(|| named().map(Into::into));
                let token = file.map(|file| Token::read(&file)).transpose()?;
                let client = Client::new(base, token)?;
                match global.timeout {
                    Some(timeout) => client.timeout(timeout.duration()),
                    None => client,
                }
            }
        };
        Ok(Self { backend: Some(backend), verb, ..Self::here(global, out) })
    }

    /// For verbs about the daemon itself, which is always one of this machine.
    pub(crate) fn here(global: &Global, out: &'a Out) -> Self {
        let (socket, uid) = (global.socket.as_deref(), geteuid().as_raw());
        let target = Target::own(socket, |name| std::env::var_os(name), uid);
        let idle_exit = global.idle_exit;
        Self { out, target, idle_exit, backend: None, local_test: false, verb: "daemon" }
    }

    /// A connection to the daemon, which `--local-test` starts if it is not there.
    ///
    /// # Errors
    /// Where no daemon answers, or none that can be trusted, or a backend is meant, which has
    /// nothing of the kind.
    pub(crate) fn connect(&self) -> Result<Connection, CliError> {
        self.not_of_a_backend(self.verb)?;
        if self.local_test {
            Ok(start::ensure(&self.target.socket, self.idle_exit, self.out)?.connection)
        } else {
            self.target.connect()
        }
    }

    /// Archives to and from whoever is meant.
    ///
    /// # Errors
    /// Where no daemon answers, or none that can be trusted.
    pub(crate) fn transfers(&self) -> Result<Transfers, CliError> {
        match &self.backend {
            Some(backend) => Ok(backend.transfers()),
            None => Ok(Transfers::new(self.connect()?.socket())),
        }
    }

    /// That no backend is meant where something is asked for that only a daemon can do.
    ///
    /// # Errors
    /// [`CliError::NotOverHttp`].
    pub(crate) fn not_of_a_backend(&self, what: &str) -> Result<(), CliError> {
        match &self.backend {
            None => Ok(()),
            Some(backend) => Err(CliError::NotOverHttp {
                what: what.to_owned(),
                url: backend.base().to_string(),
            }),
        }
    }
}
