//! What a service manager gives to the daemon is for nobody else.

use std::fs;

use noxrunner_tests::{SOON, TestDaemon, Tier, eventually};

use super::activated;

const POLICY: &str = r#"
env_passthrough = [
    "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
    "CONTROL"
]
"#;

/// Even a policy that lets everything through shows commands nothing of it.
#[track_caller]
fn commands_do_not_inherit_it(tier: Tier) {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    fs::write(&policy, POLICY).unwrap();
    let options = "-E NOTIFY_SOCKET=/nowhere -E WATCHDOG_USEC=1000000 -E WATCHDOG_PID=1 -E CONTROL=seen --fdname one";
    let arguments = ["--isolation", tier.name(), "--policy", policy.to_str().unwrap()];
    let daemon = activated(options, &arguments);
    daemon.create("s");
    let env = daemon.exec("s", &["env"]).stdout;
    assert!(env.lines().any(|line| line == "CONTROL=seen"), "{env}");
    for variable in ["LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_"] {
        assert!(!env.contains(variable), "{env}");
    }
    // A manager that is not there is no reason not to serve, and no secret either.
    eventually("it says so", SOON, || daemon.log().contains("cannot tell the service manager"));
}

#[test]
fn commands_do_not_inherit_it_in_full() {
    commands_do_not_inherit_it(Tier::Full);
}

#[test]
fn commands_do_not_inherit_it_in_none() {
    commands_do_not_inherit_it(Tier::None);
}

#[test]
fn what_was_meant_for_another_process_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("marker");
    fs::write(&marker, "").unwrap();
    let script = format!(r#"LISTEN_PID=1 LISTEN_FDS=1 exec "$0" "$@" 3<"{}""#, marker.display());
    let daemon = TestDaemon::start_under(&["sh", "-c", &script], &[]);
    assert!(daemon.log().contains("is_handed=false"), "{}", daemon.log());
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().flatten();
    let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    assert!(!open.is_empty() && !open.contains(&marker), "{open:?}");
}

/// Nobody else may look at what an init has open.
mod root_only {
    use std::fs;
    use std::io::ErrorKind;

    use super::activated;

    /// The numbers of the sockets that a process has open.
    fn sockets(pid: i32) -> Vec<String> {
        let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
            // It has ended meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
            entries => entries.unwrap().flatten(),
        };
        let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets
            .filter_map(|target| {
                Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
            })
            .collect()
    }

    #[test]
    fn nobody_but_the_daemon_has_the_socket() {
        assert!(nix::unistd::geteuid().is_root(), "leave root_only out where you are not root");
        let daemon = activated("", &[]);
        daemon.create("s");
        daemon.exec("s", &["true"]);
        // Num RefCount Protocol Flags Type St Inode Path
        let table = fs::read_to_string("/proc/net/unix").unwrap();
        let ours = table.lines().filter(|line| line.ends_with(daemon.socket.to_str().unwrap()));
        let listening = ours.filter(|line| line.split_whitespace().nth(3) == Some("00010000"));
        let inodes: Vec<&str> =
            listening.filter_map(|line| line.split_whitespace().nth(6)).collect();
        let [inode] = inodes[..] else { panic!("{inodes:?}") };
        let pid = daemon.pid().as_raw();
        assert!(sockets(pid).iter().any(|open| open == inode));
        let others: Vec<i32> =
            daemon.processes().into_iter().map(|p| p.pid).filter(|other| *other != pid).collect();
        assert!(others.len() >= 2, "a zygote and an init: {others:?}");
        for other in others {
            assert!(!sockets(other).iter().any(|open| open == inode), "{other} has it");
        }
    }
}
