//! Sandboxes: where they live, how long, and what is in them.
//!
//! | room | what it holds |
//! |---|---|
//! | [`registry`] | every sandbox by owner and session id, and its state |
//! | [`dir`] | the directory: made, locked, removed |
//! | [`environment`] | the variables that its commands begin with |
//! | [`gate`] | who is inside its files |
//! | [`manifest`] | what outlives the daemon |
//! | [`adopt`] | what an earlier daemon, or the Python tool, left behind |
//! | [`pool`] | sandboxes made ahead |
//! | [`plan`] | what policy approved, turned into what init runs |

pub mod adopt;
pub mod dir;
pub mod environment;
pub mod gate;
pub mod manifest;
pub mod plan;
pub mod pool;
pub mod registry;

#[cfg(test)]
mod model;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use noxrunner_init::message::InitSpec;
use noxrunner_protocol::SessionId;
use noxrunner_protocol::ids::TtlSeconds;
use noxrunner_protocol::types::{CreateParams, LimitName, Network, Usage};

use crate::cgroup::CgroupError;
use crate::clock::Moment;
use crate::engine::{Engine, EngineError, Init};
use crate::limits::{self, Bounds, Confines, Limiting};
use crate::tree;
use crate::uids::Uids;
use tokio::task::{JoinError, spawn_blocking};

use dir::SandboxDir;
use gate::Gate;
use manifest::Manifest;
use pool::Spare;

/// Whose sandbox, and which.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The user it belongs to.
    pub owner: u32,
    /// What that user calls it.
    pub id: SessionId,
}

/// A sandbox that can be used.
#[derive(Debug)]
pub struct Sandbox {
    /// Whose, and which.
    pub key: Key,
    /// Where it lives.
    pub dir: SandboxDir,
    /// When it was made.
    pub created_at: SystemTime,
    /// The way into its files, for everything but its commands.
    pub gate: Gate,
    /// What it may use.
    pub confines: Arc<Confines>,
    settings: Mutex<Settings>,
    // Started by the first command that needs it where the sandbox was adopted.
    init: tokio::sync::Mutex<InitSlot>,
    paper: Mutex<Paper>,
    execs: AtomicU64,
}

#[derive(Debug, Default)]
struct InitSlot {
    init: Option<Arc<Init>>,
    // The sandbox is being deleted: nothing is to be started in it any more.
    ended: bool,
}

/// What the manifest says; writers take turns.
#[derive(Debug, Default)]
struct Paper {
    deleting: bool,
}

/// What a create sets and a later one may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long it lives after a touch.
    pub ttl: TtlSeconds,
    /// When it expires, by the boot clock.
    pub deadline: Duration,
    /// The same by the wall clock.
    pub expires_at: SystemTime,
    /// The image it was asked for with.
    pub image: Option<String>,
    /// The network it has; a later create cannot change it.
    pub network: Network,
    /// Environment variables of every command in it.
    pub env: BTreeMap<String, String>,
    /// The limits it was asked for with, as they were written.
    pub limits: BTreeMap<LimitName, String>,
}

impl Settings {
    /// The settings that a create asks for.
    pub fn new(params: &CreateParams, network: Network, now: Moment) -> Self {
        let mut settings = Self {
            ttl: params.ttl_seconds,
            deadline: now.boot,
            expires_at: now.wall,
            image: None,
            network,
            env: BTreeMap::new(),
            limits: BTreeMap::new(),
        };
        settings.renew(params, now);
        settings
    }

    /// Applies a create to a sandbox that exists: a new time to live, and
    /// whatever else it names.
    pub fn renew(&mut self, params: &CreateParams, now: Moment) {
        self.ttl = params.ttl_seconds;
        self.touch(now);
        self.image = params.image.clone().or(self.image.take());
        if let Some(env) = &params.env {
            self.env.clone_from(env);
        }
        let asked = [
            (LimitName::Cpu, params.cpu_limit.as_ref().map(ToString::to_string)),
            (LimitName::Memory, params.memory_limit.as_ref().map(ToString::to_string)),
            (
                LimitName::EphemeralStorage,
                params.ephemeral_storage_limit.as_ref().map(ToString::to_string),
            ),
            (LimitName::Pids, params.pids_limit.map(|n| n.to_string())),
        ];
        self.limits.extend(asked.into_iter().filter_map(|(name, value)| Some((name, value?))));
    }

    /// Starts the time to live anew.
    pub fn touch(&mut self, now: Moment) {
        self.deadline = now.boot + self.ttl.duration();
        self.expires_at = now.wall + self.ttl.duration();
    }
}

impl Sandbox {
    /// A sandbox in a directory that is there.
    pub fn new(
        key: Key,
        dir: SandboxDir,
        created_at: SystemTime,
        settings: Settings,
        limits: &Limiting,
    ) -> Self {
        let bounds = Bounds::of(&settings.limits, &limits.defaults);
        let confines = Arc::new(Confines::new(Arc::clone(&limits.enforcers), bounds));
        Self {
            confines,
            key,
            dir,
            created_at,
            gate: Gate::default(),
            settings: Mutex::new(settings),
            init: tokio::sync::Mutex::default(),
            paper: Mutex::default(),
            execs: AtomicU64::new(0),
        }
    }

    /// One that was made ahead.
    pub fn of_spare(key: Key, spare: Spare, created_at: SystemTime, settings: Settings) -> Self {
        let Spare { dir, confines, init, .. } = spare;
        Self {
            key,
            dir,
            created_at,
            gate: Gate::default(),
            confines,
            settings: Mutex::new(settings),
            init: tokio::sync::Mutex::new(InitSlot { init: Some(init), ended: false }),
            paper: Mutex::default(),
            execs: AtomicU64::new(0),
        }
    }

    /// The host user, and group, that everything in it belongs to, where that is not the daemon's own.
    pub fn host_uid(&self) -> Option<u32> {
        self.dir.uid()
    }

    /// Its settings as they are now.
    pub fn settings(&self) -> Settings {
        self.lock().clone()
    }

    /// Changes the settings and gives them as they are then.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = self.lock();
        change(&mut settings);
        settings.clone()
    }

    /// When it expires, by the boot clock.
    pub fn deadline(&self) -> Duration {
        self.lock().deadline
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what a later daemon needs to know. Touches the disk: not for the async threads.
    ///
    /// # Errors
    /// As the file system's.
    pub fn save(&self) -> std::io::Result<()> {
        let paper = self.paper.lock().unwrap_or_else(PoisonError::into_inner);
        // What is being deleted stays so on paper, whoever touches it meanwhile.
        if paper.deleting { Ok(()) } else { Manifest::of(self, false).write(self.dir.fd()) }
    }

    /// Writes down that its deletion has begun, so that no later daemon brings back half of it.
    ///
    /// # Errors
    /// As the file system's.
    pub fn save_deleting(&self) -> std::io::Result<()> {
        let mut paper = self.paper.lock().unwrap_or_else(PoisonError::into_inner);
        paper.deleting = true;
        Manifest::of(self, true).write(self.dir.fd())
    }

    /// Its init, started now where there is none or the last one died.
    ///
    /// # Errors
    /// Why no init could be started.
    pub async fn init(&self, engine: &Engine) -> Result<Arc<Init>, EngineError> {
        let mut slot = self.init.lock().await;
        if let Some(init) = slot.init.as_ref().filter(|init| init.is_alive()) {
            return Ok(Arc::clone(init));
        }
        if slot.ended {
            return Err(EngineError::SandboxEnded);
        }
        // What ran under the last one ends before anything runs under the next.
        if let Some(dead) = slot.init.take() {
            dead.cleared().await;
        }
        let network = self.lock().network;
        let init = start_init(engine, &self.confines, &self.dir, network).await?;
        slot.init = Some(Arc::clone(&init));
        Ok(init)
    }

    /// Whether it has an init that lives, or is just being given one.
    pub fn has_init(&self) -> bool {
        self.init
            .try_lock()
            .map_or(true, |slot| slot.init.as_ref().is_some_and(|init| init.is_alive()))
    }

    /// Whether it is being deleted, or has been.
    pub fn is_ended(&self) -> bool {
        // Whoever holds it is starting an init, so it is not.
        self.init.try_lock().is_ok_and(|slot| slot.ended)
    }

    /// Ends everything that runs in it or moves its files, waits until that is done, and lets nothing be started again.
    pub async fn end(&self) {
        let end_init = async {
            let init = {
                let mut slot = self.init.lock().await;
                slot.ended = true;
                slot.init.take()
            };
            let confines = Arc::clone(&self.confines);
            // With a quota of processor time even dying takes its time.
            let _ = spawn_blocking(move || confines.let_go()).await;
            if let Some(init) = init {
                init.end().await;
            }
            let confines = Arc::clone(&self.confines);
            let _ = spawn_blocking(move || confines.give_up()).await;
        };
        tokio::join!(end_init, self.gate.close());
    }

    /// Counts a command for as long as the guard lives.
    pub fn running(self: &Arc<Self>) -> Running {
        self.execs.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// Commands running now that a client waits for.
    pub fn execs(&self) -> u64 {
        self.execs.load(Ordering::Relaxed)
    }

    /// What it takes up now. Looks at every file and process: not for the async threads.
    pub fn usage(&self) -> Usage {
        // Nothing, where it has just been removed.
        let disk = tree::usage(self.dir.fd()).unwrap_or_default();
        // Busy starting an init means that nothing runs yet.
        let init = self.init.try_lock().ok();
        // The number of a dead one may be somebody else's by now.
        let init = init.and_then(|slot| {
            let alive = slot.init.as_ref().filter(|init| init.is_alive());
            alive.map(|init| (init.pid(), init.is_quiet()))
        });
        let mut usage =
            Usage { disk_bytes: disk.disk_bytes, inodes: disk.inodes, ..Usage::default() };
        if let Some((init, false)) = init {
            (usage.processes, usage.memory_bytes) = limits::usage_below(init);
        }
        // What the kernel counts, files in memory and what is shared once among it.
        if let Some(bytes) = self.confines.usage().and_then(|counted| counted.memory_bytes) {
            usage.memory_bytes = bytes;
        }
        usage
    }
}

/// Starts an init in a sandbox's directory, held to its limits.
///
/// # Errors
/// Why there is none; then nothing of it is left but the control group.
pub(crate) async fn start_init(
    engine: &Engine,
    confines: &Arc<Confines>,
    dir: &SandboxDir,
    network: Network,
) -> Result<Arc<Init>, EngineError> {
    let directory = dir::c_path(dir.path());
    let directory = directory.map_err(|e| EngineError::os("name the sandbox's directory", e))?;
    // A thread of its own costs two turns on processors that may all be busy, so only where something waits.
    let rlimits = if confines.enforcers().counts_by_hand() {
        let limiting = Arc::clone(confines);
        let counted = spawn_blocking(move || limiting.rlimits()).await;
        // Only while the runtime ends.
        counted.map_err(|_| EngineError::SandboxEnded)?
    } else {
        confines.rlimits()
    };
    let spec =
        InitSpec { directory, host_id: dir.uid(), host_network: network == Network::Host, rlimits };
    let (preparing, taking) = (Arc::clone(confines), Arc::clone(confines));
    let has_groups = confines.enforcers().groups.is_some();
    let prepared = has_groups.then(|| spawn_blocking(move || preparing.prepare()));
    let hold = async move |pid| {
        let Some(prepared) = prepared else {
            return flatten(Ok(taking.take_in(pid)));
        };
        flatten(prepared.await)?;
        flatten(spawn_blocking(move || taking.take_in(pid)).await)
    };
    engine.spawn_init(spec, hold).await
}

/// What a task of our own came to.
fn flatten(outcome: Result<Result<(), CgroupError>, JoinError>) -> Result<(), EngineError> {
    match outcome {
        Ok(done) => done.map_err(|error| EngineError::os("limit the sandbox", error)),
        // Only while the runtime ends.
        Err(_) => Err(EngineError::SandboxEnded),
    }
}

/// A command that counts as running.
#[derive(Debug)]
pub struct Running(Arc<Sandbox>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.execs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The directory that sandboxes are kept in, and whose they are.
#[derive(Debug, Clone)]
pub struct Base<'a> {
    /// Where `noxrunner_sandbox_*` are.
    pub path: &'a Path,
    /// The daemon's own user id.
    pub uid: u32,
    /// The users that its sandboxes have; none where they are the daemon's own.
    pub uids: Option<&'a Uids>,
    /// Whether they come in by its path, since sandboxes have no mount tree.
    pub reachable: bool,
    /// What they may use.
    pub limits: &'a Limiting,
}
