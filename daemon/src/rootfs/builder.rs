//! Puts together what is shown, one thing at a time: nothing twice, nothing over
//! what sandboxes have of their own, nothing that is protected.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Host;
use super::error::{Conflict, ExposeProblem};
use super::guard::{Guard, Overlap};
use super::secrets;
use super::view::{Entry, Kind, View};
use super::watch::{Watch, read};

/// The most of a settings file or one of `/etc` that is copied.
pub(super) const MAX_COPY_BYTES: u64 = 1024 * 1024;

/// What is bound over a file to hide it: nobody can open it there, where there are no devices.
const NOTHING: &str = "/dev/null";

/// A root file system in the making.
pub(super) struct Builder<'a> {
    pub(super) host: &'a Host,
    pub(super) view: View,
    pub(super) warnings: Vec<String>,
    pub(super) watches: Vec<Watch>,
    guard: Guard,
    hidden: Vec<(PathBuf, Kind)>,
}

/// Why something is left out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Omitted {
    #[error("{0}, a directory of the daemon's own")]
    Protected(Conflict),
    #[error("sandboxes have {} of their own there", .0.display())]
    InTheWay(PathBuf),
    #[error("it may hold credentials ({0})")]
    Secret(String),
    #[error("not everybody may read it, and the daemon is root's")]
    Private,
    #[error("it is larger than {MAX_COPY_BYTES} bytes")]
    TooLarge,
    #[error("{0}")]
    Unreadable(#[from] io::Error),
}

impl<'a> Builder<'a> {
    pub(super) fn new(host: &'a Host, guard: Guard) -> Self {
        Self {
            host,
            view: View::default(),
            warnings: Vec::new(),
            watches: Vec::new(),
            guard,
            hidden: Vec::new(),
        }
    }

    /// Everything, with what is hidden after what it is hidden in.
    pub(super) fn finish(mut self) -> (View, Vec<String>, Vec<Watch>) {
        self.hidden.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.hidden.dedup_by(|(below, _), (above, _)| below.starts_with(above));
        let hidden = self.hidden.into_iter().map(|(path, kind)| Entry { path, kind });
        self.view.entries.extend(hidden);
        (self.view, self.warnings, self.watches)
    }

    /// A file of ours.
    pub(super) fn own_file(&mut self, target: &str, bytes: Vec<u8>) {
        self.push(target.into(), Kind::File { bytes, host: None });
    }

    /// A link.
    pub(super) fn link(&mut self, target: PathBuf, leads_to: PathBuf) {
        self.push(target, Kind::Link(leads_to));
    }

    /// A directory of the system at a path of its own, or a warning why not. Its
    /// source on the host may be a link.
    pub(super) fn system_tree(&mut self, source: &Path, target: PathBuf) {
        self.watches.push(Watch::bound(source));
        let Ok(canonical) = fs::canonicalize(source) else { return };
        if canonical.is_dir()
            && let Err(why) = self.bind(target, &canonical)
        {
            self.warn(source, &why);
        }
    }

    /// A copy of a file of the system.
    pub(super) fn system_file(&mut self, source: &Path, target: PathBuf) {
        self.watches.push(Watch::copied(source));
        if !source.exists() {
            return;
        }
        match self.content(source) {
            Ok(bytes) => self.push(target, Kind::File { bytes, host: Some(source.to_owned()) }),
            Err(why) => self.warn(source, &why),
        }
    }

    /// A directory of a toolchain, at its own path and at that which it has without links.
    pub(super) fn tool_tree(&mut self, typed: &Path) {
        self.watches.push(Watch::bound(typed));
        let Ok(canonical) = fs::canonicalize(typed) else { return };
        if !canonical.is_dir() {
            return;
        }
        if let Some(what) = secrets::in_or_around(&canonical, typed) {
            self.warn(typed, &Omitted::Secret(what));
            return;
        }
        for target in both(&canonical, typed) {
            let bound = match self.place(target) {
                Ok(true) => self.bind(target.to_owned(), &canonical),
                Ok(false) => Ok(()),
                Err(own) => Err(Omitted::InTheWay(own)),
            };
            if let Err(why) = bound {
                self.warn(target, &why);
            }
        }
    }

    /// A copy of a toolchain's settings, which tools replace by renaming: a bind would keep the old one.
    pub(super) fn tool_file(&mut self, typed: &Path) {
        self.watches.push(Watch::copied(typed));
        let Some((parent, name)) = typed.parent().zip(typed.file_name()) else { return };
        let Ok(parent) = fs::canonicalize(parent) else { return };
        if !typed.exists() {
            return;
        }
        for target in both(&parent.join(name), typed) {
            let copied = match self.place(target) {
                Ok(false) => continue,
                Ok(true) => self.content(typed),
                Err(own) => Err(Omitted::InTheWay(own)),
            };
            match copied {
                Ok(bytes) => {
                    let kind = Kind::File { bytes, host: Some(typed.to_owned()) };
                    self.push(target.to_owned(), kind);
                }
                Err(why) => self.warn(target, &why),
            }
        }
    }

    /// What the policy exposes, at its own path and at that which it has without links.
    pub(super) fn expose(&mut self, typed: &Path) -> Result<(), ExposeProblem> {
        self.watches.push(Watch::bound(typed));
        let canonical = fs::canonicalize(typed).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                ExposeProblem::Missing
            } else {
                ExposeProblem::Unreadable(error)
            }
        })?;
        let kind = fs::metadata(&canonical).map_err(ExposeProblem::Unreadable)?.file_type();
        if !kind.is_dir() && !kind.is_file() {
            return Err(ExposeProblem::NotAFile);
        }
        match self.guard.overlap(&canonical) {
            Overlap::Within(conflict) => return Err(ExposeProblem::Protected(conflict)),
            Overlap::Holds(held) => {
                // The plainest first.
                if let Some(conflict) = held.into_iter().min_by_key(|conflict| conflict.alias) {
                    return Err(ExposeProblem::Protected(conflict));
                }
            }
        }
        for target in both(&canonical, typed) {
            if self.place(target).map_err(|place| ExposeProblem::InTheWay { place })? {
                self.push(target.to_owned(), Kind::Bind(canonical.clone()));
            }
        }
        if let Some(what) = secrets::in_or_around(&canonical, typed) {
            let shown = typed.display();
            self.warnings
                .push(format!("sandboxes see {shown}, which may hold credentials ({what})"));
        }
        Ok(())
    }

    /// Binds a directory, and hides in it what is protected.
    fn bind(&mut self, target: PathBuf, canonical: &Path) -> Result<(), Omitted> {
        let mut hidden = Vec::new();
        match self.guard.overlap(canonical) {
            Overlap::Within(conflict) => return Err(Omitted::Protected(conflict)),
            Overlap::Holds(held) => {
                for conflict in held {
                    let Ok(rest) = conflict.at.strip_prefix(canonical) else { continue };
                    let at = target.join(rest);
                    let kind = fs::metadata(&conflict.at).map(|meta| meta.file_type());
                    match kind {
                        Ok(kind) if kind.is_dir() => hidden.push((at, Kind::Hidden)),
                        // A directory cannot be mounted over a file.
                        Ok(_) => hidden.push((at, Kind::Bind(NOTHING.into()))),
                        // Nor can anything where the daemon may not go.
                        Err(_) => return Err(Omitted::Protected(conflict)),
                    }
                }
            }
        }
        self.hidden.extend(hidden);
        self.push(target, Kind::Bind(canonical.to_owned()));
        Ok(())
    }

    /// Whether something must be put at this place to be seen there: not where what is
    /// there already shows it. The error is what sandboxes have of their own there.
    fn place(&mut self, target: &Path) -> Result<bool, PathBuf> {
        let reserved = self.host.reserved.iter();
        let mut meets = reserved.filter(|own| target.starts_with(own) || own.starts_with(target));
        if let Some(own) = meets.next() {
            return Err(own.clone());
        }
        let is_own =
            |entry: &&Entry| !matches!(&entry.kind, Kind::Bind(from) if *from == entry.path);
        for entry in &self.view.entries {
            if target.starts_with(&entry.path) {
                return match entry.kind {
                    Kind::Bind(_) | Kind::Link(_) => Ok(false),
                    Kind::File { .. } | Kind::Hidden => Err(entry.path.clone()),
                };
            }
        }
        let mut below = self.view.entries.iter().filter(|entry| entry.path.starts_with(target));
        if let Some(own) = below.find(is_own) {
            return Err(own.path.clone());
        }
        // What this one brings, with whatever is mounted in it.
        self.view.entries.retain(|entry| !entry.path.starts_with(target));
        Ok(true)
    }

    fn content(&self, source: &Path) -> Result<Vec<u8>, Omitted> {
        if let Overlap::Within(conflict) = self.guard.overlap(&fs::canonicalize(source)?) {
            return Err(Omitted::Protected(conflict));
        }
        let content = read(source, MAX_COPY_BYTES)?;
        // Whoever can put a link where root's daemon looks must not learn what only root may read.
        if self.host.is_root && content.mode & 0o004 == 0 {
            return Err(Omitted::Private);
        }
        if content.cut { Err(Omitted::TooLarge) } else { Ok(content.bytes) }
    }

    fn push(&mut self, path: PathBuf, kind: Kind) {
        self.view.entries.push(Entry { path, kind });
    }

    fn warn(&mut self, path: &Path, why: &Omitted) {
        self.warnings.push(format!("sandboxes do not see {}: {why}", path.display()));
    }
}

/// The path without links, and the typed one where it is another.
fn both<'p>(canonical: &'p Path, typed: &'p Path) -> impl Iterator<Item = &'p Path> {
    let is_plain = |path: &Path| path.components().all(|part| part.as_os_str() != OsStr::new(".."));
    let typed = Some(typed).filter(|typed| *typed != canonical && is_plain(typed));
    std::iter::once(canonical).chain(typed)
}
