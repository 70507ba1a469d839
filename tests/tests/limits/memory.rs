//! Two gibibytes of memory where a quarter of one is allowed.

use std::fs;

use noxrunner_protocol::types::{Cause, ExecResult};
use noxrunner_tests::attack;
use serde_json::json;

use super::arm::{Arm, Limited};
use super::neighbours::{is, meets_its_limit};

const MIB: u64 = 1 << 20;

/// What is allowed, in MiB.
const LIMIT: u64 = 256;

/// What the processes of a test take if nobody stops them, in MiB. How much of it they get before
/// the watch looks again is the machine's speed: 250 to 1,100 MiB were seen. It is all of it where the
/// watch is late.
const ALL: u64 = 2048;

/// Processes that take 2 GiB together, each of which notes how many MiB it has. Where a watch is to find
/// them they keep it until it does.
fn hog(arm: Arm, processes: u32) -> String {
    let kept_for = if arm.has_groups() { 0 } else { 100 };
    format!(
        r#"exec python3 -c '
import mmap, os, time
file = os.open("progress", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 4096)
progress = mmap.mmap(file, 4096)
def fill(number):
    kept = []
    for had in range(2048 // {processes}):
        kept.append(b"x" * (1 << 20))
        progress[8 * number:8 * number + 8] = (had + 1).to_bytes(8, "little")
    time.sleep({kept_for})
children = []
for number in range(1, {processes}):
    child = os.fork()
    if child == 0:
        fill(number)
        os._exit(0)
    children.append(child)
fill(0)
for child in children:
    if os.waitpid(child, 0)[1] != 0:
        os._exit(3)
print("all of it")
'"#
    )
}

/// Runs one in the sandbox `s`, and gives how many MiB its processes said that they had.
#[track_caller]
fn hogs(daemon: &Limited, script: &str) -> (ExecResult, u64) {
    let result = meets_its_limit(daemon, script);
    let progress = fs::read(daemon.workspace("s").join("progress")).unwrap();
    let had = progress.chunks_exact(8).map(|n| u64::from_le_bytes(n.try_into().unwrap())).sum();
    println!("with a limit of {LIMIT} MiB it had {had} MiB");
    assert_eq!(result.stdout, "");
    (result, had)
}

fn sandbox(arm: Arm) -> Limited {
    arm.sandbox("", json!({"memoryLimit": format!("{LIMIT}Mi")}))
}

pub(crate) fn in_one_process(arm: Arm) {
    let daemon = sandbox(arm);
    let (result, had) = hogs(&daemon, &hog(arm, 1));
    is(&result, Cause::Oom, 137, "memoryLimit");
    within(arm, had);
    daemon.leaves_nothing();
}

pub(crate) fn in_eight_processes(arm: Arm) {
    let daemon = sandbox(arm);
    let (result, had) = hogs(&daemon, &hog(arm, 8));
    // The kernel may choose one of the others; then the command says so by its own exit code.
    let exit_code = if result.exit_code == 3 && arm.has_groups() { 3 } else { 137 };
    is(&result, Cause::Oom, exit_code, "memoryLimit");
    if !arm.has_groups() {
        within(arm, had);
    }
    daemon.leaves_nothing();
}

#[track_caller]
fn within(arm: Arm, had: u64) {
    let most = if arm.has_groups() { LIMIT } else { ALL };
    assert!((LIMIT / 2..=most).contains(&had), "it had {had} MiB");
}

/// A memfd that is not mapped: it counts for no process.
pub(crate) fn in_a_file_that_is_in_memory_alone(arm: Arm) {
    let daemon = sandbox(arm);
    let script = r#"exec python3 -c '
import os
progress = os.open("progress", os.O_RDWR | os.O_CREAT)
file = os.memfd_create("m")
for had in range(2048):
    os.write(file, b"x" * (1 << 20))
    os.pwrite(progress, (had + 1).to_bytes(8, "little"), 0)
print("all of it")
'"#;
    let (result, had) = hogs(&daemon, script);
    is(&result, Cause::Oom, 137, "memoryLimit");
    within(arm, had);
    daemon.leaves_nothing();
}

/// Without groups nobody would see it.
pub(crate) fn what_no_process_shows_is_refused(arm: Arm) {
    let daemon = sandbox(arm);
    let memfd = "os.memfd_create('m')";
    // IPC_PRIVATE, IPC_CREAT with a mode; removed again.
    let shmget = "libc.shmget.restype = ctypes.c_int\n\
        i = sc(29, 0, 4096, 0o1600)\nsc(31, i, 0, 0)";
    for code in [memfd, shmget] {
        assert_eq!(attack::outside(code), "ok", "{code}");
        assert_eq!(attack::inside(&daemon, "s", code), "EPERM", "{code}");
    }
    daemon.leaves_nothing();
}

pub(crate) fn shared_memory_has_a_size_of_its_own(arm: Arm) {
    let daemon = sandbox(arm);
    daemon.limit("small", json!({"memoryLimit": "64Mi"})).unwrap();
    let script = "head -c 2147483648 /dev/zero > /dev/shm/x; code=$?; stat -c %s /dev/shm/x; \
        : > /dev/shm/x; exit $code";
    // The lesser of 64 MiB and half of what is allowed.
    for (id, size) in [("s", 64 * MIB), ("small", 32 * MIB)] {
        let result = daemon.sh(id, script);
        is(&result, Cause::Exited, 1, "");
        assert_eq!(result.stdout, format!("{size}\n"));
        assert!(result.stderr.contains("No space left on device"), "{}", result.stderr);
        assert_eq!(daemon.sh(id, "head -c 1000000 /dev/zero > /dev/shm/x").exit_code, 0);
    }
    daemon.leaves_nothing();
}
