//! A control group of its own for each daemon, as a service manager would give it one, where the
//! runner of the tests has a place for them: cgroup v2 with controllers, as in tests/vm.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use crate::{SOON, eventually};

/// Enters a group and becomes what the arguments say, with the same process id.
const ENTER: &str = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;

/// The directory that the groups of daemons are made in. What its `cgroup.subtree_control` names
/// they have; nothing else runs in it, because of cgroups(7)'s rule of no internal processes.
pub fn place() -> Option<PathBuf> {
    std::env::var_os("NOXRUNNER_TEST_CGROUP").map(PathBuf::from)
}

/// The group of a process, cgroups(7).
#[track_caller]
pub fn of(pid: Pid) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    Path::new("/sys/fs/cgroup").join(path)
}

/// The groups of a daemon, one for each of its starts, the newest last, and whether it was killed in
/// them. None without a place for them.
#[derive(Debug, Default)]
pub struct Groups(Vec<(PathBuf, bool)>);

impl Groups {
    /// Makes the next one, named after the daemon's directory, and gives the command that the
    /// daemon is started under.
    #[track_caller]
    pub fn next(&mut self, dir: &Path) -> Vec<String> {
        let Some(place) = place() else { return vec![] };
        let name = dir.file_name().unwrap().to_str().unwrap();
        let group = place.join(format!("{name}.{}", self.0.len()));
        fs::create_dir(&group).unwrap();
        let enter = ["/bin/sh", "-c", ENTER, group.to_str().unwrap()].map(str::to_owned).to_vec();
        self.0.push((group, false));
        enter
    }

    /// The one of the start that was last.
    pub fn last(&self) -> Option<&Path> {
        self.0.last().map(|(group, _)| group.as_path())
    }

    /// Notes that the daemon of the last start was killed.
    pub fn killed(&mut self) {
        if let Some((_, killed)) = self.0.last_mut() {
            *killed = true;
        }
    }

    /// Removes them when the daemon has ended, and fails the test where that cannot be: a process is
    /// left in one. So it does where a group is left in one, unless the daemon was killed, since
    /// then nobody was there to remove it.
    #[track_caller]
    pub fn remove(&self) {
        for (group, was_killed) in &self.0 {
            eventually(&format!("{} can be removed", group.display()), SOON, || {
                if *was_killed {
                    remove_inner(group);
                }
                is_removed(group)
            });
        }
    }
}

fn is_removed(group: &Path) -> bool {
    // EBUSY while anything is in it.
    fs::remove_dir(group).map_or_else(|error| error.kind() == ErrorKind::NotFound, |()| true)
}

fn remove_inner(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for inner in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_inner(&inner.path());
        is_removed(&inner.path());
    }
}
