//! Having a daemon where there was none, and seeing one off.

use std::path::Path;
use std::time::{Duration, Instant};

use noxrunner_client::{CallError, ConnectError, Connection};
use noxrunner_protocol::ErrorKind;
use noxrunner_protocol::method::{DaemonInfoGet, DaemonShutdown};
use noxrunner_protocol::types::{DaemonInfo, NoParams};

use crate::error::CliError;
use crate::render::Out;
use crate::spawn::Started;

/// This version; a daemon of another one may not understand what is asked of it.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long a daemon may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon that answers.
#[derive(Debug)]
pub(crate) struct Running {
    /// The connection on which it answered.
    pub(crate) connection: Connection,
    /// What it says of itself.
    pub(crate) info: DaemonInfo,
    /// Whether it is the one that was started here.
    pub(crate) started: bool,
}

/// Gives the daemon that answers on this socket, or starts one. An idle one of
/// another version is replaced, if it is one that would end by itself: one that a person or a
/// service manager keeps is theirs. Where several clients do this at once, one of
/// their daemons wins and all of them get that one.
pub(crate) fn ensure(socket: &Path, idle_exit: u64, out: &Out) -> Result<Running, CliError> {
    if let Some(running) = answering(socket, Instant::now() + PATIENCE)? {
        let theirs = &running.info.version;
        if theirs == VERSION {
            return Ok(running);
        }
        let kept = running.info.idle_exit_seconds.is_none();
        if kept || running.info.sandboxes > 0 || running.info.connections > 1 {
            out.warn(&format!(
                "the daemon on {} is version {theirs}, this is noxctl {VERSION}; it is in use and \
                 stays: end it with `noxctl daemon stop` and start it anew",
                socket.display()
            ));
            return Ok(running);
        }
        stop(running, socket)?;
    }
    let deadline = Instant::now() + PATIENCE;
    let mut daemon = Started::spawn(socket, idle_exit)?;
    let mut pause = Pause::default();
    loop {
        if let Some(running) = answering(socket, deadline)? {
            return Ok(Running { started: running.info.pid == daemon.pid(), ..running });
        }
        daemon.still_hopeful(deadline)?;
        pause.wait();
    }
}

/// Tells the daemon to end and waits until it is gone.
pub(crate) fn stop(mut running: Running, socket: &Path) -> Result<(), CliError> {
    let deadline = Instant::now() + PATIENCE;
    let pid = running.info.pid;
    match running.connection.call::<DaemonShutdown>(&NoParams {}) {
        // It ended before it could say that it would.
        Ok(_) | Err(CallError::Closed | CallError::Io(_)) => {}
        Err(error) => return Err(error.into()),
    }
    // An open connection is something to wait for.
    drop(running);
    let mut pause = Pause::default();
    while still_there(socket, pid, deadline)? {
        if Instant::now() >= deadline {
            let seconds = PATIENCE.as_secs();
            return Err(CliError::StillRunning { socket: socket.to_owned(), pid, seconds });
        }
        pause.wait();
    }
    Ok(())
}

/// The daemon on this socket, if one is there and not about to end or still starting.
pub(crate) fn answering(socket: &Path, deadline: Instant) -> Result<Option<Running>, CliError> {
    let mut connection = match Connection::open(socket) {
        Err(ConnectError::NoDaemon { .. }) => return Ok(None),
        other => other?,
    };
    let time = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    connection.set_timeout(Some(time)).map_err(CallError::Io)?;
    match connection.call::<DaemonInfoGet>(&NoParams {}) {
        Ok(info) => {
            connection.set_timeout(None).map_err(CallError::Io)?;
            Ok(Some(Running { connection, info, started: false }))
        }
        Err(CallError::Closed | CallError::Io(_)) => Ok(None),
        Err(CallError::Refused(error)) if error.kind == ErrorKind::NotReady => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether that very daemon listens; another client's new one may have taken its place.
fn still_there(socket: &Path, pid: u32, deadline: Instant) -> Result<bool, CliError> {
    match answering(socket, deadline) {
        Ok(Some(running)) => Ok(running.info.pid == pid),
        Ok(None) => match Connection::open(socket) {
            Ok(_) => Ok(true),
            Err(ConnectError::NoDaemon { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        },
        Err(CliError::Call(CallError::TimedOut)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Pauses between looks at a socket, which cannot be waited for: short at
/// first, since a daemon starts in milliseconds.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

impl Pause {
    fn wait(&mut self) {
        std::thread::sleep(self.0);
        self.0 = (self.0 * 2).min(Duration::from_millis(20));
    }
}
