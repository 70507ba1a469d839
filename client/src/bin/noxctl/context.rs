//! What every verb needs: where to write, and the way to its daemon.

use nix::unistd::geteuid;
use noxrunner_client::Connection;

use crate::cli::Global;
use crate::error::CliError;
use crate::render::Out;
use crate::start;
use crate::target::Target;

/// What the global flags and the environment come to.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// Where to write.
    pub(crate) out: &'a Out,
    /// Which daemon is meant.
    pub(crate) target: Target,
    /// Seconds after which a daemon started from here ends when it is idle.
    pub(crate) idle_exit: u64,
    local_test: bool,
}

impl<'a> Context<'a> {
    /// For verbs about sandboxes.
    ///
    /// # Errors
    /// Where another kind of backend is meant than this version speaks to.
    pub(crate) fn new(global: &Global, out: &'a Out) -> Result<Self, CliError> {
        let (socket, uid) = (global.socket.as_deref(), geteuid().as_raw());
        let env = |name: &str| std::env::var_os(name);
        let target = Target::choose(socket, global.local_test, env, uid)?;
        Ok(Self { out, target, idle_exit: global.idle_exit, local_test: global.local_test })
    }

    /// For verbs about the daemon itself, which is always one of this machine.
    pub(crate) fn here(global: &Global, out: &'a Out) -> Self {
        let (socket, uid) = (global.socket.as_deref(), geteuid().as_raw());
        let target = Target::own(socket, |name| std::env::var_os(name), uid);
        Self { out, target, idle_exit: global.idle_exit, local_test: false }
    }

    /// A connection to the daemon, which `--local-test` starts if it is not there.
    ///
    /// # Errors
    /// Where no daemon answers, or none that can be trusted.
    pub(crate) fn connect(&self) -> Result<Connection, CliError> {
        if self.local_test {
            Ok(start::ensure(&self.target.socket, self.idle_exit, self.out)?.connection)
        } else {
            self.target.connect()
        }
    }
}
