//! The directories in which programs are looked for.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::view::View;
use super::super::watch::{Identity, Watch};

/// Names of directories for programs.
const FOR_PROGRAMS: [&str; 5] = ["bin", "sbin", ".bin", "games", "shims"];

/// Names of directories that hold much and no programs which are run by their names.
const FOR_DATA: [&str; 13] = [
    "debug",
    "dist-packages",
    "doc",
    "firmware",
    "include",
    "locale",
    "man",
    "modules",
    "node_modules",
    "share",
    "site-packages",
    "src",
    "terminfo",
];

/// How such names begin in a directory `lib`: the modules of a language.
const FOR_MODULES: [&str; 3] = ["perl", "python", "ruby"];

/// How far below what is shown a directory for programs may be:
/// `/snap/NAME/REVISION/usr/bin`, `installs/go/VERSION/go/bin`.
const MAX_DEPTH: usize = 4;

/// A store of packages, each with its programs, and far too many to look through.
const STORE: &str = "/nix/store";

/// Most directories that are read.
const MAX_DIRECTORIES: usize = 20_000;

/// A directory with programs that matter.
#[derive(Debug)]
pub(super) struct Directory {
    /// As sandboxes see it.
    pub(super) inside: PathBuf,
    /// The same on the host.
    pub(super) host: PathBuf,
    /// Whether every file in it is looked at; elsewhere only those of blocked names that can be executed are.
    pub(super) is_for_programs: bool,
    pub(super) items: Vec<Item>,
    /// What it was like before it was read.
    pub(super) watch: Watch,
}

/// A file or a link.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: OsString,
    /// Which file; none for links.
    pub(super) file: Option<Identity>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) directories: Vec<Directory>,
    /// Whether there would have been more to look through.
    pub(super) is_cut: bool,
}

/// A directory to be read.
struct Place {
    inside: PathBuf,
    host: PathBuf,
    depth: usize,
    is_for_programs: bool,
}

/// Looks through every tree of the host that sandboxes see.
pub(super) fn directories(
    view: &View,
    on_path: &BTreeSet<PathBuf>,
    is_blocked: &dyn Fn(&OsStr) -> bool,
) -> Found {
    let mut found = Found::default();
    let entries: HashSet<&Path> = view.entries.iter().map(|entry| entry.path.as_path()).collect();
    let mut read = 0;
    for (inside, host) in view.trees() {
        let is_for_programs = is_one_for_programs(&inside) || on_path.contains(&inside);
        let mut todo = vec![Place { inside, host, depth: 0, is_for_programs }];
        while let Some(place) = todo.pop() {
            read += 1;
            if read > MAX_DIRECTORIES {
                found.is_cut = true;
                return found;
            }
            let watch = Watch::listed(&place.host);
            let (items, below) = list(&place, is_blocked);
            for name in below {
                let (inside, host) = (place.inside.join(&name), place.host.join(&name));
                // Otherwise hidden, or something else stands there.
                if !entries.contains(inside.as_path()) {
                    let is_for_programs = is_one_for_programs(&inside) || on_path.contains(&inside);
                    todo.push(Place { inside, host, depth: place.depth + 1, is_for_programs });
                }
            }
            if place.is_for_programs || !items.is_empty() {
                let Place { inside, host, is_for_programs, .. } = place;
                found.directories.push(Directory { inside, host, is_for_programs, items, watch });
            }
        }
    }
    found
}

fn is_one_for_programs(path: &Path) -> bool {
    path.file_name().is_some_and(|name| FOR_PROGRAMS.iter().any(|known| name == *known))
}

/// The programs in a directory, and the directories below it in which there may be more.
fn list(place: &Place, is_blocked: &dyn Fn(&OsStr) -> bool) -> (Vec<Item>, Vec<OsString>) {
    let (mut items, mut below) = (Vec::new(), Vec::new());
    if place.inside == Path::new(STORE) {
        return (items, packages(&place.host));
    }
    let Ok(device) = fs::metadata(&place.host).map(|meta| meta.dev()) else {
        return (items, below);
    };
    for entry in fs::read_dir(&place.host).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        if kind.is_dir() {
            if place.depth < MAX_DEPTH && !is_for_data(&place.inside, &name) {
                below.push(name);
            }
        } else if kind.is_file() || kind.is_symlink() {
            let path = || place.host.join(&name);
            let matters = match (place.is_for_programs, is_blocked(&name)) {
                // That a file becomes executable later would go unnoticed.
                (true, is_blocked) => !is_blocked || kind.is_file() || !path().is_dir(),
                (false, is_blocked) => is_blocked && is_executable(&path()),
            };
            if matters {
                let file = kind.is_file().then(|| (device, entry.ino()));
                items.push(Item { name, file });
            }
        }
    }
    items.sort_by(|a, b| a.name.cmp(&b.name));
    (items, below)
}

fn is_for_data(above: &Path, name: &OsStr) -> bool {
    let begins = |with: &&str| name.as_bytes().starts_with(with.as_bytes());
    FOR_DATA.iter().any(|known| name == *known)
        || above.ends_with("lib") && FOR_MODULES.iter().any(begins)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The directories for programs in a store.
fn packages(store: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(store).into_iter().flatten().flatten();
    let programs = entries.flat_map(|entry| {
        ["bin", "sbin"].map(|name| Path::new(&entry.file_name()).join(name).into_os_string())
    });
    programs.filter(|name| store.join(name).is_dir()).collect()
}
