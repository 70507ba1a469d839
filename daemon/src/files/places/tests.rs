//! Ways through the places, in a directory that has the form of a sandbox's.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    handle: File,
    names: RootNames,
    owner: Option<u32>,
}

impl Fixture {
    fn new(owner: Option<u32>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for place in ["workspace", "home", "tmp"] {
            fs::create_dir(dir.path().join(place)).unwrap();
        }
        let handle = File::open(dir.path()).unwrap();
        Self { dir, handle, names: RootNames::mount_tree(), owner }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn places(&self) -> Places<'_> {
        Places { sandbox: self.handle.as_fd(), names: &self.names, owner: self.owner }
    }

    fn hold(&self, path: &str, last: LastLink) -> Result<u64, FileError> {
        let places = self.places();
        let held = places.hold(&places.decide(path.as_bytes(), PathUse::File)?, last)?;
        Ok(fstat(&held).unwrap().st_ino)
    }

    fn inode(&self, name: &str) -> u64 {
        fs::symlink_metadata(self.path(name)).unwrap().ino()
    }

    #[track_caller]
    fn leads_to(&self, path: &str, name: &str) {
        assert_eq!(self.hold(path, LastLink::Follow).unwrap(), self.inode(name), "{path}");
    }
}

#[test]
fn links_lead_where_they_lead_in_the_sandbox() {
    let fx = Fixture::new(None);
    fs::create_dir_all(fx.path("workspace/a/b")).unwrap();
    fs::write(fx.path("workspace/a/file"), "").unwrap();
    fs::write(fx.path("tmp/other"), "").unwrap();
    let link = |target: &str, name: &str| symlink(target, fx.path(name)).unwrap();
    link("a/file", "workspace/relative");
    link("/workspace/a/file", "workspace/absolute");
    link("/tmp/other", "workspace/to_tmp");
    link("../tmp/other", "workspace/across");
    link("/workspace/a", "home/dir");
    link("/home/nox/dir/b", "workspace/chain");
    link("../../workspace", "workspace/a/up");
    for (path, name) in [
        ("relative", "workspace/a/file"),
        ("absolute", "workspace/a/file"),
        ("to_tmp", "tmp/other"),
        ("across", "tmp/other"),
        ("/home/nox/dir/file", "workspace/a/file"),
        ("chain", "workspace/a/b"),
        ("a/up/a/up", "workspace"),
        ("", "workspace"),
    ] {
        fx.leads_to(path, name);
    }
    assert_eq!(fx.hold("absolute", LastLink::Keep).unwrap(), fx.inode("workspace/absolute"));
    let real = fx.places().decide(b"chain", PathUse::File).unwrap();
    let real = fx.places().without_links(&real, LastLink::Follow).unwrap();
    assert_eq!(real.display_path(), b"/workspace/a/b");
}

#[test]
fn links_that_lead_out_or_round_are_told_apart() {
    let fx = Fixture::new(None);
    fs::write(fx.path("secret"), "").unwrap();
    let link = |target: &str, name: &str| symlink(target, fx.path(name)).unwrap();
    link("../secret", "workspace/relative");
    link("/etc/passwd", "workspace/passwd");
    link("/proc/self/cwd", "workspace/magic");
    link("/", "workspace/root");
    link("loop", "workspace/loop");
    link("/workspace/round", "workspace/about");
    link("/workspace/about", "workspace/round");
    link("nothing", "workspace/dangling");
    fs::write(fx.path("workspace/file"), "").unwrap();
    // Followed by anybody else, it leads there.
    assert!(fs::metadata(fx.path("workspace/relative")).is_ok());
    for path in ["relative", "passwd", "magic/x", "root/etc/passwd"] {
        let error = fx.hold(path, LastLink::Follow).unwrap_err();
        assert!(matches!(error, FileError::LeadsOut(_)), "{path}: {error}");
    }
    for path in ["loop", "about"] {
        let error = fx.hold(path, LastLink::Follow).unwrap_err();
        assert!(matches!(error, FileError::TooManyLinks(_)), "{path}: {error}");
    }
    let error = fx.hold("dangling", LastLink::Follow).unwrap_err();
    assert!(matches!(error, FileError::NotFound(_)), "{error}");
    let error = fx.hold("file/x", LastLink::Follow).unwrap_err();
    assert!(matches!(error, FileError::NotADirectory(_)), "{error}");
    let make = |path: &str| {
        let inside = fx.places().decide(path.as_bytes(), PathUse::Directory).unwrap();
        fx.places().make_directory(&inside).unwrap_err()
    };
    assert!(matches!(make("dangling"), FileError::NotADirectory(_)));
    assert!(matches!(make("dangling/x"), FileError::NotADirectory(_)));
    assert!(matches!(make("root/x"), FileError::LeadsOut(_)));
    assert!(matches!(make("file"), FileError::NotADirectory(_)));
}

mod root_only {
    use super::*;

    #[test]
    fn what_is_made_for_a_sandbox_is_the_sandboxes() {
        const UID: u32 = 1_879_048_192;
        let mut fx = Fixture::new(Some(UID));
        fs::remove_dir(fx.path("workspace")).unwrap();
        let ensure = |fx: &Fixture, path: &str| {
            let inside = fx.places().decide(path.as_bytes(), PathUse::Directory).unwrap();
            fx.places().make_directory(&inside).unwrap().1
        };
        let owner = |fx: &Fixture, name: &str| {
            let meta = fs::symlink_metadata(fx.path(name)).unwrap();
            (meta.uid(), meta.gid(), meta.mode() & 0o7777)
        };
        // The top was removed, too.
        assert!(ensure(&fx, "/workspace/a/b"));
        assert_eq!(owner(&fx, "workspace"), (UID, UID, 0o700));
        assert_eq!((owner(&fx, "workspace/a").0, owner(&fx, "workspace/a/b").0), (UID, UID));
        assert!(!ensure(&fx, "/workspace/a/b"));
        // What was there stays whose it was.
        fs::create_dir(fx.path("workspace/roots")).unwrap();
        assert!(ensure(&fx, "/workspace/roots/c"));
        assert_eq!((owner(&fx, "workspace/roots").0, owner(&fx, "workspace/roots/c").0), (0, UID));
        fx.owner = None;
        assert!(ensure(&fx, "/tmp/d"));
        assert_eq!((owner(&fx, "tmp").0, owner(&fx, "tmp/d").0), (0, 0));
    }
}
