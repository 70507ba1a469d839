//! A place for groups on this machine, and programs to put in them.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio, id};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid};

use super::super::leftovers::remove_all;
use super::super::place::{Place, Spot, locate};
use super::super::{Group, Hierarchy};

/// How long anything may take that should happen soon.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// A process is in one group of version 2 at a time, and tests move theirs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// So that what a failed test leaves is not in the next one's way.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Where a test has its groups.
pub(super) struct Fixture {
    base: tempfile::TempDir,
    pub(super) place: Place,
    /// Version 2: where the test was before.
    home: Option<(PathBuf, PathBuf)>,
    _alone: MutexGuard<'static, ()>,
}

impl Fixture {
    fn new(place: Place, home: Option<(PathBuf, PathBuf)>, alone: MutexGuard<'static, ()>) -> Self {
        Self { base: tempfile::tempdir().unwrap(), place, home, _alone: alone }
    }

    /// Below the test's own groups of version 1.
    pub(super) fn v1() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let place = own_place();
        assert_eq!(place.legacy.len(), 3, "memory, cpu and pids of version 1: {place:?}");
        Self::new(Place { unified: None, ..place }, None, alone)
    }

    /// In a group of the test's own in the delegated directory.
    pub(super) fn v2() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let given = std::env::var_os("NOXRUNNER_TEST_CGROUP");
        let given =
            PathBuf::from(given.expect("NOXRUNNER_TEST_CGROUP names a delegated directory"));
        let before = own_place().unified.unwrap().own;
        let own = given.join(format!("test-{}-{}", id(), NUMBER.fetch_add(1, Relaxed)));
        fs::create_dir(&own).unwrap();
        fs::write(own.join("cgroup.procs"), id().to_string()).unwrap();
        let spot = Spot { mount: own.clone(), own: own.clone(), read_only: false };
        let place = Place { unified: Some(spot), ..Place::default() };
        Self::new(place, Some((before, own)), alone)
    }

    pub(super) fn base(&self) -> &Path {
        self.base.path()
    }

    /// As `establish` does for a base directory of the test's.
    pub(super) fn establish(&self) -> Hierarchy {
        Hierarchy::establish_at(&self.place, &self.name(), geteuid().as_raw(), &[]).unwrap()
    }

    /// What the daemon's directories are called.
    pub(super) fn name(&self) -> String {
        super::super::hierarchy::name(self.base.path(), geteuid().as_raw()).unwrap()
    }

    /// The daemon's own group, in each hierarchy.
    pub(super) fn own(&self) -> Vec<&Path> {
        let legacy = self.place.legacy.iter().map(|legacy| &legacy.spot);
        self.place.unified.iter().chain(legacy).map(|spot| spot.own.as_path()).collect()
    }

    /// Where the daemon's directories are.
    pub(super) fn parents(&self) -> Vec<PathBuf> {
        self.own().iter().map(|own| own.join(self.name())).collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // A failed test's processes must not be in the next one's way.
        let cleared = remove_all(&self.place, &self.name(), geteuid().as_raw());
        if !std::thread::panicking() {
            cleared.unwrap();
        }
        let Some((before, own)) = &self.home else { return };
        let back = fs::write(before.join("cgroup.procs"), id().to_string());
        let removed = fs::remove_dir(own);
        if !std::thread::panicking() {
            back.unwrap();
            removed.unwrap();
        }
    }
}

/// Where this very process is.
pub(super) fn own_place() -> Place {
    let read = |path| fs::read_to_string(path).unwrap();
    locate(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// A program that waits for a line before it works. Killed when dropped.
pub(super) struct Program {
    pub(super) child: Child,
    said: BufReader<ChildStdout>,
}

impl Program {
    /// Perl, which every Debian has; it reads a line first.
    pub(super) fn perl(script: &str) -> Self {
        let script = format!("$| = 1; <STDIN>; {script}");
        let mut command = Command::new("perl");
        command.args(["-e", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// One that is in a group before it works.
    pub(super) fn inside(group: &Group, script: &str) -> Self {
        let mut program = Self::perl(script);
        group.add(program.pid()).unwrap();
        program.go();
        program
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub(super) fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// The next line that it prints.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Its exit code, or the signal that ended it.
    pub(super) fn end(&mut self) -> Result<i32, Signal> {
        let mut status = None;
        eventually("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let status = status.unwrap();
        status.code().ok_or_else(|| Signal::try_from(status.signal().unwrap()).unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something holds.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processor time of a process so far (proc_pid_stat(5): utime and stime, in ticks of 10 ms).
pub(super) fn burned(pid: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Whether a process lives; one that nobody has waited for yet does not.
pub(super) fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
