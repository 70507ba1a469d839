//! Making, removing and renaming.

use std::fs;
use std::os::unix::fs::MetadataExt;

use noxrunner_tests::{TestDaemon, in_both_tiers};
use serde_json::json;

use super::{call, inside, refused, with_sandbox};

in_both_tiers!(directories_are_made_for_the_sandboxs_own_user, entries_move_from_place_to_place);

fn directories_are_made_for_the_sandboxs_own_user(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    assert_eq!(call(&daemon, "file.mkdir", json!({"path": "a/b/c"})), json!({"redirected": false}));
    // Once more will do.
    call(&daemon, "file.mkdir", json!({"path": "a/b/c"}));
    assert_eq!(inside(&daemon, "stat -c '%U %a' a a/b a/b/c; touch a/b/c/x").lines().count(), 3);
    let owner = fs::metadata(daemon.workspace("s")).unwrap().uid();
    for made in ["a", "a/b", "a/b/c"] {
        let meta = fs::metadata(daemon.workspace("s").join(made)).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (owner, 0o755), "{made}");
    }
    assert_eq!(call(&daemon, "file.mkdir", json!({"path": "/opt/x"}))["redirected"], true);
    assert!(daemon.workspace("s").join("x").is_dir());
    inside(&daemon, "touch file");
    for (params, kind, part) in [
        (json!({"path": "a", "parents": false}), "conflict", "exists already"),
        (json!({"path": "/workspace", "parents": false}), "conflict", "exists already"),
        (json!({"path": "none/b", "parents": false}), "fileNotFound", "/workspace/none"),
        (json!({"path": "file"}), "conflict", "not a directory"),
        (json!({"path": "file/x"}), "conflict", "not a directory"),
        (json!({}), "invalidArgument", "path"),
    ] {
        let (got, message) = refused(&daemon, "file.mkdir", params.clone());
        assert!(got == kind && message.contains(part), "{params}: {got}: {message}");
    }
    call(&daemon, "file.mkdir", json!({"path": "a/new", "parents": false}));
}

#[test]
fn removing_takes_one_entry_or_all_that_is_in_it() {
    let daemon = with_sandbox(TestDaemon::start());
    inside(
        &daemon,
        "mkdir -p full/sub empty kept; touch full/f full/sub/f file kept/f; ln -s kept link; \
         ln -s ../kept full/link; mkfifo pipe",
    );
    for path in ["file", "empty", "link", "pipe"] {
        call(&daemon, "file.remove", json!({"path": path}));
    }
    assert_eq!(inside(&daemon, "ls"), "full\nkept\n");
    let (kind, message) = refused(&daemon, "file.remove", json!({"path": "full"}));
    assert!(kind == "conflict" && message.contains("not empty"), "{message}");
    assert_eq!(inside(&daemon, "ls full"), "f\nlink\nsub\n");
    call(&daemon, "file.remove", json!({"path": "full", "recursive": true}));
    assert_eq!(inside(&daemon, "ls; ls kept"), "kept\nf\n");
    assert_eq!(refused(&daemon, "file.remove", json!({"path": "full"})).0, "fileNotFound");
    for place in ["/workspace", "/tmp", "/home/nox", "", "/"] {
        let (kind, message) =
            refused(&daemon, "file.remove", json!({"path": place, "recursive": true}));
        assert_eq!(kind, "pathDenied", "{place}: {message}");
    }
    assert_eq!(inside(&daemon, "ls"), "kept\n");
    // A wide and deep one, with directories that forbid it.
    let script = "import os\nfor i in range(40):\n os.makedirs(f'big/{i}/' + '/'.join('d' * 100))\n \
        os.close(os.open(f'big/{i}/d/f', os.O_CREAT | os.O_WRONLY))\nos.chmod('big/3/d', 0)\n\
        os.chmod('big', 0o500)";
    assert_eq!(daemon.exec("s", &["python3", "-c", script]).exit_code, 0);
    call(&daemon, "file.remove", json!({"path": "big", "recursive": true}));
    assert_eq!(inside(&daemon, "ls"), "kept\n");
    let staging = daemon.workspace("s").with_file_name("staging");
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
}

fn entries_move_from_place_to_place(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    let workspace = daemon.workspace("s");
    inside(&daemon, "mkdir d other; echo 1 > d/f; echo 2 > g; ln -s nothing link");
    let rename = |from: &str, to: &str| {
        call(&daemon, "file.rename", json!({"from": from, "to": to}))["redirected"] == true
    };
    assert!(!rename("d", "/tmp/d2"));
    assert_eq!(fs::read_to_string(workspace.with_file_name("tmp").join("d2/f")).unwrap(), "1\n");
    assert!(!rename("/tmp/d2/f", "g"));
    assert_eq!(fs::read_to_string(workspace.join("g")).unwrap(), "1\n");
    assert!(!rename("link", "other/link"));
    assert_eq!(fs::read_link(workspace.join("other/link")).unwrap().as_os_str(), "nothing");
    assert!(rename("g", "/etc/g2"));
    assert_eq!(fs::read_to_string(workspace.join("g2")).unwrap(), "1\n");
    for (from, to, kind, part) in [
        ("none", "x", "fileNotFound", "/workspace/none"),
        ("g2", "none/x", "fileNotFound", "/workspace/none"),
        ("g2", "other", "conflict", "is a directory"),
        ("other", "g2", "conflict", "not a directory"),
        ("other", "other/sub", "invalidArgument", "into itself"),
        ("/tmp/d2", "other", "conflict", "not empty"),
        ("/workspace", "/tmp/w", "pathDenied", "/workspace"),
        ("g2", "/tmp", "pathDenied", "/tmp"),
    ] {
        let (got, message) = refused(&daemon, "file.rename", json!({"from": from, "to": to}));
        assert!(got == kind && message.contains(part), "{from} {to}: {got}: {message}");
    }
    assert_eq!(inside(&daemon, "ls; cat g2"), "g2\nother\n1\n");
}
