//! What is left of sandboxes: no mount, no namespace, no directory.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use noxrunner_tests::life::Pending;
use noxrunner_tests::{SOON, TestDaemon, eventually};

use super::full;

/// Every namespace that a process of this machine is in.
fn namespaces() -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter(|p| p.file_name().to_string_lossy().parse::<i32>().is_ok());
    let links = numbers.filter_map(|p| fs::read_dir(p.path().join("ns")).ok()).flatten().flatten();
    links
        .filter_map(|link| fs::read_link(link.path()).ok())
        .map(|l| l.display().to_string())
        .collect()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn sandboxes_leave_no_trace_on_the_hosts_mounts() {
    let before = mounts();
    let daemon = full();
    let during = mounts();
    let places = fs::read_dir(daemon.workspace("s")).unwrap().count();
    assert_eq!(
        (before.as_str(), places),
        (during.as_str(), 0),
        "something was mounted or left as a mount point"
    );
    daemon.delete("s");
    assert_eq!((before, daemon.directories().len()), (mounts(), 0));
}

/// Namespaces are the daemon's as long as one of its processes or descriptors is in them, and nobody
/// else holds them: with its last process they are gone.
mod heavy {
    use super::*;

    #[test]
    fn a_kill_of_the_daemon_leaves_no_process_no_namespace_and_no_mount() {
        let (mounted, known) = (mounts(), namespaces());
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
        let fresh = namespaces().difference(&known).count();
        assert!(fresh >= 10 * 6, "{fresh} new namespaces for ten sandboxes");
        daemon.end_by(Signal::SIGKILL);
        eventually("no process of a sandbox is alive", std::time::Duration::from_secs(1), || {
            daemon.processes().is_empty()
        });
        eventually("their namespaces are gone", SOON, || {
            namespaces().difference(&known).count() == 0
        });
        assert_eq!(mounts(), mounted);
        daemon.start_again();
        assert_eq!(daemon.directories().len(), 10);
        for n in 0..10 {
            daemon.delete(&format!("s{n}"));
        }
        assert_eq!((daemon.directories().len(), mounts()), (0, mounted));
    }
}
