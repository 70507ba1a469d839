//! What can go wrong.

use std::path::PathBuf;

use nix::errno::Errno;

use super::Controller;
use super::hierarchy::Version;

/// Why something could not be done with a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CgroupError {
    /// A system call failed.
    #[error("cannot {step} {}: {}", path.display(), errno.desc())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        errno: Errno,
    },
    /// The kernel's file holds something that we do not understand.
    #[error("{} holds {text:?}, which is not what the kernel documents", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// What is in it.
        text: String,
    },
    /// A limit was asked for that nothing here enforces.
    #[error("the controller {0} is not there")]
    NoController(Controller),
    /// Version 1 does not take a limit of memory below what is in use and
    /// cannot be reclaimed; version 2 does, and kills.
    #[error("{} cannot be limited to {limit} bytes: more is in use", path.display())]
    MemoryInUse {
        /// The group.
        path: PathBuf,
        /// The limit that was asked for, in bytes.
        limit: u64,
    },
    /// Killed processes have not ended in time.
    #[error("{processes} killed processes in {} do not end", path.display())]
    StillAlive {
        /// The group.
        path: PathBuf,
        /// How many are left.
        processes: usize,
    },
}

impl CgroupError {
    /// How the system call failed, where it is one that did.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { errno, .. } => Some(*errno),
            Self::Garbled { .. }
            | Self::NoController(_)
            | Self::MemoryInUse { .. }
            | Self::StillAlive { .. } => None,
        }
    }
}

/// Why the daemon has no control groups. What would mend it says
/// [`Unavailable::missing`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no control group file system with the controller.
    #[error("no cgroup file system with a controller for memory, cpu or pids is mounted")]
    NotMounted,
    /// The daemon's own group is outside of what is mounted.
    #[error("the daemon's own control group is not below any mounted cgroup file system")]
    Hidden,
    /// As in many containers.
    #[error("{} is mounted read-only", path.display())]
    ReadOnly {
        /// The daemon's own group.
        path: PathBuf,
    },
    /// The group belongs to somebody else.
    #[error("{} belongs to another user: nothing is delegated to the daemon", path.display())]
    NotDelegated {
        /// The daemon's own group.
        path: PathBuf,
        /// The version of the hierarchy.
        version: Version,
    },
    /// Version 2: a group that others are in cannot have limited children
    /// ("no internal processes", cgroups(7)).
    #[error("{} is not the daemon's alone: {process} is in it too", path.display())]
    Shared {
        /// The daemon's own group.
        path: PathBuf,
        /// One of the others: its name and pid.
        process: String,
    },
    /// Version 2: none of our controllers reaches the group.
    #[error("none of the controllers memory, cpu and pids is handed down to {}", path.display())]
    NoControllers {
        /// The daemon's own group.
        path: PathBuf,
    },
    /// What a daemon before us left behind cannot be removed.
    #[error("what an earlier daemon left cannot be removed: {0}")]
    Leftover(#[source] CgroupError),
    /// Something else failed.
    #[error(transparent)]
    Failed(CgroupError),
}
