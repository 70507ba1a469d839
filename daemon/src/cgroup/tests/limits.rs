//! Limits, each with the same act done without it.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use tokio::io::Interest;

use super::super::{Caps, CgroupError, Controller, Events, Group, Version, rearm};
use super::fixture::{Fixture, Program, SOON, burned, eventually};

const MIB: u64 = 1 << 20;

/// Touches 200 MiB.
const HOG: &str = r#"my $x = "x" x (200 << 20); print "got it\n"; exit 0"#;

/// Has eight children that stay; ends with the errno of a fork that is refused.
const FORKER: &str = r#"
    for (1..8) { my $p = fork; defined $p or exit $!+0; if (!$p) { sleep 100; exit } }
    exit 0"#;

/// Never rests.
const SPINNER: &str = "1 while 1";

fn limited(group: &Group, caps: Caps) {
    group.apply(&caps).unwrap();
}

pub(super) fn memory_is_held_and_kills_are_counted(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    limited(&group, Caps { memory_bytes: Some(64 * MIB), ..Caps::default() });
    let counters = group.counters().unwrap();
    assert_eq!(counters.events().unwrap(), Events::default());
    assert_eq!(Program::inside(&group, HOG).end(), Err(Signal::SIGKILL));
    assert_eq!(group.events().unwrap(), Events { oom_kills: 1, pids_refused: 0 });
    assert_eq!(counters.events(), group.events());
    group.remove(SOON).unwrap();
    assert_eq!(counters.events().unwrap_err().errno(), Some(Errno::ENODEV));

    let roomy = hierarchy.make().unwrap();
    limited(&roomy, Caps { memory_bytes: Some(600 * MIB), ..Caps::default() });
    assert_eq!(Program::inside(&roomy, HOG).end(), Ok(0));
    assert_eq!(roomy.events().unwrap(), Events::default());
    roomy.remove(SOON).unwrap();
}

pub(super) fn processes_are_held_and_refusals_are_counted(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    limited(&group, Caps { pids: Some(4), ..Caps::default() });
    assert_eq!(Program::inside(&group, FORKER).end(), Ok(Errno::EAGAIN as i32));
    assert_eq!(group.events().unwrap(), Events { oom_kills: 0, pids_refused: 1 });
    group.kill(SOON).unwrap();
    group.remove(SOON).unwrap();

    let roomy = hierarchy.make().unwrap();
    limited(&roomy, Caps { pids: Some(9), ..Caps::default() });
    assert_eq!(Program::inside(&roomy, FORKER).end(), Ok(0));
    assert_eq!(roomy.events().unwrap(), Events::default());
    roomy.kill(SOON).unwrap();
    roomy.remove(SOON).unwrap();
}

pub(super) fn cpu_is_held(fx: &Fixture) {
    let hierarchy = fx.establish();
    let share = |caps: Caps| {
        let group = hierarchy.make().unwrap();
        limited(&group, caps);
        let spinner = Program::inside(&group, SPINNER);
        eventually("it spins", || burned(spinner.pid()) > Duration::ZERO);
        let (since, before) = (Instant::now(), burned(spinner.pid()));
        std::thread::sleep(Duration::from_millis(1500));
        let burned = burned(spinner.pid()) - before;
        let share = burned.as_secs_f64() / since.elapsed().as_secs_f64();
        group.kill(SOON).unwrap();
        drop(spinner);
        group.remove(SOON).unwrap();
        share
    };
    let held = share(Caps { cpu_millis: Some(200), ..Caps::default() });
    assert!(held <= 0.26, "a fifth of a processor, and it had {held}");
    // Others may have the processors for a while.
    eventually("without a limit it has more", || share(Caps::default()) > 0.3);
}

pub(super) fn limits_can_be_changed(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    let run = |caps: Caps| {
        limited(&group, caps);
        let ends = (Program::inside(&group, HOG).end(), Program::inside(&group, FORKER).end());
        group.kill(SOON).unwrap();
        ends
    };
    let small = Caps { memory_bytes: Some(64 * MIB), cpu_millis: Some(500), pids: Some(4) };
    let large = Caps { memory_bytes: Some(600 * MIB), cpu_millis: Some(900), pids: Some(20) };
    let refused = (Err(Signal::SIGKILL), Ok(Errno::EAGAIN as i32));
    for (caps, ends) in [
        (small, refused),
        (large, (Ok(0), Ok(0))),
        (small, refused),
        (Caps::default(), (Ok(0), Ok(0))),
    ] {
        assert_eq!(run(caps), ends, "{caps:?}");
    }
    group.remove(SOON).unwrap();
}

pub(super) fn usage_is_counted(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    let empty = group.usage().unwrap();
    assert_eq!(empty.processes, Some(0));
    let mut holder =
        Program::inside(&group, r#"my $x = "x" x (50 << 20); print "held\n"; sleep 100"#);
    assert_eq!(holder.line(), "held");
    let usage = group.usage().unwrap();
    assert_eq!(usage.processes, Some(1));
    assert!(usage.memory_bytes.unwrap() > empty.memory_bytes.unwrap() + 50 * MIB, "{usage:?}");
    match hierarchy.version() {
        Version::V2 => assert!(usage.cpu_usec.unwrap() > 1000, "{usage:?}"),
        // Only where cpuacct is mounted together with cpu.
        Version::V1 => assert!(usage.cpu_usec.is_none_or(|usec| usec > 1000), "{usage:?}"),
    }
    group.kill(SOON).unwrap();
    group.remove(SOON).unwrap();
}

pub(super) fn odd_limits_are_taken(fx: &Fixture) {
    let hierarchy = fx.establish();
    assert!(Controller::ALL.into_iter().all(|controller| hierarchy.has(controller)));
    assert_eq!(hierarchy.lacking(), []);
    let group = hierarchy.make().unwrap();
    for number in [0, 1, u64::MAX] {
        let all = Caps { memory_bytes: Some(number), cpu_millis: None, pids: Some(number) };
        limited(&group, all);
    }
    for cpu_millis in [0, 1, 10, 1000, 1_000_000] {
        limited(&group, Caps { cpu_millis: Some(cpu_millis), ..Caps::default() });
    }
    group.remove(SOON).unwrap();
}

pub(super) fn v1_refuses_less_memory_than_is_in_use(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    // A constant would be there twice, or once where perl has read it before it is in the group.
    let script = r#"my $n = 50 << 20; my $x = "x" x $n; print "held\n"; sleep 100"#;
    let mut holder = Program::inside(&group, script);
    assert_eq!(holder.line(), "held");
    // What could be swapped out would make room.
    limited(&group, Caps { memory_bytes: Some(100 * MIB), ..Caps::default() });
    let error = group.apply(&Caps { memory_bytes: Some(MIB), ..Caps::default() }).unwrap_err();
    assert!(matches!(error, CgroupError::MemoryInUse { limit: MIB, .. }), "{error}");
    group.kill(SOON).unwrap();
    limited(&group, Caps { memory_bytes: Some(MIB), ..Caps::default() });
    group.remove(SOON).unwrap();
}

pub(super) fn v1_has_no_watches(fx: &Fixture) {
    let group = fx.establish().make().unwrap();
    assert!(group.pids_watch().unwrap().is_none());
    assert!(group.oom_watch().unwrap().is_none());
    group.remove(SOON).unwrap();
}

pub(super) fn v2_watches_wake(fx: &Fixture) {
    let hierarchy = fx.establish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let group = hierarchy.make().unwrap();
    limited(&group, Caps { memory_bytes: Some(64 * MIB), cpu_millis: None, pids: Some(4) });
    for (script, watch) in [(FORKER, group.pids_watch()), (HOG, group.oom_watch())] {
        let watch = crate::wait::watch(watch.unwrap().unwrap(), Interest::PRIORITY).unwrap();
        let wakes = |patience| {
            let ready = watch.ready(Interest::PRIORITY);
            let woken = runtime.block_on(async { tokio::time::timeout(patience, ready).await });
            woken.map(|guard| {
                guard.unwrap().clear_ready();
                rearm(&watch).unwrap();
            })
        };
        assert!(wakes(Duration::from_millis(50)).is_err(), "nothing has happened yet");
        // Twice: it can be made ready again.
        for _ in 0..2 {
            let mut program = Program::inside(&group, script);
            wakes(SOON).unwrap();
            program.end().ok();
            group.kill(SOON).unwrap();
            // Memory has more to tell than the kill.
            while wakes(Duration::from_millis(50)).is_ok() {}
        }
    }
    assert_eq!(group.events().unwrap(), Events { oom_kills: 2, pids_refused: 2 });
    group.remove(SOON).unwrap();
}
