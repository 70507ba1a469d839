//! The daemon's own part of the hierarchies, in which sandboxes get their groups.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::controller::Set;
use super::directory::{Directory, errno_of};
use super::place::{Place, locate};
use super::unified::Leaf;
use super::{CgroupError, Controller, Group, Unavailable, leftovers, legacy, unified};

/// Millis of cpu that a sandbox may have at the least by default.
const LEAST_CPU_MILLIS: u64 = 500;

/// The version of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

/// A controller that is not there while others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The controller.
    pub controller: Controller,
    /// Why it is not there.
    pub why: Unavailable,
}

/// A directory of the daemon's, in which each sandbox has one.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) dir: Directory,
    pub(super) controllers: Set,
    /// Version 1: whether `cpuacct.usage` is here too.
    pub(super) counts_cpu: bool,
}

/// What groups and the hierarchy share. Dropped with the last of them.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) version: Version,
    pub(super) parents: Vec<Parent>,
    pub(super) lacking: Vec<Lacking>,
    /// Dropped after `parents` are gone: it gives back what they stood on.
    _leaf: Option<Leaf>,
    next: AtomicU64,
}

/// The daemon's control groups. Dropping it, and every group, removes them all
/// and puts the daemon back where it was.
#[derive(Debug)]
pub struct Hierarchy(pub(super) Arc<Inner>);

impl Hierarchy {
    /// Finds the daemon's own control groups, removes what an earlier daemon of
    /// the same user and base directory left there, with the processes in it,
    /// and makes a directory for groups of sandboxes. The base directory's
    /// lock must be held.
    ///
    /// On version 2 this moves the daemon and `others`, its own processes that
    /// are in the same group, into a leaf (cgroups(7), "no internal processes").
    ///
    /// # Errors
    /// Why there are no control groups for the daemon.
    pub fn establish(base: &Path, uid: u32, others: &[Pid]) -> Result<Self, Unavailable> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|e| failed("read", Path::new(path), errno_of(&e)))
        };
        let place = locate(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        Self::establish_at(&place, &name(base, uid)?, uid, others)
    }

    /// The same in a given place.
    pub(super) fn establish_at(
        place: &Place,
        name: &str,
        uid: u32,
        others: &[Pid],
    ) -> Result<Self, Unavailable> {
        leftovers::remove_all(place, name, uid).map_err(Unavailable::Leftover)?;
        let inner = match &place.unified {
            Some(spot) if !unified::offered(spot).is_empty() => {
                unified::establish(spot, name, others)?
            }
            Some(spot) if place.legacy.is_empty() => {
                return Err(Unavailable::NoControllers { path: spot.own.clone() });
            }
            Some(_) | None => legacy::establish(place, name)?,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The version in use.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// Whether groups have the controller.
    pub fn has(&self, controller: Controller) -> bool {
        self.0.parent(controller).is_some()
    }

    /// The controllers that groups do not have, and why.
    pub fn lacking(&self) -> &[Lacking] {
        &self.0.lacking
    }

    /// A new group with nobody in it and no limits.
    ///
    /// # Errors
    /// As mkdir(2): `EAGAIN` where cgroup.max.descendants is reached, `ENOSPC`
    /// where the kernel has no room for more.
    pub fn make(&self) -> Result<Group, CgroupError> {
        let name = format!("s{}", self.0.next.fetch_add(1, Ordering::Relaxed));
        for (i, parent) in self.0.parents.iter().enumerate() {
            if let Err(error) = parent.dir.make(&name) {
                for made in &self.0.parents[..i] {
                    // It was made a moment ago and nobody is in it.
                    let _ = made.dir.remove(&name);
                }
                return Err(error);
            }
        }
        Ok(Group::new(Arc::clone(&self.0), name))
    }

    /// The cpu that a sandbox gets where nobody says how much, in thousandths
    /// of a processor: all that the daemon may use but one, and at least half of one.
    pub fn default_cpu_millis() -> u64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores as u64).saturating_sub(1).saturating_mul(1000).max(LEAST_CPU_MILLIS)
    }
}

impl Inner {
    pub(super) fn new(
        version: Version,
        parents: Vec<Parent>,
        lacking: Vec<Lacking>,
        leaf: Option<Leaf>,
    ) -> Self {
        Self { version, parents, lacking, _leaf: leaf, next: AtomicU64::new(1) }
    }

    /// Where a controller's files are.
    pub(super) fn parent(&self, controller: Controller) -> Option<&Parent> {
        self.parents.iter().find(|parent| parent.controllers.has(controller))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for parent in self.parents.drain(..) {
            remove_parent(parent.dir.path());
        }
    }
}

/// Removes a directory of the daemon's, which should be empty by now.
pub(super) fn remove_parent(path: &Path) {
    if let Err(error) = fs::remove_dir(path) {
        tracing::warn!(%error, "cannot remove the control group {}", path.display());
    }
}

/// What a daemon's directories are called: the base directory by its device and
/// inode, so that two containers with a `/tmp` each never take each other's
/// groups for leftovers, and the user.
pub(super) fn name(base: &Path, uid: u32) -> Result<String, Unavailable> {
    let meta = fs::metadata(base).map_err(|e| failed("look at", base, errno_of(&e)))?;
    Ok(format!("noxrunner-{uid}-{:x}-{:x}", meta.dev(), meta.ino()))
}

fn failed(step: &'static str, path: &Path, errno: Errno) -> Unavailable {
    Unavailable::Failed(CgroupError::Io { step, path: path.to_owned(), errno })
}
