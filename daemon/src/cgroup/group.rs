//! The control group of one sandbox.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::hierarchy::{Inner, Parent, Version};
use super::killing::{Pauses, below, end_all};
use super::text::keyed;
use super::{CgroupError, Controller};

/// Limits of a group. `None` is no limit, other than what holds for the daemon itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// Memory in bytes, rounded down to whole pages. Nothing is swapped out on top of it.
    pub memory_bytes: Option<u64>,
    /// Time on processors in thousandths of one, in each 100 ms; at least 10.
    pub cpu_millis: Option<u64>,
    /// Processes and threads at a time.
    pub pids: Option<u64>,
}

/// What a group uses now. `None` where there is nothing that counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupUsage {
    /// Memory in bytes, with what the kernel keeps for it, page cache too.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Time on processors since the group was made, in microseconds.
    pub cpu_usec: Option<u64>,
}

/// A group that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotRemoved {
    /// The group, to be tried again.
    pub group: Group,
    /// Why.
    #[source]
    pub error: CgroupError,
}

/// A control group. Meant to be [removed](Group::remove).
#[derive(Debug)]
pub struct Group {
    hierarchy: Arc<Inner>,
    name: String,
    /// How many of its directories are removed.
    removed: usize,
}

impl Group {
    pub(super) fn new(hierarchy: Arc<Inner>, name: String) -> Self {
        Self { hierarchy, name, removed: 0 }
    }

    /// Its directories: one on version 2, one for each hierarchy on version 1.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.hierarchy.parents.iter().map(|parent| parent.dir.path().join(&self.name)).collect()
    }

    /// Moves a process in. Its children to come will be in it too; those it has are not moved.
    ///
    /// # Errors
    /// `ESRCH` where it has ended.
    pub fn add(&self, pid: Pid) -> Result<(), CgroupError> {
        let pid = pid.to_string();
        let mut parents = self.hierarchy.parents.iter();
        parents.try_for_each(|parent| parent.dir.write(&self.file("cgroup.procs"), &pid))
    }

    /// Memory, processes and processor time in use.
    ///
    /// # Errors
    /// As read(2); `ENODEV` or `ENOENT` where somebody removed the group.
    pub fn usage(&self) -> Result<GroupUsage, CgroupError> {
        let (memory, cpu) = match self.hierarchy.version {
            Version::V1 => ("memory.usage_in_bytes", None),
            Version::V2 => ("memory.current", Some("cpu.stat")),
        };
        let number = |controller, file| {
            let parent = self.hierarchy.parent(controller);
            parent.map(|parent| self.number(parent, file, None)).transpose()
        };
        let cpu_usec = match cpu {
            // There with or without the controller (cgroup-v2.rst).
            Some(file) => {
                let parent = self.hierarchy.parents.first();
                parent.map(|parent| self.number(parent, file, Some("usage_usec"))).transpose()?
            }
            None => {
                let parent = self.hierarchy.parents.iter().find(|parent| parent.counts_cpu);
                let nanos = parent.map(|parent| self.number(parent, "cpuacct.usage", None));
                nanos.transpose()?.map(|nanos| nanos / 1000)
            }
        };
        Ok(GroupUsage {
            memory_bytes: number(Controller::Memory, memory)?,
            processes: number(Controller::Pids, "pids.current")?,
            cpu_usec,
        })
    }

    /// Kills everything in the group and waits until it is empty. The group can
    /// be used again afterwards.
    ///
    /// # Errors
    /// [`CgroupError::StillAlive`] after `patience`: they are killed, and stuck in the kernel.
    pub fn kill(&self, patience: Duration) -> Result<(), CgroupError> {
        let deadline = Instant::now() + patience;
        let parents: Vec<_> = self.hierarchy.parents.iter().map(|parent| &parent.dir).collect();
        end_all(&parents, &self.name, deadline)
    }

    /// Removes the group, which must be empty. What is just ending is waited
    /// for as long as `patience`.
    ///
    /// # Errors
    /// `EBUSY` where processes are in it; the group comes back.
    pub fn remove(mut self, patience: Duration) -> Result<(), Box<NotRemoved>> {
        match self.clear(Instant::now() + patience) {
            Ok(()) => Ok(()),
            Err(error) => Err(Box::new(NotRemoved { group: self, error })),
        }
    }

    fn clear(&mut self, deadline: Instant) -> Result<(), CgroupError> {
        let mut pauses = Pauses::until(deadline);
        while let Some(parent) = self.hierarchy.parents.get(self.removed) {
            match parent.dir.remove(&self.name) {
                Ok(()) => self.removed += 1,
                // Somebody was faster.
                Err(e) if e.errno() == Some(Errno::ENOENT) => self.removed += 1,
                Err(e) if e.errno() == Some(Errno::EBUSY) && pauses.pause() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub(super) fn file(&self, name: &str) -> String {
        below(&self.name, name)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn hierarchy(&self) -> &Inner {
        &self.hierarchy
    }

    fn number(&self, parent: &Parent, file: &str, key: Option<&str>) -> Result<u64, CgroupError> {
        let file = self.file(file);
        let text = parent.dir.read(&file)?;
        let number = match key {
            Some(key) => keyed(&text, key),
            None => text.trim().parse().ok(),
        };
        number.ok_or_else(|| CgroupError::Garbled { path: parent.dir.path().join(&file), text })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = self.clear(Instant::now()) {
            tracing::warn!(%error, "a sandbox's control group is left");
        }
    }
}
