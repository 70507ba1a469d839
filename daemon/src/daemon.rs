//! The daemon's state, and the life of its sandboxes: made, renewed, cleared away, adopted.
//!
//! Whatever must finish once begun (a create, a delete, an expiry) runs in a
//! task of the daemon's own: a call is dropped when its client hangs up.

mod create;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use noxrunner_init::message::Layers;
use noxrunner_init::template::Unstubbed;
use noxrunner_protocol::SessionId;
use noxrunner_protocol::types::{Denial, Isolation, Network, Tier};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use crate::clock::Moment;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::CallError;
use crate::files::work::Workers;
use crate::limits::Limiting;
use crate::policy::{HostDirError, Means, PathUse, Policy, RootNames, decide};
use crate::rootfs::Rootfs;
use crate::sandbox::adopt::{self, Rule, Sweep};
use crate::sandbox::environment::HostEnvironment;
use crate::sandbox::pool::Pool;
use crate::sandbox::registry::{Entry, Leaving, Registry};
use crate::sandbox::{Base, Sandbox};
use crate::scene::{self, Scene, preparation};
use crate::serve::service::Service;
use crate::uids::Uids;

/// Everything that handlers share.
#[derive(Debug)]
pub struct Daemon {
    /// What it was told at start.
    pub config: Config,
    /// Its clients' side.
    pub service: Arc<Service>,
    /// The user it runs as.
    pub uid: u32,
    /// The users that its sandboxes have; none where they are its own.
    pub uids: Option<Uids>,
    /// Its sandboxes.
    pub registry: Arc<Registry>,
    /// What starts their inits.
    pub engine: Arc<Engine>,
    /// What isolates its sandboxes.
    pub isolation: Isolation,
    /// What its sandboxes see of the host, where they have a mount tree.
    pub scene: Option<Arc<Scene>>,
    /// What may run.
    pub policy: Policy,
    /// Where what inits see now does not hold blocked programs for good.
    pub unstubbed: Mutex<Vec<Unstubbed>>,
    /// Sandboxes made ahead.
    pub pool: Pool,
    /// Who may start a command now; the others wait in line.
    pub spawns: Arc<Semaphore>,
    /// What its sandboxes may use, and what keeps them to that.
    pub limits: Limiting,
    /// What commands see of its own environment.
    pub host: HostEnvironment,
    /// The threads for file operations.
    pub workers: Workers,
}

/// A task of ours panicked or was cancelled; both only happen while the runtime ends.
pub(crate) fn joined<T>(outcome: Result<T, JoinError>) -> Result<T, CallError> {
    outcome.map_err(|_| CallError::Stopping)
}

/// How long creates and deletes that have begun may take to finish when the daemon ends.
const SETTLE_PATIENCE: Duration = Duration::from_secs(15);

impl Daemon {
    /// The names of a sandbox's places, by which its commands know them.
    ///
    /// # Errors
    /// Where the sandbox's directory cannot be told from a place inside.
    pub fn names(&self, sandbox_dir: &Path) -> Result<RootNames, HostDirError> {
        match self.isolation.tier {
            Tier::Full => Ok(RootNames::mount_tree()),
            Tier::Landlock | Tier::None => RootNames::with_host_dir(sandbox_dir),
        }
    }

    /// Whether a program exists for a sandbox's commands, by a path as they name it.
    pub fn exists(&self, sandbox: &Sandbox, program: &Path) -> bool {
        let Some(scene) = &self.scene else { return program.exists() };
        let inside =
            decide(program.as_os_str().as_bytes(), PathUse::File, &RootNames::mount_tree());
        match inside {
            Ok(inside) if !inside.redirected() => sandbox.dir.host_path(&inside).exists(),
            Ok(_) | Err(_) => scene.host_path(program).is_some_and(|host| host.exists()),
        }
    }

    /// Has what sandboxes see made anew where the host has changed, for an init that is
    /// about to be started. Where that cannot be done they go on seeing what they saw.
    pub async fn refresh(&self) {
        let Some(scene) = self.scene.clone() else { return };
        let changed = spawn_blocking(move || look_again(&scene)).await;
        self.rebuild(changed.ok().flatten()).await;
    }

    async fn rebuild(&self, changed: Option<Arc<Rootfs>>) {
        let Some(rootfs) = changed else { return };
        tracing::info!("the host has changed: making what sandboxes see anew");
        let no_memfd = !self.limits.enforcers.limits_memory();
        let wish = preparation(Layers::Full, &rootfs, None, self.policy.places(), no_memfd);
        match self.engine.prepare(wish).await {
            Ok(unstubbed) => {
                *self.unstubbed.lock().unwrap_or_else(PoisonError::into_inner) = unstubbed;
                for spare in self.pool.flush() {
                    tokio::spawn(spare.clear());
                }
            }
            Err(error) => tracing::warn!(%error, "sandboxes go on seeing what they saw"),
        }
    }

    /// Why something else stands for a program in sandboxes, if it does. The path is as they
    /// name it, free of links.
    pub fn stands_in(&self, program: &Path) -> Option<Denial> {
        let rootfs = self.scene.as_ref()?.rootfs();
        rootfs.blocks(program).map(|rule| self.policy.denial(rule))
    }

    /// What there is to enforce the policy with.
    pub fn means(&self) -> Means {
        let unstubbed = self.unstubbed.lock().unwrap_or_else(PoisonError::into_inner);
        scene::means(&self.isolation, self.scene.as_deref(), &unstubbed)
    }

    /// Starts a sandbox's time to live anew.
    ///
    /// # Errors
    /// Where there is no such sandbox, or its manifest cannot be written.
    pub async fn touch(
        self: &Arc<Self>,
        caller: u32,
        id: &SessionId,
    ) -> Result<Arc<Sandbox>, CallError> {
        let touched = self.registry.touch(caller, id, Moment::now).await;
        let sandbox = touched.map_err(CallError::lookup(id))?;
        save(&sandbox).await?;
        Ok(sandbox)
    }

    /// Deletes a sandbox with everything in it.
    ///
    /// # Errors
    /// Where there is no such sandbox, or something of it could not be removed.
    pub async fn delete(self: &Arc<Self>, caller: u32, id: &SessionId) -> Result<(), CallError> {
        let sandbox = self.registry.find(caller, id).await.map_err(CallError::lookup(id))?;
        let Some(leaving) = self.registry.remove(&sandbox) else {
            return Err(CallError::Deleted(id.to_string()));
        };
        tracing::info!(session = %id, "deleting");
        joined(tokio::spawn(Arc::clone(self).clear(leaving)).await)?
    }

    /// Kills what runs in a sandbox that is out of reach, and removes its directory.
    ///
    /// # Errors
    /// What could not be removed; the next start tries again.
    pub async fn clear(self: Arc<Self>, leaving: Leaving) -> Result<(), CallError> {
        let sandbox = Arc::clone(&leaving.sandbox);
        let marked = spawn_blocking(move || sandbox.save_deleting()).await;
        if let Err(error) = joined(marked)? {
            // Not needed unless this daemon dies in the middle.
            tracing::warn!(%error, "cannot note a deletion");
        }
        leaving.sandbox.end().await;
        let sandbox = Arc::clone(&leaving.sandbox);
        let removed = joined(spawn_blocking(move || sandbox.dir.remove()).await)?;
        if let Err(error) = &removed {
            let dir = leaving.sandbox.dir.path().display();
            tracing::error!(%error, %dir, "cannot remove a sandbox's directory");
        }
        Ok(removed?)
    }

    /// Takes over what lies in the base directory: adopts, removes, reports.
    /// The answer is when to look again. `first` says that nothing is being created yet.
    ///
    /// # Errors
    /// Where the base directory cannot be read.
    pub async fn sweep(self: &Arc<Self>, first: bool) -> Result<Option<Duration>, CallError> {
        let daemon = Arc::clone(self);
        let sweep = joined(spawn_blocking(move || daemon.look_around(first)).await)??;
        let Sweep { adopted, doomed, reports, next_due } = sweep;
        for (path, why) in reports {
            tracing::warn!(path = %path.display(), %why, "left a directory alone");
        }
        for sandbox in adopted {
            let network = sandbox.settings().network;
            if !self.policy.network_allowed(self.uid == 0).contains(&network) {
                // The policy may have changed since it was made.
                tracing::warn!(session = %sandbox.key.id, "the policy does not allow its network any more");
                sandbox.change(|settings| settings.network = Network::None);
            }
            let dir = sandbox.dir.path().display().to_string();
            match self.registry.entry(&sandbox.key, |_| ()).await {
                Entry::Vacant(place) => {
                    tracing::info!(session = %sandbox.key.id, dir, "adopted");
                    place.fill(Arc::new(sandbox));
                }
                Entry::Exists(_) => {
                    tracing::warn!(path = dir, "left a directory alone: its session has another");
                }
            }
        }
        // A large tree is no reason to let clients wait.
        drop(spawn_blocking(move || {
            for (dir, why) in doomed {
                match dir.remove() {
                    Ok(()) => tracing::info!(dir = %dir.path().display(), why, "removed"),
                    Err(error) => {
                        tracing::error!(%error, dir = %dir.path().display(), "cannot remove a directory");
                    }
                }
            }
        }));
        Ok(next_due)
    }

    fn look_around(&self, first: bool) -> std::io::Result<Sweep> {
        let base = Base {
            path: &self.config.base_dir,
            uid: self.uid,
            uids: self.uids.as_ref(),
            reachable: self.isolation.tier != Tier::Full,
            limits: &self.limits,
        };
        let rule = Rule { stale_after: self.config.stale_after, nobody_creates: first };
        adopt::sweep(&base, Moment::now(), rule)
    }

    /// Ends every command and every sandbox's init. The sandboxes stay, unless they are to go with the daemon.
    pub async fn end(self: &Arc<Self>) {
        // No more creates begin once `stop` is set; what has begun is finished.
        if timeout(SETTLE_PATIENCE, self.registry.settled()).await.is_err() {
            tracing::warn!(
                "some sandboxes are still being deleted: the next start goes on with that"
            );
        }
        let mut tasks = tokio::task::JoinSet::new();
        for spare in self.pool.close() {
            tasks.spawn(spare.clear());
        }
        for sandbox in self.registry.visible(0) {
            let leaving = if self.config.ephemeral { self.registry.remove(&sandbox) } else { None };
            let daemon = Arc::clone(self);
            tasks.spawn(async move {
                match leaving {
                    // What cannot be removed is logged there, and removed by the next start.
                    Some(leaving) => drop(daemon.clear(leaving).await),
                    None => sandbox.end().await,
                }
            });
        }
        tasks.join_all().await;
    }
}

async fn save(sandbox: &Arc<Sandbox>) -> Result<(), CallError> {
    let sandbox = Arc::clone(sandbox);
    Ok(joined(spawn_blocking(move || sandbox.save()).await)??)
}

/// What there is to build where the host has changed. Touches the disk.
fn look_again(scene: &Scene) -> Option<Arc<Rootfs>> {
    scene.refresh().unwrap_or_else(|error| {
        tracing::warn!(%error, "sandboxes go on seeing what they saw");
        None
    })
}
