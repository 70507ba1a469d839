//! What here is to be sent.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use noxrunner_archive::{PackError, Packed, Packer, Tree};

use super::FileError;

/// A tar header, and what contents are padded to, in bytes.
const BLOCK: u64 = 512;

/// Something to be packed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// An entry of a directory, with everything in it, under another name.
    Entry {
        /// The directory.
        parent: PathBuf,
        /// The entry's name in it.
        name: OsString,
        /// The name that it gets.
        as_name: Vec<u8>,
    },
    /// What is in a directory, without itself.
    Contents {
        /// The directory.
        dir: PathBuf,
        /// What their names begin with.
        prefix: Vec<u8>,
    },
}

impl Item {
    /// What a path leads to, links followed, under the name `as_name`.
    ///
    /// # Errors
    /// Where it leads nowhere.
    pub(super) fn followed(path: &Path, as_name: &[u8]) -> Result<Self, FileError> {
        let real = path.canonicalize().map_err(FileError::local("find", path))?;
        let as_name = as_name.to_owned();
        Ok(match (real.parent(), real.file_name()) {
            (Some(parent), Some(name)) => {
                Self::Entry { parent: parent.to_owned(), name: name.to_owned(), as_name }
            }
            // The root is in no directory.
            (None, _) | (_, None) => Self::Contents { dir: real, prefix: as_name },
        })
    }

    fn pack<W: Write>(&self, packer: &mut Packer<W>) -> Result<(), PackError> {
        match self {
            Self::Entry { parent, name, as_name } => {
                packer.entry(directory(parent, OFlag::O_PATH)?.as_fd(), name, as_name)
            }
            Self::Contents { dir, prefix } => {
                packer.contents(directory(dir, OFlag::O_RDONLY)?.as_fd(), prefix)
            }
        }
    }
}

fn directory(path: &Path, access: OFlag) -> Result<OwnedFd, PackError> {
    let flags = access | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let name = || path.to_string_lossy().into_owned();
    open(path, flags, Mode::empty()).map_err(|errno| PackError::Os {
        step: "open",
        name: name(),
        errno,
    })
}

/// The files of these names, each under its own last name.
///
/// # Errors
/// Where one is none, or two have the same last name.
pub(super) fn named(files: &[PathBuf]) -> Result<Vec<Item>, FileError> {
    let mut seen = HashSet::new();
    let mut items = Vec::with_capacity(files.len());
    for path in files {
        let metadata = look(path)?;
        if metadata.is_dir() {
            return Err(FileError::IsADirectory(path.clone()));
        }
        if !metadata.is_file() {
            return Err(FileError::Special(path.clone()));
        }
        let name = path.file_name().unwrap_or(OsStr::new(""));
        if !seen.insert(name) {
            return Err(FileError::SameName(path.clone()));
        }
        items.push(Item::followed(path, name.as_bytes())?);
    }
    Ok(items)
}

/// What is there, links followed.
pub(super) fn look(path: &Path) -> Result<Metadata, FileError> {
    path.metadata().map_err(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            FileError::NotFound(path.to_owned())
        } else {
            FileError::local("look at", path)(e)
        }
    })
}

/// Packs all of it.
pub(super) fn pack<W: Write>(out: W, items: &[Item]) -> Result<(W, Packed), PackError> {
    let mut packer = Packer::new(out, Tree::Own);
    items.iter().try_for_each(|item| item.pack(&mut packer))?;
    packer.finish()
}

/// How much there is to send.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Entries that are no directories.
    pub(super) files: u64,
    /// Entries.
    pub(super) entries: u64,
    /// Bytes of the archive, about.
    pub(super) bytes: u64,
}

/// Adds up what would be packed. What cannot be looked at is left for the packing to report.
pub(super) fn measure(items: &[Item]) -> Size {
    let mut size = Size::default();
    let mut directories = Vec::new();
    for item in items {
        match item {
            Item::Entry { parent, name, .. } => size.add(parent.join(name), &mut directories),
            Item::Contents { dir, .. } => directories.push(dir.clone()),
        }
    }
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            size.add(entry.path(), &mut directories);
        }
    }
    size
}

impl Size {
    fn add(&mut self, path: PathBuf, directories: &mut Vec<PathBuf>) {
        let Ok(metadata) = path.symlink_metadata() else { return };
        self.entries += 1;
        self.bytes += BLOCK;
        if metadata.is_dir() {
            directories.push(path);
        } else {
            self.files += u64::from(metadata.is_file() || metadata.is_symlink());
        }
        if metadata.is_file() {
            // Holes are not sent. st_blocks counts in 512 bytes whatever a file system's are, see stat(2).
            let allocated = metadata.blocks().saturating_mul(512);
            self.bytes += metadata.len().min(allocated).next_multiple_of(BLOCK);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn named_files_are_followed_and_keep_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().canonicalize().unwrap();
        fs::write(at.join("real"), "x").unwrap();
        symlink("real", at.join("link")).unwrap();
        let items = named(&[at.join("link")]).unwrap();
        let expected = Item::Entry { parent: at, name: "real".into(), as_name: b"link".to_vec() };
        assert_eq!(items, [expected]);
    }

    #[test]
    fn what_cannot_be_uploaded_by_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for sub in [&a, &b] {
            fs::create_dir(sub).unwrap();
            fs::write(sub.join("f"), "").unwrap();
        }
        let error = named(&[a.join("f"), b.join("f")]).unwrap_err();
        assert!(matches!(&error, FileError::SameName(path) if *path == b.join("f")), "{error:?}");
        assert_eq!(error.status(), 2);
        assert!(matches!(named(std::slice::from_ref(&a)), Err(FileError::IsADirectory(_))));
        assert!(matches!(named(&[a.join("g")]), Err(FileError::NotFound(_))));
        assert!(matches!(named(&["/dev/null".into()]), Err(FileError::Special(_))));
    }

    #[test]
    fn a_tree_is_measured_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub/empty")).unwrap();
        fs::write(dir.path().join("sub/f"), "x".repeat(513)).unwrap();
        symlink("/", dir.path().join("root")).unwrap();
        let contents = Item::Contents { dir: dir.path().to_owned(), prefix: Vec::new() };
        let size = Size { files: 2, entries: 4, bytes: 6 * BLOCK };
        assert_eq!(measure(&[contents]), size);
    }
}
