//! How much an archive may bring.

use std::fs;

use noxrunner_tests::TestDaemon;
use noxrunner_tests::archive::{Door, built};
use noxrunner_tests::meanwhile::Meanwhile;
use tempfile::TempDir;

use super::{listing, nothing_staged, with_sandbox};

fn with_policy(policy: &str) -> (TestDaemon, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    fs::write(&file, policy).unwrap();
    (TestDaemon::start_with(&["--policy", file.to_str().unwrap()]), dir)
}

#[test]
fn a_bomb_ends_at_the_policys_bound() {
    let (daemon, _policy) = with_policy("max_upload = \"16Mi\"");
    let (daemon, workspace) = with_sandbox(daemon);
    fs::write(workspace.join("before"), "kept").unwrap();
    // 1 GB of zeros in a megabyte, as one file and as many.
    let one = "class Z:\n    def read(self, n): return bytes(n)\ni = tarfile.TarInfo('z')\n\
        i.size = 1 << 30\nt.addfile(i, Z())";
    let many = "z = bytes(1 << 20)\nfor n in range(1024): add('z%d' % n, z)";
    // Behind the end of the archive, too.
    let behind = "add('x', b'x')\nt.fileobj.write(bytes(1 << 28))";
    for code in [one, many, behind] {
        let archive = built("w:gz", code);
        assert!(archive.len() < 2 << 20);
        let other = Meanwhile::of(&daemon);
        for door in Door::BOTH {
            let refused = door.upload(&daemon, "s", "/workspace", &archive);
            let (kind, message) = refused.unwrap_err();
            assert_eq!(kind, "payloadTooLarge", "{message}");
            assert!(message.contains("16777216"), "{message}");
        }
        other.noticed_nothing();
        assert_eq!(listing(&workspace), ["before: kept"]);
        nothing_staged(&workspace);
    }
    let fits = built("w:gz", "add('z', bytes(15 << 20))");
    assert_eq!(Door::Http.upload(&daemon, "s", "/workspace", &fits).unwrap()["written"], 1);
}

#[test]
fn an_upload_leaves_room_on_the_disk() {
    let (daemon, _policy) = with_policy("keep_free = \"1000Ti\"");
    let (daemon, workspace) = with_sandbox(daemon);
    for door in Door::BOTH {
        let archive = built("w", "add('x', b'x')");
        let (kind, message) = door.upload(&daemon, "s", "/workspace", &archive).unwrap_err();
        assert_eq!(kind, "storageFull", "{message}");
    }
    assert_eq!(listing(&workspace), [""; 0]);
    let policy = daemon.call("policy.get", serde_json::json!({})).unwrap();
    assert_eq!(policy["keepFreeBytes"], 1000_u64 << 40);
    assert_eq!(policy["maxUploadBytes"], 8_u64 << 30);
}

#[test]
fn a_download_that_does_not_fit_an_answer_goes_over_http() {
    let (daemon, _) = with_sandbox(TestDaemon::start());
    let made = daemon.sh("s", "head -c 12582912 /dev/urandom > big; echo 1 > small");
    assert_eq!(made.exit_code, 0);
    let params = |src: &str| serde_json::json!({"sessionId": "s", "src": src});
    let error = daemon.call("file.download", params("big")).unwrap_err();
    assert_eq!(error.kind.name(), "payloadTooLarge");
    assert!(error.hint.unwrap().contains("files/download"));
    daemon.call("file.download", params("small")).unwrap();
    let (status, body) =
        noxrunner_tests::archive::http_download(&daemon, "s", "src=big&format=tar").unwrap();
    assert!(status == 200 && body.len() > 12 << 20);
}

mod root_only {
    use std::path::PathBuf;
    use std::process::Command;

    use noxrunner_tests::run;
    use serde_json::json;

    use super::*;

    /// Starts what follows with a small file system over its base directory. Before it: what
    /// sandboxes see of the mounts is looked at once.
    const ON_A_SMALL_DISK: &str = "for a; do [ \"$p\" = --base-dir ] && b=$a; p=$a; done; \
        mount -t tmpfs -o size=8m,nr_inodes=500 none \"$b\" && exec \"$@\"";

    /// That file system, taken away again.
    struct Small(PathBuf);

    impl Drop for Small {
        fn drop(&mut self) {
            let gone = run(Command::new("umount").arg("--lazy").arg(&self.0));
            assert!(gone.status.success() || std::thread::panicking(), "{gone:?}");
        }
    }

    #[test]
    fn a_disk_that_gets_full_is_said_and_nothing_is_half_done() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policy.toml");
        fs::write(&file, "keep_free = \"1\"").unwrap();
        let wrapper = ["sh", "-c", ON_A_SMALL_DISK, "-"];
        let arguments = ["--policy", file.to_str().unwrap()];
        let daemon = TestDaemon::start_under(&wrapper, &arguments);
        let small = Small(daemon.base.clone());
        let (daemon, workspace) = with_sandbox(daemon);
        fs::write(workspace.join("before"), "kept").unwrap();
        // Too many bytes, and too many files.
        for code in ["add('x', os.urandom(9 << 20))", "for n in range(600): add('d/%d' % n)"] {
            let archive = built("w", code);
            for door in Door::BOTH {
                if door == Door::Rpc && archive.len() > 3 << 20 {
                    continue;
                }
                let (kind, message) = door.upload(&daemon, "s", ".", &archive).unwrap_err();
                assert_eq!(kind, "storageFull", "{message}");
                assert_eq!(listing(&workspace), ["before: kept"]);
                nothing_staged(&workspace);
            }
        }
        assert_eq!(daemon.sh("s", "head -c 7000000 /dev/zero > fill").exit_code, 0);
        let data = "y".repeat(3 << 20);
        for append in [false, true] {
            let params =
                json!({"sessionId": "s", "path": "before", "data": data, "append": append});
            let error = daemon.call("file.write", params).unwrap_err();
            assert_eq!(error.kind.name(), "storageFull", "{error}");
            assert_eq!(fs::read_to_string(workspace.join("before")).unwrap(), "kept");
        }
        nothing_staged(&workspace);
        daemon.delete("s");
        drop(small);
    }
}
