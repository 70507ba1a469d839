//! Deadlines and hang-ups: what a command started ends with it, what an ended
//! command left behind lives until its sandbox goes.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::time::{Duration, Instant};

use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::{
    Pending, Process, STRAYS, STRAYS_SIZE, ZOO, ZOO_SIZE, alive, is_stopped, nothing_runs, timed,
    wait_for_noted, workspace,
};
use noxrunner_tests::{SOON, TestDaemon, eventually, in_both_tiers};

in_both_tiers!(
    a_deadline_kills_the_whole_tree_and_keeps_the_output,
    a_leader_that_is_stopped_or_deaf_meets_its_deadline,
    a_deadline_ends_chains_of_forks,
    who_hangs_up_kills_the_command,
    half_a_hang_up_lets_the_command_go_on,
    what_an_ended_command_left_behind_lives_until_the_delete,
    a_background_child_that_holds_the_pipes_does_not_hang_the_answer,
    a_deadline_of_one_command_leaves_the_others_alone,
);

/// Everything that a command started is to be dead this long after its end.
const A_SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn all_dead(processes: &[Process], within: Duration) {
    let started = Instant::now();
    while !alive(processes).is_empty() {
        assert!(started.elapsed() < within, "still alive: {:?}", alive(processes));
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn a_deadline_kills_the_whole_tree_and_keeps_the_output(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let script = format!("echo partial; echo complaint >&2; {ZOO} wait");
    let started = Instant::now();
    let pending = Pending::exec(&daemon, &timed("s", &script, 3.0));
    let zoo = wait_for_noted(&place, ZOO_SIZE);
    eventually("one of them is stopped", SOON, || is_stopped(zoo["stopped"].pid));
    let result = pending.result_within(SOON);
    let took = started.elapsed();
    let processes: Vec<Process> = zoo.into_values().collect();
    all_dead(&processes, A_SECOND);
    assert_eq!((result.exit_code, result.cause), (124, Cause::Timeout));
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("partial\n", "complaint\n"));
    assert!((3.0..5.0).contains(&took.as_secs_f64()), "{took:?}");
    // A little less than its three seconds: they began when the request was read.
    assert!((2_000..5_000).contains(&result.duration_ms), "{}", result.duration_ms);
    // The sandbox itself lives on.
    assert_eq!(daemon.sh("s", "echo on").stdout, "on\n");
    daemon.delete("s");
    nothing_runs(&daemon);
}

fn a_leader_that_is_stopped_or_deaf_meets_its_deadline(daemon: TestDaemon) {
    daemon.create("s");
    let deaf = r#"trap "" HUP INT QUIT TERM USR1 USR2; echo here; while :; do sleep 1000; done"#;
    for script in ["echo here; kill -STOP $$", deaf, "echo here; while :; do :; done"] {
        let started = Instant::now();
        let result = daemon.exec_params(timed("s", script, 0.5));
        assert_eq!((result.exit_code, result.cause), (124, Cause::Timeout), "{script}");
        assert_eq!(result.stdout, "here\n", "{script}");
        assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    }
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// Each link of a chain starts the next and ends, so none is there for long:
/// who looks for them and then kills them always comes too late for some.
fn a_deadline_ends_chains_of_forks(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    // A shell bears only so many functions within one another (dash: 1,000).
    let chain =
        "n=0; link() { n=$((n+1)); echo >> links; [ $n = 500 ] && exec sh ./chain; link & }; link";
    fs::write(place.join("chain"), chain).unwrap();
    let chains = "for chain in 1 2 3 4; do sh ./chain & done; sleep 1000";
    for round in 0..5 {
        let result = daemon.exec_params(timed("s", chains, 0.5));
        assert_eq!(result.cause, Cause::Timeout);
        let links = || fs::metadata(place.join("links")).unwrap().len();
        // The kill is over when the answer is there, so not one more link may follow.
        let before = links();
        assert!(before > 100, "the chains hardly began: {before} links");
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(links(), before, "a chain goes on, round {round}");
        fs::remove_file(place.join("links")).unwrap();
    }
    daemon.delete("s");
    nothing_runs(&daemon);
}

fn who_hangs_up_kills_the_command(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let pending = Pending::sh(&daemon, "s", &format!("{ZOO} wait"));
    let zoo: Vec<Process> = wait_for_noted(&place, ZOO_SIZE).into_values().collect();
    drop(pending);
    all_dead(&zoo, A_SECOND);
    daemon.delete("s");
    nothing_runs(&daemon);
}

fn half_a_hang_up_lets_the_command_go_on(daemon: TestDaemon) {
    daemon.create("s");
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"sandbox.exec","params":
        {"sessionId":"s","cmd":["sh","-c","sleep 0.3; echo late"]}}"#;
    let answers = daemon.lines(format!("{}\n", request.replace('\n', "")));
    assert!(answers[0].contains("late"), "{answers:?}");
}

fn what_an_ended_command_left_behind_lives_until_the_delete(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    // Closed, or the answer waits a while for whoever may still write.
    let script = format!("exec >&- 2>&- <&-; {ZOO} {STRAYS}");
    let result = daemon.sh("s", &script);
    assert_eq!((result.exit_code, result.cause), (0, Cause::Exited));
    let zoo = wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE);
    let processes: Vec<Process> = zoo.into_values().collect();
    // Another command's end is none of their business.
    let result = daemon.exec_params(timed("s", "sleep 1000", 0.2));
    assert_eq!(result.cause, Cause::Timeout);
    assert_eq!(alive(&processes), processes);
    daemon.delete("s");
    assert_eq!(alive(&processes), [], "alive when the delete had answered");
    nothing_runs(&daemon);
}

fn a_background_child_that_holds_the_pipes_does_not_hang_the_answer(daemon: TestDaemon) {
    daemon.create("s");
    let started = Instant::now();
    let result = daemon.sh("s", "sleep 1000 & echo said");
    assert_eq!((result.exit_code, result.stdout.as_str()), (0, "said\n"));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    daemon.delete("s");
    nothing_runs(&daemon);
}

fn a_deadline_of_one_command_leaves_the_others_alone(daemon: TestDaemon) {
    daemon.create("s");
    let other = Pending::sh(&daemon, "s", "sleep 2; echo done");
    let result = daemon.exec_params(timed("s", "sleep 1000", 0.3));
    assert_eq!(result.cause, Cause::Timeout);
    let result = other.result_within(SOON);
    assert_eq!((result.exit_code, result.stdout.as_str()), (0, "done\n"));
}
