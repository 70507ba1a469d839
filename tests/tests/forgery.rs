//! A manifest is input: whoever can write in the base directory can forge one.
//! Nothing forged is adopted, removed, followed or waited for, and each is reported.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use noxrunner_tests::{SOON, TestDaemon, eventually};
use serde_json::{Value, json};

/// A daemon that has ended, a sandbox that it left, and copies of that to be tampered with.
struct Forgery {
    daemon: TestDaemon,
    good: PathBuf,
    manifest: Value,
    forged: Vec<PathBuf>,
}

impl Forgery {
    #[track_caller]
    fn begin() -> Self {
        let mut daemon = TestDaemon::start();
        let good = PathBuf::from(daemon.create("good").sandbox_dir);
        fs::write(good.join("workspace/file"), "kept").unwrap();
        daemon.end_by(Signal::SIGKILL);
        let manifest = serde_json::from_slice(&fs::read(good.join("manifest.json")).unwrap());
        Self { daemon, good, manifest: manifest.unwrap(), forged: Vec::new() }
    }

    /// A directory that looks well in every way, for a session of its own.
    #[track_caller]
    fn directory(&mut self, id: &str) -> PathBuf {
        let path = self.daemon.base.join(format!("noxrunner_sandbox_{id}.0123456789"));
        for place in ["workspace", "home", "tmp"] {
            fs::create_dir_all(path.join(place)).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        fs::write(path.join("workspace/file"), "precious").unwrap();
        let manifest = self.manifest_for(id, &path);
        // Root's daemon gives each sandbox a user of its own.
        if let Some(uid) = host_uid(&manifest) {
            give_places(&path, uid);
        }
        write_manifest(&path, manifest.to_string().as_bytes());
        self.forged.push(path.clone());
        path
    }

    /// The good one's, for another session in another directory, with a host uid that nobody has.
    fn manifest_for(&self, id: &str, directory: &Path) -> Value {
        let mut manifest = self.manifest.clone();
        if let Some(good) = host_uid(&manifest) {
            let known = self.forged.iter().position(|path| path == directory);
            let known = known.unwrap_or(self.forged.len());
            manifest["hostUid"] = json!(good + 1_000_000 + u32::try_from(known).unwrap());
        }
        manifest["sessionId"] = json!(id);
        manifest["directory"] = json!(directory.file_name().unwrap().to_str().unwrap());
        manifest
    }

    /// The same with a field changed.
    #[track_caller]
    fn with(&mut self, id: &str, change: impl FnOnce(&mut Value)) {
        let path = self.directory(id);
        let mut manifest = self.manifest_for(id, &path);
        change(&mut manifest);
        write_manifest(&path, manifest.to_string().as_bytes());
    }

    /// Starts the daemon again: it is there, with the one good sandbox, and
    /// everything forged lies where it lay and is named in the log.
    #[track_caller]
    fn assert_left_alone(mut self) {
        let said = self.daemon.log().len();
        self.daemon.start_again();
        let list = self.daemon.call("sandbox.list", json!({})).unwrap();
        let ids: Vec<&Value> =
            list["sandboxes"].as_array().unwrap().iter().map(|s| &s["sessionId"]).collect();
        assert_eq!(ids, [&json!("good")]);
        assert_eq!(self.daemon.sh("good", "cat file").stdout, "kept");
        let log = self.daemon.log().split_off(said);
        for path in &self.forged {
            let unreported = format!("nothing is said of {}:\n{log}", path.display());
            assert!(log.contains(path.to_str().unwrap()), "{unreported}");
            assert!(path.join("workspace/file").exists(), "{} was touched", path.display());
        }
        // As it was before, with nothing of the daemon's own added.
        assert!(self.good.exists());
        // Nor does it need its patience to end.
        assert!(self.daemon.end_by(Signal::SIGTERM).success());
    }
}

fn host_uid(manifest: &Value) -> Option<u32> {
    manifest["hostUid"].as_u64().map(|uid| u32::try_from(uid).unwrap())
}

#[track_caller]
fn give_places(directory: &Path, uid: u32) {
    for place in ["workspace", "home", "tmp"] {
        chown(directory.join(place), Some(uid), Some(uid)).unwrap();
    }
}

#[track_caller]
fn write_manifest(directory: &Path, bytes: &[u8]) {
    fs::write(directory.join("manifest.json"), bytes).unwrap();
}

/// The control: what `directory` makes is adopted as long as nothing is wrong with it.
#[test]
fn a_faithful_copy_is_adopted() {
    let mut forgery = Forgery::begin();
    forgery.directory("copy");
    forgery.daemon.start_again();
    assert_eq!(forgery.daemon.sh("copy", "cat file").stdout, "precious");
}

#[test]
fn wrong_modes_and_names() {
    let mut forgery = Forgery::begin();
    for mode in [0o755, 0o777, 0o750, 0o1700, 0o2700, 0o4700] {
        let path = forgery.directory(&format!("mode-{mode:o}"));
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    // Only root's daemon makes such a one.
    if !nix::unistd::geteuid().is_root() {
        let path = forgery.directory("mode-711");
        fs::set_permissions(path, Permissions::from_mode(0o711)).unwrap();
        forgery.with("host-uid", |manifest| manifest["hostUid"] = json!(1_879_048_192));
    }
    forgery.with("copied", |manifest| manifest["directory"] = json!("noxrunner_sandbox_copied.x"));
    forgery.with("name", |manifest| manifest["sessionId"] = json!("another"));
    forgery.with("prefix", |manifest| manifest["sessionId"] = json!("prefixed"));
    forgery.with("cut", |manifest| manifest["sessionId"] = json!("cu"));
    forgery.assert_left_alone();
}

#[test]
fn manifests_that_say_nothing_sensible() {
    let mut forgery = Forgery::begin();
    for (id, bytes) in [
        ("empty", &b""[..]),
        ("garbage", b"\x00\xff{not json"),
        ("array", b"[]"),
        ("half", br#"{"version": 1, "sessionId": "ha"#),
        ("deep", &b"[".repeat(100_000)),
    ] {
        let path = forgery.directory(id);
        write_manifest(&path, bytes);
    }
    forgery.with("version-2", |manifest| manifest["version"] = json!(2));
    forgery.with("version-0", |manifest| manifest["version"] = json!(0));
    forgery.with("unknown-field", |manifest| manifest["mount"] = json!("/"));
    forgery.with("no-session", |manifest| {
        manifest.as_object_mut().unwrap().remove("sessionId");
    });
    forgery.with("bad-session", |manifest| manifest["sessionId"] = json!("a\u{0}b"));
    forgery.with("ttl-0", |manifest| manifest["ttlSeconds"] = json!(0));
    forgery.with("ttl-huge", |manifest| manifest["ttlSeconds"] = json!(2_592_001));
    forgery.with("negative", |manifest| manifest["expiresAtMs"] = json!(-1));
    // A policy check of create's, which nobody asked here: a variable that is none.
    forgery.with("env", |manifest| manifest["env"] = json!({"A=B": "c"}));
    forgery.with("env-nul", |manifest| manifest["env"] = json!({"A": "b\u{0}c"}));
    forgery.assert_left_alone();
}

#[test]
fn manifests_that_are_no_plain_files() {
    let mut forgery = Forgery::begin();
    let good = forgery.good.join("manifest.json");
    let mut without = |id: &str| {
        let path = forgery.directory(id).join("manifest.json");
        fs::remove_file(&path).unwrap();
        path
    };
    mkfifo(&without("fifo"), Mode::S_IRWXU).unwrap();
    symlink(&good, without("link")).unwrap();
    symlink("/dev/zero", without("link-to-device")).unwrap();
    symlink("manifest.json", without("loop")).unwrap();
    fs::create_dir(without("directory")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(without("socket")).unwrap();
    File::create(without("huge")).unwrap().set_len(1 << 40).unwrap();
    let unreadable = without("mode-000");
    fs::write(&unreadable, "garbage, should anybody be able to read it").unwrap();
    fs::set_permissions(unreadable, Permissions::from_mode(0o000)).unwrap();
    forgery.assert_left_alone();
    drop(socket);
}

/// Names that begin as ours do and are no directories are neither followed nor removed.
#[test]
fn names_that_are_no_directories() {
    let mut forgery = Forgery::begin();
    let base = forgery.daemon.base.clone();
    let outside = forgery.daemon.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::rename(forgery.directory("moved"), outside.join("real")).unwrap();
    forgery.forged.clear();
    let link = base.join("noxrunner_sandbox_moved.0123456789");
    symlink(outside.join("real"), &link).unwrap();
    forgery.forged.push(link);
    for name in ["file", "fifo"] {
        let path = base.join(format!("noxrunner_sandbox_{name}.0123456789"));
        match name {
            "file" => fs::write(&path, "bytes").unwrap(),
            _ => mkfifo(&path, Mode::S_IRWXU).unwrap(),
        }
    }
    forgery.assert_left_alone();
}

mod root_only {
    use super::*;

    #[test]
    fn what_belongs_to_somebody_else() {
        let mut forgery = Forgery::begin();
        let stranger = Some(54_321);
        let directory = forgery.directory("directory");
        chown(&directory, stranger, None).unwrap();
        let manifest = forgery.directory("manifest").join("manifest.json");
        chown(&manifest, stranger, None).unwrap();
        let old = forgery.directory("old");
        chown(&old, stranger, None).unwrap();
        let mut expired = forgery.manifest.clone();
        expired["sessionId"] = json!("old");
        expired["expiresAtMs"] = json!(1);
        write_manifest(&old, expired.to_string().as_bytes());
        forgery.assert_left_alone();
    }

    #[test]
    fn host_uids_that_are_not_the_sandboxes() {
        let mut forgery = Forgery::begin();
        let good = host_uid(&forgery.manifest).unwrap();
        for (id, uid) in [
            ("root", 0),
            ("ordinary", 1000),
            ("below", 1_879_048_191),
            ("above", 2_147_483_647),
            ("no-id", u32::MAX),
        ] {
            forgery.with(id, |manifest| manifest["hostUid"] = json!(uid));
            // Even where everything else agrees.
            if uid != u32::MAX {
                give_places(forgery.forged.last().unwrap(), uid);
            }
        }
        // In range, and not whose the files are.
        forgery.with("mismatch", |manifest| manifest["hostUid"] = json!(1_999_999_999));
        for place in ["workspace", "home", "tmp"] {
            let path = forgery.directory(&format!("roots-{place}"));
            chown(path.join(place), Some(0), Some(0)).unwrap();
            let path = forgery.directory(&format!("group-{place}"));
            chown(path.join(place), None, Some(0)).unwrap();
        }
        forgery.with("text", |manifest| manifest["hostUid"] = json!("1879048192"));
        assert_eq!(forgery.good.join("workspace").metadata().unwrap().uid(), good);
        forgery.assert_left_alone();
    }

    #[test]
    fn two_with_one_host_uid() {
        let mut forgery = Forgery::begin();
        let good = host_uid(&forgery.manifest).unwrap();
        forgery.with("twin", |manifest| manifest["hostUid"] = json!(good));
        give_places(&forgery.forged[0], good);
        forgery.daemon.start_again();
        let list = forgery.daemon.call("sandbox.list", json!({})).unwrap();
        // Which of them is found first, nobody knows.
        assert_eq!(list["sandboxes"].as_array().unwrap().len(), 1, "{list}");
        let log = forgery.daemon.log();
        assert!(log.contains(&format!("{good} is another sandbox's")), "{log}");
        for path in [&forgery.good, &forgery.forged[0]] {
            assert!(path.join("workspace/file").exists());
        }
    }

    /// What a root daemon of an earlier version made: all of it root's, and no host uid in its manifest.
    #[test]
    fn what_an_earlier_version_made_keeps_its_files_until_its_time_is_over() {
        let mut forgery = Forgery::begin();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = u64::try_from(now.as_millis()).unwrap();
        let mut older = |id: &str, expires_in: u64| {
            forgery.with(id, |manifest| {
                manifest.as_object_mut().unwrap().remove("hostUid");
                manifest["expiresAtMs"] = json!(now + expires_in);
            });
            let path = forgery.forged.pop().unwrap();
            give_places(&path, 0);
            path
        };
        let (gone, brief, long) = (older("gone", 0), older("brief", 8000), older("long", 800_000));
        forgery.forged.push(long);
        forgery.daemon.start_again();
        let mode = brief.metadata().unwrap().mode() & 0o7777;
        assert!(mode == 0o700 && brief.join("workspace/file").exists());
        eventually("the expired one goes", SOON, || !gone.exists());
        eventually("the other goes in its time", SOON, || !brief.exists());
        forgery.daemon.end_by(Signal::SIGKILL);
        forgery.assert_left_alone();
    }
}
