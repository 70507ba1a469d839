//! Processes of the host and of other sandboxes: seen, but not touched.
#![cfg(target_arch = "x86_64")]

use std::os::fd::AsRawFd;
use std::process::Command;

use noxrunner_tests::attack::{inside, outside};
use noxrunner_tests::life::{Pending, init_of};
use noxrunner_tests::{Started, TestDaemon, Tier};
use serde_json::json;

use super::{denied, landlock, of_tier};

/// PTRACE_SEIZE, which does not stop what it traces.
fn seize(pid: &str) -> String {
    format!("sc(101, 0x4206, {pid}, 0, 0)")
}

/// A process of the user whom the sandbox `s` of a daemon is, started by nobody of that daemon.
fn of_the_same_user(daemon: &TestDaemon) -> Started {
    let uid = daemon.sh("s", "id -u").stdout.trim().to_owned();
    let mut command = Command::new("sleep");
    if nix::unistd::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "sleep"]);
    }
    let started = Started::new(command.arg("1000").current_dir("/"));
    let runs = || {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", started.pid()));
        comm.is_ok_and(|comm| comm == "sleep\n")
    };
    noxrunner_tests::eventually("it sleeps", noxrunner_tests::SOON, runs);
    started
}

/// The version of Landlock that health names.
fn abi(daemon: &TestDaemon) -> u32 {
    let health = daemon.call("health", json!({})).unwrap();
    let features = health["isolation"]["features"].as_array().unwrap();
    let names = features.iter().filter_map(|name| name.as_str());
    let mut abis = names.filter_map(|name| name.strip_prefix("landlock (ABI ")?.strip_suffix(')'));
    abis.next().unwrap().parse().unwrap()
}

/// Acts on a process, and what they come to.
fn acts(pid: i32, signals: &'static str) -> Vec<(String, &'static str)> {
    let pidfd = format!("fd = sc(434, {pid}, 0)\n");
    let mut acts = vec![
        (format!("os.kill({pid}, 0)"), signals),
        (format!("os.kill({pid}, signal.SIGCONT)"), signals),
        (format!("sc(234, {pid}, {pid}, 0)"), signals),
        (pidfd.clone() + "sc(424, fd, 0, 0, 0)", signals),
        (pidfd + "sc(438, fd, 0, 0)", "EPERM"),
        (format!("sc(302, {pid}, 7, 0, bytes(16))"), "EPERM"),
        (format!("os.sched_setaffinity({pid}, os.sched_getaffinity(0))"), "EPERM"),
        (format!("os.sched_setscheduler({pid}, os.SCHED_OTHER, os.sched_param(0))"), "EPERM"),
        (format!("os.sched_setparam({pid}, os.sched_param(0))"), "EPERM"),
        (format!("sc(314, {pid}, struct.pack('IIQiIQQQ', 48, 0, 0, 0, 0, 0, 0, 0), 0)"), "EPERM"),
        (format!("os.setpriority(os.PRIO_PROCESS, {pid}, 1)"), "EPERM"),
        (format!("sc(251, 1, {pid}, (2 << 13) | 7)"), "EPERM"),
        (seize(&pid.to_string()), "EPERM"),
    ];
    for file in ["environ", "maps", "auxv", "mem"] {
        acts.push((format!("open('/proc/{pid}/{file}', 'rb')"), "EACCES"));
    }
    for link in ["root", "cwd", "exe"] {
        acts.push((format!("os.stat('/proc/{pid}/{link}')"), "EACCES"));
    }
    // How many there are is in sight, what they are is not.
    acts.push((format!("os.readlink('/proc/{pid}/fd/0')"), "EACCES"));
    for file in ["oom_score_adj", "coredump_filter", "clear_refs"] {
        acts.push((format!("open('/proc/{pid}/{file}', 'w')"), "EACCES"));
    }
    acts
}

#[test]
fn processes_of_the_same_user_are_seen_and_not_touched() {
    let (daemon, open) = (landlock(), of_tier(Tier::None));
    let signals = if abi(&daemon) >= 6 { "EPERM" } else { "ok" };
    let mut wrong = Vec::new();
    let (host, control) = (of_the_same_user(&daemon), of_the_same_user(&open));
    let (pid, other) = (host.pid().as_raw(), control.pid().as_raw());
    for ((code, want), (same, _)) in acts(pid, signals).into_iter().zip(acts(other, signals)) {
        let (refused, allowed) = (inside(&daemon, "s", &code), inside(&open, "s", &same));
        if (refused.as_str(), allowed.as_str()) != (want, "ok") {
            wrong.push(format!("{code}: {refused} and not {want}; without layers {allowed}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What `missing` says is not held.
    let seen = format!("assert 'sleep' in open('/proc/{pid}/cmdline').read()");
    assert_eq!(inside(&daemon, "s", &seen), "ok");
    // All at once.
    for code in ["os.setpriority(os.PRIO_USER, 0, 1)", "os.setpriority(os.PRIO_PGRP, 0, 1)"] {
        assert_eq!(inside(&daemon, "s", code), "EPERM", "{code}");
    }
    if signals == "EPERM" {
        daemon.sh("s", "kill -KILL -1");
        assert!(noxrunner_tests::life::Process::find(pid).is_some());
    }
    let own = "sc(302, 0, 7, 0, bytes(16)); os.nice(1); os.sched_setaffinity(0, os.sched_getaffinity(0)); sc(251, 1, 0, (2 << 13) | 7)";
    daemon.create("fresh");
    assert_eq!(inside(&daemon, "fresh", own), "ok");
}

#[test]
fn an_init_cannot_be_traced() {
    let daemon = landlock();
    let init = init_of(&daemon, "s").pid;
    for code in [seize("os.getppid()"), seize(&init.to_string())] {
        assert_eq!(inside(&daemon, "s", &code), "EPERM", "{code}");
    }
    let memory = "open('/proc/%d/mem' % os.getppid(), 'rb')";
    assert_eq!(inside(&daemon, "s", memory), "EACCES");
    let child = "pid = os.fork()\nif pid == 0: signal.pause()\ntry: sc(101, 0x4206, pid, 0, 0)\nfinally: os.kill(pid, 9)";
    assert_eq!(inside(&daemon, "s", child), "ok");
}

#[test]
fn sandboxes_do_not_signal_or_trace_each_other() {
    let daemon = landlock();
    daemon.create("t");
    let _running = Pending::sh(&daemon, "t", "echo $$ > up; exec sleep 1000");
    let other = daemon.process_in("t", "up");
    let root = nix::unistd::geteuid().is_root();
    let signals = if root || abi(&daemon) >= 6 { "EPERM" } else { "ok" };
    for (code, want) in [
        (format!("os.kill({}, 0)", other.pid), signals),
        (format!("os.kill({}, 9)", other.pid), signals),
        (seize(&other.pid.to_string()), "EPERM"),
        (format!("open('/proc/{}/environ').read()", other.pid), "EACCES"),
    ] {
        assert_eq!(inside(&daemon, "s", &code), want, "{code}");
    }
    assert!(other.is_alive() || signals == "ok");
    assert_eq!(inside(&daemon, "t", &format!("os.kill({}, 0)", other.pid)), "ok");
}

/// Somebody sits at those of the host.
#[test]
fn terminals_of_the_host_are_out_of_reach() {
    let daemon = landlock();
    let pty = nix::pty::openpty(None, None).unwrap();
    let slave = std::fs::read_link(format!("/proc/self/fd/{}", pty.slave.as_raw_fd())).unwrap();
    super::open_to(&slave, 0o666);
    let open = format!("os.open({slave:?}, os.O_RDWR | os.O_NOCTTY)");
    denied(&daemon, &[("a terminal", &open, "EACCES")], || ());
    assert_eq!(outside("os.openpty()"), "ok");
    assert_eq!(inside(&daemon, "s", "os.openpty()"), "EACCES");
}
