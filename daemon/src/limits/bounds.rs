//! How much a sandbox may use.

use std::collections::BTreeMap;

use noxrunner_protocol::quantity::Quantity;
use noxrunner_protocol::types::{CreateParams, LimitName};

use crate::cgroup::Hierarchy;

/// The limits of who does not ask for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Memory, in bytes.
    pub memory: u64,
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Storage, in bytes.
    pub storage: u64,
    /// Files and directories.
    pub inodes: u64,
    /// Descriptors of a process.
    pub open_files: u64,
}

/// The smallest memory limit that is taken, in bytes: init and a shell fit.
pub const LEAST_MEMORY: u64 = 4 << 20;

/// The fewest processes that are taken: init, a shell and what it starts.
pub const LEAST_PIDS: u32 = 4;

/// The fewest descriptors of a process that are taken: a shell needs some above the standard three.
pub const LEAST_OPEN_FILES: u64 = 16;

/// The smallest cpu limit that is taken, in thousandths of a core (cgroups have a millisecond in 100).
pub const LEAST_CPU_MILLIS: u64 = 10;

impl Defaults {
    /// Where the policy says nothing: half of the memory, all processors but one, and more of the
    /// rest than honest work takes.
    pub fn built_in() -> Self {
        let memory = nix::sys::sysinfo::sysinfo().map_or(2 << 30, |info| info.ram_total() / 2);
        Self {
            memory: memory.max(256 << 20),
            cpu_millis: Hierarchy::default_cpu_millis(),
            pids: 1024,
            storage: 10 << 30,
            inodes: 1_000_000,
            open_files: 4096,
        }
    }
}

/// The limits of one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Memory, in bytes.
    pub memory: u64,
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Storage in all its places, in bytes.
    pub storage: u64,
    /// Files and directories in all its places.
    pub inodes: u64,
    /// Descriptors of a process.
    pub open_files: u64,
}

impl Bounds {
    /// What was asked for, and the defaults where nothing was. What cannot be read, in a manifest
    /// that somebody wrote, was not asked for.
    pub fn of(asked: &BTreeMap<LimitName, String>, defaults: &Defaults) -> Self {
        let quantity = |name| asked.get(&name)?.parse::<Quantity>().ok();
        let or = |amount: Option<u128>, default: u64| {
            amount.map_or(default, |amount| u64::try_from(amount).unwrap_or(u64::MAX))
        };
        let units = |name, default| or(quantity(name).map(|q| q.units()), default);
        let cpu = quantity(LimitName::Cpu).map(|q| q.milli());
        Self {
            memory: units(LimitName::Memory, defaults.memory).max(LEAST_MEMORY),
            cpu_millis: or(cpu, defaults.cpu_millis).max(LEAST_CPU_MILLIS),
            pids: units(LimitName::Pids, defaults.pids),
            storage: units(LimitName::EphemeralStorage, defaults.storage),
            inodes: units(LimitName::Inodes, defaults.inodes),
            open_files: units(LimitName::OpenFiles, defaults.open_files),
        }
    }

    /// Processes and threads that the kernel lets it have where it only refuses (RLIMIT_NPROC) and counts no
    /// refusals: at the limit itself a fork bomb, which dies as fast as it forks, is seldom seen to be there.
    pub fn pids_with_room(&self) -> u64 {
        self.pids.saturating_add(self.pids / 4).saturating_add(8)
    }

    /// The size of its /dev/shm, in bytes. What is in it is memory, and stays when
    /// the process that wrote it has been killed for want of some.
    pub fn shm(&self) -> u64 {
        (self.memory / 2).min(64 << 20)
    }
}

/// Limits that are too small to start anything with are refused, not raised.
///
/// # Errors
/// Which one, in words.
pub fn check(params: &CreateParams) -> Result<(), String> {
    if params.pids_limit.is_some_and(|pids| pids < LEAST_PIDS) {
        return Err(format!("pidsLimit must be at least {LEAST_PIDS}: init is one of them"));
    }
    if params.memory_limit.as_ref().is_some_and(|q| q.units() < u128::from(LEAST_MEMORY)) {
        return Err(format!("memoryLimit must be at least {}Mi", LEAST_MEMORY >> 20));
    }
    if params.cpu_limit.as_ref().is_some_and(|q| q.milli() < u128::from(LEAST_CPU_MILLIS)) {
        return Err(format!("cpuLimit must be at least {LEAST_CPU_MILLIS}m"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_the_rest_is_the_default() {
        let defaults = Defaults::built_in();
        let asked = [
            (LimitName::Cpu, "1500m"),
            (LimitName::Memory, "1Gi"),
            (LimitName::Pids, "12"),
            (LimitName::Inodes, "nonsense"),
        ];
        let asked = asked.into_iter().map(|(name, text)| (name, text.to_owned())).collect();
        let bounds = Bounds::of(&asked, &defaults);
        assert_eq!(bounds.cpu_millis, 1500);
        assert_eq!((bounds.memory, bounds.pids), (1 << 30, 12));
        assert_eq!((bounds.inodes, bounds.storage), (defaults.inodes, defaults.storage));
        assert_eq!(bounds.shm(), 64 << 20);
        let small = [(LimitName::Memory, "1".to_owned())].into();
        assert_eq!(Bounds::of(&small, &defaults).shm(), LEAST_MEMORY / 2);
    }
}
