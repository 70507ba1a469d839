//! What is left of sandboxes: no mount, no namespace, no directory.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use noxrunner_tests::life::Pending;
use noxrunner_tests::{SOON, TestDaemon, eventually};

use super::full;

/// Every namespace that one of these processes is in.
fn namespaces_of(pids: impl IntoIterator<Item = i32>) -> BTreeSet<String> {
    let own = |pid| fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten();
    let links = pids.into_iter().flat_map(own);
    links
        .filter_map(|link| fs::read_link(link.path()).ok())
        .map(|l| l.display().to_string())
        .collect()
}

/// Every namespace that a process of this machine is in.
fn namespaces() -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    namespaces_of(processes.filter_map(|p| p.file_name().to_str()?.parse().ok()))
}

/// What is mounted on this machine, but for what other tests mount beside this one: it names their directories.
fn mounts(own: Option<&TestDaemon>) -> Vec<String> {
    let own = own.map(|daemon| daemon.dir.path().file_name().unwrap().to_str().unwrap());
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_ours = |line: &&str| !line.contains("noxtest") || own.is_some_and(|o| line.contains(o));
    all.lines().filter(is_ours).map(str::to_owned).collect()
}

#[test]
fn sandboxes_leave_no_trace_on_the_hosts_mounts() {
    let before = mounts(None);
    let daemon = full();
    let during = mounts(Some(&daemon));
    let places = fs::read_dir(daemon.workspace("s")).unwrap().count();
    assert_eq!((&before, places), (&during, 0), "something was mounted or left as a mount point");
    daemon.delete("s");
    assert_eq!((before, daemon.directories().len()), (mounts(Some(&daemon)), 0));
}

/// Namespaces are the daemon's as long as one of its processes or descriptors is in them, and nobody
/// else holds them: with its last process they are gone.
mod heavy {
    use super::*;

    #[test]
    fn a_kill_of_the_daemon_leaves_no_process_no_namespace_and_no_mount() {
        let mounted = mounts(None);
        let mut daemon = TestDaemon::start_with(&["--isolation", "full"]);
        let mut pending = Vec::new();
        for n in 0..10 {
            let id = format!("s{n}");
            daemon.create(&id);
            pending.push(Pending::sh(&daemon, &id, "setsid sleep 1000 & touch up; sleep 1000"));
            let up = daemon.workspace(&id).join("up");
            eventually("it runs", SOON, || up.exists());
        }
        // An ordinary user does not see those of its inits; their commands are in the same.
        let mut fresh = namespaces_of(daemon.processes().iter().map(|process| process.pid));
        let own = namespaces_of([std::process::id().try_into().unwrap()]);
        fresh.retain(|namespace| !own.contains(namespace));
        assert!(fresh.len() >= 10 * 6, "{} new namespaces for ten sandboxes", fresh.len());
        daemon.end_by(Signal::SIGKILL);
        eventually("no process of a sandbox is alive", SOON / 4, || daemon.processes().is_empty());
        eventually("their namespaces are gone", SOON, || namespaces().is_disjoint(&fresh));
        assert_eq!(mounts(Some(&daemon)), mounted);
        daemon.start_again();
        assert_eq!(daemon.directories().len(), 10);
        for n in 0..10 {
            daemon.delete(&format!("s{n}"));
        }
        assert_eq!((daemon.directories().len(), mounts(Some(&daemon))), (0, mounted));
    }
}
