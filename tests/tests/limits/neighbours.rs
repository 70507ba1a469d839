//! Others, who must not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use noxrunner_protocol::types::{Cause, ExecResult};
use noxrunner_tests::life::timed;
use serde_json::json;

use super::arm::Limited;

/// How long a neighbour's command may take, on a machine whose processors are all busy.
const PROMPTLY: Duration = Duration::from_secs(15);

/// How long `health` may.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Does something, while another client asks for the daemon's health and runs commands in a sandbox of
/// its own, without waiting for long.
#[track_caller]
pub(crate) fn beside<T>(daemon: &Limited, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    daemon.create("neighbour");
    let (worked, health, exec) = scope(|scope| {
        let watching = scope.spawn(|| {
            let mut wire = daemon.wire();
            let (mut health, mut exec) = (Duration::ZERO, Duration::ZERO);
            let mut asked = 0;
            while !done.load(Ordering::SeqCst) || asked == 0 {
                asked += 1;
                let started = Instant::now();
                wire.call(asked, "health", json!({}));
                health = health.max(started.elapsed());
                let started = Instant::now();
                let result = daemon.sh("neighbour", "echo here");
                assert_eq!((result.exit_code, result.stdout.as_str()), (0, "here\n"));
                exec = exec.max(started.elapsed());
                sleep(Duration::from_millis(20));
            }
            (health, exec)
        });
        let worked = work();
        done.store(true, Ordering::SeqCst);
        let (health, exec) = watching.join().unwrap();
        (worked, health, exec)
    });
    println!("beside it: health took up to {health:?}, an exec up to {exec:?}");
    // In the guest the processors may be emulated, some ten times slower.
    let times = if std::env::var_os("NOXRUNNER_TEST_CGROUP").is_some() { 6 } else { 1 };
    let (at_once, promptly) = (AT_ONCE * times, PROMPTLY * times);
    assert!(health < at_once && exec < promptly, "health took {health:?}, an exec {exec:?}");
    worked
}

/// How long a limit may take to be noticed: long before a command's own end, where disks are slow.
const NOTICED: f64 = 40.0;

/// Runs a script that meets its limit beside a neighbour, looks whether the sandbox can be used
/// afterwards, and gives what came of the script.
#[track_caller]
pub(crate) fn meets_its_limit(daemon: &Limited, script: &str) -> ExecResult {
    let result = beside(daemon, || daemon.exec_params(timed("s", script, NOTICED)));
    println!(
        "{:?}, exit code {}, after {} ms: {:?}",
        result.cause, result.exit_code, result.duration_ms, result.hint
    );
    let after = daemon.sh("s", "echo on");
    assert_eq!((after.cause, after.stdout.as_str()), (Cause::Exited, "on\n"), "{after:?}");
    result
}

/// Checks an answer's cause, exit code and what the hint names.
#[track_caller]
pub(crate) fn is(result: &ExecResult, cause: Cause, exit_code: i32, hint: &str) {
    assert_eq!((result.cause, result.exit_code), (cause, exit_code), "{result:?}");
    let said = result.hint.as_deref().unwrap_or_default();
    assert!(said.contains(hint), "{result:?}");
}
