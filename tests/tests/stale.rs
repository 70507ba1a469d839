//! Directories of the Python tool, which writes no manifest: removed when nobody has used them for long.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::AT_FDCWD;
use nix::sys::signal::Signal;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::{TimeSpec, TimeValLike};
use noxrunner_tests::{SOON, TestDaemon, eventually};

const HOUR: u64 = 3600;

/// Sets the times of everything in a tree to that long ago.
#[track_caller]
fn age(path: &Path, ago: u64) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            age(&entry.unwrap().path(), ago);
        }
    }
    age_one(path, ago);
}

#[track_caller]
fn age_one(path: &Path, ago: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let then = TimeSpec::seconds(i64::try_from(now - ago).unwrap());
    utimensat(AT_FDCWD, path, &then, &then, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// A directory with files as the Python tool makes it, last used so long ago.
#[track_caller]
fn python(daemon: &TestDaemon, name: &str, ago: u64) -> PathBuf {
    let path = daemon.base.join(name);
    fs::create_dir_all(path.join("a/b")).unwrap();
    fs::write(path.join("a/b/file"), "bytes").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path.join("link")).unwrap();
    age(&path, ago);
    path
}

/// A process that keeps something in use until it is dropped.
struct User(Child);

impl User {
    fn working_in(path: &Path) -> Self {
        Self(Command::new("sleep").arg("1000").current_dir(path).spawn().unwrap())
    }

    fn reading(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let (stdin, null) = (Stdio::from(file), Stdio::null());
        Self(Command::new("sleep").arg("1000").stdin(stdin).stdout(null).spawn().unwrap())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts a daemon again over what a test has laid out, and waits until one old directory is gone.
#[track_caller]
fn sweep(daemon: &mut TestDaemon) {
    let old = python(daemon, "noxrunner_sandbox_control", 48 * HOUR);
    daemon.start_again();
    eventually("what is old goes", SOON, || !old.exists());
}

#[test]
fn by_age() {
    let mut daemon = TestDaemon::start();
    daemon.end_by(Signal::SIGTERM);
    let old = python(&daemon, "noxrunner_sandbox_old", 25 * HOUR);
    let newer = python(&daemon, "noxrunner_sandbox_newer", 23 * HOUR);
    let fresh_inside = python(&daemon, "noxrunner_sandbox_fresh_inside", 48 * HOUR);
    fs::write(fresh_inside.join("a/b/fresh"), "x").unwrap();
    for directory in ["a/b", "a", "."] {
        age_one(&fresh_inside.join(directory), 48 * HOUR);
    }
    let fresh_itself = python(&daemon, "noxrunner_sandbox_fresh_itself", 48 * HOUR);
    age_one(&fresh_itself, 1);
    let future = python(&daemon, "noxrunner_sandbox_future", 48 * HOUR);
    let later = TimeSpec::seconds(4_000_000_000);
    utimensat(AT_FDCWD, &future, &later, &later, UtimensatFlags::NoFollowSymlink).unwrap();
    let empty = daemon.base.join("noxrunner_sandbox_");
    fs::create_dir(&empty).unwrap();
    age(&empty, 48 * HOUR);
    sweep(&mut daemon);
    eventually("all that is old goes", SOON, || !old.exists() && !empty.exists());
    for kept in [newer, fresh_inside, fresh_itself, future] {
        assert_eq!(fs::read(kept.join("a/b/file")).unwrap(), b"bytes", "{}", kept.display());
    }
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn nothing_else_in_the_base_directory_is_touched() {
    let mut daemon = TestDaemon::start();
    daemon.end_by(Signal::SIGTERM);
    let names = [
        "noxrunner_sandbo",
        "noxrunner_sandboxes",
        "Noxrunner_sandbox_x",
        "xnoxrunner_sandbox_x",
        "other",
    ];
    let others = names.map(|name| python(&daemon, name, 48 * HOUR));
    let file = daemon.base.join("noxrunner_sandbox_file");
    fs::write(&file, "bytes").unwrap();
    age(&file, 48 * HOUR);
    let target = daemon.dir.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("file"), "bytes").unwrap();
    age(&target, 48 * HOUR);
    let link = daemon.base.join("noxrunner_sandbox_link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    age(&link, 48 * HOUR);
    sweep(&mut daemon);
    for other in others {
        assert_eq!(fs::read(other.join("a/b/file")).unwrap(), b"bytes", "{}", other.display());
    }
    assert_eq!(fs::read(file).unwrap(), b"bytes");
    assert_eq!(fs::read(target.join("file")).unwrap(), b"bytes");
    assert!(link.is_symlink());
}

/// What is in use stays, and goes when its user is gone and its time has come, while the daemon runs.
#[test]
fn what_is_in_use_stays_until_it_is_not() {
    let mut daemon = TestDaemon::start_with(&["--stale-after", "2s"]);
    daemon.end_by(Signal::SIGTERM);
    let cwd = python(&daemon, "noxrunner_sandbox_cwd", 48 * HOUR);
    let open = python(&daemon, "noxrunner_sandbox_open", 48 * HOUR);
    let worker = User::working_in(&cwd.join("a"));
    let reader = User::reading(&open.join("a/b/file"));
    sweep(&mut daemon);
    // Over several of its looks.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        assert!(cwd.join("a/b/file").exists() && open.join("a/b/file").exists());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(worker);
    eventually("the one that is free now goes", SOON, || !cwd.exists());
    assert!(open.join("a/b/file").exists());
    drop(reader);
    eventually("the other goes, too", SOON, || !open.exists());
}

#[test]
fn what_becomes_stale_goes_while_the_daemon_runs() {
    let daemon = TestDaemon::start_with(&["--stale-after", "3s"]);
    let made = Instant::now();
    let path = python(&daemon, "noxrunner_sandbox_fresh", 0);
    eventually("it is removed", SOON, || !path.exists());
    let took = made.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
}

/// Sandboxes of the daemon itself have a manifest and a lock: no age makes them stale.
#[test]
fn live_sandboxes_are_never_stale() {
    let mut daemon = TestDaemon::start_with(&["--stale-after", "2s"]);
    let sandbox = daemon.create("s");
    daemon.sh("s", "echo x > file");
    age(Path::new(&sandbox.sandbox_dir), 48 * HOUR);
    // Goes with a look that passed the sandbox by.
    let control = python(&daemon, "noxrunner_sandbox_while_it_runs", 48 * HOUR);
    eventually("it is looked at", SOON, || !control.exists());
    assert_eq!(daemon.sh("s", "cat file").stdout, "x\n");
    daemon.end_by(Signal::SIGKILL);
    age(Path::new(&sandbox.sandbox_dir), 48 * HOUR);
    sweep(&mut daemon);
    assert_eq!(daemon.sh("s", "cat file").stdout, "x\n");
}

mod root_only {
    use super::*;
    use nix::unistd::{Uid, chown};

    #[test]
    fn what_belongs_to_somebody_else_stays() {
        let mut daemon = TestDaemon::start();
        daemon.end_by(Signal::SIGTERM);
        let theirs = python(&daemon, "noxrunner_sandbox_theirs", 48 * HOUR);
        chown(&theirs, Some(Uid::from_raw(54_321)), None).unwrap();
        age(&theirs, 48 * HOUR);
        sweep(&mut daemon);
        assert!(theirs.join("a/b/file").exists());
    }
}
