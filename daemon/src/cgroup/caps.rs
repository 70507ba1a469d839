//! Limits, written where the kernel looks for them.

use nix::errno::Errno;

use super::group::{Caps, Group};
use super::hierarchy::{Parent, Version};
use super::{CgroupError, Controller};

/// The period of a quota of cpu, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;

/// The smallest quota that the kernel takes, in microseconds.
const LEAST_QUOTA: u64 = 1_000;

/// More tasks than the kernel ever has (`PID_MAX_LIMIT`, 2^22).
const PIDS_WITHOUT_LIMIT: u64 = 4_194_304;

impl Group {
    /// Sets the limits, in place of those that it has.
    ///
    /// # Errors
    /// [`CgroupError::NoController`] where a limit has nothing that would keep it, and
    /// [`CgroupError::MemoryInUse`] on version 1. Limits before the failed one are set.
    pub fn apply(&self, caps: &Caps) -> Result<(), CgroupError> {
        if let Some(parent) = self.needs(Controller::Pids, caps.pids)? {
            let pids = caps.pids.filter(|pids| *pids < PIDS_WITHOUT_LIMIT);
            parent.dir.write(&self.file("pids.max"), &number_or("max", pids))?;
        }
        if let Some(parent) = self.needs(Controller::Cpu, caps.cpu_millis)? {
            let quota = caps.cpu_millis.map(|millis| millis.saturating_mul(PERIOD / 1000));
            self.quota(parent, quota.map(|quota| quota.max(LEAST_QUOTA)))?;
        }
        if let Some(parent) = self.needs(Controller::Memory, caps.memory_bytes)? {
            match self.hierarchy().version {
                Version::V1 => self.memory_v1(parent, caps.memory_bytes)?,
                Version::V2 => self.memory_v2(parent, caps.memory_bytes)?,
            }
        }
        Ok(())
    }

    fn needs(
        &self,
        controller: Controller,
        cap: Option<u64>,
    ) -> Result<Option<&Parent>, CgroupError> {
        match (self.hierarchy().parent(controller), cap) {
            (None, Some(_)) => Err(CgroupError::NoController(controller)),
            (parent, _) => Ok(parent),
        }
    }

    fn quota(&self, parent: &Parent, quota: Option<u64>) -> Result<(), CgroupError> {
        match self.hierarchy().version {
            Version::V2 => {
                let value = format!("{} {PERIOD}", number_or("max", quota));
                parent.dir.write(&self.file("cpu.max"), &value)
            }
            Version::V1 => {
                let file = self.file("cpu.cfs_quota_us");
                match parent.dir.write(&file, &number_or("-1", quota)) {
                    // More than a group above has (sched-bwc.rst): then that one limits us.
                    Err(e) if e.errno() == Some(Errno::EINVAL) && quota.is_some() => {
                        parent.dir.write(&file, "-1")
                    }
                    written => written,
                }
            }
        }
    }

    fn memory_v2(&self, parent: &Parent, bytes: Option<u64>) -> Result<(), CgroupError> {
        let swap = if bytes.is_some() { "0" } else { "max" };
        // Not there where the kernel does not count swap.
        optional(parent.dir.write(&self.file("memory.swap.max"), swap))?;
        parent.dir.write(&self.file("memory.max"), &number_or("max", bytes))
    }

    /// The limit of memory with swap is never below that of memory alone: going
    /// up it has to go first, going down last.
    fn memory_v1(&self, parent: &Parent, bytes: Option<u64>) -> Result<(), CgroupError> {
        let (alone, with_swap) =
            (self.file("memory.limit_in_bytes"), self.file("memory.memsw.limit_in_bytes"));
        let value = number_or("-1", bytes);
        let set = |file: &str| match (parent.dir.write(file, &value), bytes) {
            (Err(e), Some(limit)) if e.errno() == Some(Errno::EBUSY) => {
                let path = parent.dir.path().join(self.name());
                Err(CgroupError::MemoryInUse { path, limit })
            }
            (written, _) => written,
        };
        match set(&alone) {
            Err(e) if e.errno() == Some(Errno::EINVAL) => {
                optional(set(&with_swap))?;
                set(&alone)
            }
            Err(e) => Err(e),
            Ok(()) => optional(set(&with_swap)),
        }
    }
}

fn number_or(none: &str, number: Option<u64>) -> String {
    number.map_or_else(|| none.to_owned(), |number| number.to_string())
}

/// A file that is not on every kernel.
fn optional(written: Result<(), CgroupError>) -> Result<(), CgroupError> {
    match written {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
        written => written,
    }
}
