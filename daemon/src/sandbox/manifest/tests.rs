use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use super::*;

/// A manifest of every shape that daemons have written, and what was not in it yet.
const EVER: [(&str, &str, &[&str]); 5] = [
    (
        "manifest-1-first.json",
        include_str!("../golden/manifest-1-first.json"),
        &["directory", "hostUid", "network"],
    ),
    (
        "manifest-1-directory.json",
        include_str!("../golden/manifest-1-directory.json"),
        &["hostUid", "network"],
    ),
    ("manifest-1-network.json", include_str!("../golden/manifest-1-network.json"), &["hostUid"]),
    ("manifest-1-host-uid.json", include_str!("../golden/manifest-1-host-uid.json"), &["network"]),
    (
        "manifest-1-host-uid-network.json",
        include_str!("../golden/manifest-1-host-uid-network.json"),
        &[],
    ),
];

/// The newest, which has everything.
const NEWEST: &str = EVER[4].1;

fn read(text: &str) -> Result<Manifest, ManifestError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(NAME), text).unwrap();
    let handle = File::open(dir.path()).unwrap();
    Manifest::read(handle.as_fd(), nix::unistd::geteuid().as_raw())
}

#[track_caller]
fn malformed(text: &str) -> String {
    match read(text) {
        Err(ManifestError::Malformed(why)) => why,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_manifest_of_every_earlier_version_still_loads() {
    for (name, text, missing) in EVER {
        let manifest = read(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let has = |field: &str| !missing.contains(&field);
        assert_eq!(manifest.key(), Key { owner: 1000, id: "s".parse().unwrap() }, "{name}");
        assert_eq!(manifest.host_uid(), has("hostUid").then_some(1_879_048_192), "{name}");
        let directory = has("directory").then_some("noxrunner_sandbox_s.0123456789");
        assert_eq!(manifest.directory(), directory, "{name}");
        let wall = clock::from_unix_ms(1_700_000_300_000);
        let now = Moment { boot: std::time::Duration::from_secs(50), wall };
        assert!(!manifest.is_over(now), "{name}");
        let settings = manifest.settings(now);
        assert_eq!(settings.deadline.as_secs(), 650, "{name}");
        let network = if has("network") { Network::Host } else { Network::None };
        assert_eq!(settings.network, network, "{name}");
        assert_eq!(settings.image.as_deref(), Some("python:3.12"), "{name}");
        assert_eq!(settings.env, [("A".to_owned(), "b".to_owned())].into(), "{name}");
        assert_eq!(settings.limits.len(), 4, "{name}");
        // Nor does it say more than before when it is written again.
        let mut again: Value = serde_json::to_value(&manifest).unwrap();
        if !has("network") {
            assert_eq!(again.as_object_mut().unwrap().remove("network"), Some("none".into()));
        }
        assert_eq!(again, serde_json::from_str::<Value>(text).unwrap(), "{name}");
    }
}

#[test]
fn every_golden_manifest_is_tested() {
    // Asked for at run time: the tests may have been built elsewhere.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let files = std::fs::read_dir(Path::new(&here).join("src/sandbox/golden")).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, EVER.map(|(name, ..)| name.to_owned()).into());
}

/// What this daemon writes is the last of those. Who changes that adds another.
#[test]
fn what_is_written_now_is_golden() {
    let manifest = read(NEWEST).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let handle = File::open(dir.path()).unwrap();
    manifest.write(handle.as_fd()).unwrap();
    let written = std::fs::read_to_string(dir.path().join(NAME)).unwrap();
    assert_eq!(written, NEWEST.trim_end());
    assert_eq!(read(&written).unwrap(), manifest);
}

#[test]
fn a_later_version_is_refused_with_its_number() {
    let later = NEWEST.replace("\"version\":1", "\"version\":2");
    assert_eq!(malformed(&later), "version 2 is not known here");
    let more = NEWEST.replace("\"leased\":", "\"colour\":1,\"leased\":");
    assert!(malformed(&more).contains("unknown field `colour`"));
}

#[test]
fn a_host_uid_is_a_user_id() {
    for bad in ["-1", "4294967296", "\"0\"", "1.5"] {
        malformed(&NEWEST.replace("1879048192", bad));
    }
}

#[test]
fn what_is_being_deleted_is_over_whatever_the_clock_says() {
    let now = Moment { boot: std::time::Duration::ZERO, wall: SystemTime::UNIX_EPOCH };
    let dir = tempfile::tempdir().unwrap();
    let handle = File::open(dir.path()).unwrap();
    let again = || Manifest::read(handle.as_fd(), nix::unistd::geteuid().as_raw()).unwrap();
    let manifest = read(NEWEST).unwrap();
    manifest.write(handle.as_fd()).unwrap();
    assert!(!again().is_over(now));
    manifest.mark_deleting(handle.as_fd()).unwrap();
    assert!(again().is_over(now));
}
