//! Which program a command names and every name it goes by. The only file of
//! this room that looks at the file system, and it opens nothing: only
//! lstat(2), readlink(2) and faccessat(2).
//!
//! What it finds can be changed before the program runs. It makes the denial
//! quick and clear; it is not what holds a sandbox.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};

use super::path::{Inside, PathUse, RootNames, decide};
use super::rules::base_name;

/// Most links that the kernel follows in one path (`MAXSYMLINKS`, path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Length from which the kernel refuses a path, its NUL counted (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// Length from which execve(2) refuses a variable, its NUL counted (`MAX_ARG_STRLEN`): a
/// search path as long as that cannot reach a program, so nothing is searched for it.
const MAX_ARG_STRLEN: usize = 128 * 1024;

/// Gives the host path of a path that a mount tree shows, or `None` where it shows nothing.
pub type Shown<'a> = dyn Fn(&Path) -> Option<PathBuf> + 'a;

/// The file system as the commands of one sandbox see it, from the host's side.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The names of the sandbox's places; with a mount tree they are real to commands.
    pub names: &'a RootNames,
    /// The host path of a place inside, or `None` where there is no sandbox yet.
    pub host_path: &'a dyn Fn(&Inside) -> Option<PathBuf>,
    /// With a mount tree, the host path of what it shows outside those places, or `None` where
    /// it shows nothing. Without this function the host's own paths are taken for it.
    pub shown: Option<&'a Shown<'a>>,
}

/// Where a command is looked for.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// The file system to look in.
    pub view: View<'a>,
    /// The command's `PATH`.
    pub path: &'a OsStr,
    /// The directory that the command runs in.
    pub workdir: &'a Inside,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The file that would run, as commands name it and free of links; `None` if nothing would.
    pub program: Option<PathBuf>,
    /// Every name it goes by: the one typed, those of the links on the way and the file's own.
    /// Of links that lead nowhere, too.
    pub names: Vec<OsString>,
}

/// Finds what `argv0` runs, as execvp(3) does: with a slash it is a path,
/// otherwise each entry of the search path is tried (an empty one is the
/// working directory) and the first regular file that may be executed is taken.
///
/// "May be executed" is by the daemon's own rights, which are the command's
/// except where a root daemon gave the sandbox a uid of its own.
pub fn resolve(argv0: &OsStr, search: Search<'_>) -> Resolved {
    let mut names = vec![base_name(argv0).to_owned()];
    let mut program = None;
    if argv0.as_bytes().contains(&b'/') {
        program = Walk::new(search.view, &mut names).program(search.workdir, argv0);
    } else if search.path.len() < MAX_ARG_STRLEN && !argv0.is_empty() {
        for entry in search.path.as_bytes().split(|byte| *byte == b':') {
            let candidate = [entry, argv0.as_bytes()].join(&b'/');
            let candidate = if entry.is_empty() { &candidate[1..] } else { &candidate };
            let candidate = OsStr::from_bytes(candidate);
            if search.view.sees_the_systems_usr() && is_missing_from_the_system(candidate) {
                continue;
            }
            program = Walk::new(search.view, &mut names).program(search.workdir, candidate);
            if program.is_some() {
                break;
            }
        }
    }
    if let Some(file) = program.as_deref().and_then(Path::file_name)
        && !names.iter().any(|name| name == file)
    {
        names.push(file.to_owned());
    }
    Resolved { program, names }
}

/// Whether a path in `/usr` leads nowhere on the host, and so nowhere in a
/// sandbox, which sees the same `/usr`. One system call instead of a walk:
/// most entries of a search path are misses, and every command pays for them.
fn is_missing_from_the_system(path: &OsStr) -> bool {
    let path = Path::new(path);
    let in_usr =
        path.starts_with("/usr") && !path.components().any(|part| part == Component::ParentDir);
    in_usr && fs::symlink_metadata(path).is_err()
}

/// What stands at a path.
enum Node {
    Directory,
    Link(Vec<u8>),
    Executable,
    Other,
}

impl View<'_> {
    /// Looks at `seen`, an absolute path as commands see it with no link before its last component.
    fn look(&self, seen: &Path) -> Option<Node> {
        let host = if !self.names.has_mount_tree() {
            seen.to_owned()
        } else if RootNames::is_above_a_root(seen) {
            // Whatever the host has there, a sandbox has a directory of its own.
            return Some(Node::Directory);
        } else {
            let inside =
                decide(seen.as_os_str().as_bytes(), PathUse::Directory, self.names).ok()?;
            match self.shown {
                _ if !inside.redirected() => (self.host_path)(&inside)?,
                Some(shown) => shown(seen)?,
                None => seen.to_owned(),
            }
        };
        let kind = fs::symlink_metadata(&host).ok()?.file_type();
        Some(if kind.is_dir() {
            Node::Directory
        } else if kind.is_symlink() {
            Node::Link(fs::read_link(&host).ok()?.into_os_string().into_vec())
        } else if kind.is_file() && may_execute(&host) {
            Node::Executable
        } else {
            Node::Other
        })
    }

    /// Whether `/usr` is the host's to commands.
    fn sees_the_systems_usr(&self) -> bool {
        let usr = Path::new("/usr");
        let shown = self.shown.filter(|_| self.names.has_mount_tree());
        shown.is_none_or(|shown| shown(usr).as_deref() == Some(usr))
    }

    /// The working directory as commands see it; it may have links on its way.
    fn seen(&self, place: &Inside) -> Option<PathBuf> {
        if self.names.has_mount_tree() {
            Some(PathBuf::from(OsString::from_vec(place.display_path())))
        } else {
            (self.host_path)(place)
        }
    }
}

fn may_execute(host: &Path) -> bool {
    faccessat(nix::fcntl::AT_FDCWD, host, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
}

/// One walk along a path, as path_resolution(7) has it, that takes down the names of links.
struct Walk<'a, 'n> {
    view: View<'a>,
    names: &'n mut Vec<OsString>,
    todo: VecDeque<Vec<u8>>,
    links: usize,
}

impl<'a, 'n> Walk<'a, 'n> {
    fn new(view: View<'a>, names: &'n mut Vec<OsString>) -> Self {
        Self { view, names, todo: VecDeque::new(), links: 0 }
    }

    /// The executable file to which `path` leads, free of links.
    fn program(mut self, workdir: &Inside, path: &OsStr) -> Option<PathBuf> {
        let path = path.as_bytes();
        if path.len() >= PATH_MAX {
            return None;
        }
        self.follow_first(path);
        if !path.starts_with(b"/") {
            let workdir = self.view.seen(workdir)?;
            self.follow_first(workdir.as_os_str().as_bytes());
        }
        let mut at = PathBuf::from("/");
        while let Some(part) = self.todo.pop_front() {
            if part == b"." {
                continue;
            }
            if part == b".." {
                at.pop();
                continue;
            }
            let next = at.join(OsStr::from_bytes(&part));
            match self.view.look(&next)? {
                Node::Directory => at = next,
                Node::Link(target) => {
                    self.links += 1;
                    if self.links > MAX_LINKS {
                        return None;
                    }
                    if self.todo.is_empty() {
                        self.names.push(base_name(OsStr::from_bytes(&target)).to_owned());
                    }
                    if target.starts_with(b"/") {
                        at = PathBuf::from("/");
                    }
                    self.follow_first(&target);
                }
                Node::Executable => return self.todo.is_empty().then_some(next),
                Node::Other => return None,
            }
        }
        None
    }

    /// Puts the components of `path` before what is left to do.
    fn follow_first(&mut self, path: &[u8]) {
        for (from_end, part) in path.rsplit(|byte| *byte == b'/').enumerate() {
            match part {
                // A slash at the end asks for a directory, as `/.` does.
                b"" if from_end == 0 => self.todo.push_front(b".".to_vec()),
                b"" => {}
                name => self.todo.push_front(name.to_vec()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
