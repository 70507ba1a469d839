//! Version 2: one hierarchy, in which a group that hands controllers down to
//! its children has no processes of its own, the root excepted (cgroups(7)).

use nix::errno::Errno;
use nix::sys::statfs::CGROUP2_SUPER_MAGIC;
use nix::unistd::{Pid, getpid};

use super::controller::Set;
use super::directory::Directory;
use super::hierarchy::{Inner, Lacking, Parent, Version, remove_parent};
use super::place::Spot;
use super::text::pids;
use super::{CgroupError, Controller, Unavailable};

/// The group into which the daemon moves.
const LEAF: &str = "daemon";
const LEAF_PROCS: &str = "daemon/cgroup.procs";

/// Where controllers are handed down to children.
const SUBTREE: &str = "cgroup.subtree_control";

/// How often processes are looked for that were forked while others were moved.
const ROUNDS: usize = 10;

/// The daemon, moved out of the way. Dropping it moves it back.
#[derive(Debug)]
pub(super) struct Leaf {
    own: Directory,
    /// Whether the daemon was moved: not from the root.
    moved: bool,
    /// What is not to be handed down afterwards.
    enabled: Set,
}

/// Controllers of ours that the daemon's own group could hand down. None in a
/// hierarchy of version 2 that stands beside those of version 1.
pub(super) fn offered(spot: &Spot) -> Set {
    let list = Directory::open(&spot.own).and_then(|own| own.read("cgroup.controllers"));
    list.map_or_else(|_| Set::default(), |list| Set::named(list.split_whitespace()))
}

/// Makes the daemon's directory and hands down to it what there is.
pub(super) fn establish(spot: &Spot, name: &str, others: &[Pid]) -> Result<Inner, Unavailable> {
    let own = Directory::open(&spot.own).map_err(Unavailable::Failed)?;
    if own.file_system().map_err(Unavailable::Failed)? != CGROUP2_SUPER_MAGIC {
        return Err(Unavailable::Hidden);
    }
    may_write(&own, spot)?;
    let offered = offered(spot);
    let handed = own.read(SUBTREE).map_err(Unavailable::Failed)?;
    let handed = Set::named(handed.split_whitespace());
    let mut leaf = Leaf { own, moved: false, enabled: Set::default() };
    // Only the root has no type, and it may have processes (cgroup-v2.rst).
    if leaf.own.has("cgroup.type") {
        leaf.move_in(others)?;
    }
    let mut controllers = Set::default();
    let mut lacking = Vec::new();
    for controller in Controller::ALL {
        if !offered.has(controller) {
            let why = Unavailable::NoControllers { path: spot.own.clone() };
            lacking.push(Lacking { controller, why });
            continue;
        }
        match hand_down(&leaf.own, controller) {
            Ok(()) => controllers.extend([controller]),
            Err(error) if error.errno() == Some(Errno::EBUSY) => {
                return Err(leaf.shared(others).unwrap_or(Unavailable::Failed(error)));
            }
            // The controller cpu refuses where there are real-time processes.
            Err(error) => lacking.push(Lacking { controller, why: Unavailable::Failed(error) }),
        }
        // A group that we are moved from handed nothing down, or a daemon that was killed did it.
        leaf.enabled = if leaf.moved { controllers } else { controllers.without(handed) };
    }
    if let (true, Some(first)) = (controllers.is_empty(), lacking.first()) {
        return Err(first.why.clone());
    }
    let dir = parent(&leaf.own, name, controllers).map_err(Unavailable::Failed)?;
    let parent = Parent { dir, controllers, counts_cpu: false };
    Ok(Inner::new(Version::V2, vec![parent], lacking, Some(leaf)))
}

fn hand_down(directory: &Directory, controller: Controller) -> Result<(), CgroupError> {
    directory.write(SUBTREE, &format!("+{controller}"))
}

/// The directory of all sandboxes' groups.
fn parent(own: &Directory, name: &str, controllers: Set) -> Result<Directory, CgroupError> {
    own.make(name)?;
    let path = own.path().join(name);
    let ready = Directory::open(&path).and_then(|dir| {
        controllers.iter().try_for_each(|controller| hand_down(&dir, controller))?;
        Ok(dir)
    });
    ready.inspect_err(|_| remove_parent(&path))
}

/// Whether the group is delegated to us: the directory, and what it takes to
/// move processes and hand controllers down (cgroups(7), "delegation").
fn may_write(own: &Directory, spot: &Spot) -> Result<(), Unavailable> {
    let path = || spot.own.clone();
    if spot.read_only {
        return Err(Unavailable::ReadOnly { path: path() });
    }
    for name in [".", "cgroup.procs", SUBTREE] {
        match own.writable(name) {
            Ok(()) => {}
            Err(Errno::EROFS) => return Err(Unavailable::ReadOnly { path: path() }),
            Err(Errno::EACCES | Errno::EPERM) => {
                return Err(Unavailable::NotDelegated { path: path(), version: Version::V2 });
            }
            Err(errno) => return Err(Unavailable::Failed(own.error("write to", name, errno))),
        }
    }
    Ok(())
}

impl Leaf {
    /// Moves the daemon and its other processes into the leaf.
    fn move_in(&mut self, others: &[Pid]) -> Result<(), Unavailable> {
        if let Some(shared) = self.shared(others) {
            return Err(shared);
        }
        match self.own.make(LEAF) {
            Ok(()) => {}
            // A daemon that was killed left it.
            Err(error) if error.errno() == Some(Errno::EEXIST) => {}
            Err(error) => return Err(Unavailable::Failed(error)),
        }
        self.moved = true;
        for pid in [getpid()].iter().chain(others) {
            move_to(&self.own, LEAF_PROCS, *pid).map_err(Unavailable::Failed)?;
        }
        self.shared(others).map_or(Ok(()), Err)
    }

    /// Somebody in the daemon's own group who is not the daemon's.
    fn shared(&self, others: &[Pid]) -> Option<Unavailable> {
        let list = match self.own.read_all("cgroup.procs") {
            Ok(list) => list,
            Err(error) => return Some(Unavailable::Failed(error)),
        };
        let us = getpid();
        let stranger = pids(&list).find(|pid| *pid != us && !others.contains(pid))?;
        let process = match (stranger.as_raw(), command(stranger)) {
            // cgroups(7): a process outside of our pid namespace.
            (0, _) => "a process outside of this container".to_owned(),
            (pid, Some(command)) => format!("{command} (pid {pid})"),
            (pid, None) => format!("pid {pid}"),
        };
        Some(Unavailable::Shared { path: self.own.path().to_owned(), process })
    }
}

/// A process's name, for words only.
fn command(pid: Pid) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Moves a process; one that has ended meanwhile does not matter.
fn move_to(directory: &Directory, procs: &str, pid: Pid) -> Result<(), CgroupError> {
    match directory.write(procs, &pid.to_string()) {
        Err(error) if error.errno() == Some(Errno::ESRCH) => Ok(()),
        moved => moved,
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let undone = self.undo();
        if let Err(error) = undone {
            tracing::warn!(%error, "the daemon stays in its control group");
        }
    }
}

impl Leaf {
    /// What was handed down goes first: only then may the group have processes again.
    fn undo(&self) -> Result<(), CgroupError> {
        for controller in self.enabled.iter() {
            let taken = self.own.write(SUBTREE, &format!("-{controller}"));
            if self.moved {
                taken?;
            }
            // In the root somebody else may have come to need it.
        }
        if !self.moved {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            let list = self.own.read_all(LEAF_PROCS)?;
            let mut inside = pids(&list).filter(|pid| pid.as_raw() > 0).peekable();
            if inside.peek().is_none() {
                break;
            }
            inside.try_for_each(|pid| move_to(&self.own, "cgroup.procs", pid))?;
        }
        self.own.remove(LEAF)
    }
}
