//! Finding and ending everything below this process.
//!
//! Without a pid namespace this is what "nothing outlives its sandbox" rests on: a
//! subreaper (prctl(2)) becomes the parent of whatever its descendants
//! orphan, so walking children finds all that is left.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpid};

use crate::sys::{self, Reaped};

/// The children of a process now, those of its every thread. Empty where it is gone.
///
/// Read from `/proc/PID/task/TID/children` (proc_pid_task_children(5)), which
/// is exact for processes that stand still.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|n| n.parse().ok()).map(Pid::from_raw));
    }
    found
}

/// Everything below these processes, themselves included. A process that moves
/// meanwhile may be missed or named twice.
pub fn trees(roots: impl IntoIterator<Item = Pid>) -> Vec<Pid> {
    let mut found: Vec<Pid> = roots.into_iter().collect();
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        found.extend(children(pid));
    }
    found
}

/// How many looks in a row must find nobody new before there is nobody. One
/// can miss a process whose parent ended between two reads.
const QUIET_LOOKS: u32 = 4;

/// Most rounds of a kill, and most looks of a round: what forks faster than
/// that must not hold its killer up, which has others to look after.
const ROUNDS: u32 = 32;
const LOOKS: u32 = 64;

/// Kills the processes that `find` names, and those that it goes on to name.
/// They are stopped first: what is stopped cannot fork, so the last list is the whole.
fn kill_found(find: impl Fn() -> Vec<Pid>, quiet_looks: u32) {
    // What was killed stays listed until it is reaped.
    let mut seen = HashSet::new();
    for _ in 0..ROUNDS {
        let mut stopped = Vec::new();
        let mut quiet = 0;
        for _ in 0..LOOKS {
            if quiet == quiet_looks {
                break;
            }
            let fresh: Vec<Pid> = find().into_iter().filter(|pid| seen.insert(*pid)).collect();
            quiet = if fresh.is_empty() { quiet + 1 } else { 0 };
            for pid in &fresh {
                let _ = kill(*pid, Signal::SIGSTOP);
            }
            stopped.extend(fresh);
        }
        if stopped.is_empty() {
            return;
        }
        for pid in stopped {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Kills these processes and everything below them, and nothing else. Who
/// calls it looks again: what was orphaned meanwhile is below this process then.
pub(crate) fn kill_trees(roots: &[Pid]) {
    kill_found(|| trees(roots.iter().copied()), 1);
}

/// The processes of one command: everything below a process but some of its children, and what is below those.
pub(crate) struct Kin {
    root: Pid,
    but: Vec<Pid>,
}

impl Kin {
    /// Everything below a process.
    pub(crate) fn below(root: Pid) -> Self {
        Self { root, but: Vec::new() }
    }

    /// Everything below this process but these children of its own and theirs.
    pub(crate) fn below_this(but: Vec<Pid>) -> Self {
        Self { root: getpid(), but }
    }

    fn members(&self) -> Vec<Pid> {
        trees(children(self.root).into_iter().filter(|child| !self.but.contains(child)))
    }

    /// Sends all of them a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        for pid in self.members() {
            let _ = kill(pid, signal);
        }
    }

    /// Kills them. They are looked for again and again, since they may fork meanwhile.
    pub(crate) fn kill(&self) {
        kill_found(|| self.members(), QUIET_LOOKS);
        self.wake_root();
    }

    /// Somebody inside may have stopped a supervisor, which is to tell of the end.
    fn wake_root(&self) {
        if self.root != getpid() {
            let _ = kill(self.root, Signal::SIGCONT);
        }
    }

    /// Kills them, where this process is the first of a pid namespace. Nobody in it moves meanwhile.
    pub(crate) fn kill_in_namespace(&self) {
        // All but this one, at once: a fork that has begun fails with the signal pending, kill(2).
        let everybody = Pid::from_raw(-1);
        if self.root == getpid() && self.but.is_empty() {
            let _ = kill(everybody, Signal::SIGKILL);
            return;
        }
        let all = || trees(children(getpid()));
        let stopped: HashSet<Pid> = all().into_iter().filter(|pid| is_stopped(*pid)).collect();
        let _ = kill(everybody, Signal::SIGSTOP);
        let mut killed = HashSet::new();
        let mut quiet = 0;
        // A second look, since of several threads only one may have stopped by the first.
        for _ in 0..LOOKS {
            if quiet == QUIET_LOOKS {
                break;
            }
            let fresh: Vec<Pid> =
                self.members().into_iter().filter(|pid| killed.insert(*pid)).collect();
            quiet = if fresh.is_empty() { quiet + 1 } else { 0 };
            for pid in fresh {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        for pid in all() {
            if !killed.contains(&pid) && !stopped.contains(&pid) {
                let _ = kill(pid, Signal::SIGCONT);
            }
        }
        self.wake_root();
    }
}

/// Whether a process is stopped, proc_pid_stat(5).
fn is_stopped(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it is in brackets and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// How long ending everything may take before this process gives up and leaves
/// the rest to the next subreaper.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills and reaps everything below this process. Says whether nothing is left.
pub(crate) fn kill_all(ended: &SignalFd) -> bool {
    // Most have nothing against it, and without them the rest is found sooner.
    for pid in trees(children(getpid())) {
        let _ = kill(pid, Signal::SIGKILL);
    }
    let deadline = Instant::now() + PATIENCE;
    // A moment for the dead to be reaped, then for what forked away meanwhile.
    while !all_end_within(ended, Duration::from_millis(20)) {
        if Instant::now() > deadline {
            return false;
        }
        kill_trees(&children(getpid()));
    }
    true
}

/// Reaps children until none is left, for no longer than that. Says whether none is left.
pub(crate) fn all_end_within(ended: &SignalFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        while let Reaped::Child(..) = sys::reap() {}
        if children(getpid()).is_empty() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], timeout);
        while let Ok(Some(_)) = ended.read_signal() {}
    }
}
