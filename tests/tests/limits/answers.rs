//! What is said of limits.

use std::process::Command;

use nix::unistd::geteuid;
use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::kib;
use noxrunner_tests::run;
use serde_json::{Value, json};

use super::arm::Arm;
use super::neighbours::is;

const ENOUGH: &str = "what is written within a second, and longer where there are many files";
const QUARTER: &str = "a quarter and 8, for a tenth of a second";
const TENTH: &str = "what is allocated within a tenth of a second";

/// A status as it should be; what is watched says how far it may be passed.
fn status(value: &str, by: &str, overshoot: &str) -> Value {
    let mut status = json!({"value": value, "enforcedBy": by});
    if by != "cgroup" && !overshoot.is_empty() {
        status["overshoot"] = json!(overshoot);
    }
    status
}

pub(crate) fn each_limit_says_what_holds_it(arm: Arm) {
    let daemon = arm.start();
    let (memory, cpu) = (arm.or("watch"), arm.or("none"));
    let open_files = if geteuid().is_root() { "4096" } else { "700" };
    let asked = json!({
        "cpuLimit": "1500m", "memoryLimit": "512Mi", "pidsLimit": 77, "ephemeralStorageLimit": "1G",
    });
    let made = daemon.limit("asked", asked).unwrap();
    let mut wanted = json!({
        "cpu": status("1500m", cpu, ""),
        "memory": status("512Mi", memory, TENTH),
        "pids": status("77", arm.or("rlimit"), QUARTER),
        "ephemeralStorage": status("1G", "watch", ENOUGH),
        "inodes": status("1000000", "watch", ENOUGH),
        "openFiles": status(open_files, "rlimit", ""),
    });
    assert_eq!(made["limits"], wanted);
    let info = daemon.call("sandbox.get", json!({"sessionId": "asked"})).unwrap();
    assert_eq!(info["limits"], wanted);
    // Who does not ask gets what the policy says, or else what suits the machine.
    let made = daemon.limit("quiet", json!({})).unwrap();
    let half = kib("/proc/meminfo", "MemTotal") * 1024 / 2;
    let memory_value: u64 = made["limits"]["memory"]["value"].as_str().unwrap().parse().unwrap();
    assert!(memory_value.abs_diff(half) < half / 100, "{memory_value} of {half}");
    let cores = std::thread::available_parallelism().unwrap().get();
    let cores = if cores == 1 { "500m".to_owned() } else { (cores - 1).to_string() };
    wanted["cpu"]["value"] = if arm.has_groups() { json!(cores) } else { Value::Null };
    wanted["memory"]["value"] = json!(memory_value.to_string());
    wanted["pids"]["value"] = json!("1024");
    wanted["ephemeralStorage"]["value"] = json!((10_u64 << 30).to_string());
    assert_eq!(made["limits"], wanted);
    daemon.leaves_nothing();

    let policy = "default_memory = \"1Gi\"\ndefault_cpu = \"250m\"\ndefault_pids = \"99\"\n\
        default_storage = \"64Mi\"\ndefault_inodes = \"5k\"\ndefault_open_files = \"123\"\n";
    let daemon = arm.start_with(policy, &[]);
    let made = daemon.limit("s", json!({})).unwrap();
    let cpu_status = if arm.has_groups() {
        json!({"value": "250m", "enforcedBy": "cgroup"})
    } else {
        json!({"value": null, "enforcedBy": "none"})
    };
    let wanted = json!({
        "cpu": cpu_status,
        "memory": status("1073741824", memory, TENTH),
        "pids": status("99", arm.or("rlimit"), QUARTER),
        "ephemeralStorage": status("67108864", "watch", ENOUGH),
        "inodes": status("5000", "watch", ENOUGH),
        "openFiles": status("123", "rlimit", ""),
    });
    assert_eq!(made["limits"], wanted);
    daemon.leaves_nothing();
}

pub(crate) fn limits_that_hold_nothing_are_refused(arm: Arm) {
    let daemon = arm.start();
    // What is just enough is taken, and a shell starts in it.
    for (name, few, bound, least) in [
        ("pidsLimit", json!(3), "at least 4", json!(4)),
        ("memoryLimit", json!("4095Ki"), "at least 4Mi", json!("4Mi")),
        ("cpuLimit", json!("9m"), "at least 10m", json!("10m")),
    ] {
        let mut params = json!({"sessionId": "s"});
        params[name] = few;
        let (kind, message) = daemon.refused("sandbox.create", params.clone());
        assert_eq!(kind, "invalidArgument", "{message}");
        assert!(message.contains(name) && message.contains(bound), "{message}");
        assert_eq!(daemon.directories(), [""; 0]);
        params[name] = least;
        daemon.call("sandbox.create", params).unwrap();
        is(&daemon.sh("s", "echo"), Cause::Exited, 0, "");
        daemon.delete("s");
    }
    daemon.leaves_nothing();
}

/// Where this machine's memory runs out, sandboxes go before anybody else; and nobody's memory is
/// written out to the host's core_pattern.
pub(crate) fn whoever_runs_goes_first_and_leaves_no_core(arm: Arm) {
    let daemon = arm.sandbox("", json!({}));
    let script = "cat /proc/self/oom_score_adj; ulimit -Sc; ulimit -Hc; \
        (ulimit -c unlimited) 2>/dev/null || echo no";
    let python = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))";
    let result = daemon.sh("s", &format!("{script}; python3 -c '{python}'"));
    if geteuid().is_root() {
        // For good, where root itself can do that: it takes CAP_SYS_RESOURCE, which root of a container may lack.
        let drops = "setpriv --reuid 65534 --clear-groups --bounding-set -all";
        let take_back = "echo 999 > /proc/self/oom_score_adj";
        let outside =
            format!("echo 1000 > /proc/self/oom_score_adj; exec {drops} sh -c '{take_back}'");
        let outside = run(Command::new("sh").args(["-c", &outside]));
        let inside = daemon.sh("s", take_back);
        assert_eq!(inside.exit_code, outside.status.code().unwrap(), "{inside:?} {outside:?}");
    }
    // A shell counts blocks, of which one byte is none.
    assert_eq!(result.stdout, "1000\n0\n0\nno\n(1, 1)\n", "{result:?}");
    let before = std::fs::read_dir(daemon.workspace("s")).unwrap().count();
    let crash = daemon.sh("s", "kill -SEGV $$");
    is(&crash, Cause::Signaled, 139, "SIGSEGV");
    assert_eq!(std::fs::read_dir(daemon.workspace("s")).unwrap().count(), before);
    daemon.leaves_nothing();
}
