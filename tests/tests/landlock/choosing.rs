//! Which tier a daemon takes, and what it says about it.

use std::collections::BTreeSet;

use noxrunner_tests::{TestDaemon, Tier, noxrunnerd, run, text, under, userns};
use serde_json::{Value, json};

use super::{landlock, open_to};

#[track_caller]
fn start_under(wrapper: &[String]) -> TestDaemon {
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let daemon = TestDaemon::start_under(&wrapper, &[]);
    open_to(daemon.dir.path(), 0o711);
    daemon
}

/// What is missing of that name, as health has it.
#[track_caller]
fn missing<'a>(isolation: &'a Value, feature: &str) -> &'a Value {
    let all = isolation["missing"].as_array().unwrap();
    let found = all.iter().find(|missing| missing["feature"] == feature);
    found.unwrap_or_else(|| panic!("{feature} is not in {isolation}"))
}

fn names(isolation: &Value) -> BTreeSet<&str> {
    let all = isolation["missing"].as_array().unwrap();
    all.iter().map(|missing| missing["feature"].as_str().unwrap()).collect()
}

/// What the row of this tier says that it does not hold.
const NOT_HELD: [&str; 6] =
    ["file metadata", "process list", "tracking", "terminals", "file modes", "network"];

#[test]
fn without_user_namespaces_auto_takes_landlock_and_says_so_everywhere() {
    // The namespace around it is not what makes the difference.
    assert_eq!(start_under(&userns::allowed()).tier, Tier::Full);
    let daemon = start_under(&userns::forbidden());
    assert_eq!(daemon.tier, Tier::Landlock);
    let isolation = daemon.call("health", json!({})).unwrap()["isolation"].take();
    let userns = missing(&isolation, "user namespace");
    assert!(userns["mend"].as_str().unwrap().contains("user.max_user_namespaces"), "{userns}");
    assert!(userns["why"].as_str().unwrap().contains("refuses"), "{userns}");
    assert!(names(&isolation).is_superset(&BTreeSet::from(NOT_HELD)), "{isolation}");
    let made = daemon.call("sandbox.create", json!({"sessionId": "s"})).unwrap();
    assert_eq!(made["isolation"], isolation);
    let doctor = run(&mut daemon.noxctl(&["doctor"]));
    let doctor = text(&doctor.stdout);
    let log = daemon.log();
    assert!(log.contains("WARNING") && log.contains("isolation: landlock"), "{log}");
    for entry in isolation["missing"].as_array().unwrap() {
        for member in ["feature", "why", "mend"] {
            let part = entry[member].as_str().unwrap();
            assert!(log.contains(part) && doctor.contains(part), "{part}:\n{log}\n{doctor}");
        }
    }
    let tier = doctor.lines().find_map(|line| line.strip_prefix("isolation ")).unwrap().trim();
    assert_eq!(tier, "landlock");
    assert_eq!(daemon.sh("s", "echo works").stdout, "works\n");
}

#[test]
fn a_tier_that_cannot_be_had_is_refused_with_its_mend_and_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let start = |wrapper: &[String]| {
        let mut command = noxrunnerd(dir.path(), &dir.path().join("s.sock"), dir.path());
        command.args(["--isolation", "full"]);
        run(&mut under(wrapper, command))
    };
    let output = start(&userns::forbidden());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in ["(full)", "user namespace", "user.max_user_namespaces", "--isolation none"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn who_asks_for_landlock_gets_it_and_reads_what_it_does_not_hold() {
    let daemon = landlock();
    let isolation = daemon.call("health", json!({})).unwrap()["isolation"].take();
    let features: Vec<&str> =
        isolation["features"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    let landlock = features.iter().find(|name| name.starts_with("landlock (ABI "));
    assert!(landlock.is_some() && features.contains(&"seccomp"), "{features:?}");
    assert!(!features.iter().any(|name| name.ends_with("namespace")), "{features:?}");
    // What the probe found on top, of a machine that has less than everything, is not this tier's.
    let own: BTreeSet<&str> = names(&isolation);
    assert!(own.is_superset(&BTreeSet::from(NOT_HELD)), "{own:?}");
    let (kind, message) =
        daemon.refused("sandbox.create", json!({"sessionId": "h", "network": "host"}));
    assert_eq!(kind, "unsupported");
    assert!(message.contains("network") && message.contains("landlock"), "{message}");
    assert_eq!(daemon.directories().len(), 1);
}

#[test]
fn none_is_there_for_who_asks_and_warns() {
    let daemon = TestDaemon::of_tier(Tier::None);
    let log = daemon.log();
    for part in ["WARNING", "isolation: none", "nothing keeps them from your files", "file system"]
    {
        assert!(log.contains(part), "{part}: {log}");
    }
}

/// Where each sandbox has a user of its own on the host.
mod root_only {
    use super::*;
    use crate::of_tier;

    const FIRST: u32 = 1_879_048_192;

    #[test]
    fn sandboxed_code_is_never_the_hosts_root() {
        let number = |text: &str| text.trim().parse::<u32>().unwrap();
        for tier in [Tier::None, Tier::Landlock] {
            let daemon = of_tier(tier);
            daemon.create("t");
            let ids = ["s", "t"].map(|id| number(&daemon.sh(id, "id -u").stdout));
            assert!(ids.iter().all(|id| *id >= FIRST) && ids[0] != ids[1], "{tier}: {ids:?}");
            let rest = daemon.sh("s", "id -ru; id -g; id -G").stdout;
            assert!(rest.lines().all(|line| number(line) == ids[0]), "{tier}: {rest}");
        }
        let daemon = of_tier(Tier::Full);
        assert_eq!(number(&daemon.sh("s", "id -u").stdout), 1000);
        let map = daemon.sh("s", "cat /proc/self/uid_map").stdout;
        let map: Vec<u32> = map.split_whitespace().map(number).collect();
        // Seen from inside, the outer number is the one of the parent namespace.
        assert!(map.len() == 3 && map[0] == 1000 && map[1] >= FIRST && map[2] == 1, "{map:?}");
    }
}
