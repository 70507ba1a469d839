//! Where a path leads: pure, lexical and total, so that a property test can
//! hold it. It advises; openat2(2) and the mounts enforce.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A writable place of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Root {
    /// `/workspace`: the caller's files, where relative paths start.
    Workspace,
    /// The private home directory.
    Home,
    /// The private `/tmp`.
    Tmp,
}

impl Root {
    /// Every place.
    pub const ALL: [Self; 3] = [Self::Workspace, Self::Home, Self::Tmp];

    /// The path by which a sandbox names it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Workspace => "/workspace",
            Self::Home => "/home/nox",
            Self::Tmp => "/tmp",
        }
    }

    /// The name of its directory in the sandbox's own directory on the host.
    pub const fn host_name(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::Home => "home",
            Self::Tmp => "tmp",
        }
    }
}

/// What a path is going to be used as; it decides where one that leads outside is redirected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathUse {
    /// A directory: outside becomes `/workspace`.
    Directory,
    /// A file: outside becomes `/workspace/<its last name>`.
    File,
}

/// A place inside a sandbox. Only [`decide`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inside {
    root: Root,
    rest: PathBuf,
    redirected: bool,
}

impl Inside {
    /// The writable place it lies in.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The way from the root: relative, possibly empty, without `.`, `..`, empty components or NUL.
    pub fn rest(&self) -> &Path {
        &self.rest
    }

    /// Whether the path asked for led outside and this place was taken instead.
    pub fn redirected(&self) -> bool {
        self.redirected
    }

    /// The place that it lies in and its last name there; `None` for one of the three places itself.
    pub fn split(&self) -> Option<(Self, &OsStr)> {
        let name = self.rest.file_name()?;
        let rest = self.rest.parent().map(Path::to_owned).unwrap_or_default();
        Some((Self { root: self.root, rest, redirected: self.redirected }, name))
    }

    /// The path as the sandbox names it, such as `/workspace/a/b`; not always UTF-8.
    pub fn display_path(&self) -> Vec<u8> {
        let mut path = self.root.path().as_bytes().to_vec();
        if !self.rest.as_os_str().is_empty() {
            path.push(b'/');
            path.extend_from_slice(self.rest.as_os_str().as_bytes());
        }
        path
    }
}

/// Why there is no deciding about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The kernel ends a path at its first NUL, so one with a NUL names nothing.
    #[error("has a NUL byte")]
    Nul,
}

/// The directory of a sandbox cannot be named beside `/workspace`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} cannot be a sandbox's directory: choose a base directory that is an absolute path other than / and /workspace",
    .0.display()
)]
pub struct HostDirError(PathBuf);

/// By which absolute names the writable places of a sandbox are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootNames {
    /// Components of the sandbox's directory, where commands see the host's own paths.
    host_dir: Option<Vec<Vec<u8>>>,
}

impl RootNames {
    /// The names in a sandbox that has a mount tree of its own: `/workspace`, `/home/nox`, `/tmp`.
    pub fn mount_tree() -> Self {
        Self { host_dir: None }
    }

    /// The names for a sandbox without a mount tree, whose commands see the
    /// host's own paths: in addition `<sandbox_dir>/workspace`, `home` and
    /// `tmp`. Whatever else lies under `sandbox_dir` is outside, the manifest
    /// for one, though the directory itself commonly lies in `/tmp`.
    ///
    /// # Errors
    /// If `sandbox_dir` is relative, `/` or `/workspace`: redirected paths would then lead outside again.
    pub fn with_host_dir(sandbox_dir: &Path) -> Result<Self, HostDirError> {
        let path = sandbox_dir.as_os_str().as_bytes();
        let parts = normalize(path);
        if !path.starts_with(b"/") || path.contains(&0) || parts.is_empty() || parts == WORKSPACE {
            return Err(HostDirError(sandbox_dir.to_owned()));
        }
        Ok(Self { host_dir: Some(parts.into_iter().map(<[u8]>::to_vec).collect()) })
    }

    /// Whether commands see a mount tree in which these names are real.
    pub fn has_mount_tree(&self) -> bool {
        self.host_dir.is_none()
    }

    /// Whether commands mean something of the sandbox's own by this absolute path. Without a
    /// mount tree `/tmp` is the host's to them, whatever it is to callers.
    pub fn means_own(&self, path: &[u8]) -> bool {
        self.has_mount_tree() || self.is_under_host_dir(&normalize(path))
    }

    /// Whether the way to one of a mount tree's places leads through this directory.
    pub(super) fn is_above_a_root(seen: &Path) -> bool {
        Root::ALL.iter().any(|root| Path::new(root.path()).ancestors().skip(1).any(|up| up == seen))
    }

    fn find<'p, 'b>(&self, parts: &'p [&'b [u8]]) -> Option<(Root, &'p [&'b [u8]])> {
        let under_host = self.host_dir.as_deref().and_then(|dir| strip(parts, dir));
        let Some(below) = under_host else { return named(parts) };
        let (first, rest) = below.split_first()?;
        let root = Root::ALL.into_iter().find(|root| root.host_name().as_bytes() == *first)?;
        // The sandbox may make a directory that is named as its own is. Its name
        // in the sandbox would then lead elsewhere than its name on the host.
        let shown: Vec<&[u8]> = normalize(root.path().as_bytes());
        let shown: Vec<&[u8]> = shown.iter().chain(rest).copied().collect();
        (!self.is_under_host_dir(&shown)).then_some((root, rest))
    }

    fn is_under_host_dir(&self, parts: &[&[u8]]) -> bool {
        self.host_dir.as_deref().is_some_and(|dir| strip(parts, dir).is_some())
    }
}

const WORKSPACE: [&[u8]; 1] = [b"workspace"];

/// The place under one of the names that every sandbox has.
fn named<'p, 'b>(parts: &'p [&'b [u8]]) -> Option<(Root, &'p [&'b [u8]])> {
    Root::ALL
        .into_iter()
        .find_map(|root| strip(parts, &normalize(root.path().as_bytes())).map(|rest| (root, rest)))
}

/// What follows `prefix`, by whole components.
fn strip<'p, 'b, P: AsRef<[u8]>>(parts: &'p [&'b [u8]], prefix: &[P]) -> Option<&'p [&'b [u8]]> {
    let (head, rest) = parts.split_at_checked(prefix.len())?;
    head.iter().zip(prefix).all(|(part, want)| *part == want.as_ref()).then_some(rest)
}

/// The components of a path, with `.` and `..` resolved in words alone and
/// `..` of the root being the root. A relative path starts at `/workspace`.
fn normalize(path: &[u8]) -> Vec<&[u8]> {
    let mut parts = if path.starts_with(b"/") { Vec::new() } else { WORKSPACE.to_vec() };
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts
}

/// Where `path` leads in a sandbox whose places have these names.
///
/// # Errors
/// [`PathError::Nul`] if the path has a NUL byte; every other path leads somewhere inside.
pub fn decide(path: &[u8], used_as: PathUse, names: &RootNames) -> Result<Inside, PathError> {
    if path.contains(&0) {
        return Err(PathError::Nul);
    }
    let parts = normalize(path);
    if let Some((root, rest)) = names.find(&parts) {
        return Ok(Inside {
            root,
            rest: rest.iter().map(|p| OsStr::from_bytes(p)).collect(),
            redirected: false,
        });
    }
    let last = match used_as {
        PathUse::Directory => None,
        // In a sandbox whose directory is `/workspace/x`, `/workspace/x` is outside.
        PathUse::File => {
            parts.last().filter(|name| !names.is_under_host_dir(&[WORKSPACE[0], name]))
        }
    };
    let rest = last.map(|name| PathBuf::from(OsStr::from_bytes(name))).unwrap_or_default();
    Ok(Inside { root: Root::Workspace, rest, redirected: true })
}

#[cfg(test)]
mod tests;
