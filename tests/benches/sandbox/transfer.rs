//! Trees in and out beside `tar` through a pipe, which does the same work without a daemon.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use noxrunner_tests::{TestDaemon, program};
use serde_json::json;
use tempfile::TempDir;

use crate::pinned::WHERE_PROGRAMS_ARE;
use crate::spawn::ENVIRONMENT;

/// Small files of the tree, each of some 2 KiB.
const SMALL: u64 = 2048;

/// What is sent up and down, and where it goes.
pub(crate) struct Trees<'a> {
    daemon: &'a TestDaemon,
    by: By,
    dir: TempDir,
    /// Whether what was made stays until the end: ext4 looks long for inodes where many were just freed
    /// (here 4,000 files took four times as long), and those of large files would fill the disk.
    keeps: bool,
}

/// How `noxctl` reaches the daemon.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    /// Over its socket.
    Socket,
    /// By the REST API over TCP, as any backend, with gzip both ways.
    Rest,
}

/// What a tree is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// One file of so many bytes.
    Large(u64),
    /// So many small ones, a hundred in each directory.
    Small(u64),
}

impl Kind {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Large(bytes) => format!("one file of {} MiB", bytes >> 20),
            Self::Small(files) => format!("{files} small files"),
        }
    }
}

impl<'a> Trees<'a> {
    /// Makes one, and puts it into the sandbox too.
    pub(crate) fn new(daemon: &'a TestDaemon, by: By, kind: Kind) -> Self {
        let keeps = matches!(kind, Kind::Small(_));
        let trees = Self { daemon, by, dir: tempfile::tempdir().unwrap(), keeps };
        let source = trees.source();
        fs::create_dir(&source).unwrap();
        let mut data = vec![0; 1 << 20];
        File::open("/dev/urandom").unwrap().read_exact(&mut data).unwrap();
        match kind {
            Kind::Large(bytes) => {
                let mut file = File::create(source.join("large")).unwrap();
                for _ in 0..bytes >> 20 {
                    file.write_all(&data).unwrap();
                }
            }
            Kind::Small(files) => {
                for n in 0..files {
                    let dir = source.join((n / 100).to_string());
                    if n % 100 == 0 {
                        fs::create_dir(&dir).unwrap();
                    }
                    let size = usize::try_from(SMALL / 2 + n % SMALL).unwrap();
                    fs::write(dir.join(n.to_string()), &data[..size]).unwrap();
                }
            }
        }
        trees.up("trees/kept");
        trees
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    /// Where something is unpacked that is not there yet.
    fn fresh(&self, what: &str, nonce: u64) -> PathBuf {
        let fresh = self.dir.path().join(format!("{what}{nonce}"));
        fs::create_dir(&fresh).unwrap();
        fresh
    }

    /// `tar` to `tar` through a pipe.
    pub(crate) fn tar(&self, nonce: u64) -> Duration {
        let into = self.fresh("tar", nonce);
        let started = Instant::now();
        let mut packing = command("tar");
        packing.arg("-cC").arg(self.source()).arg(".").stdout(Stdio::piped());
        let mut packing = packing.spawn().unwrap();
        let mut unpacking = command("tar");
        unpacking.arg("-xC").arg(&into).stdin(packing.stdout.take().unwrap());
        assert!(unpacking.status().unwrap().success());
        assert!(packing.wait().unwrap().success());
        let took = started.elapsed();
        self.used_up(&into);
        took
    }

    /// `noxctl upload` as a whole process.
    pub(crate) fn upload(&self, nonce: u64) -> Duration {
        let dest = format!("trees/{nonce}");
        let started = Instant::now();
        self.up(&dest);
        let took = started.elapsed();
        if !self.keeps {
            self.remove_inside(&dest);
        }
        took
    }

    fn used_up(&self, unpacked: &Path) {
        if !self.keeps {
            fs::remove_dir_all(unpacked).unwrap();
        }
    }

    fn remove_inside(&self, path: &str) {
        let params = json!({"sessionId": "bench", "path": path, "recursive": true});
        self.daemon.call("file.remove", params).unwrap();
    }

    fn up(&self, dest: &str) {
        let source = self.source();
        self.noxctl(&["upload", "bench", "--dest", dest, "--dir", shown(&source)]);
    }

    fn noxctl(&self, arguments: &[&str]) {
        let mut noxctl = command(program("noxctl"));
        match self.by {
            By::Socket => noxctl.arg("--socket").arg(&self.daemon.socket),
            By::Rest => noxctl.arg("--base-url").arg(format!("http://{}", self.daemon.http())),
        };
        let output = noxctl.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// `noxctl download` as a whole process.
    pub(crate) fn download(&self, nonce: u64) -> Duration {
        let into = self.fresh("down", nonce);
        let started = Instant::now();
        self.noxctl(&["download", "bench", "--src", "trees/kept", "--extract", shown(&into)]);
        let took = started.elapsed();
        self.used_up(&into);
        took
    }

    /// What is left of it in the sandbox.
    pub(crate) fn remove(self) {
        self.remove_inside("trees");
    }
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(ENVIRONMENT);
    if let Some(path) = WHERE_PROGRAMS_ARE.get() {
        command.env("PATH", path);
    }
    command
}
