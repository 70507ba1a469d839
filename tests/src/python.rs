//! The published Python client, as its users install it: in a virtual environment, from the
//! registry, byte for byte what was published (its hash is beside its version).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};

use crate::{TestDaemon, text};

/// The system's own: another one on PATH may be a script that looks for one.
const PYTHON: &str = "/usr/bin/python3";

/// The one package, its version and its hash.
const REQUIREMENTS: &str = include_str!("../clients/python/requirements.txt");

/// A virtual environment with the published client in it.
pub struct Python {
    dir: PathBuf,
}

impl Python {
    /// The one that all tests share: whoever comes first makes it, beside the programs of the tests.
    #[track_caller]
    pub fn with_noxrunner() -> Self {
        let test = std::env::current_exe().unwrap();
        let dir = test.ancestors().nth(2).unwrap().join("python-noxrunner");
        // Each test is a process of its own, and none may use what another one is still making.
        let lock = File::create(dir.with_extension("lock")).unwrap();
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
        let python = Self { dir };
        let done = python.dir.join("done");
        // The interpreter that it links to may be gone.
        let usable = python.dir.join("bin/python").exists();
        if !usable || fs::read_to_string(&done).ok().as_deref() != Some(REQUIREMENTS) {
            python.install();
            fs::write(done, REQUIREMENTS).unwrap();
        }
        python
    }

    #[track_caller]
    fn install(&self) {
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).unwrap();
        }
        must(
            Command::new(PYTHON).args(["-m", "venv"]).arg(&self.dir),
            "is it installed? apt-get install python3-venv",
        );
        let list = self.dir.join("requirements.txt");
        fs::write(&list, REQUIREMENTS).unwrap();
        // No longer than a test may take that waits for it.
        let mut pip = Command::new("timeout");
        pip.arg("150").arg(self.dir.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        pip.args(["--only-binary", ":all:", "--require-hashes", "-r"]).arg(list);
        must(&mut pip, "can the registry of Python packages be reached?");
    }

    /// Its interpreter, not yet run, with UTF-8 as its encoding wherever it runs.
    pub fn interpreter(&self) -> Command {
        self.program("python")
    }

    /// The old command line tool, not yet run, which is told of a daemon as its users tell it.
    pub fn noxrc(&self, base_url: &str) -> Command {
        let mut noxrc = self.program("noxrc");
        noxrc.env("NOXRUNNER_BASE_URL", base_url);
        noxrc
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.dir.join("bin").join(name));
        command.env("PYTHONUTF8", "1").env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        // A proxy would be asked for this machine's loopback, too.
        command.env("no_proxy", "*").env_remove("PYTHONPATH");
        command
    }
}

#[track_caller]
fn must(command: &mut Command, hint: &str) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}; {hint}"));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {stdout}{stderr}{hint}");
}

impl TestDaemon {
    /// Where it listens on TCP, for clients of the REST API.
    #[track_caller]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.http())
    }
}

/// Writes a script where its interpreter finds it.
#[track_caller]
pub fn put(dir: &Path, name: impl AsRef<OsStr>, source: &str) -> PathBuf {
    let path = dir.join(name.as_ref());
    fs::write(&path, source).unwrap();
    path
}
