//! Killing everything in a group.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::CgroupError;
use super::directory::Directory;
use super::text::{keyed, pids};

/// Between two looks, at first and at the most. Processes mostly die at once.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// Quotas of cpu, and none: a process needs time to die, and before Linux 6.18
/// it does not get more of it than its group.
const QUOTAS: [(&str, &str); 2] = [("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")];

/// Nothing can be forked.
const NO_FORKS: (&str, &str) = ("pids.max", "0");

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

/// Kills all processes of `group`, which is a directory below each of
/// `parents`, and waits until none is left: by `cgroup.kill`, which forks do
/// not escape (cgroup-v2.rst, Linux 5.14). Without that it kills what it sees
/// until it sees nothing, and lets nothing be forked where there is the controller pids.
///
/// # Errors
/// [`CgroupError::StillAlive`] when the deadline passes.
pub(super) fn end_all(
    parents: &[&Directory],
    group: &str,
    deadline: Instant,
) -> Result<(), CgroupError> {
    let with_pids = parents.iter().find(|parent| parent.has(&below(group, NO_FORKS.0)));
    let Some(parent) = with_pids.or(parents.first()) else { return Ok(()) };
    if left(parent, group)?.is_empty() {
        return Ok(());
    }
    let mut changed: Vec<_> = parents
        .iter()
        .flat_map(|parent| QUOTAS.iter().filter_map(|quota| Changed::set(parent, group, *quota)))
        .collect();
    let ended = match parent.write(&below(group, "cgroup.kill"), "1") {
        Ok(()) => until_empty(parent, group, deadline, false),
        Err(error) if error.errno() == Some(Errno::ENOENT) => {
            changed.extend(Changed::set(parent, group, NO_FORKS));
            until_empty(parent, group, deadline, true)
        }
        Err(error) => Err(error),
    };
    changed.into_iter().map(Changed::back).fold(ended, Result::and)
}

/// A limit that is another one for a moment.
struct Changed<'a> {
    parent: &'a Directory,
    file: String,
    before: String,
}

impl<'a> Changed<'a> {
    /// `None` where there is no such limit, or none that we may change: then
    /// killing may take longer.
    fn set(parent: &'a Directory, group: &str, (file, value): (&str, &str)) -> Option<Self> {
        let file = below(group, file);
        let before = parent.read(&file).ok()?;
        parent.write(&file, value).ok()?;
        Some(Self { parent, file, before })
    }

    fn back(self) -> Result<(), CgroupError> {
        self.parent.write(&self.file, self.before.trim())
    }
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

/// Processes that have not ended. Version 2 says in one number that there are none.
fn left(parent: &Directory, group: &str) -> Result<Vec<Pid>, CgroupError> {
    let events = parent.read(&below(group, "cgroup.events"));
    if events.is_ok_and(|events| keyed(&events, "populated") == Some(0)) {
        return Ok(Vec::new());
    }
    let list = parent.read_all(&below(group, "cgroup.procs"))?;
    Ok(pids(&list).collect())
}
