//! Deadlines and hang-ups: what a command started ends with it, what an ended
//! command left behind lives until its sandbox goes.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::time::{Duration, Instant};

use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::{
    Pending, Process, STRAYS, STRAYS_SIZE, ZOO, ZOO_SIZE, alive, is_stopped, nothing_runs, timed,
    wait_for_noted, wait_for_noted_in, workspace,
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
    nothing_hides_from_a_deadline,
    nothing_hides_from_a_hang_up,
    what_others_left_and_run_outlives_a_deadline,
    strays_beside_other_commands_meet_their_deadline,
    fork_bombs_meet_their_deadline,
    threads_that_fork_meet_their_deadline,
);

/// Everything that a command started is to be dead this long after its end.
const A_SECOND: Duration = Duration::from_secs(1);

/// How late a single look may find that, on a machine that stalls.
const AT_THE_LATEST: Duration = Duration::from_secs(5);

/// Waits until none of these runs, and says how long it took.
#[track_caller]
fn all_dead(processes: &[Process]) -> Duration {
    let started = Instant::now();
    while !alive(processes).is_empty() {
        assert!(started.elapsed() < AT_THE_LATEST, "still alive: {:?}", alive(processes));
        std::thread::sleep(Duration::from_millis(2));
    }
    started.elapsed()
}

fn a_deadline_kills_the_whole_tree_and_keeps_the_output(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let script = format!("echo partial; echo complaint >&2; {ZOO} wait");
    let started = Instant::now();
    let pending = Pending::exec(&daemon, &timed("s", &script, 6.0));
    let zoo = wait_for_noted(&place, ZOO_SIZE);
    eventually("one of them is stopped", SOON, || is_stopped(zoo["stopped"].pid));
    let result = pending.result_within(SOON);
    let took = started.elapsed();
    let processes: Vec<Process> = zoo.into_values().collect();
    all_dead(&processes);
    assert_eq!((result.exit_code, result.cause), (124, Cause::Timeout));
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("partial\n", "complaint\n"));
    assert!((6.0..12.0).contains(&took.as_secs_f64()), "{took:?}");
    // A little less than its six seconds: they began when the request was read.
    assert!((3_000..12_000).contains(&result.duration_ms), "{}", result.duration_ms);
    // The sandbox itself lives on.
    assert_eq!(daemon.sh("s", "echo on").stdout, "on\n");
    daemon.delete("s");
    nothing_runs(&daemon);
}

fn a_leader_that_is_stopped_or_deaf_meets_its_deadline(daemon: TestDaemon) {
    let deaf = r#"trap "" HUP INT QUIT TERM USR1 USR2; echo here; while :; do sleep 1000; done"#;
    let scripts =
        [("a", "echo here; kill -STOP $$"), ("b", deaf), ("c", "echo here; while :; do :; done")];
    for (id, _) in scripts {
        daemon.create(id);
    }
    let started = Instant::now();
    // Each is alone in its sandbox, and all of them take no longer than one.
    let pending = scripts.map(|(id, script)| Pending::exec(&daemon, &timed(id, script, 3.0)));
    for (pending, (id, script)) in pending.into_iter().zip(scripts) {
        let result = pending.result_within(SOON);
        assert_eq!((result.exit_code, result.cause), (124, Cause::Timeout), "{script}");
        assert_eq!(result.stdout, "here\n", "{script}");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        daemon.delete(id);
    }
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
    let mut most = 0;
    for round in 0..5 {
        let result = daemon.exec_params(timed("s", chains, 0.8));
        assert_eq!(result.cause, Cause::Timeout);
        let links = || fs::metadata(place.join("links")).map_or(0, |file| file.len());
        // The kill is over when the answer is there, so not one more link may follow.
        let before = links();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(links(), before, "a chain goes on, round {round}");
        most = most.max(before);
        // Not there where the machine stalled until the deadline.
        let _ = fs::remove_file(place.join("links"));
    }
    assert!(most > 100, "the chains hardly began: {most} links");
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// Sessions of their own, orphans, cleared environments, closed descriptors: all of it goes.
fn nothing_hides_from_a_deadline(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let pending = Pending::exec(&daemon, &timed("s", &format!("{ZOO} {STRAYS} wait"), 6.0));
    let zoo = wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE);
    assert_eq!(pending.result_within(SOON).cause, Cause::Timeout);
    all_dead(&zoo.into_values().collect::<Vec<_>>());
    assert_eq!(daemon.sh("s", "echo on").stdout, "on\n");
    daemon.delete("s");
    nothing_runs(&daemon);
}

fn nothing_hides_from_a_hang_up(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let pending = Pending::sh(&daemon, "s", &format!("{ZOO} {STRAYS} wait"));
    let zoo = wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE);
    drop(pending);
    all_dead(&zoo.into_values().collect::<Vec<_>>());
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// Strays of three kinds of owner: a command that ended, one that runs, and the one whose time is over.
fn what_others_left_and_run_outlives_a_deadline(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let own = |name: &str| format!("mkdir -p {name}; cd {name}; {ZOO} {STRAYS}");
    let left = daemon.sh("s", &format!("exec >&- 2>&- <&-; {}", own("left")));
    assert_eq!(left.cause, Cause::Exited);
    let all = |name: &str| -> Vec<Process> {
        let zoo = wait_for_noted_in(&place, name, ZOO_SIZE + STRAYS_SIZE);
        zoo.into_values().collect()
    };
    let left = all("left");
    let runs = Pending::sh(&daemon, "s", &format!("{} wait", own("runs")));
    let runs_zoo = all("runs");
    let stopped = |zoo: &[Process]| zoo.iter().filter(|p| is_stopped(p.pid)).count();
    let timed_out = Pending::exec(&daemon, &timed("s", &format!("{} wait", own("late")), 8.0));
    let late = all("late");
    eventually("they stopped themselves", SOON, || {
        (stopped(&left), stopped(&runs_zoo), stopped(&late)) == (2, 2, 2)
    });
    assert_eq!(timed_out.result_within(SOON).cause, Cause::Timeout);
    all_dead(&late);
    assert_eq!((alive(&left), alive(&runs_zoo)), (left.clone(), runs_zoo.clone()));
    // Who was held meanwhile goes on, and who had stopped himself does not.
    eventually("the others go on", SOON, || (stopped(&left), stopped(&runs_zoo)) == (2, 2));
    drop(runs);
    all_dead(&runs_zoo);
    assert_eq!(alive(&left), left);
    daemon.delete("s");
    assert_eq!(alive(&left), [], "alive when the delete had answered");
    nothing_runs(&daemon);
}

/// As a lone command's, with others running: each of two loses its own and nothing else, in either order.
fn strays_beside_other_commands_meet_their_deadline(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let own = |name: &str| format!("mkdir -p {name}; cd {name}; {ZOO} {STRAYS} wait");
    let mut quickest = Duration::MAX;
    for (first, second) in [("a", "b"), ("c", "d")] {
        let mut pending = Vec::new();
        let mut zoos = Vec::new();
        for name in [first, second] {
            pending.push(Pending::sh(&daemon, "s", &own(name)));
            let zoo = wait_for_noted_in(&place, name, ZOO_SIZE + STRAYS_SIZE);
            zoos.push(zoo.into_values().collect::<Vec<Process>>());
        }
        // The one that came first, and in the second round the one that came second.
        let ended = usize::from(first == "c");
        drop(pending.swap_remove(ended));
        quickest = quickest.min(all_dead(&zoos[ended]));
        let other = &zoos[1 - ended];
        assert_eq!(alive(other), *other);
        drop(pending);
        quickest = quickest.min(all_dead(other));
    }
    assert!(quickest < A_SECOND, "{quickest:?}");
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// A thread's fork is not held up by the stop that its process is sent until that has reached it.
fn threads_that_fork_meet_their_deadline(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let neighbour = Pending::sh(&daemon, "s", "sleep 1000");
    let bomb = "
import os, threading
def bear():
    for _ in range(100000):
        if os.fork() == 0:
            os.setsid()
            with open('born', 'a') as born: born.write('x')
            if os.fork() == 0:
                import time; time.sleep(1000)
            os._exit(0)
        os.wait()
        import time; time.sleep(0.005)
for _ in range(4): threading.Thread(target=bear).start()
";
    fs::write(place.join("bomb.py"), bomb).unwrap();
    let (mut most, mut quickest) = (0, Duration::MAX);
    for _ in 0..3 {
        let deadline = Instant::now() + Duration::from_millis(1500);
        let result = daemon.exec_params(timed("s", "exec python3 bomb.py", 1.5));
        assert_eq!(result.cause, Cause::Timeout);
        let born = || fs::metadata(place.join("born")).map_or(0, |file| file.len());
        let before = born();
        eventually("none of them is left", AT_THE_LATEST, || {
            !daemon.processes().iter().any(|process| process.names("bomb.py"))
        });
        quickest = quickest.min(deadline.elapsed());
        assert_eq!(born(), before);
        most = most.max(before);
        // Not there where the machine stalled until the deadline.
        let _ = fs::remove_file(place.join("born"));
    }
    assert!(most > 20, "hardly began: {most}");
    assert!(quickest < A_SECOND, "{quickest:?}");
    drop(neighbour);
    daemon.delete("s");
    nothing_runs(&daemon);
}

/// Alone and beside another command, which lives on.
fn fork_bombs_meet_their_deadline(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    // Every process of it notes that it was born, and none lives long.
    let bomb = "echo >> born; [ $1 = 0 ] && exec sleep 1000; \
                setsid sh ./bomb $(($1 - 1)) & setsid sh ./bomb $(($1 - 1)) &";
    fs::write(place.join("bomb"), bomb).unwrap();
    for beside in [false, true] {
        let neighbour =
            beside.then(|| Pending::sh(&daemon, "s", "echo $$ > here; exec sleep 1000"));
        let here = beside.then(|| daemon.process_in("s", "here"));
        let result = daemon.exec_params(timed("s", "sh ./bomb 6; exec sleep 1000", 3.0));
        assert_eq!(result.cause, Cause::Timeout);
        let born = || fs::metadata(place.join("born")).map_or(0, |file| file.len());
        let before = born();
        assert!(before > 20, "hardly began: {before}");
        eventually("none of them is left", AT_THE_LATEST, || {
            let ours = |process: &Process| process.names("sleep") && Some(*process) != here;
            !daemon.processes().iter().any(ours)
        });
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(born(), before);
        fs::remove_file(place.join("born")).unwrap();
        if let Some(here) = here {
            assert_eq!(alive(&[here]), [here]);
        }
        drop(neighbour);
        let _ = fs::remove_file(place.join("here"));
    }
    daemon.delete("s");
    nothing_runs(&daemon);
}

fn who_hangs_up_kills_the_command(daemon: TestDaemon) {
    let place = workspace(&daemon.create("s"));
    let pending = Pending::sh(&daemon, "s", &format!("{ZOO} wait"));
    let zoo: Vec<Process> = wait_for_noted(&place, ZOO_SIZE).into_values().collect();
    drop(pending);
    all_dead(&zoo);
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
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
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
