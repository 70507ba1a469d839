//! Plans for machines made up of a temporary directory, and one for the machine that runs the tests.

mod asked;
mod exposed;
mod stubs;
mod system;
mod toolchains;

use std::os::unix::fs::{PermissionsExt, symlink};

use noxrunner_init::template::Node;

use super::*;

/// A machine of our own: a system below `root`, a home, and directories beside it.
struct Machine {
    dir: tempfile::TempDir,
    inputs: Inputs,
    mountinfo: String,
    is_root: bool,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            dir: tempfile::tempdir().unwrap(),
            inputs: Inputs::default(),
            mountinfo: "1 1 8:1 / / rw - ext4 x rw\n".to_owned(),
            is_root: false,
        };
        for name in ["root/usr/bin", "root/opt", "home", "base"] {
            machine.dir(name);
        }
        let (home, base) = (machine.at("home"), machine.at("base"));
        let inputs = Inputs { home: Some(home), protected: vec![base], ..Inputs::default() };
        Self { inputs, ..machine }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn dir(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.at(name)).unwrap();
        self.at(name)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn program(&self, name: &str) -> PathBuf {
        let path = self.file(name, "");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.at(name)).unwrap();
    }

    fn on_path(&mut self, names: &[&str]) {
        let entries: Vec<_> = names.iter().map(|name| self.at(name)).collect();
        self.inputs.path = std::env::join_paths(entries).unwrap();
    }

    fn expose(&mut self, names: &[&str]) {
        self.inputs.expose = names.iter().map(|name| self.at(name)).collect();
    }

    fn bind_mount(&mut self, from: &str, to: &str) {
        let n = self.mountinfo.lines().count() + 1;
        let (from, to) = (self.dir(from), self.dir(to));
        let line = format!("{n} 1 8:1 {} {} rw - ext4 x rw\n", from.display(), to.display());
        self.mountinfo += &line;
    }

    fn try_plan(&self) -> Result<Rootfs, RootfsError> {
        let host = Host {
            root: self.at("root"),
            reserved: ["/workspace", "/home/nox", "/proc", "/dev"]
                .map(PathBuf::from)
                .into_iter()
                .chain([self.at("reserved")])
                .collect(),
            mountinfo: self.mountinfo.clone().into_bytes(),
            is_root: self.is_root,
        };
        Rootfs::plan_on(&host, &self.inputs)
    }

    fn plan(&self) -> Rootfs {
        self.try_plan().unwrap()
    }

    /// Why `expose` is refused.
    fn refused(&self) -> ExposeProblem {
        let error = self.try_plan().unwrap_err();
        let RootfsError::Expose { problem, .. } = error else { panic!("{error}") };
        problem
    }
}

fn path_of(text: &std::ffi::CStr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(OsStr::from_bytes(text.to_bytes()))
}

fn node(rootfs: &Rootfs, path: impl AsRef<Path>) -> Option<&Node> {
    let mut entries = rootfs.template().entries.iter();
    entries.find(|entry| path_of(&entry.path) == path.as_ref()).map(|entry| &entry.node)
}

fn text(rootfs: &Rootfs, path: impl AsRef<Path>) -> String {
    match node(rootfs, path.as_ref()) {
        Some(Node::File(bytes)) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{}: {other:?}", path.as_ref().display()),
    }
}

/// Every bind: where it is seen, and what it brings.
fn binds(rootfs: &Rootfs) -> Vec<(PathBuf, PathBuf)> {
    let entries = rootfs.template().entries.iter();
    let bind = |entry: &noxrunner_init::template::TemplateEntry| match &entry.node {
        Node::Bind(source) => Some((path_of(&entry.path), path_of(source))),
        Node::Directory | Node::File(_) | Node::Link(_) | Node::Hidden | Node::Stubs(_) => None,
    };
    entries.filter_map(bind).collect()
}

fn hidden(rootfs: &Rootfs) -> Vec<PathBuf> {
    let entries = rootfs.template().entries.iter();
    entries.filter(|e| e.node == Node::Hidden).map(|e| path_of(&e.path)).collect()
}
