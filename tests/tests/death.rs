//! Sudden ends: of the daemon, of the zygote, of one init. Nothing that was
//! started outlives them, and what was stored does.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::{
    Pending, Process, STRAYS, STRAYS_SIZE, ZOO, ZOO_SIZE, alive, children, init_of, is_stopped,
    nothing_runs, timed, wait_for_noted, workspace, zygote,
};
use noxrunner_tests::{SOON, TestDaemon, Tier, eventually, in_both_tiers};
use serde_json::json;

/// What dies with another is to be dead this long after it.
const A_SECOND: Duration = Duration::from_secs(1);

/// How late a single look may find that, on a machine that stalls.
const AT_THE_LATEST: Duration = Duration::from_secs(5);

in_both_tiers!(
    nothing_survives_a_kill_of_the_daemon,
    nothing_survives_a_kill_of_the_daemon_while_inits_are_stopped,
    an_init_that_is_killed_takes_its_sandbox_along_and_nothing_else,
    a_delete_right_after_the_death_of_an_init,
    a_daemon_whose_zygote_is_killed_says_so_and_ends,
    a_deadline_is_met_though_the_init_is_stopped,
    a_deadline_is_met_though_the_socket_to_the_init_is_full,
    nobody_is_told_that_a_sandbox_with_a_dying_init_does_not_exist,
    the_stop_spray,
    a_hundred_creates_of_one_name_make_one_directory,
    a_stopped_zygote_holds_nobody_up_for_ever,
    a_sigterm_ends_a_daemon_whose_zygote_is_stopped,
);

/// Waits until none of these runs, and says how long it took.
#[track_caller]
fn dead(daemon: &TestDaemon, processes: &[Process]) -> Duration {
    let started = Instant::now();
    let left = || (alive(processes), daemon.processes());
    loop {
        let (known, marked) = left();
        if known.is_empty() && marked.is_empty() {
            return started.elapsed();
        }
        assert!(started.elapsed() < AT_THE_LATEST, "alive: {known:?}, of the daemon: {marked:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// All that is of the daemon now, but for itself.
#[track_caller]
fn census(daemon: &TestDaemon) -> Vec<Process> {
    let zygote = zygote(daemon);
    let mut all = daemon.processes();
    all.retain(|process| process.pid != daemon.pid().as_raw());
    // Its inits are found another way, too.
    let inits = children(zygote.pid);
    assert!(all.contains(&zygote) && inits.iter().all(|init| all.contains(init)), "{all:?}");
    all
}

fn nothing_survives_a_kill_of_the_daemon(mut daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let chain = "echo $$ >> links; setsid sh ./chain.sh & exit\n";
    fs::write(place.join("chain.sh"), chain).unwrap();
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        let script = format!("{ZOO} {STRAYS} setsid sh ./chain.sh & wait");
        let pending = Pending::sh(&daemon, "s", &script);
        let mut all: Vec<Process> =
            wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE).into_values().collect();
        let links = || fs::metadata(place.join("links")).map_or(0, |file| file.len());
        eventually("the chain goes on", SOON, || links() > 0);
        all.extend(census(&daemon));
        let killed = Instant::now();
        daemon.end_by(Signal::SIGKILL);
        dead(&daemon, &all);
        quickest = quickest.min(killed.elapsed());
        let before = links();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(links(), before, "a chain of forks goes on");
        drop(pending);
        daemon.start_again();
        assert_eq!(daemon.sh("s", "ls chain.sh").stdout, "chain.sh\n");
        fs::remove_file(place.join("links")).unwrap();
        fs::remove_dir_all(place.join("pids")).unwrap();
    }
    println!("dead after {quickest:?} at the quickest");
    assert!(quickest < A_SECOND, "{quickest:?}");
}

/// Init is told by end of file, and the zygote kills what a stopped init cannot.
fn nothing_survives_a_kill_of_the_daemon_while_inits_are_stopped(mut daemon: TestDaemon) {
    let mut all = Vec::new();
    for id in ["a", "b", "c"] {
        let place = workspace(&daemon.create(id));
        daemon.sh(id, &format!("exec >&- 2>&-; {ZOO} {STRAYS}"));
        all.extend(wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE).into_values());
    }
    let (a, b) = (init_of(&daemon, "a"), init_of(&daemon, "b"));
    all.extend(census(&daemon));
    a.signal(Signal::SIGSTOP);
    b.signal(Signal::SIGSTOP);
    eventually("they are stopped", SOON, || is_stopped(a.pid) && is_stopped(b.pid));
    daemon.end_by(Signal::SIGKILL);
    println!("dead after {:?}", dead(&daemon, &all));
    // For the control groups, which only the next one with the same base directory finds.
    daemon.start_again();
}

fn an_init_that_is_killed_takes_its_sandbox_along_and_nothing_else(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let other_place = workspace(&daemon.create("other"));
    let other = Pending::sh(&daemon, "other", "mkdir pids; echo $$ > pids/other; sleep 1000");
    let bystander = wait_for_noted(&other_place, 1)["other"];
    let running = Pending::sh(&daemon, "s", &format!("echo begun; {ZOO} {STRAYS} wait"));
    let zoo: Vec<Process> = wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE).into_values().collect();

    init_of(&daemon, "s").signal(Signal::SIGKILL);
    let killed = Instant::now();
    eventually("its processes end", AT_THE_LATEST, || alive(&zoo).is_empty());
    println!("dead after {:?}", killed.elapsed());
    let result = running.result_within(SOON);
    assert_eq!((result.exit_code, result.stdout.as_str()), (137, "begun\n"));

    assert_eq!(daemon.sh("s", "echo on; ls").stdout, "on\npids\n");
    assert!(bystander.is_alive());
    assert_eq!(daemon.sh("other", "echo on").stdout, "on\n");
    daemon.delete("s");
    daemon.delete("other");
    assert_eq!(other.result_within(SOON).exit_code, 137);
    nothing_runs(&daemon);
}

/// Without a pid namespace nothing keeps code from killing its own init. It gains nothing by it.
#[test]
fn code_that_kills_its_init_ends_with_its_sandbox() {
    let daemon = TestDaemon::of_tier(Tier::None);
    let place = workspace(&daemon.create("s"));
    let running = Pending::sh(&daemon, "s", &format!("echo begun; {ZOO} {STRAYS} wait"));
    let zoo: Vec<Process> = wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE).into_values().collect();
    let killer = daemon.sh("s", "kill -KILL $PPID; sleep 1000");
    assert_eq!((killer.exit_code, killer.cause), (137, Cause::Signaled));
    eventually("its processes end", AT_THE_LATEST, || alive(&zoo).is_empty());
    let result = running.result_within(SOON);
    assert_eq!((result.exit_code, result.stdout.as_str()), (137, "begun\n"));
    assert_eq!(daemon.sh("s", "echo on; ls").stdout, "on\npids\n");
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// With one, the kernel takes no signal for process 1 from inside.
#[test]
fn code_cannot_kill_or_stop_its_init() {
    let daemon = TestDaemon::of_tier(Tier::Full);
    let place = workspace(&daemon.create("s"));
    let running = Pending::sh(&daemon, "s", "mkdir pids; echo $$ > pids/other; sleep 1000");
    let other = wait_for_noted(&place, 1)["other"];
    let init = init_of(&daemon, "s");
    for signal in ["KILL", "STOP", "TERM"] {
        let result = daemon.sh("s", &format!("kill -{signal} 1 && echo sent to 1"));
        assert_eq!((result.exit_code, result.stdout.as_str()), (0, "sent to 1\n"), "{signal}");
    }
    assert!(init.is_alive() && !is_stopped(init.pid) && other.is_alive());
    assert_eq!(init_of(&daemon, "s"), init);
    // The control: from outside the same signal ends it.
    init.signal(Signal::SIGKILL);
    assert_eq!(running.result_within(SOON).exit_code, 137);
    eventually("it dies", SOON, || !init.is_alive());
    assert_ne!(init_of(&daemon, "s"), init);
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// What a dead init left behind is somebody else's to kill; a delete waits for that, too.
fn a_delete_right_after_the_death_of_an_init(daemon: TestDaemon) {
    // Whether something is still alive without that wait is a matter of luck: one round in ten.
    for round in 0..40 {
        let sandbox = daemon.create("s");
        let script =
            "exec >&- 2>&- <&-; mkdir pids; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
            (N=$n setsid sh -c 'echo $$ > pids/$N; exec sleep 1000' &) done";
        daemon.sh("s", script);
        let orphans: Vec<Process> =
            wait_for_noted(&workspace(&sandbox), 15).into_values().collect();
        let init = init_of(&daemon, "s");
        init.signal(Signal::SIGKILL);
        daemon.delete("s");
        assert_eq!(alive(&orphans), [], "alive after the answer, round {round}");
        assert!(!Path::new(&sandbox.sandbox_dir).exists());
    }
    nothing_runs(&daemon);
}

fn a_daemon_whose_zygote_is_killed_says_so_and_ends(mut daemon: TestDaemon) {
    let sandbox = daemon.create("s");
    let place = workspace(&sandbox);
    let pending = Pending::sh(&daemon, "s", &format!("{ZOO} {STRAYS} wait"));
    let mut all: Vec<Process> =
        wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE).into_values().collect();
    all.extend(census(&daemon));
    zygote(&daemon).signal(Signal::SIGKILL);
    let status = daemon.wait_for_end(SOON);
    let took = dead(&daemon, &all);
    println!("dead {took:?} after the daemon's end");
    assert!(!status.success(), "{status:?}");
    assert!(daemon.log().contains("zygote died"), "{}", daemon.log());
    assert!(!daemon.socket.exists(), "a dead socket is left");
    drop(pending);
    daemon.start_again();
    assert_eq!(
        daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap()["podName"],
        sandbox.pod_name
    );
    assert_eq!(daemon.sh("s", "echo on").stdout, "on\n");
}

fn a_deadline_is_met_though_the_init_is_stopped(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let other = Pending::sh(&daemon, "s", "mkdir pids; echo $$ > pids/other; sleep 1000");
    let before = wait_for_noted(&place, 1)["other"];
    init_of(&daemon, "s").signal(Signal::SIGSTOP);
    let started = Instant::now();
    let result = daemon.exec_params(timed("s", "echo never", 1.0));
    let took = started.elapsed();
    println!("answered after {took:?}");
    assert_eq!((result.exit_code, result.cause), (124, Cause::Timeout));
    assert!((1.0..10.0).contains(&took.as_secs_f64()), "{took:?}");
    // The sandbox ended around the other one, and is at work again.
    assert_eq!(other.result_within(SOON).exit_code, 137);
    eventually("it is dead", AT_THE_LATEST, || !before.is_alive());
    assert_eq!(daemon.sh("s", "echo on").stdout, "on\n");
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// A socket that a stopped init does not read fills up; who has yet to get a
/// word in has a deadline all the same.
fn a_deadline_is_met_though_the_socket_to_the_init_is_full(daemon: TestDaemon) {
    daemon.create("s");
    init_of(&daemon, "s").signal(Signal::SIGSTOP);
    let bulk = "x".repeat(25_000);
    let mut patient = Vec::new();
    for _ in 0..40 {
        let mut params = timed("s", "true", 60.0);
        params.env.insert("BULK".into(), bulk.clone());
        patient.push(Pending::exec(&daemon, &params));
    }
    let mut params = timed("s", "true", 1.0);
    params.env.insert("BULK".into(), bulk);
    // The others were sent first; sandbox.get's answer shows that the daemon goes on.
    daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let started = Instant::now();
    let result = Pending::exec(&daemon, &params).answer_within(SOON);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}: {result:?}");
    // In time for it where the stopped init was killed meanwhile for not listening.
    let cause = result.unwrap()["cause"].clone();
    assert!(cause == "timeout" || cause == "exited", "{cause}");
    drop(patient);
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// An init may die under a command that is just about to start: that ends the
/// command, and the sandbox is there as before.
fn nobody_is_told_that_a_sandbox_with_a_dying_init_does_not_exist(daemon: TestDaemon) {
    daemon.create("s");
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let daemon = &daemon;
            scope.spawn(move || {
                for _ in 0..60 {
                    if worker == 0 && daemon.tier == Tier::Full {
                        let init = init_of(daemon, "s");
                        init.signal(Signal::SIGKILL);
                        // Or the next command may still be its.
                        eventually("it dies", SOON, || !init.is_alive());
                        continue;
                    }
                    // Without a pid namespace a command can do it, and be killed like any other.
                    let script = if worker == 0 { "kill -KILL $PPID" } else { "echo well" };
                    let params = json!({"sessionId": "s", "cmd": ["sh", "-c", script]});
                    match daemon.call("sandbox.exec", params) {
                        Ok(result) if result["exitCode"] == 0 && worker != 0 => {
                            assert_eq!(result["stdout"], "well\n");
                        }
                        // The killer itself may be through before its init is.
                        Ok(result) if worker == 0 && result["exitCode"] == 0 => {}
                        Ok(result) => assert_eq!(result["exitCode"], 137, "{result}"),
                        Err(error) => panic!("{}: {}", error.kind.name(), error.message),
                    }
                }
            });
        }
    });
    assert_eq!(daemon.sh("s", "echo well").stdout, "well\n");
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// Code that stops the processes of the commands to come, while they are on their way to their own code.
fn the_stop_spray(mut daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let other = workspace(&daemon.create("other"));
    // Children of its own init only, read without a fork of its own.
    let spray = r#"mkdir pids; echo $$ > pids/spray; kids=/proc/$PPID/task/$PPID/children
        while :; do
            read -r all < $kids
            for pid in $all; do [ $pid = $$ ] || kill -STOP $pid; done
        done 2> /dev/null"#;
    let spraying = Pending::sh(&daemon, "s", spray);
    let mut all: Vec<Process> = wait_for_noted(&place, 1).into_values().collect();
    // It hits none of them where it is not its turn meanwhile.
    eventually("the spray hits somebody", 3 * SOON, || {
        let started = Instant::now();
        let victims: Vec<Pending> =
            (0..20).map(|_| Pending::exec(&daemon, &timed("s", "echo well", 1.0))).collect();
        for _ in 0..10 {
            assert_eq!(daemon.sh("other", "echo well").stdout, "well\n");
        }
        let results = victims.into_iter().map(|victim| victim.result_within(SOON));
        let (stopped, well): (Vec<_>, Vec<_>) =
            results.partition(|result| result.cause == Cause::Timeout);
        assert!(well.iter().all(|result| result.stdout == "well\n"), "{well:?}");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(12), "{took:?}");
        println!("{} of 20 were stopped, all answered after {took:?}", stopped.len());
        !stopped.is_empty()
    });

    // And with some that are stopped for good, the daemon dies.
    let lasting: Vec<Pending> = (0..20).map(|_| Pending::sh(&daemon, "s", "sleep 1000")).collect();
    let busy = Pending::sh(&daemon, "other", &format!("{ZOO} {STRAYS} wait"));
    all.extend(wait_for_noted(&other, ZOO_SIZE + STRAYS_SIZE).into_values());
    let inits = children(zygote(&daemon).pid);
    let victims = || inits.iter().flat_map(|init| children(init.pid)).collect::<Vec<_>>();
    eventually("some are stopped", SOON, || victims().iter().any(|v| is_stopped(v.pid)));
    all.extend(victims());
    all.extend(census(&daemon));
    daemon.end_by(Signal::SIGKILL);
    println!("dead after {:?}", dead(&daemon, &all));
    drop((spraying, lasting, busy));
    // For the control groups, which only the next one with the same base directory finds.
    daemon.start_again();
}

fn a_hundred_creates_of_one_name_make_one_directory(daemon: TestDaemon) {
    let params = json!({"sessionId": "s"});
    let creating: Vec<Pending> =
        (0..100).map(|_| Pending::call(&daemon, "sandbox.create", &params)).collect();
    let made: Vec<_> = creating.into_iter().map(|c| c.answer_within(SOON).unwrap()).collect();
    assert_eq!(made.iter().filter(|m| m["created"] == true).count(), 1);
    assert!(made.iter().all(|m| m["sandboxDir"] == made[0]["sandboxDir"]));
    assert_eq!(daemon.directories().len(), 1);
    assert_eq!(children(zygote(&daemon).pid).len(), 1, "one sandbox has one init");
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// A zygote that does not answer is no reason for a client to wait for ever.
fn a_stopped_zygote_holds_nobody_up_for_ever(daemon: TestDaemon) {
    daemon.create("s");
    let zygote = zygote(&daemon);
    zygote.signal(Signal::SIGSTOP);
    let creating = Pending::call(&daemon, "sandbox.create", &json!({"sessionId": "new"}));
    // What has its init does not need the zygote.
    assert_eq!(daemon.sh("s", "echo on").stdout, "on\n");
    let answered =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| creating.answer_within(SOON)));
    // Or the daemon could not end its zygote either, and this test would leave both.
    zygote.signal(Signal::SIGCONT);
    assert!(answered.is_ok(), "create was not answered within {SOON:?}");
}

fn a_sigterm_ends_a_daemon_whose_zygote_is_stopped(mut daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    daemon.sh("s", &format!("exec >&- 2>&-; {ZOO} {STRAYS}"));
    let mut all: Vec<Process> =
        wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE).into_values().collect();
    let zygote = zygote(&daemon);
    all.extend(census(&daemon));
    zygote.signal(Signal::SIGSTOP);
    nix::sys::signal::kill(daemon.pid(), Signal::SIGTERM).unwrap();
    let ended =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| daemon.wait_for_end(SOON)));
    let left = alive(&all);
    zygote.put_down();
    assert!(ended.is_ok_and(|status| status.success()), "the daemon did not end within {SOON:?}");
    assert_eq!(left, []);
}
