//! Limits that change, and the daemon's own death.

use nix::sys::signal::Signal;
use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::{Pending, timed};
use noxrunner_tests::{SOON, eventually};
use serde_json::json;

use super::arm::{Arm, Limited};
use super::forks::PIPES;
use super::neighbours::is;

/// The files of a sandbox's group and what is in them: memory, processes, microseconds in each 100 ms.
#[track_caller]
fn in_force(daemon: &Limited) -> (String, String, String) {
    let (memory, cpu) = match daemon.arm {
        Arm::V1 => ("memory.limit_in_bytes", "cpu.cfs_quota_us"),
        Arm::V2 => ("memory.max", "cpu.max"),
        Arm::Bare => panic!("there are no groups"),
    };
    let cpu = daemon.group_file(cpu);
    let quota = cpu.split(' ').next().unwrap().to_owned();
    (daemon.group_file(memory), daemon.group_file("pids.max"), quota)
}

fn three(memory: &str, pids: &str, quota: &str) -> (String, String, String) {
    (memory.to_owned(), pids.to_owned(), quota.to_owned())
}

const SMALL: [(&str, &str); 3] =
    [("cpuLimit", "500m"), ("memoryLimit", "64Mi"), ("ephemeralStorageLimit", "32Mi")];

fn small() -> serde_json::Value {
    let mut limits = json!({"pidsLimit": 40});
    for (name, value) in SMALL {
        limits[name] = json!(value);
    }
    limits
}

pub(crate) fn a_change_holds_at_once(arm: Arm) {
    let daemon = arm.sandbox("", small());
    // One that fills what it may have, and goes on when it may have more.
    let script = r#"exec python3 -c '
import os, time
def tries():
    children = []
    try:
        while len(children) < 50:
            child = os.fork()
            if child == 0:
                time.sleep(100)
            children.append(child)
    except OSError:
        return "refused"
    return len(children)
open("ready", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
print(tries(), flush=True)
kept = b"x" * (100 << 20)
print("large")
'"#;
    let pending = Pending::exec(&daemon, &timed("s", script, 30.0));
    let workspace = daemon.workspace("s");
    eventually("it runs", SOON, || workspace.join("ready").exists());
    assert_eq!(in_force(&daemon), three("67108864", "40", "50000"));
    let limits = json!({"cpuLimit": "1", "memoryLimit": "512Mi", "pidsLimit": 300});
    let renewed = daemon.limit("s", limits).unwrap();
    assert_eq!(renewed["created"], false);
    assert_eq!(renewed["limits"]["memory"]["value"], "512Mi");
    // What was not named stays.
    assert_eq!(renewed["limits"]["ephemeralStorage"]["value"], "32Mi");
    assert_eq!(in_force(&daemon), three("536870912", "300", "100000"));
    std::fs::write(workspace.join("go"), "").unwrap();
    let result = pending.result_within(SOON);
    is(&result, Cause::Exited, 0, "");
    assert_eq!(result.stdout, "50\nlarge\n");
    // And down again, which the next command meets.
    daemon.delete("s");
    daemon.limit("s", json!({"pidsLimit": 300})).unwrap();
    daemon.sh("s", "true");
    daemon.limit("s", json!({"pidsLimit": 20})).unwrap();
    assert_eq!(daemon.group_file("pids.max"), "20");
    let result = daemon.sh("s", PIPES);
    is(&result, Cause::Limit, 137, "pidsLimit");
    daemon.leaves_nothing();
}

/// Version 1 refuses it, and then nothing has changed; version 2 kills.
pub(crate) fn less_memory_than_is_in_use(arm: Arm) {
    let daemon = arm.sandbox("", json!({"memoryLimit": "512Mi"}));
    let script = r#"exec python3 -c '
import time
kept = b"x" * (200 << 20)
open("ready", "w").close()
time.sleep(100)
'"#;
    let pending = Pending::exec(&daemon, &timed("s", script, 60.0));
    let workspace = daemon.workspace("s");
    eventually("it has its memory", SOON, || workspace.join("ready").exists());
    let renewed = daemon.limit("s", json!({"memoryLimit": "64Mi"}));
    if arm == Arm::V1 {
        let error = renewed.unwrap_err();
        println!("{error:?}");
        assert_eq!(in_force(&daemon).0, "536870912");
        let info = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
        assert_eq!(info["limits"]["memory"]["value"], "512Mi", "{info}");
        daemon.delete("s");
        is(&pending.result_within(SOON), Cause::Signaled, 137, "deleted");
    } else {
        assert_eq!(renewed.unwrap()["limits"]["memory"]["value"], "64Mi");
        is(&pending.result_within(SOON), Cause::Oom, 137, "memoryLimit");
        takes_the_init_too(&daemon);
    }
    daemon.leaves_nothing();
}

/// No command's end gives back what files in memory take: the kernel goes on until their file system
/// goes with the sandbox's init.
fn takes_the_init_too(daemon: &Limited) {
    daemon.limit("files", json!({"memoryLimit": "512Mi"})).unwrap();
    let script = "head -c 60000000 /dev/zero > /dev/shm/x && touch ready && exec sleep 100";
    let pending = Pending::exec(daemon, &timed("files", script, 60.0));
    let workspace = daemon.workspace("files");
    eventually("it has its file", SOON, || workspace.join("ready").exists());
    daemon.limit("files", json!({"memoryLimit": "32Mi"})).unwrap();
    is(&pending.result_within(SOON), Cause::Oom, 137, "memoryLimit");
    let result = daemon.sh("files", "test ! -e /dev/shm/x && test -e ready");
    is(&result, Cause::Exited, 0, "");
}

pub(crate) fn limits_outlive_the_daemon(arm: Arm) {
    let mut daemon = arm.sandbox("", small());
    let limits = |daemon: &Limited| {
        daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap()["limits"].take()
    };
    let before = limits(&daemon);
    assert_eq!(before["pids"]["value"], "40");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        daemon.sh("s", "true");
        daemon.end_by(signal);
        daemon.start_again();
        assert_eq!(limits(&daemon), before);
    }
    // They are in force for what runs next.
    let result =
        daemon.sh("s", "exec python3 -c 'import time; x = b\"x\" * (100 << 20); time.sleep(20)'");
    is(&result, Cause::Oom, 137, "memoryLimit");
    let result = daemon.sh("s", "exec head -c 40000000 /dev/zero > big");
    is(&result, Cause::Limit, 137, "ephemeralStorageLimit");
    if arm.has_groups() {
        assert_eq!(in_force(&daemon), three("67108864", "40", "50000"));
    }
    daemon.leaves_nothing();
}

pub(crate) fn a_killed_daemon_leaves_no_group(arm: Arm) {
    let mut daemon = arm.start();
    for id in ["a", "b", "c"] {
        daemon.limit(id, small()).unwrap();
        daemon.sh(id, "(setsid sleep 1000 &) >/dev/null 2>&1 </dev/null");
    }
    let busy = Pending::sh(&daemon, "a", "b() { b | b & }; while :; do sleep 0.1 & done");
    let hierarchies = if arm == Arm::V1 { 3 } else { 1 };
    eventually("each has its groups", SOON, || daemon.groups().len() == 3 * hierarchies);
    daemon.end_by(Signal::SIGKILL);
    // They are still there: nobody else removes them.
    assert_eq!(daemon.groups().len(), 3 * hierarchies);
    daemon.start_again();
    assert_eq!(daemon.groups(), [""; 0].map(std::path::PathBuf::from));
    drop(busy);
    assert_eq!(daemon.sh("a", "echo on").stdout, "on\n");
    assert_eq!(daemon.groups().len(), hierarchies);
    daemon.leaves_nothing();
}
