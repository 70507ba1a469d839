//! Sandboxes made ahead: handed out, made again, gone with their daemon. And commands that wait in line.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::{Pending, Process, children, nothing_runs, timed, zygote};
use noxrunner_tests::{SOON, TestDaemon, Tier, eventually};
use serde_json::json;

fn spares(daemon: &TestDaemon) -> Vec<String> {
    let mut spares = daemon.directories();
    spares.retain(|name| name.starts_with("noxrunner_sandbox_spare."));
    spares
}

fn inits(daemon: &TestDaemon) -> Vec<Process> {
    children(zygote(daemon).pid)
}

#[track_caller]
fn wait_for_spares(daemon: &TestDaemon, count: usize) {
    eventually("they are made ahead", SOON, || {
        spares(daemon).len() == count && inits(daemon).len() >= count
    });
}

fn of_tier(tier: Tier) -> TestDaemon {
    TestDaemon::start_with(&["--isolation", tier.name(), "--pool", "2"])
}

fn one_that_waits_becomes_the_sandbox_and_another_is_made(daemon: TestDaemon) {
    wait_for_spares(&daemon, 2);
    let (waiting, names) = (inits(&daemon), spares(&daemon));
    let made = daemon.create("mine");
    assert!(made.created && made.pod_name.starts_with("noxrunner_sandbox_mine."));
    assert!(fs::metadata(&made.sandbox_dir).is_ok());
    let result = daemon.sh("mine", "echo here > f; pwd; cat f; echo $HOME; echo > ~/x");
    assert_eq!(result.exit_code, 0, "{}", result.stderr);
    let workspace = daemon.workspace("mine");
    assert_eq!(fs::read_to_string(workspace.join("f")).unwrap(), "here\n");
    wait_for_spares(&daemon, 2);
    let left = spares(&daemon);
    assert_eq!(left.iter().filter(|name| names.contains(name)).count(), 1, "{names:?} {left:?}");
    eventually("three inits, two of them the first ones", SOON, || {
        let now = inits(&daemon);
        now.len() == 3 && waiting.iter().all(|init| now.contains(init))
    });
    daemon.delete("mine");
    assert!(!workspace.exists());
    assert_eq!(daemon.directories(), spares(&daemon));
}

fn nobody_sees_what_another_one_left(daemon: TestDaemon) {
    for round in 0..6 {
        let name = format!("s{round}");
        daemon.create(&name);
        let result = daemon.sh(&name, "ls -A . ~ | grep -v : ; echo mine > only");
        assert_eq!(result.stdout.trim(), "", "round {round}");
    }
}

fn a_killed_daemon_leaves_none(mut daemon: TestDaemon) {
    wait_for_spares(&daemon, 2);
    let kept = daemon.create("kept");
    daemon.sh("kept", "echo file > f");
    wait_for_spares(&daemon, 2);
    let old = spares(&daemon);
    daemon.end_by(Signal::SIGKILL);
    daemon.start_again();
    wait_for_spares(&daemon, 2);
    assert!(spares(&daemon).iter().all(|name| !old.contains(name)), "{old:?}");
    assert_eq!(daemon.sh("kept", "cat f").stdout, "file\n");
    assert_eq!(daemon.directories().len(), 3, "{}", kept.pod_name);
    let base = daemon.base.clone();
    assert!(daemon.end_by(Signal::SIGTERM).success());
    let left: Vec<_> = fs::read_dir(base).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [kept.pod_name.as_str()]);
}

macro_rules! in_tiers {
    ($($test:ident),+ $(,)?) => {
        mod full { $(#[test] fn $test() { super::$test(super::of_tier(super::Tier::Full)); })+ }
        mod landlock { $(#[test] fn $test() { super::$test(super::of_tier(super::Tier::Landlock)); })+ }
        mod none { $(#[test] fn $test() { super::$test(super::of_tier(super::Tier::None)); })+ }
    };
}

in_tiers!(
    one_that_waits_becomes_the_sandbox_and_another_is_made,
    nobody_sees_what_another_one_left,
    a_killed_daemon_leaves_none,
);

#[test]
fn who_asks_for_something_special_gets_it_made() {
    let daemon = of_tier(Tier::Full);
    wait_for_spares(&daemon, 2);
    let names = spares(&daemon);
    daemon.call("sandbox.create", json!({"sessionId": "s", "memoryLimit": "300Mi"})).unwrap();
    let info = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
    assert_eq!(info["limits"]["memory"]["value"], "300Mi");
    assert_eq!(spares(&daemon), names);
}

#[test]
fn one_whose_init_has_died_is_not_handed_out() {
    let daemon = of_tier(Tier::Full);
    wait_for_spares(&daemon, 2);
    for init in inits(&daemon) {
        init.signal(Signal::SIGKILL);
        eventually("it is dead", SOON, || !init.is_alive());
    }
    daemon.create("s");
    assert_eq!(daemon.sh("s", "echo well").stdout, "well\n");
    // Directories of those that died may still be there for a while.
    eventually("two more are made", SOON, || {
        inits(&daemon).len() == 3 && spares(&daemon).len() == 2
    });
}

/// What was made ahead does not know of it.
#[test]
fn a_change_of_the_host_is_seen_by_the_next_sandbox() {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir_in("/var/tmp").unwrap();
    let (tools, policy) = (dir.path().join("tools"), dir.path().join("policy.toml"));
    fs::create_dir(&tools).unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(&policy, format!("expose = [{:?}]\n", tools.to_str().unwrap())).unwrap();
    let arguments = ["--isolation", "full", "--pool", "2", "--policy", policy.to_str().unwrap()];
    let daemon = TestDaemon::start_with(&arguments);
    wait_for_spares(&daemon, 2);
    let old = spares(&daemon);
    // Another directory under the same name: what waits has the old one mounted.
    fs::rename(&tools, dir.path().join("old")).unwrap();
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("new"), "new\n").unwrap();
    daemon.create("s");
    let result = daemon.exec("s", &["cat", tools.join("new").to_str().unwrap()]);
    assert_eq!(result.stdout, "new\n", "{}", result.stderr);
    // Those that know the old one are cleared beside all this.
    eventually("two others are made", SOON, || {
        let now = spares(&daemon);
        now.len() == 2 && now.iter().all(|name| !old.contains(name))
    });
}

#[test]
fn commands_wait_in_line_and_their_time_runs_meanwhile() {
    let daemon = TestDaemon::start_with(&["--spawns", "1"]);
    daemon.create("s");
    // One that has begun makes way for the next: they run side by side.
    let slow: Vec<Pending> =
        (0..4).map(|_| Pending::exec(&daemon, &timed("s", "sleep 2", 20.0))).collect();
    assert_eq!(daemon.sh("s", "echo between").stdout, "between\n");
    let started = std::time::Instant::now();
    for pending in slow {
        assert_eq!(pending.result_within(SOON).cause, Cause::Exited);
    }
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    // One that cannot begin keeps the others waiting for a moment.
    let init = noxrunner_tests::life::init_of(&daemon, "s");
    init.signal(Signal::SIGSTOP);
    daemon.create("other");
    let mut quickest = Duration::MAX;
    let mut kept_waiting = Vec::new();
    for _ in 0..8 {
        let started = std::time::Instant::now();
        kept_waiting.push(Pending::exec(&daemon, &timed("s", "echo never", 6.0)));
        // Connections are taken in order, so with an answer to a later one the first command has its turn.
        daemon.call("sandbox.get", json!({"sessionId": "other"})).unwrap();
        let second = daemon.exec_params(timed("other", "echo on", 3.0));
        assert_eq!((second.cause, second.stdout.as_str()), (Cause::Exited, "on\n"));
        quickest = quickest.min(started.elapsed());
    }
    // The one before it had its turn each time (50 ms), and no more: alone it takes less.
    assert!(quickest >= Duration::from_millis(50), "{quickest:?}");
    let first = kept_waiting.swap_remove(0);
    assert_eq!(first.result_within(SOON).cause, Cause::Timeout);
    assert_eq!(daemon.sh("other", "echo on").stdout, "on\n");
    daemon.delete("s");
    daemon.delete("other");
    nothing_runs(&daemon);
}
