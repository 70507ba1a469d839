//! A blocked command does not run however it is reached, and the stricter profiles. Every denial has
//! its positive control: the same thing runs where the policy does not ask for it to be stopped.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod host;
mod profiles;
mod ways;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use noxrunner_protocol::types::ExecResult;
use noxrunner_tests::{TestDaemon, Tier, exec_params};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory of programs of the test's own, which the policy exposes, and a place for policies.
struct Exposed {
    top: TempDir,
}

/// A program of the name of a file system's maker, that empties files.
const FAKE: &str = "mkfs.fake";

impl Exposed {
    fn new() -> Self {
        // Not in /tmp: sandboxes have one of their own.
        let top = tempfile::Builder::new().prefix("noxtest.").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
        let made = Self { top };
        fs::create_dir(made.bin()).unwrap();
        made.install(FAKE);
        made
    }

    fn bin(&self) -> PathBuf {
        self.top.path().join("bin")
    }

    fn program(&self, name: &str) -> PathBuf {
        self.bin().join(name)
    }

    /// Puts a program there as a package manager does, whatever is there already.
    fn install(&self, name: &str) {
        let new = self.top.path().join("new");
        fs::copy("/usr/bin/truncate", &new).unwrap();
        fs::rename(&new, self.program(name)).unwrap();
    }

    /// A daemon under a policy that shows the directory, and the sandbox `s`.
    #[track_caller]
    fn daemon(&self, tier: Tier, policy: &str) -> TestDaemon {
        self.daemon_under(&[], tier, policy)
    }

    #[track_caller]
    fn daemon_under(&self, wrapper: &[&str], tier: Tier, policy: &str) -> TestDaemon {
        let file = tempfile::NamedTempFile::new_in(self.top.path()).unwrap();
        let shown = format!("expose = [{:?}]\n{policy}\n", self.bin().display().to_string());
        fs::write(file.path(), shown).unwrap();
        let arguments = ["--isolation", tier.name(), "--policy", file.path().to_str().unwrap()];
        let daemon = TestDaemon::start_under(wrapper, &arguments);
        assert_eq!(daemon.tier, tier);
        // Where they have users of their own and no mount tree, they come by this path.
        fs::set_permissions(daemon.dir.path(), Permissions::from_mode(0o711)).unwrap();
        daemon.create("s");
        daemon
    }

    /// Runs a script of bash in a sandbox, with these programs on its search path.
    #[track_caller]
    fn bash(&self, daemon: &TestDaemon, id: &str, script: &str) -> ExecResult {
        let mut params = exec_params(id, &["bash", "-c", script]);
        let path = format!("/usr/bin:/bin:/usr/sbin:/sbin:{}", self.bin().display());
        params.env.insert("PATH".to_owned(), path);
        daemon.exec_params(params)
    }
}

/// A daemon of a tier under a policy, and the sandbox `s`.
#[track_caller]
fn under(tier: Tier, policy: &str) -> TestDaemon {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), policy).unwrap();
    let policy = file.path().to_str().unwrap();
    let daemon = TestDaemon::start_with(&["--isolation", tier.name(), "--policy", policy]);
    fs::set_permissions(daemon.dir.path(), Permissions::from_mode(0o711)).unwrap();
    daemon.create("s");
    daemon
}

/// The settings that a daemon says it does not enforce in full, and why.
#[track_caller]
fn gaps(daemon: &TestDaemon) -> Vec<(String, String)> {
    let policy = daemon.call("policy.get", json!({})).unwrap();
    let said = |gap: &Value, key: &str| gap[key].as_str().unwrap().to_owned();
    let gaps = policy["notEnforced"].as_array().unwrap();
    gaps.iter().map(|gap| (said(gap, "setting"), said(gap, "why"))).collect()
}

/// The program that loads others, elf(5).
fn loader() -> &'static str {
    let known = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    known.into_iter().find(|path| Path::new(path).exists()).unwrap()
}
