//! Links lead where they lead inside, and nowhere else.

use std::fs;
use std::os::unix::fs::symlink;

use noxrunner_tests::{TestDaemon, Tier, in_both_tiers};
use serde_json::{Value, json};

use super::{call, inside, refused, with_sandbox};

in_both_tiers!(nothing_outside_is_read_or_touched);

fn nothing_outside_is_read_or_touched(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    let outside = daemon.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let workspace = daemon.workspace("s");
    symlink(&outside, workspace.join("dir")).unwrap();
    symlink(outside.join("secret"), workspace.join("file")).unwrap();
    symlink("../../../outside", workspace.join("relative")).unwrap();
    symlink("../manifest.json", workspace.join("manifest")).unwrap();
    symlink("/proc/self/root", workspace.join("magic")).unwrap();
    // The controls: for anybody else they lead there.
    for link in ["dir/secret", "file", "relative/secret", "magic/etc/passwd", "manifest"] {
        assert!(fs::read(workspace.join(link)).is_ok_and(|read| !read.is_empty()), "{link}");
    }
    let read = |path: &str| refused(&daemon, "file.read", json!({"path": path}));
    for path in ["relative/secret", "magic/etc/passwd", "manifest"] {
        let (kind, message) = read(path);
        assert!(kind == "pathDenied" && !message.contains("outside"), "{path}: {kind}: {message}");
    }
    // In a mount tree they name something below the sandbox's own /tmp, where it has no such file.
    let own_tmp = daemon.tier == Tier::Full && outside.starts_with("/tmp");
    let kind = if own_tmp { "fileNotFound" } else { "pathDenied" };
    for path in ["dir/secret", "file"] {
        assert_eq!(read(path).0, kind, "{path}");
    }
    let deeds: [(&str, Value); 6] = [
        ("file.write", json!({"path": "relative/secret", "data": "x"})),
        ("file.write", json!({"path": "relative/new", "data": "x"})),
        ("file.list", json!({"path": "relative"})),
        ("file.mkdir", json!({"path": "relative/new"})),
        ("file.remove", json!({"path": "relative/secret"})),
        ("file.rename", json!({"from": "relative/secret", "to": "stolen"})),
    ];
    for (method, params) in deeds {
        let (kind, message) = refused(&daemon, method, params.clone());
        assert_eq!(kind, "pathDenied", "{method} {params}: {message}");
    }
    // Of a link itself, the link.
    call(&daemon, "file.write", json!({"path": "relative", "data": "now a file"}));
    call(&daemon, "file.remove", json!({"path": "dir", "recursive": true}));
    call(&daemon, "file.rename", json!({"from": "file", "to": "renamed"}));
    assert_eq!(fs::read_link(workspace.join("renamed")).unwrap(), outside.join("secret"));
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn links_made_inside_lead_where_commands_see_them_lead() {
    let daemon = with_sandbox(TestDaemon::of_tier(Tier::Full));
    inside(
        &daemon,
        "mkdir real; echo 1 > real/f; ln -s /workspace/real/f absolute; ln -s real dir; \
         echo 2 > /tmp/t; ln -s /tmp/t to_tmp; ln -s ../tmp across; ln -s /workspace/dir ~/home",
    );
    for (path, data) in [
        ("absolute", "1\n"),
        ("dir/f", "1\n"),
        ("to_tmp", "2\n"),
        ("across/t", "2\n"),
        ("/home/nox/home/f", "1\n"),
    ] {
        assert_eq!(call(&daemon, "file.read", json!({"path": path}))["data"], data, "{path}");
    }
    call(&daemon, "file.write", json!({"path": "across/new/x", "data": "3"}));
    assert_eq!(inside(&daemon, "cat /tmp/new/x"), "3");
}
