//! Killing everything in a group.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};

use super::CgroupError;
use super::directory::Directory;
use super::text::{keyed, pids};

/// Between two looks, at first and at the most. Processes mostly die at once.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// Pauses that get longer, until a deadline.
pub(super) struct Pauses {
    deadline: Instant,
    pause: Duration,
}

impl Pauses {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, pause: FIRST_PAUSE }
    }

    /// `false` if the deadline has passed.
    pub(super) fn pause(&mut self) -> bool {
        if Instant::now() >= self.deadline {
            return false;
        }
        sleep(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// A name below a group's.
pub(super) fn below(group: &str, file: &str) -> String {
    if group.is_empty() { file.to_owned() } else { format!("{group}/{file}") }
}

/// Kills all processes in `group`, a directory below `parent`, and waits until
/// none is left: by `cgroup.kill`, which forks do not escape (cgroup-v2.rst,
/// Linux 5.14). Without that it kills what it sees until it sees nothing,
/// while nothing can be forked if the directory has the controller pids.
///
/// # Errors
/// [`CgroupError::StillAlive`] when the deadline passes.
pub(super) fn end_all(
    parent: &Directory,
    group: &str,
    deadline: Instant,
) -> Result<(), CgroupError> {
    match parent.write(&below(group, "cgroup.kill"), "1") {
        Ok(()) => return until_empty(parent, group, deadline, false),
        Err(error) if error.errno() == Some(Errno::ENOENT) => {}
        Err(error) => return Err(error),
    }
    let limit = below(group, "pids.max");
    let before = match parent.read(&limit) {
        Ok(before) => Some(before),
        // Another hierarchy of version 1.
        Err(error) if error.errno() == Some(Errno::ENOENT) => None,
        Err(error) => return Err(error),
    };
    if before.is_some() {
        parent.write(&limit, "0")?;
    }
    let ended = until_empty(parent, group, deadline, true);
    let restored = before.map_or(Ok(()), |before| parent.write(&limit, before.trim()));
    ended.and(restored)
}

/// Looks until nobody is left, killing what it sees if told so.
fn until_empty(
    parent: &Directory,
    group: &str,
    deadline: Instant,
    killing: bool,
) -> Result<(), CgroupError> {
    let mut pauses = Pauses::until(deadline);
    loop {
        let processes = left(parent, group)?;
        if processes.is_empty() {
            return Ok(());
        }
        if killing {
            // 0 stands for a process that we do not see; kill(0) would be our own group. A pid
            // read a moment ago is still its process's: pids are given out in turn.
            for pid in processes.iter().filter(|pid| pid.as_raw() > 0) {
                // One that ended by itself is as good.
                let _ = kill(*pid, Signal::SIGKILL);
            }
        }
        if !pauses.pause() {
            let path = parent.path().join(group);
            return Err(CgroupError::StillAlive { path, processes: processes.len() });
        }
    }
}

/// Processes that have not ended. Version 2 says in one number that there are
/// none, and counts those too that are just ending.
fn left(parent: &Directory, group: &str) -> Result<Vec<nix::unistd::Pid>, CgroupError> {
    let events = parent.read(&below(group, "cgroup.events"));
    if events.is_ok_and(|events| keyed(&events, "populated") == Some(0)) {
        return Ok(Vec::new());
    }
    let list = parent.read(&below(group, "cgroup.procs"))?;
    Ok(pids(&list).collect())
}
