//! The directories of the daemon's own that no sandbox may see: whoever can write to the
//! socket commands the daemon, and the base directory has everybody's files.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Conflict, RootfsError};
use super::mounts::{Location, Mounts};
use super::watch::{Identity, identity};

/// Keeps directories from being shown.
#[derive(Debug)]
pub(super) struct Guard {
    protected: Vec<Protected>,
    mounts: Mounts,
}

#[derive(Debug)]
struct Protected {
    /// Without links.
    path: PathBuf,
    location: Option<Location>,
    /// Itself and each directory on the way to it, with the way from there.
    above: Vec<(Identity, PathBuf)>,
}

/// What a tree has to do with the protected directories.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overlap {
    /// All of it lies in one of them.
    Within(Conflict),
    /// It holds these, each at a place below the tree's top. None is nothing.
    Holds(Vec<Conflict>),
}

impl Guard {
    /// Looks at the directories to protect.
    ///
    /// # Errors
    /// If one is not there.
    pub(super) fn new(protected: &[PathBuf], mounts: Mounts) -> Result<Self, RootfsError> {
        let look = |path: &PathBuf| {
            let path = fs::canonicalize(path)
                .map_err(|error| RootfsError::Protected { path: path.clone(), error })?;
            let above = path.ancestors().filter_map(|above| {
                let rest = path.strip_prefix(above).ok()?;
                Some((identity(above)?, rest.to_owned()))
            });
            let above = above.collect();
            Ok(Protected { location: mounts.locate(&path), above, path })
        };
        let protected = protected.iter().map(look).collect::<Result<_, _>>()?;
        Ok(Self { protected, mounts })
    }

    /// Compares a tree, by a path without links, with every protected directory:
    /// by what the directories on the way are, and by what is mounted.
    pub(super) fn overlap(&self, tree: &Path) -> Overlap {
        let mut found = Vec::new();
        for protected in &self.protected {
            match self.overlap_with(protected, tree) {
                Overlap::Within(conflict) => return Overlap::Within(conflict),
                Overlap::Holds(more) => found.extend(more),
            }
        }
        // Nothing can be hidden again in what is hidden.
        found.sort_by(|a: &Conflict, b| a.at.cmp(&b.at));
        found.dedup_by(|below, above| below.at.starts_with(&above.at));
        Overlap::Holds(found)
    }

    fn overlap_with(&self, protected: &Protected, tree: &Path) -> Overlap {
        let conflict = |at: PathBuf, within| Conflict {
            protected: protected.path.clone(),
            alias: !protected.path.starts_with(&at) && !at.starts_with(&protected.path),
            at,
            within,
        };
        let itself = protected.above.first().map(|(identity, _)| *identity);
        let on_the_way = || tree.ancestors().filter_map(identity);
        if tree.starts_with(&protected.path) || on_the_way().any(|id| Some(id) == itself) {
            return Overlap::Within(conflict(tree.to_owned(), true));
        }
        let mut held = Vec::new();
        let top = identity(tree);
        for (_, rest) in protected.above.iter().filter(|(above, _)| Some(*above) == top) {
            let at = tree.join(rest);
            // Not where the way leads over a mount that this tree does not have.
            if identity(&at) == itself {
                held.push(conflict(at, false));
            }
        }
        let Some(own) = &protected.location else { return Overlap::Holds(held) };
        for piece in self.mounts.pieces(tree) {
            if piece.location.below(own).is_some() {
                if piece.top == tree {
                    return Overlap::Within(conflict(tree.to_owned(), true));
                }
                held.push(conflict(piece.top, false));
            } else if let Some(rest) = own.below(&piece.location) {
                let at = piece.top.join(rest);
                // Not where something else is mounted over it.
                if self.mounts.locate(&at).as_ref() == Some(own) {
                    held.push(conflict(at, false));
                }
            }
        }
        Overlap::Holds(held)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Host {
        dir: tempfile::TempDir,
        mountinfo: String,
    }

    impl Host {
        fn new(mounts: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for name in ["srv/base/sandbox", "srv/other", "alias", "far/alias/in it"] {
                fs::create_dir_all(dir.path().join(name)).unwrap();
            }
            let top = dir.path().canonicalize().unwrap();
            let mut mountinfo = "1 1 8:1 / / rw - ext4 x rw\n".to_owned();
            for (n, (root, point)) in mounts.iter().enumerate() {
                let (root, point) = (top.join(root), top.join(point));
                let escape = |path: PathBuf| path.display().to_string().replace(' ', "\\040");
                let (root, point) = (escape(root), escape(point));
                mountinfo += &format!("{} 1 8:1 {root} {point} rw - ext4 x rw\n", n + 2);
            }
            Self { dir, mountinfo }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join(name)
        }

        fn overlap(&self, tree: &str) -> Option<Vec<(PathBuf, bool)>> {
            let mounts = Mounts::parse(self.mountinfo.as_bytes());
            let guard = Guard::new(&[self.at("srv/base")], mounts).unwrap();
            match guard.overlap(&self.at(tree)) {
                Overlap::Within(_) => None,
                Overlap::Holds(held) => Some(held.into_iter().map(|c| (c.at, c.alias)).collect()),
            }
        }
    }

    #[test]
    fn in_it_above_it_and_beside_it() {
        let host = Host::new(&[]);
        assert_eq!(host.overlap("srv/base"), None);
        assert_eq!(host.overlap("srv/base/sandbox"), None);
        assert_eq!(host.overlap("srv"), Some(vec![(host.at("srv/base"), false)]));
        assert_eq!(host.overlap(""), Some(vec![(host.at("srv/base"), false)]));
        assert_eq!(host.overlap("srv/other"), Some(vec![]));
    }

    #[test]
    fn a_bind_mount_of_it_is_it() {
        let host = Host::new(&[("srv/base", "alias"), ("srv/base/sandbox", "far/alias/in it")]);
        assert_eq!(host.overlap("alias"), None);
        let host = Host::new(&[("srv/base/sandbox", "alias")]);
        assert_eq!(host.overlap("alias"), None, "a part of it, too");
        let host = Host::new(&[("srv/base/sandbox", "far/alias")]);
        assert_eq!(host.overlap("far"), Some(vec![(host.at("far/alias"), true)]));
        assert_eq!(host.overlap("far/alias/in it"), None);
    }

    #[test]
    fn a_bind_mount_of_what_it_is_in_holds_it() {
        let host = Host::new(&[("srv", "alias")]);
        assert_eq!(host.overlap("alias"), Some(vec![(host.at("alias/base"), true)]));
        let host = Host::new(&[("srv", "far/alias")]);
        assert_eq!(host.overlap("far"), Some(vec![(host.at("far/alias/base"), true)]));
        assert_eq!(host.overlap("alias"), Some(vec![]));
        // Something else is mounted over it there.
        let mut host = Host::new(&[("srv", "far/alias")]);
        host.mountinfo +=
            &format!("9 2 8:2 / {} rw - ext4 y rw\n", host.at("far/alias/base").display());
        assert_eq!(host.overlap("far"), Some(vec![]));
    }

    #[test]
    fn links_to_a_protected_directory_are_followed_and_it_must_be_there() {
        let host = Host::new(&[]);
        symlink(host.at("srv/base"), host.at("link")).unwrap();
        let guard = Guard::new(&[host.at("link")], Mounts::default()).unwrap();
        assert!(matches!(guard.overlap(&host.at("srv/base")), Overlap::Within(_)));
        let error = Guard::new(&[host.at("absent")], Mounts::default()).unwrap_err();
        assert!(matches!(error, RootfsError::Protected { .. }));
    }

    #[test]
    fn what_is_in_the_hidden_is_not_hidden_again() {
        let host = Host::new(&[]);
        let protected = ["srv/base", "srv/base/sandbox", "srv/base"].map(|name| host.at(name));
        let guard = Guard::new(&protected, Mounts::default()).unwrap();
        let Overlap::Holds(held) = guard.overlap(&host.at("srv")) else {
            panic!("it is not in it")
        };
        assert_eq!(held.into_iter().map(|c| c.at).collect::<Vec<_>>(), [host.at("srv/base")]);
    }
}
