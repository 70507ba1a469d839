//! Processor time.

use std::fs;
use std::time::{Duration, Instant};

use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::timed;
use noxrunner_tests::{SOON, eventually};
use serde_json::{Value, json};

use super::arm::{Arm, Limited};
use super::neighbours::{beside, is};

/// Two that spin, each until its deadline.
const SPIN: &str = "while :; do :; done & while :; do :; done";

/// Time on processors of everything in a sandbox, as /proc tells it (utime and stime of
/// proc_pid_stat(5), in hundredths of a second).
fn burned(daemon: &Limited) -> Duration {
    let own = daemon.pid().as_raw();
    let ticks =
        daemon.processes().into_iter().filter(|process| process.pid != own).map(|process| {
            let stat =
                fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
            let Some((_, rest)) = stat.rsplit_once(") ") else { return 0 };
            let field = |n: usize| rest.split(' ').nth(n - 3).unwrap().parse::<u64>().unwrap();
            field(14) + field(15)
        });
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// How many periods somebody was made to wait in (`nr_throttled` of cpu.stat).
fn throttled(daemon: &Limited) -> u64 {
    let stat = daemon.group_file("cpu.stat");
    let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "));
    line.unwrap().trim().parse().unwrap()
}

pub(crate) fn a_quota_holds(arm: Arm) {
    let daemon = arm.sandbox("", json!({"cpuLimit": "500m"}));
    let result = daemon.exec_params(timed("s", SPIN, 1.0));
    is(&result, Cause::Timeout, 124, "timeoutSeconds");
    let (before, at_first) = (burned(&daemon), throttled(&daemon));
    let started = Instant::now();
    let spinning = noxrunner_tests::life::Pending::exec(&daemon, &timed("s", SPIN, 60.0));
    std::thread::sleep(Duration::from_millis(2500));
    let (used, wall) = (burned(&daemon) - before, started.elapsed());
    let share = used.as_secs_f64() / wall.as_secs_f64();
    println!("two that spin used {share:.2} processors, throttled {}", throttled(&daemon));
    assert!(share < 0.75, "{share}");
    assert!(share > 0.05, "they did not spin: {share}");
    // Where the machine is busy with others it takes them a while to use up what they may.
    eventually("somebody is throttled", SOON, || throttled(&daemon) > at_first + 3);
    // A neighbour of it does not wait, nor does its delete.
    beside(&daemon, || std::thread::sleep(Duration::from_secs(1)));
    let started = Instant::now();
    daemon.delete("s");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    is(&spinning.result_within(Duration::from_secs(5)), Cause::Signaled, 137, "deleted");
    daemon.leaves_nothing();
}

/// Who asks for what nobody enforces is told.
pub(crate) fn nobody_holds_it_without_groups(arm: Arm) {
    let daemon = arm.sandbox("", json!({}));
    let warns = |answer: &Value| {
        let warnings = answer["warnings"].as_array();
        let mut warnings = warnings.into_iter().flatten();
        warnings.any(|warning| warning == "nothing enforces these limits here: cpu")
    };
    let made = daemon.limit("quiet", json!({})).unwrap();
    assert_eq!(made["limits"]["cpu"], json!({"value": null, "enforcedBy": "none"}));
    assert!(!warns(&made), "{made}");
    let made = daemon.limit("asked", json!({"cpuLimit": "500m"})).unwrap();
    assert_eq!(made["limits"]["cpu"], json!({"value": "500m", "enforcedBy": "none"}));
    assert!(warns(&made), "{made}");
    daemon.leaves_nothing();
}
