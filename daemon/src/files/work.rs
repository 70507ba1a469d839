//! Threads for what may wait for a disk, and at most so many: something made
//! inside may stall one of them (fcntl(2) gives the holder of a lease 45 seconds).

use std::sync::Arc;

use noxrunner_protocol::SessionId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::{FileError, Places};
use crate::daemon::{Daemon, joined};
use crate::error::CallError;
use crate::sandbox::Sandbox;
use crate::sandbox::gate::Pass;

/// File operations at once.
const OPERATIONS: usize = 16;

/// Archives that are on their way in or out at once; each takes as long as its client.
const TRANSFERS: usize = 32;

/// How many threads file operations have.
#[derive(Debug, Clone)]
pub struct Workers {
    operations: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
}

impl Default for Workers {
    fn default() -> Self {
        let some = |n| Arc::new(Semaphore::new(n));
        Self { operations: some(OPERATIONS), transfers: some(TRANSFERS) }
    }
}

impl Workers {
    /// A place among the transfers, waited for.
    ///
    /// # Errors
    /// Where the daemon is ending.
    pub async fn transfer(&self) -> Result<OwnedSemaphorePermit, CallError> {
        permit(&self.transfers).await
    }
}

async fn permit(among: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, CallError> {
    Arc::clone(among).acquire_owned().await.map_err(|_| CallError::Stopping)
}

impl Daemon {
    /// Finds a sandbox and keeps it from being removed for as long as the pass lives.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn enter(
        &self,
        caller: u32,
        id: &SessionId,
    ) -> Result<(Arc<Sandbox>, Pass), CallError> {
        let found = self.registry.find(caller, id).await;
        let sandbox = found.map_err(CallError::lookup(id))?;
        let pass = sandbox.gate.enter().ok_or_else(|| self.closed(id))?;
        Ok((sandbox, pass))
    }

    /// Why a sandbox lets nobody at its files any more.
    pub fn closed(&self, id: &SessionId) -> CallError {
        match *self.service.stop.borrow() {
            true => CallError::Stopping,
            false => CallError::Deleted(id.to_string()),
        }
    }

    /// Does something with the files of a sandbox, on a thread of its own. Once begun
    /// it is done to its end, whether or not somebody still waits.
    ///
    /// # Errors
    /// Where there is no such sandbox, or why it could not be done.
    pub async fn with_files<T: Send + 'static>(
        self: &Arc<Self>,
        caller: u32,
        id: &SessionId,
        work: impl FnOnce(&Places<'_>) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, CallError> {
        let (sandbox, pass) = self.enter(caller, id).await?;
        let permit = permit(&self.workers.operations).await?;
        let names = self.names(sandbox.dir.path()).map_err(CallError::names)?;
        let done = spawn_blocking(move || {
            let _held = (permit, pass);
            work(&Places::of(&sandbox, &names))
        });
        Ok(joined(done.await)??)
    }
}
