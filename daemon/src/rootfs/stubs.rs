//! Which programs that sandboxes would see are to be stood in for, because the policy blocks them.
//!
//! A blocked name is: whatever file has it. So is a blocked program: under its other names (hard
//! links; symbolic links lead to a stub by themselves) and where it lies when only a link has the
//! blocked name. Not so a program which the system needs under other names, as BusyBox where it
//! is the shell: there the blocked names alone are.

mod walk;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use noxrunner_init::template::{Node, Stub, TemplateEntry};

use super::mounts::Mounts;
use super::view::{View, resolved};
use super::watch::{Identity, Watch, identity};
use crate::policy::rules::{FoldedName, Rule};
use crate::policy::{multicall, stub};
use walk::{Directory, Item};

/// Names that lead to a program which no sandbox can do without.
const ESSENTIAL: [&str; 7] = ["bash", "cat", "cp", "env", "ls", "sh", "true"];

/// From so many other names on a program is one that is many.
const MANY_NAMES: usize = 5;

/// Where systems have their programs, whatever the daemon's `PATH` is.
const SYSTEM_PATH: [&str; 6] =
    ["/bin", "/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin", "/usr/sbin"];

/// Most directories that are watched only because programs could come into them.
const MAX_WATCHED: usize = 8;

/// Most links that one path leads through (`MAXSYMLINKS`, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// What stands in for what.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    /// By directory and name.
    by_directory: BTreeMap<PathBuf, BTreeMap<OsString, Said>>,
    /// Programs that are many, one of them blocked, and that the system needs.
    pub(super) kept: Vec<PathBuf>,
    pub(super) watches: Vec<Watch>,
    pub(super) warnings: Vec<String>,
}

/// What one stub stands for.
#[derive(Debug)]
struct Said {
    /// The rule that blocks what it stands in for.
    rule: String,
    /// What it says.
    line: String,
}

/// A program by its file.
#[derive(Debug, Default)]
struct Program {
    /// Where it lies, as sandboxes see it.
    path: Option<PathBuf>,
    /// The rule that blocks one of its names.
    rule: Option<String>,
    /// Its names that no rule blocks, where they are looked for.
    other_names: BTreeSet<OsString>,
    /// Its own name is that of a program which is many.
    is_multicall: bool,
    is_essential: bool,
}

impl Program {
    fn is_needed(&self) -> bool {
        self.is_essential || self.other_names.len() >= MANY_NAMES
    }
}

impl Stubs {
    /// Looks through what sandboxes would see for what the rules block. `path` is the search
    /// path of their commands. Touches the disk.
    pub(super) fn plan(view: &mut View, rules: &[Rule], path: &OsStr) -> Self {
        let mut stubs = Self::default();
        if rules.is_empty() {
            return stubs;
        }
        let initials: HashSet<u8> = rules.iter().filter_map(Rule::initial).collect();
        let blocks = |name: &OsStr| {
            // Most names are none of these, and there are tens of thousands.
            let initial = name.as_bytes().first()?.to_ascii_lowercase();
            if initial.is_ascii() && !initials.contains(&initial) && !initials.contains(&b'*') {
                return None;
            }
            let name = FoldedName::new(name);
            rules.iter().find(|rule| rule.matches_any_case(&name)).map(Rule::to_string)
        };
        stubs.leave_out_files(view, &blocks);
        let on_path: BTreeSet<PathBuf> =
            std::env::split_paths(path).chain(SYSTEM_PATH.map(PathBuf::from)).collect();
        let found = walk::directories(view, &on_path, &|name| blocks(name).is_some());
        if found.is_cut {
            stubs.warnings.push(
                "blocked programs are looked for in the first directories of what sandboxes see \
                 only: there are too many"
                    .to_owned(),
            );
        }
        let mut programs: BTreeMap<Identity, Program> = BTreeMap::new();
        for directory in &found.directories {
            for item in &directory.items {
                let rule = blocks(&item.name);
                if let Some(rule) = &rule {
                    stubs.say(&directory.inside, &item.name, rule, not_allowed(rule));
                }
                let Some((file, at)) = target(view, directory, item) else { continue };
                let program = programs.entry(file).or_default();
                let is_its_own_name = at.file_name().is_some_and(multicall::is_one);
                program.is_multicall |= is_its_own_name;
                if program.path.is_none() || is_its_own_name {
                    program.path = Some(at);
                }
                if rule.is_some() {
                    program.rule = program.rule.take().or(rule);
                } else if on_path.contains(&directory.inside) {
                    program.is_essential |= ESSENTIAL.iter().any(|name| item.name == *name);
                    program.other_names.insert(item.name.clone());
                }
            }
        }
        let one_of_many = multicall::can_be(rules).map(Rule::to_string);
        for program in programs.values_mut() {
            if program.rule.is_none() && program.is_multicall {
                program.rule.clone_from(&one_of_many);
            }
            let Some(rule) = &program.rule else { continue };
            if program.is_needed() {
                stubs.kept.extend(program.path.take());
                continue;
            }
            let Some(path) = &program.path else { continue };
            if let Some((directory, name)) = path.parent().zip(path.file_name())
                && view.is_in_a_tree(directory)
                && blocks(name).is_none()
            {
                stubs.say_alias(directory, name, rule, program.is_multicall);
            }
        }
        stubs.add_hard_links(&found.directories, &programs, &blocks);
        stubs.watch(view, &found.directories, &on_path);
        stubs
    }

    /// Other names of programs that are stood in for.
    fn add_hard_links(
        &mut self,
        directories: &[Directory],
        programs: &BTreeMap<Identity, Program>,
        blocks: &dyn Fn(&OsStr) -> Option<String>,
    ) {
        for directory in directories {
            for item in &directory.items {
                let Some(program) = item.file.and_then(|file| programs.get(&file)) else {
                    continue;
                };
                let Some(rule) = program.rule.as_ref().filter(|_| !program.is_needed()) else {
                    continue;
                };
                if blocks(&item.name).is_none() {
                    self.say_alias(&directory.inside, &item.name, rule, program.is_multicall);
                }
            }
        }
    }

    /// A file that was exposed by itself is not in a directory over which anything could be put.
    fn leave_out_files(&mut self, view: &mut View, blocks: &dyn Fn(&OsStr) -> Option<String>) {
        view.entries.retain(|entry| {
            let name = entry.path.file_name().filter(|_| entry.is_a_file_of_the_host());
            let Some(rule) = name.and_then(blocks) else { return true };
            let shown = entry.path.display();
            self.warnings.push(format!("sandboxes do not see {shown}: the policy blocks {rule}"));
            false
        });
    }

    fn say(&mut self, directory: &Path, name: &OsStr, rule: &str, line: String) {
        let names = self.by_directory.entry(directory.to_owned()).or_default();
        names.entry(name.to_owned()).or_insert(Said { rule: rule.to_owned(), line });
    }

    /// A program that no rule means by this name.
    fn say_alias(&mut self, directory: &Path, name: &OsStr, rule: &str, is_multicall: bool) {
        let verb = if is_multicall { "can be" } else { "is" };
        let line = format!("{} (it {verb} {rule})", not_allowed(&name.to_string_lossy()));
        self.say(directory, name, rule, line);
    }

    /// The rule because of which something else stands at a path, free of links, as sandboxes name it.
    pub(super) fn rule_at(&self, program: &Path) -> Option<&str> {
        let (directory, name) = program.parent().zip(program.file_name())?;
        self.by_directory.get(directory)?.get(name).map(|said| said.rule.as_str())
    }

    fn watch(&mut self, view: &View, directories: &[Directory], on_path: &BTreeSet<PathBuf>) {
        let stubbed = self.by_directory.keys().filter_map(|inside| view.host_path(inside));
        let mut watched: Vec<PathBuf> = stubbed.collect();
        let mut likely: Vec<_> =
            directories.iter().filter(|directory| directory.is_for_programs).collect();
        likely.sort_by_key(|directory| directory.inside.components().count());
        let (first, then): (Vec<_>, Vec<_>) =
            likely.into_iter().partition(|directory| on_path.contains(&directory.inside));
        let more = first.into_iter().chain(then.into_iter().take(MAX_WATCHED));
        watched.extend(more.map(|directory| directory.host.clone()));
        watched.sort();
        watched.dedup();
        // As they were before they were read, where they were.
        let known = |path: &Path| directories.iter().find(|directory| directory.host == path);
        self.watches = watched
            .iter()
            .map(|path| match known(path) {
                Some(directory) => directory.watch.clone(),
                None => Watch::listed(path),
            })
            .collect();
    }

    /// As the zygote is told it, after the entries of the view: each directory after those
    /// above it, and again what is mounted below each.
    pub(super) fn entries(&self, view: &View, mounts: &Mounts) -> Vec<TemplateEntry> {
        let c_path = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        let mut entries = Vec::new();
        for (directory, stubs) in &self.by_directory {
            let stub = |(name, said): (&OsString, &Said)| {
                let name = CString::new(name.as_bytes()).ok()?;
                Some(Stub { name, program: stub::program(&said.line) })
            };
            let node = Node::Stubs(stubs.iter().filter_map(stub).collect());
            entries.extend(c_path(directory).map(|path| TemplateEntry { path, node }));
            // A layer does not have what is mounted on the directories below it.
            let host = view.host_path(directory).unwrap_or_default();
            let top = |path: &Path| Some(directory.join(path.strip_prefix(&host).ok()?));
            for piece in mounts.pieces(&host).into_iter().filter(|piece| piece.top != host) {
                let Some(path) = top(&piece.top) else { continue };
                let is_stub = path.parent() == Some(directory)
                    && path.file_name().is_some_and(|name| stubs.contains_key(name));
                if !is_stub && let Some((path, from)) = c_path(&path).zip(c_path(&piece.top)) {
                    entries.push(TemplateEntry { path, node: Node::Bind(from) });
                }
            }
            let below = view.entries().into_iter().filter(|entry| {
                let path = Path::new(OsStr::from_bytes(entry.path.to_bytes()));
                path.starts_with(directory) && path != directory
            });
            entries.extend(below);
        }
        entries
    }
}

fn not_allowed(what: &str) -> String {
    format!("Command not allowed: {what}")
}

/// The file that runs under a name, and where sandboxes see it. Links are followed as they
/// would be there.
fn target(view: &View, directory: &Directory, item: &Item) -> Option<(Identity, PathBuf)> {
    let mut path = directory.inside.join(&item.name);
    if let Some(file) = item.file {
        return Some((file, path));
    }
    for _ in 0..MAX_LINKS {
        let host = view.host_path(&path)?;
        let Ok(to) = fs::read_link(&host) else {
            let is_file = fs::metadata(&host).is_ok_and(|meta| meta.is_file());
            return identity(&host).filter(|_| is_file).map(|file| (file, path));
        };
        path = resolved(&path.parent()?.join(to));
    }
    None
}
