//! What lies around the place that an archive is unpacked in, and whether it still does.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use noxrunner_archive::stays_beneath;

thread_local! {
    // Made once: most of a run would be spent on it else.
    static BASE: RefCell<Option<Around>> = const { RefCell::new(None) };
}

struct Around {
    base: PathBuf,
    listing: Vec<String>,
}

/// A directory with something in it that is to stay as it is. Dropping it removes what was
/// unpacked; the rest goes with the directory for temporary files, as `run` beside the
/// targets makes one.
pub(crate) struct Outside {
    base: PathBuf,
}

impl Outside {
    pub(crate) fn new() -> Self {
        let base = BASE.with_borrow_mut(|around| {
            let around = around.get_or_insert_with(|| {
                let base = tempfile::tempdir().expect("a directory").keep();
                fs::write(base.join("canary"), "sings").expect("write");
                fs::create_dir(base.join("cage")).expect("mkdir");
                fs::write(base.join("cage/canary"), "sings, too").expect("write");
                symlink("canary", base.join("link")).expect("link");
                let listing = list(&base);
                Around { base, listing }
            });
            around.base.clone()
        });
        Self { base }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.base
    }

    /// An empty directory.
    pub(crate) fn staging(&self) -> PathBuf {
        let path = self.base.join("staging");
        fs::create_dir(&path).expect("mkdir");
        path
    }

    /// A directory that code in a sandbox has prepared: links that lead out, and another name of
    /// a file outside.
    pub(crate) fn destination(&self) -> PathBuf {
        let path = self.base.join("dest");
        fs::create_dir_all(path.join("d")).expect("mkdir");
        fs::write(path.join("f"), "old").expect("write");
        symlink("../cage", path.join("out")).expect("link");
        symlink(self.base.join("cage"), path.join("d/out")).expect("link");
        symlink("../canary", path.join("c")).expect("link");
        fs::hard_link(self.base.join("canary"), path.join("h")).expect("hard link");
        path
    }

    pub(crate) fn is_untouched(&self) {
        let now = list(&self.base);
        BASE.with_borrow(|around| {
            assert_eq!(Some(&now), around.as_ref().map(|around| &around.listing));
        });
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for place in ["staging", "dest"] {
            remove(&self.base.join(place));
        }
    }
}

/// Everything beside the places to unpack to, with what writing would change.
fn list(base: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut entries = vec![base.to_owned()];
    while let Some(path) = entries.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is gone");
        let content = match &meta {
            meta if meta.is_dir() => {
                let inside = fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry"));
                let inside = inside.filter(|entry| {
                    path != base || !matches!(entry.file_name().as_bytes(), b"staging" | b"dest")
                });
                entries.extend(inside.map(|entry| entry.path()));
                String::new()
            }
            meta if meta.is_symlink() => fs::read_link(&path).expect("link").display().to_string(),
            _ => fs::read_to_string(&path).expect("content"),
        };
        // The times of the directory itself change with the places in it.
        let time = if path == base { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) };
        let owner = (meta.uid(), meta.gid());
        lines.push(format!(
            "{path:?} {} {:o} {owner:?} {time:?} {content}",
            meta.ino(),
            meta.mode()
        ));
    }
    lines.sort();
    lines
}

/// What an archive became.
#[derive(Default)]
pub(crate) struct Survey {
    /// Bytes on disk of its files, at most: a last block may be half full.
    pub(crate) stored: u64,
    pub(crate) files_and_links: u64,
    /// Files that have other names, too, are counted once.
    counted: HashSet<u64>,
}

/// Looks at everything staged: nothing but files, directories and links that stay inside.
pub(crate) fn survey(staging: &Path) -> Survey {
    let mut survey = Survey::default();
    look(staging, Path::new(""), &mut survey);
    survey
}

fn look(staging: &Path, beneath: &Path, survey: &mut Survey) {
    let path = staging.join(beneath);
    for entry in fs::read_dir(&path).expect("list") {
        let name = entry.expect("entry").file_name();
        let (path, beneath) = (path.join(&name), beneath.join(&name));
        let meta = fs::symlink_metadata(&path).expect("it is gone");
        assert_eq!(meta.mode() & 0o6000, 0, "{beneath:?} has a set-id bit");
        if meta.is_dir() {
            fs::set_permissions(&path, Permissions::from_mode(meta.mode() | 0o700)).expect("chmod");
            look(staging, &beneath, survey);
            fs::set_permissions(&path, Permissions::from_mode(meta.mode())).expect("chmod");
            continue;
        }
        survey.files_and_links += 1;
        if meta.is_symlink() {
            let target = fs::read_link(&path).expect("link");
            let dir = beneath.parent().expect("it is in a directory");
            let stays = stays_beneath(dir.as_os_str().as_bytes(), target.as_os_str().as_bytes());
            assert!(stays, "{beneath:?} leads to {target:?}");
        } else {
            assert!(meta.is_file(), "{beneath:?} is something else");
            assert_eq!(meta.mode() & 0o1000, 0, "{beneath:?} is sticky");
            // Whole pages, of which an archive may begin one with each byte.
            if survey.counted.insert(meta.ino()) {
                survey.stored += meta.len().min((meta.blocks() * 512).saturating_sub(4095));
            }
        }
    }
}

pub(crate) fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("list").next().is_none()
}

/// Removes a tree whatever rights its directories have, without following links.
fn remove(path: &Path) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if !meta.is_dir() {
        return fs::remove_file(path).expect("remove");
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).expect("chmod");
    for entry in fs::read_dir(path).expect("list") {
        remove(&entry.expect("entry").path());
    }
    fs::remove_dir(path).expect("rmdir");
}
