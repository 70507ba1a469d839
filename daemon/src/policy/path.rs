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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SANDBOX: &str = "/tmp/noxrunner_sandbox_x.1";

    fn host() -> RootNames {
        RootNames::with_host_dir(Path::new(SANDBOX)).unwrap()
    }

    fn shown(path: &str, used_as: PathUse, names: &RootNames) -> (String, bool) {
        let inside = decide(path.as_bytes(), used_as, names).unwrap();
        (String::from_utf8(inside.display_path()).unwrap(), inside.redirected())
    }

    #[test]
    fn paths_inside_stay_as_they_are() {
        for names in [RootNames::mount_tree(), host()] {
            for (path, want) in [
                ("", "/workspace"),
                (".", "/workspace"),
                ("a/b", "/workspace/a/b"),
                ("./a//b/.", "/workspace/a/b"),
                ("/workspace", "/workspace"),
                ("//workspace/", "/workspace"),
                ("/workspace/a/../b", "/workspace/b"),
                ("/../../workspace/a", "/workspace/a"),
                ("../workspace/a", "/workspace/a"),
                ("../tmp/a", "/tmp/a"),
                ("/home/nox/.config", "/home/nox/.config"),
                ("/tmp", "/tmp"),
                ("/tmp/...", "/tmp/..."),
                ("/etc/../tmp/x", "/tmp/x"),
            ] {
                for used_as in [PathUse::Directory, PathUse::File] {
                    assert_eq!(shown(path, used_as, &names), (want.to_owned(), false), "{path}");
                }
            }
        }
    }

    #[test]
    fn paths_outside_are_redirected_and_say_so() {
        for names in [RootNames::mount_tree(), host()] {
            for (path, file) in [
                ("/", "/workspace"),
                ("..", "/workspace"),
                ("/..", "/workspace"),
                ("/etc/passwd", "/workspace/passwd"),
                ("../../etc/passwd", "/workspace/passwd"),
                ("/workspacex/a", "/workspace/a"),
                ("/workspacex", "/workspace/workspacex"),
                ("/tmp/../etc", "/workspace/etc"),
                ("/home", "/workspace/home"),
                ("/home/noxy/a", "/workspace/a"),
                ("/Workspace/a", "/workspace/a"),
            ] {
                assert_eq!(shown(path, PathUse::File, &names), (file.to_owned(), true), "{path}");
                let directory = shown(path, PathUse::Directory, &names);
                assert_eq!(directory, ("/workspace".to_owned(), true), "{path}");
            }
        }
    }

    #[test]
    fn without_a_mount_tree_the_hosts_names_lead_inside_too() {
        let names = host();
        for (below, want, redirected) in [
            ("/workspace/a", "/workspace/a", false),
            ("/home/.x", "/home/nox/.x", false),
            ("/tmp", "/tmp", false),
            ("/tmp/../workspace/b", "/workspace/b", false),
            ("/manifest.json", "/workspace/manifest.json", true),
            ("", "/workspace/noxrunner_sandbox_x.1", true),
            ("/workspacex/a", "/workspace/a", true),
            ("y/workspace/a", "/tmp/noxrunner_sandbox_x.1y/workspace/a", false),
            // Made inside to be confused with the sandbox's own directory.
            ("/tmp/noxrunner_sandbox_x.1/a", "/workspace/a", true),
        ] {
            let path = format!("{SANDBOX}{below}");
            let got = shown(&path, PathUse::File, &names);
            assert_eq!(got, (want.to_owned(), redirected), "{path}");
        }
        let manifest = format!("{SANDBOX}/manifest.json");
        let (path, redirected) = shown(&manifest, PathUse::File, &RootNames::mount_tree());
        assert_eq!((path, redirected), (manifest, false), "a name like any other in its own /tmp");
    }

    #[test]
    fn a_nul_is_an_error_wherever_it_stands() {
        for path in [&b"\0"[..], b"/workspace/a\0", b"/etc/\0/passwd", b"\0/../workspace"] {
            for used_as in [PathUse::Directory, PathUse::File] {
                assert_eq!(decide(path, used_as, &host()), Err(PathError::Nul));
            }
        }
    }

    #[test]
    fn a_sandboxs_directory_must_not_hide_the_workspace() {
        for dir in ["", "tmp/x", "/", "/x/..", "/workspace", "//workspace/."] {
            RootNames::with_host_dir(Path::new(dir)).expect_err(dir);
        }
    }

    /// Paths made of what could confuse, rather than of random letters.
    fn mangled() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => Just(b"..".to_vec()),
            2 => Just(b".".to_vec()),
            2 => Just(Vec::new()),
            3 => Just(b"workspace".to_vec()),
            2 => Just(b"tmp".to_vec()),
            1 => Just(b"home".to_vec()),
            1 => Just(b"nox".to_vec()),
            2 => Just(b"sb".to_vec()),
            1 => Just(b"noxrunner_sandbox_x.1".to_vec()),
            1 => Just(b"...".to_vec()),
            1 => Just(b"\\..".to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        (any::<bool>(), prop::collection::vec(part, 0..12)).prop_map(|(absolute, parts)| {
            let mut path = if absolute { b"/".to_vec() } else { Vec::new() };
            path.extend(parts.join(&b'/'));
            path
        })
    }

    fn any_names() -> impl Strategy<Value = RootNames> {
        let dirs = [
            "/tmp/noxrunner_sandbox_x.1",
            "/workspace/sb",
            "/workspace/sb/tmp",
            "/home/nox",
            "/tmp",
            "/sb",
        ];
        let host = prop::sample::select(dirs.to_vec())
            .prop_map(|dir| RootNames::with_host_dir(Path::new(dir)).unwrap());
        prop_oneof![Just(RootNames::mount_tree()), host]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_leads_out(path in mangled(), names in any_names(), file in any::<bool>()) {
            let used_as = if file { PathUse::File } else { PathUse::Directory };
            let decided = decide(&path, used_as, &names);
            prop_assert_eq!(decided.is_err(), path.contains(&0));
            let Ok(inside) = decided else { return Ok(()) };

            let rest = inside.rest().as_os_str().as_bytes();
            prop_assert!(!rest.starts_with(b"/") && !rest.contains(&0));
            if !rest.is_empty() {
                for part in rest.split(|byte| *byte == b'/') {
                    prop_assert!(!matches!(part, b"" | b"." | b".."), "{:?}", inside);
                }
            }
            if inside.redirected() {
                prop_assert_eq!(inside.root(), Root::Workspace);
                prop_assert!(inside.rest().components().count() <= usize::from(file));
            }
            let again = decide(&inside.display_path(), used_as, &names).unwrap();
            prop_assert!(!again.redirected(), "{:?} again is {:?}", inside, again);
            prop_assert_eq!(again.root(), inside.root());
            prop_assert_eq!(again.rest(), inside.rest());
        }
    }
}
