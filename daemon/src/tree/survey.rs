//! Adding up a tree.
//!
//! The way down is a stack of names; the way up is `..`, which is believed only
//! if it is the directory that the walk came from. Where it is not, because
//! something was moved meanwhile, the walk starts again from the top by name.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};

use super::TreeError;
use super::directory::{Listing, hold, time_of};

/// What a tree takes up, its top directory included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeUsage {
    /// Bytes allocated on disk (`st_blocks` times 512); of hard links, once.
    pub disk_bytes: u64,
    /// Files, directories and everything else that takes an inode; of hard links, once.
    pub inodes: u64,
    /// Entries, mostly directories, whose content or status could not be read and is not counted.
    pub unreadable: u64,
}

/// What the tree in `dir` takes up, as far as it can be read. Blocks; holds four descriptors.
///
/// # Errors
/// [`TreeError::Io`] if `dir` itself cannot be read.
pub fn usage(dir: BorrowedFd<'_>) -> Result<TreeUsage, TreeError> {
    let mut usage = TreeUsage::default();
    let mut linked = HashSet::new();
    walk(dir, &mut |seen| match seen {
        Seen::Entry(stat) => {
            let linked_elsewhere = stat.st_nlink > 1 && !is_directory(stat);
            if !linked_elsewhere || linked.insert(stat.st_ino) {
                usage.disk_bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
                usage.inodes += 1;
            }
        }
        Seen::Unreadable => usage.unreadable += 1,
    })?;
    Ok(usage)
}

/// When anything in the tree in `dir` was last modified, the directory itself
/// included, by what the files say (`st_mtime`, which their owner can set). Of
/// a directory that cannot be read its own time counts. Blocks; holds four descriptors.
///
/// # Errors
/// [`TreeError::Io`] if `dir` itself cannot be read.
pub fn newest_mtime(dir: BorrowedFd<'_>) -> Result<SystemTime, TreeError> {
    let mut newest = (i64::MIN, 0);
    walk(dir, &mut |seen| match seen {
        Seen::Entry(stat) => newest = newest.max((stat.st_mtime, stat.st_mtime_nsec)),
        Seen::Unreadable => {}
    })?;
    Ok(time_of(newest.0, newest.1))
}

/// What a walk comes upon.
enum Seen<'a> {
    Entry(&'a FileStat),
    Unreadable,
}

/// A directory on the way down.
struct Level {
    name: OsString,
    identity: Identity,
    /// Directories in it that are still to be entered.
    todo: Vec<OsString>,
}

#[derive(Debug, PartialEq, Eq)]
struct Identity(nix::libc::dev_t, nix::libc::ino_t);

impl Identity {
    fn of(stat: &FileStat) -> Self {
        Self(stat.st_dev, stat.st_ino)
    }
}

fn is_directory(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

fn walk(top: BorrowedFd<'_>, visit: &mut impl FnMut(Seen<'_>)) -> Result<(), TreeError> {
    let failed = |errno| TreeError::of("read", OsStr::new("."), errno);
    let mut here = hold(top, OsStr::new(".")).map_err(failed)?;
    let stat = fstat(&here).map_err(failed)?;
    visit(Seen::Entry(&stat));
    let device = stat.st_dev;
    let todo = list(here.as_fd(), device, visit).map_err(failed)?;
    let mut levels = vec![Level { name: OsString::new(), identity: Identity::of(&stat), todo }];

    while let Some(level) = levels.last_mut() {
        let Some(name) = level.todo.pop() else {
            levels.pop();
            here = climb(top, &here, &mut levels, visit).map_err(failed)?;
            continue;
        };
        let entered = hold(here.as_fd(), &name).and_then(|dir| {
            let stat = fstat(&dir)?;
            if stat.st_dev != device {
                return Err(Errno::EXDEV);
            }
            let todo = list(dir.as_fd(), device, visit)?;
            Ok((dir, Level { name, identity: Identity::of(&stat), todo }))
        });
        match entered {
            Ok((dir, level)) => {
                here = dir;
                levels.push(level);
            }
            // Taken away, exchanged for something else, or mounted on since it was listed.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EXDEV) => {}
            Err(_) => visit(Seen::Unreadable),
        }
    }
    Ok(())
}

/// Visits the entries of a directory; answers with the directories among them.
fn list(
    dir: BorrowedFd<'_>,
    device: nix::libc::dev_t,
    visit: &mut impl FnMut(Seen<'_>),
) -> nix::Result<Vec<OsString>> {
    let mut directories = Vec::new();
    for name in Listing::open(dir)?.names() {
        let name = name?;
        match fstatat(dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_dev == device => {
                visit(Seen::Entry(&stat));
                if is_directory(&stat) {
                    directories.push(name);
                }
            }
            // Mounted there, so not the tree's; or gone.
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(_) => visit(Seen::Unreadable),
        }
    }
    Ok(directories)
}

/// Goes back to the last of `levels`. Levels that are no longer where they were
/// are given up, and what was still to be seen in them counts as unreadable.
fn climb(
    top: BorrowedFd<'_>,
    below: &OwnedFd,
    levels: &mut Vec<Level>,
    visit: &mut impl FnMut(Seen<'_>),
) -> nix::Result<OwnedFd> {
    let reach = |at: BorrowedFd<'_>, name: &OsStr, level: &Level| {
        hold(at, name)
            .ok()
            .filter(|dir| fstat(dir).is_ok_and(|s| Identity::of(&s) == level.identity))
    };
    if let Some(level) = levels.last()
        && let Some(above) = reach(below.as_fd(), OsStr::new(".."), level)
    {
        return Ok(above);
    }
    let mut here = hold(top, OsStr::new("."))?;
    let mut reached = 1;
    while let Some(level) = levels.get(reached)
        && let Some(next) = reach(here.as_fd(), &level.name, level)
    {
        here = next;
        reached += 1;
    }
    for lost in levels.drain(reached.min(levels.len())..) {
        lost.todo.iter().for_each(|_| visit(Seen::Unreadable));
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_way_up_is_found_by_name_and_else_given_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        let top = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        let mut fds = vec![hold(top.as_fd(), OsStr::new(".")).unwrap()];
        let mut levels = Vec::new();
        for name in [".", "a", "b", "c"] {
            let here = hold(fds.last().unwrap().as_fd(), OsStr::new(name)).unwrap();
            let identity = Identity::of(&fstat(&here).unwrap());
            levels.push(Level { name: name.into(), identity, todo: vec!["left".into()] });
            fds.push(here);
        }
        levels.pop();
        let c = fds.pop().unwrap();
        let mut climb = || {
            let mut lost = 0;
            let here = super::climb(top.as_fd(), &c, &mut levels, &mut |_| lost += 1).unwrap();
            (fstat(&here).unwrap().st_ino, levels.len(), lost)
        };
        let inode = |fd: &OwnedFd| fstat(fd).unwrap().st_ino;
        let b = inode(fds.last().unwrap());
        assert_eq!(climb(), (b, 3, 0));
        fs::rename(dir.path().join("a/b/c"), dir.path().join("c")).unwrap();
        assert_eq!(climb(), (b, 3, 0), "by name");
        fs::rename(dir.path().join("a"), dir.path().join("z")).unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        assert_eq!(climb(), (inode(&fds[0]), 1, 2), "another directory of that name is not it");
    }
}
