//! Sandboxes made ahead, for who asks for nothing special: a directory, a control group
//! and an init that waits in it. Handing one out is giving its directory another name.
//!
//! ```text
//! keep ── made ──→ waiting ── taken ──→ a sandbox
//!                     └─ the host changed, its init died, the daemon ends ──→ cleared
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use noxrunner_protocol::types::Network;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::dir::SandboxDir;
use crate::daemon::Daemon;
use crate::engine::Init;
use crate::limits::{Bounds, Confines};

/// One that waits.
#[derive(Debug)]
pub struct Spare {
    pub(crate) dir: SandboxDir,
    pub(super) confines: Arc<Confines>,
    pub(super) init: Arc<Init>,
    network: Network,
}

/// Those of a daemon.
#[derive(Debug)]
pub struct Pool {
    size: usize,
    state: Mutex<State>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Spare>,
    /// Counts what sandboxes have seen: one that was begun before a change is not wanted after it.
    scene: u64,
    closed: bool,
}

/// The readable part of the name of a directory that waits.
pub const NAME: &str = "spare";

/// How long after one was taken the next is made: who took it has work for the processors first.
const REST: Duration = Duration::from_millis(10);

/// How long to wait after one could not be made.
const BREATHER: Duration = Duration::from_secs(10);

impl Spare {
    /// Puts one together.
    pub fn new(
        dir: SandboxDir,
        confines: Arc<Confines>,
        init: Arc<Init>,
        network: Network,
    ) -> Self {
        Self { dir, confines, init, network }
    }

    /// Ends its init and removes what it has.
    pub async fn clear(self) {
        let Self { dir, confines, init, .. } = self;
        init.end().await;
        let cleared = spawn_blocking(move || {
            confines.give_up();
            dir.remove()
        });
        if let Ok(Err(error)) = cleared.await {
            tracing::error!(%error, "cannot remove a directory that was made ahead");
        }
    }
}

impl Pool {
    /// One that is to hold so many.
    pub fn new(size: usize) -> Self {
        Self { size, state: Mutex::default(), wanted: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many it is to hold.
    pub fn size(&self) -> usize {
        self.size
    }

    /// One that is as wanted, if it has any.
    pub fn take(&self, network: Network, bounds: &Bounds) -> Option<Spare> {
        let mut state = self.lock();
        let fits = |spare: &Spare| {
            spare.network == network && spare.confines.bounds() == *bounds && spare.init.is_alive()
        };
        let at = state.waiting.iter().position(fits);
        let spare = at.and_then(|at| state.waiting.remove(at));
        drop(state);
        // Where there was none, some may have died.
        self.wanted.notify_one();
        spare
    }

    /// Takes out all, since what sandboxes see has changed.
    pub fn flush(&self) -> impl Iterator<Item = Spare> + use<> {
        let mut state = self.lock();
        state.scene += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.wanted.notify_one();
        waiting.into_iter()
    }

    /// Takes out all and lets none in any more.
    pub fn close(&self) -> impl Iterator<Item = Spare> + use<> {
        self.lock().closed = true;
        self.flush()
    }

    /// Takes out those whose init has died.
    fn dead(&self) -> Vec<Spare> {
        let mut state = self.lock();
        let (alive, dead): (Vec<_>, Vec<_>) =
            state.waiting.drain(..).partition(|spare| spare.init.is_alive());
        state.waiting.extend(alive);
        dead
    }

    /// What sandboxes see now, where one more is wanted.
    fn wants(&self) -> Option<u64> {
        let state = self.lock();
        (!state.closed && state.waiting.len() < self.size).then_some(state.scene)
    }

    /// Lets one in that was begun when sandboxes saw `scene`, or gives it back.
    fn put(&self, spare: Spare, scene: u64) -> Result<(), Spare> {
        let mut state = self.lock();
        if state.closed || state.scene != scene {
            return Err(spare);
        }
        state.waiting.push_back(spare);
        Ok(())
    }
}

/// Keeps a daemon's pool full, until the daemon ends.
pub async fn keep(daemon: Arc<Daemon>) {
    let pool = &daemon.pool;
    loop {
        for dead in pool.dead() {
            dead.clear().await;
        }
        let Some(scene) = pool.wants() else {
            if pool.lock().closed {
                return;
            }
            pool.wanted.notified().await;
            tokio::time::sleep(REST).await;
            continue;
        };
        match daemon.make_spare().await {
            Ok(spare) => {
                if let Err(late) = pool.put(spare, scene) {
                    late.clear().await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot make a sandbox ahead");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
}
