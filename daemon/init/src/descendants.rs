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

/// What is known to belong to the command that `leader` leads: its descendants,
/// whatever is left in its session, and theirs. What left that session and was orphaned is not found.
fn command(leader: Pid) -> Vec<Pid> {
    let belongs = |pid: &Pid| *pid == leader || getsid(Some(*pid)) == Ok(leader);
    let roots: Vec<Pid> = trees(children(getpid())).into_iter().filter(belongs).collect();
    trees(roots)
}

/// Sends a signal to all that is known to belong to a command. With SIGKILL,
/// nothing escapes by forking meanwhile.
pub(crate) fn signal_command(leader: Pid, signal: Signal) {
    if signal == Signal::SIGKILL {
        kill_found(|| command(leader), QUIET_LOOKS);
        return;
    }
    for pid in command(leader) {
        let _ = kill(pid, signal);
    }
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
        while sys::reap().is_some() {}
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
