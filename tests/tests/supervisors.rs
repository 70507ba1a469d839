//! Commands beside one another: each has its processes kept apart by a supervisor of its own.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;

use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::{Pending, Process, nothing_runs};
use noxrunner_tests::{SOON, TestDaemon, eventually, in_both_tiers};

in_both_tiers!(
    a_lone_command_needs_no_supervisor,
    supervisors_are_kept_for_the_next_commands_and_not_too_many,
    a_supervisor_that_is_killed_from_inside_ends_what_runs_and_the_sandbox_goes_on,
    a_supervisor_that_is_stopped_from_inside_does_not_keep_a_command_alive,
);

fn supervisors(daemon: &TestDaemon) -> Vec<Process> {
    daemon.processes().into_iter().filter(Process::is_supervisor).collect()
}

/// Whether it waits for what comes next. Where it has just said that its command has ended, it has one
/// more thing to say before: that nothing is left of it.
fn waits(supervisor: &Process) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", supervisor.pid)).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('S')
}

fn a_lone_command_needs_no_supervisor(daemon: TestDaemon) {
    daemon.create("s");
    for _ in 0..5 {
        assert_eq!(daemon.sh("s", "sleep 0 | cat; echo on").stdout, "on\n");
    }
    assert_eq!(supervisors(&daemon), []);
    // What one has left behind is not the next one's.
    daemon.sh("s", "exec >&- 2>&- <&-; sleep 1000 &");
    assert_eq!(daemon.sh("s", "echo on").stdout, "on\n");
    assert_eq!(supervisors(&daemon).len(), 1);
}

fn supervisors_are_kept_for_the_next_commands_and_not_too_many(daemon: TestDaemon) {
    daemon.create("s");
    let many = |count: usize| {
        let pending: Vec<Pending> =
            (0..count).map(|_| Pending::sh(&daemon, "s", "read line < gate; echo on")).collect();
        eventually("all of them wait", SOON, || supervisors(&daemon).len() >= count - 1);
        // A line for each reader, and open until the last one has come and taken it.
        let opened = "import array, fcntl, os, sys, termios, time
gate, left = os.open('gate', os.O_RDWR), array.array('i', [1])
os.write(gate, b'\\n' * int(sys.argv[1]))
while left[0]:
    time.sleep(0.005)
    fcntl.ioctl(gate, termios.FIONREAD, left)";
        let opened = daemon.exec("s", &["python3", "-c", opened, &count.to_string()]);
        assert_eq!(opened.exit_code, 0, "{}", opened.stderr);
        for command in pending {
            assert_eq!(command.result_within(SOON).stdout, "on\n");
        }
    };
    assert_eq!(daemon.sh("s", "mkfifo gate").exit_code, 0);
    many(4);
    let first = supervisors(&daemon);
    assert_eq!(first.len(), 4, "three of four, and the one that opened the gate");
    eventually("they are free again", SOON, || first.iter().all(waits));
    many(4);
    assert_eq!(supervisors(&daemon), first, "those that were there");
    many(20);
    eventually("some are let go", SOON, || supervisors(&daemon).len() == 8);
    daemon.delete("s");
    nothing_runs(&daemon);
}

fn a_supervisor_that_is_killed_from_inside_ends_what_runs_and_the_sandbox_goes_on(
    daemon: TestDaemon,
) {
    daemon.create("s");
    let first = Pending::sh(&daemon, "s", "echo $$ > first; exec sleep 1000");
    let first_process = daemon.process_in("s", "first");
    // Its parent is its supervisor; the first one's is init itself.
    let second = Pending::sh(&daemon, "s", "setsid sleep 1000 & kill -KILL $PPID; sleep 1000");
    for command in [first, second] {
        let result = command.result_within(SOON);
        assert_eq!((result.exit_code, result.cause), (137, Cause::Signaled));
    }
    eventually("the first one is dead", SOON, || !first_process.is_alive());
    assert_eq!(daemon.sh("s", "cat first >/dev/null; echo on").stdout, "on\n");
    daemon.delete("s");
    nothing_runs(&daemon);
}

fn a_supervisor_that_is_stopped_from_inside_does_not_keep_a_command_alive(daemon: TestDaemon) {
    let place = daemon.create("s");
    let neighbour = Pending::sh(&daemon, "s", "echo $$ > first; exec sleep 1000");
    let neighbour_process = daemon.process_in("s", "first");
    let script = "setsid sh -c 'echo $$ > stray; exec sleep 1000' & kill -STOP $PPID; sleep 1000";
    let second = Pending::exec(&daemon, &noxrunner_tests::life::timed("s", script, 4.0));
    let stray = daemon.process_in("s", "stray");
    let result = second.result_within(SOON);
    assert_eq!(result.cause, Cause::Timeout, "{place:?}");
    eventually("its stray is dead", SOON, || !stray.is_alive());
    assert!(neighbour_process.is_alive());
    drop(neighbour);
    daemon.delete("s");
    nothing_runs(&daemon);
}
