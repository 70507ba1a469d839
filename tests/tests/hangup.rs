//! Clients that go away, wholly or only from asking.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use noxrunner_tests::processes::Process;
use noxrunner_tests::wire::request;
use noxrunner_tests::{SOON, Started, TestDaemon, eventually, in_both_tiers};
use serde_json::{Value, json};

in_both_tiers!(
    closing_a_connection_kills_its_commands_and_no_others,
    a_client_that_is_killed_has_hung_up,
    an_interrupted_noxctl_ends_with_130_and_its_command_with_it,
    a_hang_up_after_asking_to_stop_is_still_seen,
    deleting_a_sandbox_ends_its_commands_with_a_result,
    what_the_command_started_goes_with_it,
);

/// An exec in the sandbox `s` that says its process id in the file `name` and goes on for long.
fn long(id: u64, name: &str) -> Value {
    let script = format!("echo $$ > {name}; exec sleep 1000");
    exec(id, &script)
}

fn exec(id: u64, script: &str) -> Value {
    let params = json!({"sessionId": "s", "cmd": ["sh", "-c", script], "timeoutSeconds": 2000});
    request(id, "sandbox.exec", params)
}

#[track_caller]
fn dies(process: Process) {
    eventually(&format!("{process:?} dies"), SOON, || !process.is_alive());
}

fn closing_a_connection_kills_its_commands_and_no_others(daemon: TestDaemon) {
    daemon.create("s");
    let (mut stays, mut goes) = (daemon.wire(), daemon.wire());
    stays.send(format!("{}\n", long(1, "stays")));
    goes.send(format!("{}\n{}\n", long(1, "single"), json!([long(2, "a"), long(3, "b")])));
    let stay = daemon.process_in("s", "stays");
    let go = ["single", "a", "b"].map(|name| daemon.process_in("s", name));
    drop(goes);
    go.into_iter().for_each(dies);
    assert!(stay.is_alive());
    let info = |daemon: &TestDaemon| daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
    eventually("they no longer count", SOON, || info(&daemon)["execs"] == 1);
    drop(stays);
    dies(stay);
    eventually("none counts", SOON, || info(&daemon)["execs"] == 0);
    // The sandbox itself stays usable.
    assert_eq!(daemon.sh("s", "ls").stdout, "a\nb\nsingle\nstays\n");
}

/// Starts a script that writes its processes' ids to files of these names, hangs up, and wants them dead.
#[track_caller]
fn all_die(daemon: &TestDaemon, script: &str, names: &[&str]) {
    daemon.create("s");
    let mut wire = daemon.wire();
    wire.send(format!("{}\n", exec(1, script)));
    let processes: Vec<Process> = names.iter().map(|name| daemon.process_in("s", name)).collect();
    drop(wire);
    processes.into_iter().for_each(dies);
}

fn what_the_command_started_goes_with_it(daemon: TestDaemon) {
    let script = "trap '' TERM HUP INT
        sh -c 'echo $$ > stopped; kill -STOP $$' &
        setsid sh -c 'trap \"\" TERM; echo $$ > session; while :; do sleep 1000; done' &
        (sh -c 'echo $$ > orphan; exec sleep 1000' &)
        echo $$ > own; wait; sleep 1000";
    all_die(&daemon, script, &["own", "stopped", "session", "orphan"]);
}

fn a_client_that_is_killed_has_hung_up(daemon: TestDaemon) {
    daemon.create("s");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--header", "content-type: application/json", "--data-binary"]);
    curl.arg(long(1, "pid").to_string()).arg("--unix-socket").arg(&daemon.socket);
    let mut curl = Started::new(curl.arg("http://noxrunner/").stdin(Stdio::null()));
    let process = daemon.process_in("s", "pid");
    kill(curl.pid(), Signal::SIGKILL).unwrap();
    curl.wait();
    dies(process);
}

fn an_interrupted_noxctl_ends_with_130_and_its_command_with_it(daemon: TestDaemon) {
    daemon.create("s");
    let script = "trap '' INT; echo $$ > pid; echo partial; while :; do sleep 1000; done";
    let mut noxctl = Started::new(&mut daemon.noxctl(&["exec", "s", "sh", "-c", script]));
    let process = daemon.process_in("s", "pid");
    kill(noxctl.pid(), Signal::SIGINT).unwrap();
    assert_eq!(noxctl.wait().code(), Some(130));
    dies(process);
}

#[test]
fn a_client_that_only_stops_asking_gets_its_answers() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let workspace = daemon.workspace("s");
    let mut wire = daemon.wire();
    let script = "echo $$ > pid; until [ -e go ]; do sleep 0.01; done; echo went";
    wire.send(exec(1, script).to_string());
    wire.half_close();
    let process = daemon.process_in("s", "pid");
    // Time enough for a daemon that takes it for a hang-up to kill the command.
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        assert!(process.is_alive());
        std::thread::sleep(Duration::from_millis(10));
    }
    fs::write(workspace.join("go"), "").unwrap();
    assert_eq!(wire.receive()["result"]["stdout"], "went\n");
    wire.closed();
}

fn a_hang_up_after_asking_to_stop_is_still_seen(daemon: TestDaemon) {
    daemon.create("s");
    let mut wire = daemon.wire();
    wire.send(format!("{}\n", long(1, "pid")));
    wire.half_close();
    let process = daemon.process_in("s", "pid");
    drop(wire);
    dies(process);
}

fn deleting_a_sandbox_ends_its_commands_with_a_result(daemon: TestDaemon) {
    daemon.create("s");
    let mut wire = daemon.wire();
    wire.send(format!("{}\n", long(1, "pid")));
    let process = daemon.process_in("s", "pid");
    daemon.delete("s");
    dies(process);
    let answer = wire.receive();
    assert_eq!(answer["result"]["exitCode"], 137, "{answer}");
    assert_eq!(daemon.directories(), [""; 0]);
}
