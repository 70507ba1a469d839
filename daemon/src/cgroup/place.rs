//! Where the daemon's own control groups are, from /proc/self/mountinfo and
//! /proc/self/cgroup (proc(5), cgroups(7)): pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::controller::Set;

/// The daemon's own group in a mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// Where the hierarchy is mounted.
    pub(super) mount: PathBuf,
    /// The daemon's own group.
    pub(super) own: PathBuf,
    /// Whether the mount refuses writing.
    pub(super) read_only: bool,
}

/// A hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Legacy {
    /// Those of our controllers that it carries.
    pub(super) controllers: Set,
    pub(super) spot: Spot,
}

/// Every hierarchy of interest in which the daemon's own group can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Version 2, whether it has controllers or not.
    pub(super) unified: Option<Spot>,
    /// Version 1: those that carry controllers of ours.
    pub(super) legacy: Vec<Legacy>,
    /// Whether there are mounts that do not show the daemon's own group.
    pub(super) hidden: bool,
}

/// A line of mountinfo.
struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    read_only: bool,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `id parent major:minor root point options optional… - type source options`
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (plain(mount.next()?), plain(mount.next()?));
        let own_options = mount.next()?;
        let mut system = system.split(' ');
        let kind = system.next()?;
        let options = system.nth(1)?;
        let read_only = [own_options, options].iter().any(|o| o.split(',').any(|o| o == "ro"));
        Some(Self { root, point, read_only, kind, options })
    }

    /// The place of a group that /proc/self/cgroup names by `path`.
    fn spot(&self, path: &str) -> Option<Spot> {
        // "/.." stands for what is above the cgroup namespace's root.
        let climbs = |path: &Path| path.components().any(|c| c == Component::ParentDir);
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        if climbs(&self.root) || climbs(below) {
            return None;
        }
        // Joining nothing would leave a slash at the end.
        let own = self.point.components().chain(below.components()).collect();
        Some(Spot { mount: self.point.clone(), own, read_only: self.read_only })
    }
}

/// Spaces and the like are written as `\040` (proc_pid_mountinfo(5)).
fn plain(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        if let ([b'0'..=b'3', b'0'..=b'7', b'0'..=b'7', after @ ..], b'\\') = (tail, *first) {
            bytes.push((tail[0] - b'0') << 6 | (tail[1] - b'0') << 3 | (tail[2] - b'0'));
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes).into()
}

/// `hierarchy:controllers:path`; version 2 is `0::path`. The path may have colons.
fn membership(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    rest.split_once(':')
}

/// The better of two views of one hierarchy: a writable one, else the later
/// one, which may cover the earlier.
fn better(old: Option<Spot>, new: Spot) -> Spot {
    match old {
        Some(old) if new.read_only && !old.read_only => old,
        Some(_) | None => new,
    }
}

/// Finds the daemon's own groups.
pub(super) fn locate(mountinfo: &str, cgroup: &str) -> Place {
    let mut place = Place::default();
    let mounts = || mountinfo.lines().filter_map(Mount::parse);
    for (controllers, path) in cgroup.lines().filter_map(membership) {
        let set = Set::named(controllers.split(','));
        let (unified, legacy) = (controllers.is_empty(), !set.is_empty());
        let carries = |mount: &Mount<'_>| match mount.kind {
            "cgroup2" => unified,
            "cgroup" => legacy && Set::named(mount.options.split(',')) == set,
            _ => false,
        };
        let mut found = None;
        for mount in mounts().filter(carries) {
            match mount.spot(path) {
                Some(spot) => found = Some(better(found, spot)),
                None => place.hidden = true,
            }
        }
        match found {
            Some(spot) if unified => place.unified = Some(spot),
            Some(spot) => place.legacy.push(Legacy { controllers: set, spot }),
            None => {}
        }
    }
    place
}
