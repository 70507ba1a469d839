//! What a sandbox may use of the machine, and what keeps it to that.
//!
//! | file | what it holds |
//! |---|---|
//! | [`bounds`] | the numbers: what was asked for, and the policy's defaults |
//! | [`confines`] | one sandbox's: its control group, and why it was stopped |
//! | `processes` | what processes use, as /proc tells it |
//! | [`watch`] | looks now and then at what the kernel does not limit |
//!
//! | limit | with its controller | without |
//! |---|---|---|
//! | memory | the kernel kills a process | watch |
//! | cpu | a quota | none |
//! | pids | forks fail, and the watch stops the sandbox | watch, and forks fail a quarter above (rlimit) |
//! | storage, inodes | watch | watch |
//! | open files | rlimit | rlimit |
//!
//! A sandbox that is stopped loses all its processes and what is in its /dev/shm; its
//! files stay and the next command starts anew.

pub mod bounds;
pub mod confines;
mod processes;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use noxrunner_protocol::types::{EnforcedBy, LimitName, LimitStatus, Limits, Tier};

use crate::cgroup::{Controller, Hierarchy};
pub use bounds::{Bounds, Defaults};
pub use confines::{Confines, Stop};

/// What decides the limits of a daemon's sandboxes, and keeps them.
#[derive(Debug, Clone)]
pub struct Limiting {
    /// The limits of who does not ask.
    pub defaults: Defaults,
    /// What keeps them.
    pub enforcers: Arc<Enforcers>,
}

/// What there is to enforce limits with.
#[derive(Debug)]
pub struct Enforcers {
    /// The daemon's control groups, where it has any.
    pub groups: Option<Hierarchy>,
    /// Whether the kernel counts the processes of each sandbox by themselves (RLIMIT_NPROC).
    pub counts_processes: bool,
    /// Whether sandboxes have the user of the daemon: they share what the kernel counts by user.
    pub shares_user: bool,
    /// Where a sandbox has one of its own.
    pub has_shm: bool,
    /// How many sandboxes are watched now.
    watches: AtomicU32,
}

/// The most descriptors that a process has where sandboxes share the daemon's user. What is
/// queued in sockets counts by user, and above a program's own limit its own are refused:
/// `ETOOMANYREFS` of sendmsg(2). That of most programs is 1,024.
const OPEN_FILES_OF_SHARED_USER: u64 = 700;

impl Enforcers {
    /// What is there for sandboxes of a tier.
    pub fn new(groups: Option<Hierarchy>, tier: Tier, shares_user: bool) -> Self {
        let full = tier == Tier::Full;
        let counts_processes = !shares_user || (full && counts_by_namespace());
        let watches = AtomicU32::new(0);
        Self { groups, counts_processes, shares_user, has_shm: full, watches }
    }

    fn has(&self, controller: Controller) -> bool {
        self.groups.as_ref().is_some_and(|groups| groups.has(controller))
    }

    /// Whether the kernel limits a sandbox's memory as a whole.
    pub fn limits_memory(&self) -> bool {
        self.has(Controller::Memory)
    }

    /// Whether somebody has to count the user's processes before an init is started.
    pub fn counts_by_hand(&self) -> bool {
        self.by(LimitName::Pids) == EnforcedBy::Watch
    }

    /// What enforces a limit.
    pub fn by(&self, name: LimitName) -> EnforcedBy {
        let or = |controller, other| if self.has(controller) { EnforcedBy::Cgroup } else { other };
        match name {
            LimitName::Cpu => or(Controller::Cpu, EnforcedBy::None),
            LimitName::Memory => or(Controller::Memory, EnforcedBy::Watch),
            LimitName::Pids if self.counts_processes => or(Controller::Pids, EnforcedBy::Rlimit),
            LimitName::Pids => or(Controller::Pids, EnforcedBy::Watch),
            LimitName::EphemeralStorage | LimitName::Inodes => EnforcedBy::Watch,
            LimitName::OpenFiles => EnforcedBy::Rlimit,
        }
    }

    /// The most descriptors that a process may have.
    pub fn open_files(&self, bounds: &Bounds) -> u64 {
        if self.shares_user {
            bounds.open_files.min(OPEN_FILES_OF_SHARED_USER)
        } else {
            bounds.open_files
        }
    }

    /// A sandbox's limits as the wire shows them: as they were asked for, where they were.
    pub fn status(&self, bounds: &Bounds, asked: &BTreeMap<LimitName, String>) -> Limits {
        let names = [
            (LimitName::Cpu, cores(bounds.cpu_millis)),
            (LimitName::Memory, bounds.memory.to_string()),
            (LimitName::Pids, bounds.pids.to_string()),
            (LimitName::EphemeralStorage, bounds.storage.to_string()),
            (LimitName::Inodes, bounds.inodes.to_string()),
            (LimitName::OpenFiles, self.open_files(bounds).to_string()),
        ];
        let status = |(name, value)| {
            let enforced_by = self.by(name);
            let overshoot = overshoot(name, enforced_by).map(str::to_owned);
            // A default that nothing enforces is none.
            let default = (enforced_by != EnforcedBy::None).then_some(value);
            let value = asked.get(&name).cloned().or(default);
            (name, LimitStatus { value, enforced_by, overshoot })
        };
        names.into_iter().map(status).collect()
    }
}

/// Processes below an init and their resident memory in bytes; what they share counts for each.
pub fn usage_below(init: i32) -> (u64, u64) {
    let below: Vec<i32> = processes::all(init).into_iter().filter(|pid| *pid != init).collect();
    (below.len() as u64, processes::used(&below).resident)
}

/// How far a limit may be passed before that is noticed, in words.
fn overshoot(name: LimitName, by: EnforcedBy) -> Option<&'static str> {
    match (name, by) {
        (LimitName::Pids, EnforcedBy::Rlimit) => Some("a quarter and 8, for a tenth of a second"),
        (_, EnforcedBy::Cgroup | EnforcedBy::Rlimit | EnforcedBy::None) => None,
        (LimitName::Memory, EnforcedBy::Watch) => {
            Some("what is allocated within a tenth of a second")
        }
        (LimitName::Pids, EnforcedBy::Watch) => Some("what is forked within a tenth of a second"),
        (LimitName::EphemeralStorage | LimitName::Inodes, EnforcedBy::Watch) => {
            Some("what is written within a second, and longer where there are many files")
        }
        (LimitName::Cpu | LimitName::OpenFiles, EnforcedBy::Watch) => None,
    }
}

fn cores(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// Whether RLIMIT_NPROC is counted by user namespace: since Linux 5.14, getrlimit(2). Before, the
/// processes of the whole user on the host would count.
fn counts_by_namespace() -> bool {
    let Ok(uname) = nix::sys::utsname::uname() else { return false };
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (5, 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_groups_each_limit_says_what_holds_it() {
        let bounds = Bounds::of(&Default::default(), &Defaults::built_in());
        let by = |tier, shares_user, name| {
            let enforcers = Enforcers::new(None, tier, shares_user);
            enforcers.status(&bounds, &BTreeMap::new())[&name].enforced_by
        };
        for tier in [Tier::Full, Tier::Landlock, Tier::None] {
            for shares in [true, false] {
                assert_eq!(by(tier, shares, LimitName::Cpu), EnforcedBy::None);
                assert_eq!(by(tier, shares, LimitName::Memory), EnforcedBy::Watch);
                assert_eq!(by(tier, shares, LimitName::OpenFiles), EnforcedBy::Rlimit);
            }
            assert_eq!(by(tier, false, LimitName::Pids), EnforcedBy::Rlimit);
        }
        assert_eq!(by(Tier::Full, true, LimitName::Pids), EnforcedBy::Rlimit);
        assert_eq!(by(Tier::Landlock, true, LimitName::Pids), EnforcedBy::Watch);
        let shared = Enforcers::new(None, Tier::Full, true);
        assert_eq!(shared.open_files(&bounds), 700);
    }
}
