//! What keeps one sandbox to its limits.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::Pid;
use noxrunner_init::message::Rlimits;
use noxrunner_protocol::types::{EnforcedBy, LimitName};

use super::{Bounds, Enforcers, processes};
use crate::cgroup::{Caps, CgroupError, Controller, Events, Group};

/// Why the daemon stopped everything in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It used more memory than it may.
    Memory,
    /// It had as many processes as it may.
    Processes,
    /// Its files took up more than they may.
    Storage,
    /// There were more of them.
    Inodes,
    /// The disk that sandboxes are on is nearly full.
    DiskFull,
}

/// The limits of one sandbox and what they are enforced with.
#[derive(Debug)]
pub struct Confines {
    enforcers: Arc<Enforcers>,
    state: Mutex<State>,
    /// Processes killed for want of memory that somebody knows about.
    oom_seen: AtomicU64,
    /// Forks refused by the control group that somebody knows about.
    refused_seen: AtomicU64,
    /// The init that a watch is on; 0 where there is none.
    pub(super) watched: AtomicI32,
    /// What its files took up when they were more than they may be.
    pub(super) over: Over,
}

/// Bytes and inodes, where they are too many.
#[derive(Debug, Default)]
pub(super) struct Over(Mutex<Option<(u64, u64)>>);

impl Over {
    pub(super) fn get(&self) -> Option<(u64, u64)> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, over: Option<(u64, u64)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = over;
    }
}

#[derive(Debug)]
struct State {
    bounds: Bounds,
    group: Option<Group>,
    /// The init that was killed, and why.
    stopped: Option<(i32, Stop)>,
}

/// Processes that the user of the daemon may start meanwhile, before a sandbox's forks fail.
const MARGIN: u64 = 256;

/// How long what was killed may take to leave its control group.
const LEAVING: Duration = Duration::from_secs(2);

impl Confines {
    /// Those of a sandbox in which nothing runs yet.
    pub fn new(enforcers: Arc<Enforcers>, bounds: Bounds) -> Self {
        Self {
            enforcers,
            state: Mutex::new(State { bounds, group: None, stopped: None }),
            oom_seen: AtomicU64::new(0),
            refused_seen: AtomicU64::new(0),
            watched: AtomicI32::new(0),
            over: Over::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What enforces them.
    pub fn enforcers(&self) -> &Enforcers {
        &self.enforcers
    }

    /// The same, for who outlives it.
    pub(super) fn shared_enforcers(&self) -> Arc<Enforcers> {
        Arc::clone(&self.enforcers)
    }

    /// The limits.
    pub fn bounds(&self) -> Bounds {
        self.lock().bounds
    }

    /// Gives it other limits, which hold at once where a control group enforces them and otherwise
    /// from its next init on. Writes to cgroup files: not for the async threads.
    ///
    /// # Errors
    /// As [`Group::apply`]; then those that it had stay.
    pub fn change(&self, bounds: Bounds) -> Result<(), CgroupError> {
        let mut state = self.lock();
        if let Some(group) = &state.group
            && let Err(error) = group.apply(&self.caps(&bounds))
        {
            // One that cannot be put back was in force a moment ago, or fails at the next command.
            let _ = group.apply(&self.caps(&state.bounds));
            return Err(error);
        }
        state.bounds = bounds;
        Ok(())
    }

    fn caps(&self, bounds: &Bounds) -> Caps {
        let with = |controller, value| self.enforcers.has(controller).then_some(value);
        Caps {
            memory_bytes: with(Controller::Memory, bounds.memory),
            cpu_millis: with(Controller::Cpu, bounds.cpu_millis),
            pids: with(Controller::Pids, bounds.pids),
        }
    }

    /// What its init and its commands are limited to by themselves. Looks at every process of the
    /// machine where nothing else counts them: not for the async threads.
    pub fn rlimits(&self) -> Rlimits {
        let bounds = self.bounds();
        let processes = match self.enforcers.by(LimitName::Pids) {
            EnforcedBy::Rlimit => Some(bounds.pids_with_room()),
            // All of the user's count, whose own are to find room whatever a sandbox does.
            EnforcedBy::Watch => Some(processes::of_this_user() + bounds.pids_with_room() + MARGIN),
            EnforcedBy::Cgroup | EnforcedBy::None => None,
        };
        Rlimits {
            processes,
            open_files: self.enforcers.open_files(&bounds),
            file_bytes: bounds.storage,
            shm_bytes: bounds.shm(),
        }
    }

    /// Makes its control group ready, where there are any. Not for the async threads.
    ///
    /// # Errors
    /// As [`Hierarchy::make`](crate::cgroup::Hierarchy::make) and [`Group::apply`].
    pub fn prepare(&self) -> Result<(), CgroupError> {
        let Some(groups) = &self.enforcers.groups else { return Ok(()) };
        let mut state = self.lock();
        if state.group.is_none() {
            let group = groups.make()?;
            group.apply(&self.caps(&state.bounds))?;
            state.group = Some(group);
        }
        Ok(())
    }

    /// Takes in an init that has no children yet. Not for the async threads.
    ///
    /// # Errors
    /// As [`Group::add`].
    pub fn take_in(&self, init: i32) -> Result<(), CgroupError> {
        // It says so itself; from outside, where that may be done, nobody in there can take it back
        // (proc_pid_oom_score_adj(5), CAP_SYS_RESOURCE).
        let _ = std::fs::write(format!("/proc/{init}/oom_score_adj"), "1000");
        match &self.lock().group {
            Some(group) => group.add(Pid::from_raw(init)),
            None => Ok(()),
        }
    }

    /// Lets what is killed die without a quota of processor time. Not for the async threads.
    pub fn let_go(&self) {
        let state = self.lock();
        if let Some(group) = &state.group {
            let caps = Caps { cpu_millis: None, ..self.caps(&state.bounds) };
            if let Err(error) = group.apply(&caps) {
                tracing::debug!(%error, "a quota stays");
            }
        }
    }

    /// Removes its control group, when nothing runs in it any more. Not for the async threads.
    pub fn give_up(&self) {
        let Some(group) = self.lock().group.take() else { return };
        if let Err(left) = group.remove(LEAVING) {
            tracing::error!(%left, "cannot remove a sandbox's control group");
        }
    }

    /// What its control group counts, where it has one.
    pub fn usage(&self) -> Option<crate::cgroup::GroupUsage> {
        self.lock().group.as_ref().and_then(|group| group.usage().ok())
    }

    /// What its control group has seen.
    pub(super) fn events(&self) -> Events {
        let state = self.lock();
        let events = state.group.as_ref().and_then(|group| group.events().ok());
        events.unwrap_or_default()
    }

    /// Whether the kernel has killed a process of it for want of memory since somebody last asked.
    pub fn ran_out_of_memory(&self) -> bool {
        if !self.enforcers.limits_memory() {
            return false;
        }
        let kills = self.events().oom_kills;
        self.oom_seen.swap(kills, Ordering::Relaxed) < kills
    }

    /// Whether its control group has refused forks since somebody last asked.
    pub(super) fn refused_forks(&self) -> bool {
        let refused = self.events().pids_refused;
        self.refused_seen.swap(refused, Ordering::Relaxed) < refused
    }

    /// Notes why everything below an init is stopped: before the daemon does it, or after the kernel has.
    pub fn stop(&self, init: i32, why: Stop) {
        self.lock().stopped = Some((init, why));
        if self.over.get().is_some() {
            // What it still writes until it is dead is not held against who comes to tidy up.
            self.over.set(Some((u64::MAX, u64::MAX)));
        }
    }

    /// Why everything below an init was stopped, if it was.
    pub fn why_stopped(&self, init: i32) -> Option<Stop> {
        self.lock().stopped.filter(|(stopped, _)| *stopped == init).map(|(_, why)| why)
    }
}
