//! What a daemon that was killed left: directories of its name, wherever it
//! was started, with whatever processes are still in them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::CgroupError;
use super::directory::{Directory, errno_of};
use super::killing::{Pauses, end_all};
use super::place::Place;

/// How long processes may take to die.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes all of it in every hierarchy, also from below other groups than the
/// daemon's own: it may have been started from somewhere else then.
pub(super) fn remove_all(place: &Place, name: &str, uid: u32) -> Result<(), CgroupError> {
    let legacy = place.legacy.iter().map(|legacy| &legacy.spot);
    for spot in place.unified.iter().chain(legacy).filter(|spot| !spot.read_only) {
        for path in find(&spot.mount, name, uid) {
            tracing::info!("removing the control groups that {} left", path.display());
            remove_tree(&path, Instant::now() + PATIENCE)?;
        }
    }
    Ok(())
}

/// Directories of our name that are ours. Those of other ordinary users are not
/// entered: they could hold us up.
pub(super) fn find(mount: &Path, name: &str, uid: u32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![mount.to_owned()];
    while let Some(directory) = open.pop() {
        // What ends while we look is no leftover.
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let owner = entry.metadata().map_or(u32::MAX, |meta| meta.uid());
            if owner == uid && entry.file_name() == name {
                found.push(entry.path());
            } else if owner == uid || owner == 0 {
                open.push(entry.path());
            }
        }
    }
    found
}

/// Kills what is in a directory and removes it, the deepest first.
pub(super) fn remove_tree(path: &Path, deadline: Instant) -> Result<(), CgroupError> {
    // Parents before their children.
    let mut all = vec![path.to_owned()];
    let mut next = 0;
    while let Some(directory) = all.get(next).cloned() {
        next += 1;
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(io("list", &directory, errno_of(&e))),
        };
        let directories = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        all.extend(directories.map(|entry| entry.path()));
    }
    for directory in all.iter().rev() {
        remove(directory, deadline)?;
    }
    Ok(())
}

/// Removes one directory with its processes.
fn remove(path: &Path, deadline: Instant) -> Result<(), CgroupError> {
    let mut pauses = Pauses::until(deadline);
    loop {
        let emptied = Directory::open(path).and_then(|dir| end_all(&[&dir], "", deadline));
        let removed = emptied
            .and_then(|()| fs::remove_dir(path).map_err(|e| io("remove", path, errno_of(&e))));
        match removed {
            Ok(()) => return Ok(()),
            // ENODEV: a file of a directory that is gone.
            Err(e)
                if matches!(e.errno(), Some(Errno::ENOENT | Errno::ENODEV)) && !path.exists() =>
            {
                return Ok(());
            }
            // Those that are just ending.
            Err(e) if e.errno() == Some(Errno::EBUSY) && pauses.pause() => {}
            Err(e) => return Err(e),
        }
    }
}

fn io(step: &'static str, path: &Path, errno: Errno) -> CgroupError {
    CgroupError::Io { step, path: path.to_owned(), errno }
}
