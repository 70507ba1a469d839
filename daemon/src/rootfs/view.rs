//! What is shown where, asked from both sides: where on the host something is
//! that sandboxes see, and what would show them something that they do not see.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use noxrunner_init::template::{Node, TemplateEntry};

use super::mounts::join;
use super::secrets;

/// Most links of a template that one path leads through.
const MAX_LINKS: usize = 8;

/// What sandboxes see.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) entries: Vec<Entry>,
}

/// One thing that they see.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where, without links.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

impl Entry {
    /// Whether it is a single file that is bound.
    pub(super) fn is_a_file_of_the_host(&self) -> bool {
        matches!(&self.kind, Kind::Bind(source) if source.is_file())
    }
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A file of this content, and where on the host it was copied from.
    File { bytes: Vec<u8>, host: Option<PathBuf> },
    /// A link to this target.
    Link(PathBuf),
    /// The directory or file at this path without links.
    Bind(PathBuf),
    /// Nothing, whatever the host has there.
    Hidden,
}

impl View {
    /// As the zygote is told it. What has a NUL in its path cannot be there.
    pub(super) fn entries(&self) -> Vec<TemplateEntry> {
        let c_path = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        let entry = |entry: &Entry| {
            let node = match &entry.kind {
                Kind::File { bytes, .. } => Node::File(bytes.clone()),
                Kind::Link(target) => Node::Link(c_path(target)?),
                Kind::Bind(source) => Node::Bind(c_path(source)?),
                Kind::Hidden => Node::Hidden,
            };
            Some(TemplateEntry { path: c_path(&entry.path)?, node })
        };
        self.entries.iter().filter_map(entry).collect()
    }

    /// The directories of the host that are shown, each where it is seen and where it is.
    pub(super) fn trees(&self) -> Vec<(PathBuf, PathBuf)> {
        let tree = |entry: &Entry| match &entry.kind {
            Kind::Bind(source) if source.is_dir() => Some((entry.path.clone(), source.clone())),
            Kind::Bind(_) | Kind::File { .. } | Kind::Link(_) | Kind::Hidden => None,
        };
        self.entries.iter().filter_map(tree).collect()
    }

    /// Whether a directory is or lies in one of the host's.
    pub(super) fn is_in_a_tree(&self, directory: &Path) -> bool {
        let entry = self.at_or_above(directory);
        entry.is_some_and(|entry| matches!(&entry.kind, Kind::Bind(source) if source.is_dir()))
    }

    /// What on the host is shown whole.
    pub(super) fn sources(&self) -> impl Iterator<Item = PathBuf> {
        let has_hidden = |at: &Path| {
            let hidden = |entry: &Entry| matches!(entry.kind, Kind::Hidden);
            self.entries.iter().any(|entry| hidden(entry) && entry.path.starts_with(at))
        };
        self.entries.iter().filter_map(move |entry| match &entry.kind {
            Kind::Bind(source) if !has_hidden(&entry.path) => Some(source.clone()),
            Kind::File { host, .. } => host.clone(),
            Kind::Bind(_) | Kind::Link(_) | Kind::Hidden => None,
        })
    }

    /// Where on the host a path lies that sandboxes see. `None` also for files that are
    /// not the host's.
    pub(super) fn host_path(&self, inside: &Path) -> Option<PathBuf> {
        let mut path = plain(inside)?;
        for _ in 0..MAX_LINKS {
            let Some(entry) = self.at_or_above(&path) else {
                let is_above = self.entries.iter().any(|entry| entry.path.starts_with(&path));
                // An empty directory on the way; by a path without links it is one on the host too.
                return is_above.then(|| fs::canonicalize(&path).ok()).flatten();
            };
            let rest = path.strip_prefix(&entry.path).ok()?;
            let is_itself = rest.as_os_str().is_empty();
            match &entry.kind {
                Kind::Bind(source) => return Some(join(source, rest)),
                Kind::Link(_) if is_itself => return Some(path),
                Kind::File { host, .. } if is_itself => return host.clone(),
                Kind::File { .. } | Kind::Hidden => return None,
                Kind::Link(target) => {
                    let from = entry.path.parent().unwrap_or(Path::new("/"));
                    path = resolved(&from.join(target)).join(rest);
                }
            }
        }
        None
    }

    /// Whether a path of the host leads to the same thing for sandboxes.
    pub(super) fn sees(&self, path: &Path) -> bool {
        let leads = |path: &Path| {
            self.at_or_above(path).is_some_and(|entry| match entry.kind {
                Kind::Bind(_) | Kind::Link(_) => true,
                Kind::File { .. } => path == entry.path,
                Kind::Hidden => false,
            })
        };
        leads(path) && fs::canonicalize(path).is_ok_and(|path| leads(&path))
    }

    /// The directory that, exposed, would show sandboxes a program which the host has
    /// and they do not see. `may_expose` says which directories can be exposed at all.
    pub(super) fn suggest(
        &self,
        program: &OsStr,
        path: &OsStr,
        may_expose: impl Fn(&Path) -> bool,
    ) -> Option<PathBuf> {
        let given = Path::new(program);
        let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
            vec![given.to_owned()]
        } else {
            std::env::split_paths(path).map(|entry| entry.join(given)).collect()
        };
        let is_program = |path: &PathBuf| {
            let meta = fs::metadata(path);
            path.is_absolute()
                && meta.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        let program = candidates.into_iter().find(is_program)?;
        if self.sees(&program) {
            return None;
        }
        let parent = program.parent()?.to_owned();
        // A link where sandboxes see it: what it leads to is missing.
        let parent = if self.sees(&parent) {
            fs::canonicalize(&program).ok()?.parent()?.to_owned()
        } else {
            parent
        };
        let shown = whole_environment(&parent).unwrap_or(parent);
        let canonical = fs::canonicalize(&shown).ok()?;
        let fit = secrets::in_or_around(&canonical, &shown).is_none() && may_expose(&shown);
        fit.then_some(shown)
    }

    /// The entry of the longest path at or above this one; of two at one path the later.
    fn at_or_above(&self, path: &Path) -> Option<&Entry> {
        // Whole paths are compared, not their components: every command asks a few times.
        path.ancestors().find_map(|above| {
            self.entries.iter().rfind(|entry| entry.path.as_os_str() == above.as_os_str())
        })
    }
}

/// The directory with everything that the programs in `bin` need, where that is more than `bin`.
fn whole_environment(bin: &Path) -> Option<PathBuf> {
    let above = bin.parent()?;
    let has = |name: &str| above.join(name).exists();
    let is_one = has("pyvenv.cfg") || has("conda-meta") || bin.file_name() == Some(".bin".as_ref());
    is_one.then(|| above.to_owned())
}

/// An absolute path without `.` and double slashes; none that has `..`, which may lead through links.
fn plain(path: &Path) -> Option<PathBuf> {
    let is_plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
    is_plain.then(|| path.components().collect())
}

/// The path with `..` taken by its words, as is right where directories are not links.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}
