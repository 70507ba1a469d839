//! Daemons under cgroup v2 with controllers, as a service manager delegates them: tests/vm/run.
#![allow(clippy::unwrap_used)]

mod v2_only {
    use std::fs;

    use noxrunner_tests::{TestDaemon, cgroup};

    fn words(file: &std::path::Path) -> Vec<String> {
        fs::read_to_string(file).unwrap().split_whitespace().map(str::to_owned).collect()
    }

    /// What every other test here relies on.
    #[test]
    fn a_daemon_has_a_delegated_group_of_its_own() {
        let place = cgroup::place().expect("NOXRUNNER_TEST_CGROUP is not set: see tests/vm/run");
        let daemon = TestDaemon::start();
        let group = daemon.group().unwrap();
        assert_eq!(group.parent(), Some(place.as_path()));
        assert!(cgroup::of(daemon.pid()).starts_with(group));
        assert!(!cgroup::of(nix::unistd::getpid()).starts_with(&place), "the tests run beside it");

        let controllers = words(&group.join("cgroup.controllers"));
        for controller in ["cpu", "memory", "pids"] {
            assert!(controllers.iter().any(|c| c == controller), "{controller}: {controllers:?}");
        }
        // Groups can be made in it by the daemon's user.
        let inner = group.join("inner");
        fs::create_dir(&inner).unwrap();
        fs::remove_dir(inner).unwrap();
    }
}
