//! Listing a directory, describing an entry. Nothing is opened but the
//! directory itself, so nothing in it can stall this.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};
use noxrunner_protocol::limits::MAX_LIST_ENTRIES;
use noxrunner_protocol::types::{FileEntry, FileList, FileStat as Described, FileType};

use super::FileError;
use super::places::{LastLink, Places, kind, shown};
use crate::clock::rfc3339_nanos;
use crate::policy::Inside;
use crate::tree::{Listing, time_of};

/// Lists a directory.
///
/// # Errors
/// Where it cannot be read, or has more entries than an answer.
pub fn list(places: &Places<'_>, inside: &Inside) -> Result<FileList, FileError> {
    let path = shown(inside);
    let dir = places.hold_directory(inside)?;
    let failed = |errno| FileError::of("read", &path, errno);
    let mut listing = Listing::open(dir.as_fd()).map_err(failed)?;
    let mut names = Vec::new();
    for name in listing.names() {
        if names.len() == MAX_LIST_ENTRIES {
            return Err(FileError::TooManyEntries { path: path.clone(), most: MAX_LIST_ENTRIES });
        }
        names.push(name.map_err(failed)?);
    }
    names.sort();
    let entries = names.iter().filter_map(|name| {
        match fstatat(&dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let target = || readlinkat(&dir, name.as_os_str());
                Some(Ok(describe(name, &stat, target)))
            }
            // Gone since it was listed.
            Err(Errno::ENOENT) => None,
            Err(errno) => Some(Err(failed(errno))),
        }
    });
    Ok(FileList { entries: entries.collect::<Result<_, _>>()?, redirected: inside.redirected() })
}

/// Describes one entry; a link itself.
///
/// # Errors
/// Where there is none.
pub fn stat(places: &Places<'_>, inside: &Inside) -> Result<Described, FileError> {
    let held = places.hold(inside, LastLink::Keep)?;
    let stat = fstat(&held).map_err(|errno| FileError::of("look at", &shown(inside), errno))?;
    let path = inside.display_path();
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    // An empty name is the link that is held (readlinkat(2)).
    let entry = describe(OsStr::from_bytes(name), &stat, || readlinkat(&held, ""));
    Ok(Described { entry, redirected: inside.redirected() })
}

fn describe(
    name: &OsStr,
    stat: &FileStat,
    target: impl FnOnce() -> nix::Result<std::ffi::OsString>,
) -> FileEntry {
    let kind = file_type(kind(stat));
    // A link that was replaced meanwhile has no target any more.
    let target = if kind == FileType::Symlink { target().ok() } else { None };
    let (name, name_base64) = spelled(name);
    let (target, target_base64) = match target.as_deref().map(spelled) {
        Some((target, base64)) => (Some(target), base64),
        None => (None, None),
    };
    FileEntry {
        name,
        name_base64,
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        modified_at: rfc3339_nanos(time_of(stat.st_mtime, stat.st_mtime_nsec)),
        target,
        target_base64,
    }
}

/// A name as text, and as base64 where text loses something.
fn spelled(name: &OsStr) -> (String, Option<String>) {
    match name.to_str() {
        Some(text) => (text.to_owned(), None),
        None => (name.to_string_lossy().into_owned(), Some(STANDARD.encode(name.as_bytes()))),
    }
}

fn file_type(kind: SFlag) -> FileType {
    match kind {
        SFlag::S_IFDIR => FileType::Directory,
        SFlag::S_IFLNK => FileType::Symlink,
        SFlag::S_IFIFO => FileType::Fifo,
        SFlag::S_IFSOCK => FileType::Socket,
        SFlag::S_IFCHR => FileType::CharDevice,
        SFlag::S_IFBLK => FileType::BlockDevice,
        _ => FileType::File,
    }
}
