//! What is forgotten expires, and what is not lives on.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use noxrunner_protocol::types::CreateResult;
use noxrunner_tests::life::{
    Pending, Process, STRAYS, STRAYS_SIZE, ZOO, ZOO_SIZE, alive, nothing_runs, timed,
    wait_for_noted, workspace,
};
use noxrunner_tests::{SOON, TestDaemon, eventually, in_both_tiers};
use serde_json::{Value, json};

in_both_tiers!(
    everything_in_a_sandbox_ends_with_its_time,
    an_exec_that_runs_does_not_keep_a_sandbox,
    many_expire_at_once,
    the_daemon_sleeps_while_there_is_nothing_to_do,
);

#[track_caller]
fn is_gone(daemon: &TestDaemon, id: &str) -> bool {
    match daemon.call("sandbox.get", json!({"sessionId": id})) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind.name(), "sandboxNotFound");
            true
        }
    }
}

#[track_caller]
fn get(daemon: &TestDaemon, id: &str, field: &str) -> Value {
    daemon.call("sandbox.get", json!({"sessionId": id})).unwrap()[field].clone()
}

fn exists(sandbox: &CreateResult) -> bool {
    Path::new(&sandbox.sandbox_dir).exists()
}

fn everything_in_a_sandbox_ends_with_its_time(daemon: TestDaemon) {
    let sandbox = daemon.create("s");
    let waiting = Pending::sh(&daemon, "s", &format!("echo begun; {ZOO} {STRAYS} wait"));
    let zoo: Vec<Process> =
        wait_for_noted(&workspace(&sandbox), ZOO_SIZE + STRAYS_SIZE).into_values().collect();

    // Only now that all of it runs, however long that took.
    let given = Instant::now();
    daemon.create_for("s", 2);
    let result = waiting.result_within(2 * SOON);
    let took = given.elapsed();
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert_eq!((result.exit_code, result.stdout.as_str()), (137, "begun\n"));
    assert!(result.hint.unwrap().contains("expired"));
    assert!(is_gone(&daemon, "s"));
    eventually("all of it is dead", SOON, || alive(&zoo).is_empty());
    eventually("the directory is gone", SOON, || !exists(&sandbox));
    let error = daemon.call("sandbox.exec", json!({"sessionId": "s", "cmd": ["true"]}));
    assert_eq!(error.unwrap_err().kind.name(), "sandboxNotFound");
    nothing_runs(&daemon);
}

#[test]
fn a_second_is_a_second_however_many_others_live_longer() {
    let daemon = TestDaemon::start();
    for n in 0..10 {
        daemon.create_for(&format!("long-{n}"), 900 - n);
    }
    let started = Instant::now();
    let brief = daemon.create_for("brief", 1);
    daemon.create("longer");
    eventually("it expires", SOON, || !exists(&brief));
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert_eq!(daemon.directories().len(), 11);
}

#[test]
fn a_touch_starts_the_time_anew_and_an_exec_does_not() {
    let daemon = TestDaemon::start();
    let (touched, used) = (daemon.create_for("touched", 5), daemon.create_for("used", 5));
    let touch = || daemon.call("sandbox.touch", json!({"sessionId": "touched"})).unwrap();
    let expiry = get(&daemon, "used", "expiresAt");
    daemon.create_for("younger", 5);
    // So much longer than the younger would live who were given a new time by what follows.
    std::thread::sleep(Duration::from_millis(500));
    for create in [false, true] {
        touch();
        let mut params = noxrunner_tests::exec_params("used", &["echo", "x"]);
        params.create = create;
        assert_eq!(daemon.exec_params(params).stdout, "x\n");
        assert_eq!(get(&daemon, "used", "expiresAt"), expiry);
    }
    eventually("the younger expires", SOON, || {
        touch();
        is_gone(&daemon, "younger")
    });
    assert!(is_gone(&daemon, "used"), "an exec kept it alive");
    assert!(exists(&touched), "expired though it was touched");
    eventually("what was used is removed", SOON, || !exists(&used));
    eventually("what was touched expires in the end", SOON, || !exists(&touched));
}

fn an_exec_that_runs_does_not_keep_a_sandbox(daemon: TestDaemon) {
    let sandbox = daemon.create_for("s", 4);
    let pending = Pending::exec(&daemon, &timed("s", "sleep 1000", 600.0));
    let result = pending.result_within(SOON);
    assert_eq!(result.exit_code, 137);
    eventually("the directory is gone", SOON, || !exists(&sandbox));
}

#[test]
fn create_again_keeps_the_files_and_gives_a_new_time() {
    let daemon = TestDaemon::start();
    let first = daemon.create_for("s", 4);
    fs::write(workspace(&first).join("kept"), "bytes").unwrap();
    let second = daemon.create_for("s", 600);
    assert_eq!((first.created, second.created), (true, false));
    assert_eq!((&second.sandbox_dir, &second.pod_name), (&first.sandbox_dir, &first.pod_name));
    assert!(second.expires_at > first.expires_at);
    assert_eq!(get(&daemon, "s", "ttlSeconds"), 600);
    // Past the first time to live.
    std::thread::sleep(Duration::from_millis(4500));
    assert_eq!(daemon.sh("s", "cat kept").stdout, "bytes");

    // And shorter again: the reaper sleeps to the later moment by now.
    daemon.create_for("s", 1);
    eventually("the shorter time counts", SOON, || !exists(&first));
    assert!(is_gone(&daemon, "s"));
}

#[test]
fn what_has_expired_is_made_anew_and_empty() {
    let daemon = TestDaemon::start();
    let first = daemon.create_for("s", 3);
    fs::write(workspace(&first).join("old"), "bytes").unwrap();
    eventually("it expires", SOON, || is_gone(&daemon, "s"));
    let second = daemon.create("s");
    assert!(second.created);
    assert_ne!(first.sandbox_dir, second.sandbox_dir);
    assert_eq!(daemon.sh("s", "ls -A").stdout, "");
    assert!(!exists(&first));
    assert_eq!(daemon.directories().len(), 1);
}

fn many_expire_at_once(daemon: TestDaemon) {
    let busy = |n: u32| {
        let id = format!("s{n}");
        let begun = workspace(&daemon.create(&id)).join("begun");
        let pending = Pending::sh(&daemon, &id, "touch begun; sleep 1000");
        (id, begun, pending)
    };
    let busy: Vec<_> = (0..40).map(busy).collect();
    for (id, begun, _) in &busy {
        eventually(&format!("{id} is busy"), 2 * SOON, || begun.exists());
    }
    for (id, ..) in &busy {
        daemon.create_for(id, 1);
    }
    for (.., pending) in busy {
        assert_eq!(pending.result_within(2 * SOON).exit_code, 137);
    }
    eventually("all are gone", SOON, || daemon.directories().is_empty());
    assert_eq!(daemon.call("sandbox.list", json!({})).unwrap()["sandboxes"], json!([]));
    nothing_runs(&daemon);
}

fn the_daemon_sleeps_while_there_is_nothing_to_do(daemon: TestDaemon) {
    daemon.create("s");
    daemon.sh("s", "sleep 1000 >&- 2>&- <&- &");
    let init = noxrunner_tests::life::init_of(&daemon, "s");
    let zygote = noxrunner_tests::life::zygote(&daemon);
    let everyone = [daemon.pid().as_raw(), zygote.pid, init.pid];
    let mut counts = Vec::new();
    // Threads that have just worked take a moment to lie down; one that polls never would.
    let began = SystemTime::now();
    eventually("a quiet second", 2 * SOON, || {
        let before: Vec<_> = everyone.iter().map(|pid| switches(*pid)).collect();
        std::thread::sleep(Duration::from_secs(1));
        let after = everyone.iter().map(|pid| switches(*pid));
        let woken = |(before, after): (&HashMap<String, u64>, HashMap<String, u64>)| -> u64 {
            let since =
                |(tid, n): (&String, &u64)| n.saturating_sub(before.get(tid).copied().unwrap_or(0));
            after.iter().map(since).sum()
        };
        counts = before.iter().zip(after).map(woken).collect();
        counts[0] < 5 && counts[1] == 0 && counts[2] == 0
    });
    println!("wake-ups in a second: {counts:?}, found after {:?}", began.elapsed().unwrap());
}

/// Voluntary context switches of each thread, proc_pid_status(5).
fn switches(pid: i32) -> HashMap<String, u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let count = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let count = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?;
        Some((task.file_name().into_string().ok()?, count.trim().parse().ok()?))
    };
    tasks.filter_map(|task| count(task.ok()?)).collect()
}
