//! Version 1: a hierarchy for each controller, or for a few. A group may have
//! processes and children at once, so the daemon stays where it is.

use nix::errno::Errno;
use nix::sys::statfs::CGROUP_SUPER_MAGIC;

use super::controller::Set;
use super::directory::Directory;
use super::hierarchy::{Inner, Lacking, Parent, Version, remove_parent};
use super::place::{Legacy, Place};
use super::{Controller, Unavailable};

/// Makes the daemon's directory in each hierarchy that lets us.
pub(super) fn establish(place: &Place, name: &str) -> Result<Inner, Unavailable> {
    let mut parents: Vec<Parent> = Vec::new();
    let mut lacking = Vec::new();
    let mut seen = Set::default();
    for legacy in &place.legacy {
        seen.extend(legacy.controllers.iter());
        match parent(legacy, name) {
            Ok(parent) => parents.push(parent),
            Err(why) => {
                let lack = |controller| Lacking { controller, why: why.clone() };
                lacking.extend(legacy.controllers.iter().map(lack));
            }
        }
    }
    let unseen = Controller::ALL.into_iter().filter(|controller| !seen.has(*controller));
    let why = if place.hidden { Unavailable::Hidden } else { Unavailable::NotMounted };
    lacking.extend(unseen.map(|controller| Lacking { controller, why: why.clone() }));
    if parents.is_empty() {
        // The first that is there says more than one that is not.
        return Err(lacking.into_iter().next().map_or(why, |lacking| lacking.why));
    }
    Ok(Inner::new(Version::V1, parents, lacking, None))
}

fn parent(legacy: &Legacy, name: &str) -> Result<Parent, Unavailable> {
    let path = || legacy.spot.own.clone();
    if legacy.spot.read_only {
        return Err(Unavailable::ReadOnly { path: path() });
    }
    let own = Directory::open(&legacy.spot.own).map_err(Unavailable::Failed)?;
    if own.file_system().map_err(Unavailable::Failed)? != CGROUP_SUPER_MAGIC {
        return Err(Unavailable::Hidden);
    }
    match own.make(name) {
        Ok(()) => {}
        Err(error) => {
            return Err(match error.errno() {
                Some(Errno::EROFS) => Unavailable::ReadOnly { path: path() },
                Some(Errno::EACCES | Errno::EPERM) => {
                    Unavailable::NotDelegated { path: path(), version: Version::V1 }
                }
                Some(_) | None => Unavailable::Failed(error),
            });
        }
    }
    let path = legacy.spot.own.join(name);
    let dir = Directory::open(&path).map_err(|error| {
        remove_parent(&path);
        Unavailable::Failed(error)
    })?;
    let counts_cpu = dir.has("cpuacct.usage");
    Ok(Parent { dir, controllers: legacy.controllers, counts_cpu })
}
