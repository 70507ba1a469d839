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
use nix::unistd::{Pid, getpid, getsid};

use crate::sys;

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

/// Stops the processes that `find` names, again and again until it names no new
/// one: a stopped process cannot fork, so the last list is the whole.
fn freeze(mut find: impl FnMut() -> Vec<Pid>) -> HashSet<Pid> {
    let mut frozen = HashSet::new();
    // Signals take a moment to arrive; what forks faster than this many passes
    // is caught by the callers' next round.
    for _ in 0..64 {
        let fresh: Vec<Pid> = find().into_iter().filter(|pid| !frozen.contains(pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            let _ = kill(pid, Signal::SIGSTOP);
            frozen.insert(pid);
        }
    }
    frozen
}

/// Kills these processes and everything below them, and nothing else.
pub(crate) fn kill_trees(roots: &[Pid]) {
    for pid in freeze(|| trees(roots.iter().copied())) {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// What is known to belong to the command that `leader` leads: its descendants,
/// whatever is left in its session, and theirs. What left that session and was orphaned is not found.
fn command(leader: Pid) -> Vec<Pid> {
    let belongs = |pid: &Pid| *pid == leader || getsid(Some(*pid)) == Ok(leader);
    let roots: Vec<Pid> = trees(children(getpid())).into_iter().filter(belongs).collect();
    trees(roots)
}

/// Sends a signal to all that is known to belong to a command. SIGKILL is
/// preceded by a freeze, so that nothing escapes by forking meanwhile.
pub(crate) fn signal_command(leader: Pid, signal: Signal) {
    let members = if signal == Signal::SIGKILL {
        freeze(|| command(leader))
    } else {
        command(leader).into_iter().collect()
    };
    for pid in members {
        let _ = kill(pid, signal);
    }
}

/// How long ending everything may take before this process gives up and leaves
/// the rest to the next subreaper.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills and reaps everything below this process. Says whether nothing is left.
pub(crate) fn kill_all(ended: &SignalFd) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let below = children(getpid());
        kill_trees(&below);
        while sys::reap().is_some() {}
        // What was orphaned by the reaping is below this process now.
        if children(getpid()).is_empty() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        let timeout = PollTimeout::from(20_u8);
        let _ = poll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], timeout);
        while let Ok(Some(_)) = ended.read_signal() {}
    }
}
