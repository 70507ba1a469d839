//! Numbers that something has: a process, or a file in a sandbox's directory.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{UidError, UidRange};
use crate::sandbox::dir::PREFIX;

/// The numbers of a range that are in use, as far as /proc and the base directory tell.
pub(super) fn in_use(base: &Path, range: UidRange) -> Result<BTreeSet<u32>, UidError> {
    let mut found = of_processes().map_err(|e| UidError::Io("/proc".into(), e))?;
    found.extend(of_files(base).map_err(|e| UidError::Io(base.to_owned(), e))?);
    found.retain(|uid| range.contains(*uid));
    Ok(found)
}

fn of_processes() -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if !entry.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // Not text throughout: a process names itself. One that is gone has no number.
        let status = fs::read(entry.path().join("status")).unwrap_or_default();
        found.extend(ids(&status));
    }
    Ok(found)
}

/// The four user ids in a status file: real, effective, saved, file system. From `proc_pid_status(5)`.
fn ids(status: &[u8]) -> impl Iterator<Item = u32> {
    let line = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"Uid:"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
    line.split_whitespace().filter_map(|number| number.parse().ok())
}

/// Owners of what the daemon made in the sandboxes' directories: the places, at the first level.
fn of_files(base: &Path) -> io::Result<BTreeSet<u32>> {
    let own = nix::unistd::geteuid().as_raw();
    let mut found = BTreeSet::new();
    for sandbox in fs::read_dir(base)? {
        let sandbox = sandbox?;
        if !sandbox.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        // Only what a daemon of this user made: others may fill a directory of theirs with anything.
        let ours = |meta: &fs::Metadata| meta.is_dir() && meta.uid() == own;
        if !sandbox.metadata().is_ok_and(|meta| ours(&meta)) {
            continue;
        }
        // What has just been removed has nothing in it.
        let Ok(places) = fs::read_dir(sandbox.path()) else { continue };
        // Not following links: metadata of an entry is its own.
        found.extend(places.flatten().filter_map(|place| Some(place.metadata().ok()?.uid())));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_status_file() {
        let status = b"Name:\t\xffUid:\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\n";
        assert_eq!(ids(status).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(ids(b"").count(), 0);
    }

    #[test]
    fn this_process_is_seen() {
        assert!(of_processes().unwrap().contains(&nix::unistd::geteuid().as_raw()));
    }
}
