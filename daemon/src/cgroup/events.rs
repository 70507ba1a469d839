//! What limits have done: counted, and told of where the kernel does.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::unistd::{Whence, lseek, read};

use super::directory::errno_of;
use super::hierarchy::Version;
use super::text::keyed;
use super::{CgroupError, Controller, Group};

/// More than such a file has.
const USUAL: usize = 512;

/// What has happened in a group since it was made. Numbers only grow; 0 where
/// there is no controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// Processes that the kernel killed for want of memory, the group's or the machine's.
    pub oom_kills: u64,
    /// Forks that were refused. (pids.events: before Linux 6.11, and on version 1, those
    /// too that a limit of a group above refused; since then only the group's own limit.)
    pub pids_refused: u64,
}

/// The files that count events, kept open: two descriptors, and a tenth of the
/// time that opening them takes. They do not keep the group from being removed.
#[derive(Debug)]
pub struct Counters {
    memory: Option<Counter>,
    pids: Option<Counter>,
}

#[derive(Debug)]
struct Counter {
    file: File,
    path: PathBuf,
    key: &'static str,
}

impl Counters {
    /// What the limits have done so far.
    ///
    /// # Errors
    /// As read(2); `ENODEV` where the group has been removed.
    pub fn events(&self) -> Result<Events, CgroupError> {
        let count = |counter: &Option<Counter>| counter.as_ref().map_or(Ok(0), Counter::read);
        Ok(Events { oom_kills: count(&self.memory)?, pids_refused: count(&self.pids)? })
    }
}

impl Counter {
    fn read(&self) -> Result<u64, CgroupError> {
        let mut text = [0; USUAL];
        let read = self.file.read_at(&mut text, 0).map_err(|e| CgroupError::Io {
            step: "read",
            path: self.path.clone(),
            errno: errno_of(&e),
        })?;
        let text = String::from_utf8_lossy(&text[..read]);
        keyed(&text, self.key).ok_or_else(|| CgroupError::Garbled {
            path: self.path.clone(),
            text: text.into_owned(),
        })
    }
}

impl Group {
    /// What the limits have done so far. [`Group::counters`] is cheaper when asked often.
    ///
    /// # Errors
    /// As open(2) and read(2); `ENOENT` where somebody removed the group.
    pub fn events(&self) -> Result<Events, CgroupError> {
        self.counters()?.events()
    }

    /// Opens what counts events.
    ///
    /// # Errors
    /// As open(2).
    pub fn counters(&self) -> Result<Counters, CgroupError> {
        let memory = match self.hierarchy().version {
            // Linux 4.13 added the count.
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        Ok(Counters {
            memory: self.counter(Controller::Memory, memory, "oom_kill")?,
            pids: self.counter(Controller::Pids, "pids.events", "max")?,
        })
    }

    fn counter(
        &self,
        controller: Controller,
        file: &str,
        key: &'static str,
    ) -> Result<Option<Counter>, CgroupError> {
        let Some(parent) = self.hierarchy().parent(controller) else { return Ok(None) };
        let file = self.file(file);
        let path = parent.dir.path().join(&file);
        Ok(Some(Counter { file: parent.dir.reader(&file)?.into(), path, key }))
    }

    /// A descriptor that has `EPOLLPRI` when a fork was refused, until it is
    /// [rearmed](rearm). `None` without the controller, and on version 1: there
    /// Linux counts and does not notify (6.18).
    ///
    /// # Errors
    /// As open(2).
    pub fn pids_watch(&self) -> Result<Option<OwnedFd>, CgroupError> {
        self.watch(Controller::Pids, "pids.events")
    }

    /// The same for what happens to the group's memory, which is more than kills.
    /// `None` on version 1, where `cgroup.event_control` tells of it before it has happened.
    ///
    /// # Errors
    /// As open(2).
    pub fn oom_watch(&self) -> Result<Option<OwnedFd>, CgroupError> {
        self.watch(Controller::Memory, "memory.events")
    }

    fn watch(&self, controller: Controller, file: &str) -> Result<Option<OwnedFd>, CgroupError> {
        let parent = match self.hierarchy().version {
            Version::V1 => None,
            Version::V2 => self.hierarchy().parent(controller),
        };
        let Some(parent) = parent else { return Ok(None) };
        let file = self.file(file);
        let watch = parent.dir.reader(&file)?;
        rearm(&watch).map_err(|errno| parent.dir.error("read", &file, errno))?;
        Ok(Some(watch))
    }
}

/// Makes a watch ready for the next change, as reading the file does (poll of
/// kernfs files). What it counts is [`Group::events`]' to say.
///
/// # Errors
/// As read(2); `ENODEV` when the group has been removed.
pub fn rearm(watch: impl AsFd) -> nix::Result<()> {
    lseek(watch.as_fd(), 0, Whence::SeekSet)?;
    read(watch.as_fd(), &mut [0; 512]).map(drop)
}
