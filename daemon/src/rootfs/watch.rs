//! What was looked at on the host, to tell later whether it is still so.

use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Which file or directory something is: device and inode.
pub(super) type Identity = (u64, u64);

/// Something that was looked at, and what was there. Links are followed but in `Link`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Watch {
    /// A directory or file that is bound: only which one it is matters.
    Bound(PathBuf, Option<Identity>),
    /// A file whose content was copied.
    Copied(PathBuf, Option<Stamp>),
    /// A directory with the names in it.
    Listed(PathBuf, Option<Stamp>),
    /// A link, and its target.
    Link(PathBuf, Option<PathBuf>),
    /// The directories in a directory whose names start so.
    Family { parent: PathBuf, prefix: &'static str, names: Vec<OsString> },
}

/// What changes when a file's content does, or a name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    identity: Identity,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(meta: &Metadata) -> Self {
        let modified = (meta.mtime(), meta.mtime_nsec());
        Self { identity: (meta.dev(), meta.ino()), size: meta.size(), modified }
    }
}

impl Watch {
    /// Takes down which directory or file is there.
    pub(super) fn bound(path: &Path) -> Self {
        Self::Bound(path.to_owned(), identity(path))
    }

    /// Takes down a file whose content is about to be read.
    pub(super) fn copied(path: &Path) -> Self {
        Self::Copied(path.to_owned(), stamp(path))
    }

    /// Takes down a directory that is about to be read.
    pub(super) fn listed(path: &Path) -> Self {
        Self::Listed(path.to_owned(), stamp(path))
    }

    /// Takes down a link's target.
    pub(super) fn link(path: &Path) -> Self {
        Self::Link(path.to_owned(), fs::read_link(path).ok())
    }

    /// Takes down a family of directories.
    pub(super) fn family(parent: &Path, prefix: &'static str) -> Self {
        let names = family(parent, prefix);
        Self::Family { parent: parent.to_owned(), prefix, names }
    }

    /// Whether it is not as it was.
    pub(super) fn is_stale(&self) -> bool {
        match self {
            Self::Bound(path, was) => identity(path) != *was,
            Self::Copied(path, was) | Self::Listed(path, was) => stamp(path) != *was,
            Self::Link(path, was) => fs::read_link(path).ok() != *was,
            Self::Family { parent, prefix, names } => family(parent, prefix) != *names,
        }
    }
}

/// Which file or directory a path leads to.
pub(super) fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|meta| Stamp::from(&meta))
}

/// The names of the directories in `parent` that start with `prefix`, sorted.
pub(super) fn family(parent: &Path, prefix: &str) -> Vec<OsString> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name())
        .filter(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
        .filter(|name| parent.join(name).is_dir())
        .collect();
    names.sort();
    names
}

/// What is read of a file.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
    /// Whether there is more of it.
    pub(super) cut: bool,
}

/// The first bytes of a regular file. A FIFO without a writer does not hold it.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Content> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    let cut = bytes.len() as u64 > most;
    bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(Content { bytes, mode: meta.mode(), cut })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_changed_is_stale_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("tree")).unwrap();
        fs::write(at("file"), "one").unwrap();
        symlink("file", at("link")).unwrap();
        let bound = Watch::bound(&at("tree"));
        let copied = Watch::copied(&at("link"));
        let link = Watch::link(&at("link"));
        let absent = Watch::bound(&at("absent"));
        let listed = || {
            // Some kernels' clocks for this tick slowly.
            let age = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
            fs::File::open(at("tree")).unwrap().set_times(age).unwrap();
            Watch::listed(&at("tree"))
        };
        let before = listed();
        assert!(!before.is_stale());
        let family = Watch::family(dir.path(), "java-");
        let all = || [&bound, &copied, &link, &absent, &family].map(Watch::is_stale);
        assert_eq!(all(), [false; 5]);

        fs::write(at("tree/in it"), "").unwrap();
        assert!(before.is_stale());
        fs::write(at("other"), "").unwrap();
        let before = listed();
        fs::rename(at("other"), at("tree/in it")).unwrap();
        assert!(before.is_stale(), "a name that stays, and another file");
        fs::write(at("java-file"), "").unwrap();
        assert_eq!(all(), [false; 5]);
        fs::write(at("file"), "longer").unwrap();
        assert_eq!(all(), [false, true, false, false, false]);
        fs::create_dir(at("java-17")).unwrap();
        fs::create_dir(at("absent")).unwrap();
        assert_eq!(all(), [false, true, false, true, true]);
        fs::remove_file(at("link")).unwrap();
        symlink("./file", at("link")).unwrap();
        // Kept, so that its inode is not used again.
        fs::rename(at("tree"), at("old")).unwrap();
        fs::create_dir(at("tree")).unwrap();
        assert_eq!(all(), [true; 5]);
    }

    #[test]
    fn as_much_is_read_as_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "12345").unwrap();
        let whole = read(&file, 5).unwrap();
        assert_eq!((whole.bytes.as_slice(), whole.cut), (&b"12345"[..], false));
        let some = read(&file, 4).unwrap();
        assert_eq!((some.bytes.as_slice(), some.cut), (&b"1234"[..], true));
        assert!(read(dir.path(), 5).is_err());
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&fifo, 5).is_err());
    }
}
