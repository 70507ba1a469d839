//! Where a daemon runs, which decides what it has to hold sandboxes with.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use noxrunner_protocol::RpcError;
use noxrunner_protocol::types::Tier;
use noxrunner_tests::life::nothing_runs;
use noxrunner_tests::{SOON, TestDaemon, cgroup, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arm {
    /// Root, with control groups of version 1.
    V1,
    /// Control groups of version 2, delegated to the user of the test.
    V2,
    /// No control groups.
    Bare,
}

/// Starts what follows without control groups to be seen.
const WITHOUT: [&str; 6] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "umount --recursive --lazy /sys/fs/cgroup && exec \"$@\"",
    "-",
];

/// The same for who may not unmount: nobody can make a group in the one that it is started in.
const WITHIN_NONE: [&str; 4] = [
    "sh",
    "-c",
    "g=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/cgroup.max.descendants; \
     [ ! -w \"$g\" ] || echo 0 > \"$g\"; exec \"$@\"",
    "-",
];

/// A daemon of an arm. When it is dropped nothing of its control groups may be left.
pub(crate) struct Limited {
    // Dropped in this order.
    daemon: TestDaemon,
    groups: Groups,
    _policy: TempDir,
    pub(crate) arm: Arm,
}

impl Deref for Limited {
    type Target = TestDaemon;

    fn deref(&self) -> &TestDaemon {
        &self.daemon
    }
}

impl DerefMut for Limited {
    fn deref_mut(&mut self) -> &mut TestDaemon {
        &mut self.daemon
    }
}

impl Arm {
    pub(crate) fn has_groups(self) -> bool {
        self != Self::Bare
    }

    /// What enforces a limit that is a control group's where there are any.
    pub(crate) fn or(self, without: &str) -> &str {
        if self.has_groups() { "cgroup" } else { without }
    }

    #[track_caller]
    pub(crate) fn start(self) -> Limited {
        self.start_with("", &[])
    }

    /// A daemon with a policy, in the strongest tier.
    #[track_caller]
    pub(crate) fn start_with(self, policy: &str, more: &[&str]) -> Limited {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.toml");
        fs::write(&file, policy).unwrap();
        let wrapper = match self {
            Self::Bare if geteuid().is_root() => WITHOUT.to_vec(),
            Self::Bare => WITHIN_NONE.to_vec(),
            Self::V1 => Vec::new(),
            // The daemon gets a group of its own in there.
            Self::V2 => {
                cgroup::place().expect("NOXRUNNER_TEST_CGROUP names a delegated directory");
                Vec::new()
            }
        };
        let mut arguments = vec!["--policy", file.to_str().unwrap()];
        arguments.extend(more);
        let daemon = TestDaemon::start_under(&wrapper, &arguments);
        let groups = Groups { name: name(&daemon.base) };
        let features = daemon.call("health", json!({})).unwrap()["isolation"].take();
        let has = |feature: &str| {
            features["features"].as_array().unwrap().iter().any(|has| has == feature)
        };
        assert_eq!(has("cgroup v1"), self == Self::V1, "{features}");
        assert_eq!(has("cgroup v2"), self == Self::V2, "{features}");
        let missing = features["missing"].as_array().unwrap();
        let missing =
            missing.iter().any(|gap| gap["feature"].as_str().unwrap().starts_with("cgroup"));
        assert_eq!(missing, self == Self::Bare, "{features}");
        assert_eq!(!groups.all().is_empty(), self.has_groups(), "{:?}", groups.all());
        if more.is_empty() {
            assert_eq!(daemon.tier, Tier::Full);
        }
        Limited { daemon, groups, _policy: directory, arm: self }
    }

    /// The same with a sandbox `s` that has these limits.
    #[track_caller]
    pub(crate) fn sandbox(self, policy: &str, limits: Value) -> Limited {
        let daemon = self.start_with(policy, &[]);
        daemon.limit("s", limits).unwrap();
        daemon
    }
}

impl Limited {
    /// Creates or renews a sandbox with these limits, and gives the whole answer.
    pub(crate) fn limit(&self, id: &str, mut limits: Value) -> Result<Value, RpcError> {
        limits["sessionId"] = json!(id);
        self.call("sandbox.create", limits)
    }

    /// What a sandbox takes up.
    #[track_caller]
    pub(crate) fn usage(&self, id: &str, of: &str) -> u64 {
        let info = self.call("sandbox.get", json!({"sessionId": id})).unwrap();
        info["usage"][of].as_u64().unwrap()
    }

    /// The directories of a group of a sandbox, one for each of its hierarchies.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let inside = |parent: &PathBuf| directories(parent);
        self.groups.all().iter().flat_map(inside).collect()
    }

    /// What the one group that has this file has in it.
    #[track_caller]
    pub(crate) fn group_file(&self, file: &str) -> String {
        let files: Vec<PathBuf> = self.groups().iter().map(|group| group.join(file)).collect();
        let files: Vec<&PathBuf> = files.iter().filter(|file| file.exists()).collect();
        let [file] = files[..] else { panic!("{file} is in {files:?}") };
        fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// Deletes all sandboxes, and looks whether anything of them is left.
    #[track_caller]
    pub(crate) fn leaves_nothing(&self) {
        let list = self.call("sandbox.list", json!({})).unwrap();
        for sandbox in list["sandboxes"].as_array().unwrap() {
            self.delete(sandbox["sessionId"].as_str().unwrap());
        }
        nothing_runs(self);
        assert_eq!(self.directories(), [""; 0]);
        eventually("no group of a sandbox is left", SOON, || self.groups().is_empty());
    }
}

/// The control groups of a daemon, in every hierarchy of this machine.
struct Groups {
    name: String,
}

impl Groups {
    /// The daemon's own directories.
    fn all(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounts = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(point))
        });
        let mut unseen: Vec<PathBuf> = mounts.collect();
        let mut found = Vec::new();
        while let Some(directory) = unseen.pop() {
            for entry in directories(&directory) {
                if entry.file_name().unwrap() == self.name.as_str() {
                    found.push(entry);
                } else {
                    unseen.push(entry);
                }
            }
        }
        found
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        assert_eq!(self.all(), [""; 0].map(PathBuf::from), "the daemon left control groups");
    }
}

/// What a daemon calls its groups: by the user and the base directory.
fn name(base: &Path) -> String {
    let meta = fs::metadata(base).unwrap();
    format!("noxrunner-{}-{:x}-{:x}", geteuid(), meta.dev(), meta.ino())
}

/// What is in a directory; nothing where it is gone.
fn directories(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}
