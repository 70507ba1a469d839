//! System V and POSIX IPC, keyrings, control groups: none of the host's.
#![cfg(target_arch = "x86_64")]

use std::fs;

use noxrunner_tests::attack::{inside, outside};
use serde_json::json;

use super::full;

#[test]
fn shared_memory_semaphores_and_queues_are_the_sandboxs_own() {
    let daemon = full();
    let features = daemon.call("health", json!({})).unwrap()["isolation"]["features"].to_string();
    // Where nothing counts a segment that is not attached, none is to be had: see `limits`.
    let shm = features.contains("cgroup v");
    let key = 0x6e00_0000 + i64::from(std::process::id());
    // shmget, semget, msgget with IPC_CREAT.
    let made =
        format!("sc(29, {key}, 4096, 0o1600); sc(64, {key}, 1, 0o1600); sc(68, {key}, 0o1600)");
    assert_eq!(outside(&made), "ok");
    for (name, find) in [
        ("shm", format!("sc(29, {key}, 0, 0)")),
        ("sem", format!("sc(64, {key}, 0, 0)")),
        ("msg", format!("sc(68, {key}, 0)")),
    ] {
        assert_eq!(outside(&find), "ok", "{name}");
        let want = if name == "shm" && !shm { "EPERM" } else { "ENOENT" };
        assert_eq!(inside(&daemon, "s", &find), want, "{name}");
    }
    let others = format!("sc(64, {key}, 1, 0o1600); sc(68, {key}, 0o1600)");
    assert_eq!(inside(&daemon, "s", if shm { &made } else { &others }), "ok");
    let removed = format!(
        "sc(31, sc(29, {key}, 0, 0), 0, 0); sc(66, sc(64, {key}, 0, 0), 0, 0); sc(71, sc(68, {key}, 0), 0, 0)"
    );
    assert_eq!(outside(&removed), "ok");
    assert_eq!(
        inside(&daemon, "s", &format!("sc(64, {key}, 0, 0)")),
        "ok",
        "its own went with the host's"
    );
}

#[test]
fn message_queues_and_shared_files_of_the_host_are_not_there() {
    let daemon = full();
    let name = format!("noxtest-{}", std::process::id());
    // mq_open with O_CREAT | O_RDWR, then without; mq_unlink.
    let make = format!("sc(240, b'{name}', 0o102, 0o600, 0)");
    let open = format!("sc(240, b'{name}', 2, 0, 0)");
    assert_eq!(outside(&make), "ok");
    assert_eq!(outside(&open), "ok");
    assert_eq!(inside(&daemon, "s", &open), "ENOENT");
    // Landlock lets nothing be made where no mount of the sandbox's is: queues are not to be had.
    assert_eq!(inside(&daemon, "s", &make), "EACCES");
    assert_eq!(outside(&format!("sc(241, b'{name}')")), "ok");
    let file = format!("/dev/shm/{name}");
    fs::write(&file, "x").unwrap();
    let read = format!("open({file:?}).read()");
    let (out, within) = (outside(&read), inside(&daemon, "s", &read));
    fs::remove_file(&file).unwrap();
    assert_eq!((out.as_str(), within.as_str()), ("ok", "ENOENT"));
}

#[test]
fn keys_of_the_host_do_not_show() {
    let daemon = full();
    let name = format!("noxtest-{}", std::process::id());
    // add_key to the user's own keyring, which is every process's of that user.
    let add = format!("sc(248, b'user', b'{name}', b'x', 1, -4)");
    let listed = format!("assert '{name}' in open('/proc/keys').read()");
    assert_eq!(outside(&format!("{add}; {listed}")), "ok");
    for list in ["/proc/keys", "/proc/key-users"] {
        assert_eq!(daemon.exec("s", &["/bin/cat", list]).stdout, "", "{list}");
    }
    assert_eq!(inside(&daemon, "s", &format!("sc(249, b'user', b'{name}', 0, 0)")), "EPERM");
    assert_eq!(inside(&daemon, "s", "sc(250, 0, -4, 0)"), "EPERM");
    // keyctl: a session keyring of its own that links to the user's, since who does not possess
    // a key may only look at it, and a system service does not; then search for it, and invalidate it.
    let remove = format!(
        "sc(250, 1, 0); sc(250, 8, -4, -3); sc(250, 21, sc(250, 10, -4, b'user', b'{name}', 0))"
    );
    assert_eq!(outside(&remove), "ok");
}

#[test]
fn control_groups_are_seen_from_their_own_root() {
    let daemon = full();
    let groups = daemon.sh("s", "cat /proc/self/cgroup").stdout;
    assert!(!groups.is_empty() && groups.lines().all(|line| line.ends_with(":/")), "{groups}");
    assert_eq!(daemon.sh("s", "hostname").stdout, "sandbox\n");
    assert_eq!(inside(&daemon, "s", "os.stat('/sys/fs/cgroup')"), "ENOENT");
}

#[test]
fn terminals_are_the_sandboxs_own() {
    let daemon = full();
    let first =
        "master, slave = os.openpty(); print(os.ttyname(slave), sorted(os.listdir('/dev/pts')))";
    assert_eq!(inside(&daemon, "s", first), "/dev/pts/0 ['0', 'ptmx']\nok");
}
