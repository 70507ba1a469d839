//! What a daemon finds of its predecessor: sandboxes go on, and forgeries are left alone.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use noxrunner_protocol::types::CreateResult;
use noxrunner_tests::life::{Pending, is_stopped, nothing_runs, workspace};
use noxrunner_tests::{SOON, TestDaemon, eventually};
use serde_json::{Value, json};

#[track_caller]
fn get(daemon: &TestDaemon, id: &str) -> Value {
    daemon.call("sandbox.get", json!({"sessionId": id})).unwrap()
}

#[track_caller]
fn is_unknown(daemon: &TestDaemon, id: &str) -> bool {
    let error = daemon.call("sandbox.get", json!({"sessionId": id})).err();
    error.is_some_and(|error| error.kind.name() == "sandboxNotFound")
}

fn manifest_path(sandbox: &CreateResult) -> PathBuf {
    Path::new(&sandbox.sandbox_dir).join("manifest.json")
}

/// Changes a manifest the way its daemon would: whole, in the same place.
#[track_caller]
fn forge(sandbox: &CreateResult, change: impl FnOnce(&mut Value)) {
    let path = manifest_path(sandbox);
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
}

/// Files of which not all are removed within a moment.
const MANY: usize = 20_000;

#[track_caller]
fn fill(place: &Path) {
    for n in 0..MANY {
        fs::write(place.join(format!("f{n}")), "").unwrap();
    }
}

/// Kills the daemon when it has begun to remove what is in a place, and says whether some of it is left.
#[track_caller]
fn kill_in_the_middle(daemon: &mut TestDaemon, place: &Path) -> bool {
    let count = || fs::read_dir(place).map_or(0, Iterator::count);
    eventually("it has begun", SOON, || count() < MANY);
    // Stopped first: to end it takes a while, in which it would go on.
    nix::sys::signal::kill(daemon.pid(), Signal::SIGSTOP).unwrap();
    eventually("it stands still", SOON, || is_stopped(daemon.pid().as_raw()));
    daemon.end_by(Signal::SIGKILL);
    count() > 0
}

/// How often that is tried: where the machine stalled, all was over before the kill.
const ROUNDS: usize = 5;

fn milliseconds_from_now(ms: i64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap() + ms
}

#[track_caller]
fn sandboxes_go_on_after(end: Signal) {
    let mut daemon = TestDaemon::start();
    let params = json!({
        "sessionId": "s/é", "ttlSeconds": 700, "env": {"COLOUR": "green", "EMPTY": ""},
        "cpuLimit": "500m", "memoryLimit": "512Mi", "ephemeralStorageLimit": "1Gi",
        "pidsLimit": 64, "image": "python:3.12",
    });
    daemon.call("sandbox.create", params).unwrap();
    let brief = daemon.create_for("brief", 60);
    daemon.exec(
        "s/é",
        &["sh", "-c", "echo kept > file; echo mine > \"$HOME/h\"; echo t > \"$TMPDIR/t\""],
    );
    let before = get(&daemon, "s/é");
    let running = Pending::sh(&daemon, "s/é", "sleep 1000");

    daemon.end_by(end);
    drop(running);
    eventually("nothing of it runs", SOON / 4, || daemon.processes().is_empty());
    assert_eq!(daemon.directories().len(), 2, "sandboxes outlive their daemon");
    // Its time passes while no daemon runs.
    forge(&brief, |manifest| manifest["expiresAtMs"] = json!(milliseconds_from_now(-1)));
    daemon.start_again();

    let mut after = get(&daemon, "s/é");
    assert!(after["expiresAt"].as_str() <= before["expiresAt"].as_str(), "{before} {after}");
    for field in
        ["sessionId", "podName", "sandboxDir", "createdAt", "ttlSeconds", "limits", "ownerUid"]
    {
        assert_eq!(after[field], before[field], "{field}");
    }
    // What is left of its time, give or take the second that rounding takes.
    let seconds = |v: &Value| v["expiresAt"].as_str().unwrap()[17..19].parse::<i64>().unwrap();
    assert!((seconds(&before) - seconds(&after)).rem_euclid(60) <= 1, "{before} {after}");
    assert_eq!(after["state"].take(), before["state"]);
    let script = "cat file \"$HOME/h\" \"$TMPDIR/t\"; echo \"$COLOUR,${EMPTY-unset},\"";
    assert_eq!(daemon.sh("s/é", script).stdout, "kept\nmine\nt\ngreen,,\n");
    assert!(is_unknown(&daemon, "brief"));
    eventually("the expired one is removed", SOON, || !Path::new(&brief.sandbox_dir).exists());
    // It is a sandbox like any other: create finds it, delete removes it.
    let again = daemon.call("sandbox.create", json!({"sessionId": "s/é"})).unwrap();
    assert_eq!(again["created"], false);
    daemon.delete("s/é");
    assert_eq!(daemon.directories(), [""; 0]);
    nothing_runs(&daemon);
}

#[test]
fn sandboxes_go_on_after_a_kill() {
    sandboxes_go_on_after(Signal::SIGKILL);
}

#[test]
fn sandboxes_go_on_after_a_sigterm() {
    sandboxes_go_on_after(Signal::SIGTERM);
}

#[test]
fn an_adopted_sandbox_expires_in_its_time() {
    let mut daemon = TestDaemon::start();
    let started = Instant::now();
    let sandbox = daemon.create_for("s", 6);
    daemon.end_by(Signal::SIGKILL);
    daemon.start_again();
    assert!(!is_unknown(&daemon, "s"));
    eventually("it expires", SOON, || !Path::new(&sandbox.sandbox_dir).exists());
    let took = started.elapsed();
    // On paper there are whole milliseconds of another clock.
    assert!(took > Duration::from_millis(5900), "{took:?}");
    assert!(is_unknown(&daemon, "s"));
}

#[test]
fn a_deletion_that_had_begun_is_finished() {
    let mut daemon = TestDaemon::start();
    let (half, whole) = (daemon.create("half"), daemon.create("whole"));
    fs::write(workspace(&half).join("rest"), "x").unwrap();
    daemon.end_by(Signal::SIGKILL);
    forge(&half, |manifest| manifest["deleting"] = json!(true));
    daemon.start_again();
    eventually("the rest goes", SOON, || daemon.directories() == [whole.pod_name.clone()]);
    assert!(is_unknown(&daemon, "half"));
}

/// Killed in the middle of deleting a large tree: it is finished by the next, and never comes back.
#[test]
fn a_kill_in_the_middle_of_a_deletion() {
    let mut daemon = TestDaemon::start();
    let hit = (0..ROUNDS).any(|_| {
        let sandbox = daemon.create("s");
        assert!(sandbox.created);
        let place = workspace(&sandbox);
        fill(&place);
        let deleting = Pending::call(&daemon, "sandbox.delete", &json!({"sessionId": "s"}));
        let hit = kill_in_the_middle(&mut daemon, &place);
        drop(deleting);
        daemon.start_again();
        assert!(is_unknown(&daemon, "s"));
        eventually("the rest goes", SOON, || daemon.directories().is_empty());
        hit
    });
    assert!(hit, "it was over before each kill");
    assert!(daemon.create("s").created);
}

#[test]
fn an_ephemeral_daemon_leaves_nothing() {
    let mut daemon = TestDaemon::start_with(&["--ephemeral"]);
    let sandbox = daemon.create("s");
    daemon.create("t");
    fs::write(workspace(&sandbox).join("file"), "x").unwrap();
    let running = Pending::sh(
        &daemon,
        "s",
        "(setsid sleep 1000 &) ; while :; do mkdir -p d; echo x > d/f; done",
    );
    eventually("it writes", SOON, || workspace(&sandbox).join("d/f").exists());
    assert!(daemon.end_by(Signal::SIGTERM).success());
    drop(running);
    assert_eq!(fs::read_dir(&daemon.base).unwrap().count(), 0);
    assert_eq!(daemon.processes(), []);
    daemon.start_again();
    assert!(is_unknown(&daemon, "s"));
}

#[test]
fn time_on_paper_is_never_more_than_the_time_to_live() {
    let mut daemon = TestDaemon::start();
    let forged = [
        ("year-9999", 253_402_300_799_000_u64, 100),
        ("for-ever", u64::MAX, 100),
        ("far-made", u64::MAX, u64::MAX),
    ]
    .map(|(id, expires, created)| (daemon.create_for(id, 60), id, expires, created));
    let brief = daemon.create_for("brief", 4);
    daemon.end_by(Signal::SIGKILL);
    for (sandbox, _, expires, created) in &forged {
        forge(sandbox, |manifest| {
            assert!(manifest["expiresAtMs"].is_u64(), "{manifest}");
            manifest["expiresAtMs"] = json!(expires);
            manifest["createdAtMs"] = json!(created);
        });
    }
    forge(&brief, |manifest| manifest["expiresAtMs"] = json!(u64::MAX));
    daemon.start_again();
    for (_, id, ..) in &forged {
        let expires = get(&daemon, id)["expiresAt"].as_str().unwrap().to_owned();
        // Compared as text: both are RFC 3339 in UTC.
        let latest = noxrunner_tests::run(std::process::Command::new("date").args([
            "-u",
            "-d",
            "+61 seconds",
            "+%FT%TZ",
        ]));
        let latest = noxrunner_tests::text(&latest.stdout);
        assert!(expires.as_str() <= latest.trim(), "{id}: {expires} is later than {latest}");
    }
    eventually("the brief one expires", SOON, || !Path::new(&brief.sandbox_dir).exists());
}

/// The wall clock is set back: each daemon that is killed would give its time anew.
#[test]
fn time_on_paper_is_cut_on_paper() {
    let mut daemon = TestDaemon::start();
    let sandbox = daemon.create_for("s", 60);
    daemon.end_by(Signal::SIGKILL);
    forge(&sandbox, |manifest| manifest["expiresAtMs"] = json!(milliseconds_from_now(3_600_000)));
    daemon.start_again();
    assert!(!is_unknown(&daemon, "s"));
    let manifest: Value =
        serde_json::from_slice(&fs::read(manifest_path(&sandbox)).unwrap()).unwrap();
    let expires = manifest["expiresAtMs"].as_i64().unwrap();
    assert!(expires <= milliseconds_from_now(60_000), "{manifest}");
}

/// Killed while it removes what had expired: however the clock is set then, the half that is
/// left never comes back.
#[test]
fn a_kill_in_the_middle_of_removing_what_expired() {
    let mut daemon = TestDaemon::start();
    let hit = (0..ROUNDS).any(|_| {
        let sandbox = daemon.create("s");
        let place = workspace(&sandbox);
        fill(&place);
        daemon.end_by(Signal::SIGKILL);
        forge(&sandbox, |manifest| manifest["expiresAtMs"] = json!(milliseconds_from_now(-1)));
        daemon.start_again();
        let hit = kill_in_the_middle(&mut daemon, &place);
        if hit {
            // What it is if the clock is set back by a minute.
            let expires = milliseconds_from_now(60_000);
            forge(&sandbox, |manifest| manifest["expiresAtMs"] = json!(expires));
        }
        daemon.start_again();
        assert!(is_unknown(&daemon, "s"));
        eventually("the rest goes", SOON, || daemon.directories().is_empty());
        hit
    });
    assert!(hit, "it was over before each kill");
}

/// The first daemons wrote less. Their names are added, so that a copy can be told from now on.
#[test]
fn a_manifest_of_the_first_daemons() {
    let mut daemon = TestDaemon::start();
    let sandbox = daemon.create("s");
    daemon.sh("s", "echo kept > file");
    daemon.end_by(Signal::SIGKILL);
    forge(&sandbox, |manifest| {
        let fields = manifest.as_object_mut().unwrap();
        assert_eq!(fields.remove("directory"), Some(json!(sandbox.pod_name)));
        assert_eq!(fields.remove("network"), Some(json!("none")));
    });
    daemon.start_again();
    assert_eq!(daemon.sh("s", "cat file").stdout, "kept\n");
    let manifest: Value =
        serde_json::from_slice(&fs::read(manifest_path(&sandbox)).unwrap()).unwrap();
    assert_eq!(manifest["directory"], json!(sandbox.pod_name));
}

#[test]
fn two_directories_for_one_session() {
    let mut daemon = TestDaemon::start_with(&["--stale-after", "2s"]);
    let sandbox = daemon.create("s");
    daemon.end_by(Signal::SIGKILL);
    let twin = daemon.base.join("noxrunner_sandbox_s.forged1234");
    let copied = noxrunner_tests::run(
        std::process::Command::new("cp").arg("-a").arg(&sandbox.sandbox_dir).arg(&twin),
    );
    assert!(copied.status.success(), "{copied:?}");
    let before = daemon.log().len();
    daemon.start_again();
    assert_eq!(daemon.directories().len(), 2);
    let adopted = PathBuf::from(get(&daemon, "s")["sandboxDir"].as_str().unwrap());
    let original = PathBuf::from(&sandbox.sandbox_dir);
    let left = if adopted == twin { original } else { twin };
    let reported = daemon.log()[before..].contains(left.to_str().unwrap());
    assert!(reported, "nothing is said of {}: {}", left.display(), &daemon.log()[before..]);

    // The one that was left alone is nobody's: it does not come to life when the other goes.
    daemon.delete("s");
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(5) {
        assert!(is_unknown(&daemon, "s"), "a deleted session is back");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(left.exists());
}

#[test]
fn a_directory_that_another_process_has_locked() {
    let mut daemon = TestDaemon::start();
    let (held, free) = (daemon.create("held"), daemon.create("free"));
    daemon.end_by(Signal::SIGKILL);
    let file = fs::File::open(&held.sandbox_dir).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).unwrap();
    // Long expired, and still not ours to touch.
    forge(&held, |manifest| manifest["expiresAtMs"] = json!(milliseconds_from_now(-60_000)));
    daemon.start_again();
    assert!(is_unknown(&daemon, "held"));
    assert!(!is_unknown(&daemon, "free"));
    assert!(daemon.create("held").created);
    assert!(workspace(&held).exists());
    drop(lock);
    daemon.end_by(Signal::SIGKILL);
    daemon.start_again();
    eventually("it goes once it is free", SOON, || !Path::new(&held.sandbox_dir).exists());
    assert!(workspace(&free).exists());
}

#[test]
fn a_second_daemon_is_refused_and_disturbs_nothing() {
    let daemon = TestDaemon::start();
    daemon.create_for("s", 60);
    let other = daemon.dir.path().join("other.sock");
    let mut second = std::process::Command::new(noxrunner_tests::program("noxrunnerd"));
    second.args(["--local-test", "--socket"]).arg(other).arg("--base-dir").arg(&daemon.base);
    let output = noxrunner_tests::run(&mut second);
    assert!(!output.status.success());
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains(daemon.socket.to_str().unwrap()), "{complaint}");
    assert_eq!(daemon.sh("s", "echo on").stdout, "on\n");
}
