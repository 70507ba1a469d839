//! The mounts of this machine, as proc_pid_mountinfo(5) tells them: pure.
//!
//! Two paths show the same directory if they lead to the same path in the same
//! file system, however many bind mounts are on the way. What overlay, network
//! and FUSE file systems show of another one cannot be told.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where the mounts are told.
pub(super) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    id: u64,
    parent: u64,
    /// `major:minor` of the file system.
    device: String,
    /// The directory of the file system that it shows.
    root: PathBuf,
    /// Where.
    point: PathBuf,
}

/// Every mount that the daemon sees.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts(Vec<Mount>);

/// Where in a file system something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    device: String,
    pub(super) path: PathBuf,
}

/// A part of a tree: all of it that is in one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its top, as a path on the host.
    pub(super) top: PathBuf,
    /// The same in its file system.
    pub(super) location: Location,
}

impl Location {
    /// The way from `top` down to this place; empty where it is the same.
    pub(super) fn below(&self, top: &Self) -> Option<&Path> {
        if self.device == top.device { self.path.strip_prefix(&top.path).ok() } else { None }
    }
}

impl Mounts {
    /// Reads the text of `/proc/self/mountinfo`. Lines that are none are skipped.
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(mount).collect())
    }

    /// Where a path without links is. `None` where no mount is seen to hold it, as in a chroot.
    pub(super) fn locate(&self, path: &Path) -> Option<Location> {
        let mount = self.holding(path)?;
        let rest = path.strip_prefix(&mount.point).ok()?;
        Some(Location { device: mount.device.clone(), path: join(&mount.root, rest) })
    }

    /// The tree at `top`, a path without links, and whatever is mounted in it and can be seen.
    pub(super) fn pieces(&self, top: &Path) -> Vec<Piece> {
        let first = self.locate(top).map(|location| Piece { top: top.to_owned(), location });
        let below =
            self.0.iter().filter(|mount| mount.point != top && mount.point.starts_with(top));
        let seen =
            below.filter(|mount| self.holding(&mount.point).is_some_and(|m| m.id == mount.id));
        let piece = |mount: &Mount| Piece {
            top: mount.point.clone(),
            location: Location { device: mount.device.clone(), path: mount.root.clone() },
        };
        first.into_iter().chain(seen.map(piece)).collect()
    }

    /// The mount in which a path without links is: from the root down through whatever covers the way.
    fn holding(&self, path: &Path) -> Option<&Mount> {
        let is_known = |id| self.0.iter().any(|mount| mount.id == id);
        let mut at = self.0.iter().find(|mount| {
            mount.point == Path::new("/") && (mount.parent == mount.id || !is_known(mount.parent))
        })?;
        // Each step goes to a child; the bound is for a text that makes no sense.
        for _ in 0..self.0.len() {
            let children = self.0.iter().filter(|m| m.parent == at.id && m.id != at.id);
            let covering = children.filter(|m| path.starts_with(&m.point));
            // Of two in one mount the upper hides the lower.
            match covering.min_by_key(|m| m.point.components().count()) {
                Some(next) => at = next,
                None => break,
            }
        }
        Some(at)
    }
}

/// `Path::join` without the slash at the end that joining nothing gives.
pub(super) fn join(top: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { top.to_owned() } else { top.join(rest) }
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = || fields.next();
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse().ok();
    let id = number(next()?)?;
    let parent = number(next()?)?;
    let device = std::str::from_utf8(next()?).ok()?.to_owned();
    let (root, point) = (unescape(next()?), unescape(next()?));
    (root.is_absolute() && point.is_absolute()).then_some(Mount { id, parent, device, root, point })
}

/// Undoes the kernel's `\040` and the like.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, more)) = rest.split_first() {
        let octal = more.first_chunk::<3>().filter(|_| *first == b'\\').and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 254:1 /@home /home rw,relatime shared:3 master:1 - btrfs /dev/vdb rw
31 27 254:0 /srv/nox\\040base /opt/alias\\134x\\012y rw - ext4 /dev/vda rw
32 27 254:2 / /hidden/below rw - ext4 /dev/vdc rw
33 27 254:3 / /hidden rw - ext4 /dev/vdd rw
34 33 254:4 / /hidden/seen rw - ext4 /dev/vde rw
35 30 0:40 / /home rw - tmpfs tmpfs rw
nonsense
";

    fn at(device: &str, path: &str) -> Option<Location> {
        Some(Location { device: device.to_owned(), path: PathBuf::from(path) })
    }

    #[test]
    fn a_path_is_in_the_mount_that_covers_it() {
        let mounts = Mounts::parse(TEXT.as_bytes());
        for (path, want) in [
            ("/", at("254:0", "/")),
            ("/srv/nox base/x", at("254:0", "/srv/nox base/x")),
            ("/opt/alias\\x\ny/sub", at("254:0", "/srv/nox base/sub")),
            ("/opt/alias\\x\ny", at("254:0", "/srv/nox base")),
            ("/proc/self", at("0:21", "/self")),
            // Mounted over by the upper one after it was mounted.
            ("/hidden/below/x", at("254:3", "/below/x")),
            ("/hidden/seen/x", at("254:4", "/x")),
            // Two on one another.
            ("/home/u", at("0:40", "/u")),
            ("/homely", at("254:0", "/homely")),
        ] {
            assert_eq!(mounts.locate(Path::new(path)), want, "{path}");
        }
        assert_eq!(Mounts::parse(b"").locate(Path::new("/")), None);
        let loops =
            Mounts::parse(b"1 1 0:1 / / rw\n2 1 0:2 / / rw\n3 2 0:3 / / rw\n2 3 0:2 / / rw");
        assert!(loops.locate(Path::new("/x")).is_some(), "a text that makes no sense ends too");
    }

    #[test]
    fn a_tree_has_the_mounts_in_it_that_can_be_seen() {
        let mounts = Mounts::parse(TEXT.as_bytes());
        let tops = |path: &str| -> Vec<_> {
            mounts.pieces(Path::new(path)).into_iter().map(|piece| piece.top).collect()
        };
        assert_eq!(tops("/hidden"), [Path::new("/hidden"), Path::new("/hidden/seen")]);
        assert_eq!(tops("/opt"), [Path::new("/opt"), Path::new("/opt/alias\\x\ny")]);
        assert_eq!(tops("/proc"), [Path::new("/proc")]);
        assert_eq!(tops("/").len(), 1 + 5);
    }

    #[test]
    fn places_are_compared_by_whole_names_in_one_file_system() {
        let place = |device, path| at(device, path).unwrap();
        let base = place("254:0", "/srv/base");
        assert_eq!(place("254:0", "/srv/base/x").below(&base), Some(Path::new("x")));
        assert_eq!(base.below(&base), Some(Path::new("")));
        assert_eq!(place("254:0", "/srv/base2").below(&base), None);
        assert_eq!(place("254:1", "/srv/base/x").below(&base), None);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        for (text, want) in
            [("/a\\", "/a\\"), ("/a\\04", "/a\\04"), ("/a\\09x", "/a\\09x"), ("/\\303\\251", "/é")]
        {
            assert_eq!(unescape(text.as_bytes()), PathBuf::from(want));
        }
    }
}
