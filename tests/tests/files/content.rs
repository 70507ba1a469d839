//! Reading and writing a file.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use noxrunner_tests::{TestDaemon, in_both_tiers};
use serde_json::json;

use super::{call, inside, refused, with_sandbox};

fn what_is_written_is_what_commands_read_and_the_other_way_round(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    let written =
        call(&daemon, "file.write", json!({"path": "new/dir/a b.txt", "data": "grüße\n"}));
    assert_eq!(written, json!({"size": 8, "redirected": false}));
    assert_eq!(inside(&daemon, "cat 'new/dir/a b.txt'"), "grüße\n");
    assert_eq!(inside(&daemon, "stat -c %a new new/dir 'new/dir/a b.txt'"), "755\n755\n644\n");
    // Its user can go on with it.
    inside(&daemon, "echo more >> 'new/dir/a b.txt'; mv new moved; touch moved/dir/x");
    let read = call(&daemon, "file.read", json!({"path": "/workspace/moved/dir/a b.txt"}));
    assert_eq!(read["data"], "grüße\nmore\n");
    assert_eq!(
        (&read["size"], &read["eof"], &read["bytes"]),
        (&json!(13), &json!(true), &json!(13))
    );
    // Bytes that are no text.
    call(&daemon, "file.write", json!({"path": "b", "data": "/wD+", "encoding": "base64"}));
    assert_eq!(inside(&daemon, "od -An -tx1 b").trim(), "ff 00 fe");
    let read = call(&daemon, "file.read", json!({"path": "b", "encoding": "base64"}));
    assert_eq!((&read["data"], &read["encoding"]), (&json!("/wD+"), &json!("base64")));
    assert_eq!(call(&daemon, "file.read", json!({"path": "b"}))["data"], "\u{fffd}\0\u{fffd}");
    // Every place, by its name inside.
    for place in ["/tmp", "/home/nox"] {
        call(&daemon, "file.write", json!({"path": format!("{place}/f"), "data": place}));
    }
    if daemon.tier == noxrunner_tests::Tier::Full {
        assert_eq!(inside(&daemon, "cat /tmp/f ~/f"), "/tmp/home/nox");
    } else {
        assert_eq!(inside(&daemon, "cat $TMPDIR/f ~/f"), "/tmp/home/nox");
    }
}

in_both_tiers!(
    what_is_written_is_what_commands_read_and_the_other_way_round,
    a_path_outside_is_redirected_and_said,
);

fn a_path_outside_is_redirected_and_said(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    let outside = daemon.dir.path().join("outside");
    fs::write(&outside, "control").unwrap();
    for path in ["/etc/motd", "../../motd", "/workspace/../motd"] {
        let written = call(&daemon, "file.write", json!({"path": path, "data": path}));
        assert_eq!(written["redirected"], true, "{path}");
        let read = call(&daemon, "file.read", json!({"path": "motd"}));
        assert_eq!((&read["data"], &read["redirected"]), (&json!(path), &json!(false)));
        let read = call(&daemon, "file.read", json!({"path": path}));
        assert_eq!((&read["data"], &read["redirected"]), (&json!(path), &json!(true)));
    }
    assert!(!fs::read_to_string("/etc/passwd").unwrap().is_empty());
    let (kind, message) = refused(&daemon, "file.read", json!({"path": "/etc/passwd"}));
    assert_eq!(kind, "fileNotFound");
    assert!(message.contains("/workspace/passwd"), "{message}");
    assert_eq!(fs::read_to_string(outside).unwrap(), "control");
}

#[test]
fn ranges_make_up_the_whole() {
    let daemon = with_sandbox(TestDaemon::start());
    let path = daemon.workspace("s").join("big");
    // Characters of one to four bytes, so that ranges cut some in two.
    let text: String = "aé日😀\n".repeat(120_000);
    fs::write(&path, &text).unwrap();
    if nix::unistd::geteuid().is_root() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    for (length, encoding) in [(Some(1000), "utf8"), (Some(7), "utf8"), (None, "utf8")] {
        let mut read = String::new();
        let mut offset = 0;
        loop {
            let mut params = json!({"path": "big", "offset": offset, "encoding": encoding});
            if let Some(length) = length {
                params["length"] = json!(length);
            }
            let range = call(&daemon, "file.read", params);
            let bytes = range["bytes"].as_u64().unwrap();
            assert!(bytes > 0 && bytes <= length.unwrap_or(1 << 20), "{bytes}");
            assert_eq!(range["size"], text.len());
            let data = range["data"].as_str().unwrap();
            assert_eq!(data.len() as u64, bytes, "a character was cut at {offset}");
            read.push_str(data);
            offset += bytes;
            // Small ranges of all of it would take long: the beginning will do.
            if range["eof"] == true || length.is_some() && offset > 20_000 {
                break;
            }
        }
        assert!(text.starts_with(&read) && (length.is_some() || read == text));
    }
    let beyond = call(&daemon, "file.read", json!({"path": "big", "offset": 1_u64 << 40}));
    assert_eq!((&beyond["data"], &beyond["eof"]), (&json!(""), &json!(true)));
    let none = call(&daemon, "file.read", json!({"path": "big", "length": 0}));
    assert_eq!((&none["data"], &none["eof"]), (&json!(""), &json!(false)));
    for (length, encoding) in [((1 << 20) + 1, "utf8"), ((4 << 20) + 1, "base64")] {
        let params = json!({"path": "big", "length": length, "encoding": encoding});
        let (kind, message) = refused(&daemon, "file.read", params);
        assert!(kind == "invalidArgument" && message.contains("length is at most"), "{message}");
    }
    let most = json!({"path": "big", "length": 4 << 20, "encoding": "base64"});
    assert_eq!(call(&daemon, "file.read", most)["bytes"], text.len());
}

#[test]
fn a_file_is_replaced_whole_and_keeps_its_mode() {
    let daemon = with_sandbox(TestDaemon::start());
    let workspace = daemon.workspace("s");
    inside(&daemon, "echo old > f; python3 -c 'import os; os.chmod(\"f\", 0o750)'; ln f other");
    let inode = fs::metadata(workspace.join("f")).unwrap().ino();
    call(&daemon, "file.write", json!({"path": "f", "data": "new"}));
    let meta = fs::metadata(workspace.join("f")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.ino() == inode), (0o750, false));
    // Who has the old one open, or another name of it, goes on with the old one.
    assert_eq!(fs::read_to_string(workspace.join("other")).unwrap(), "old\n");
    for mode in [0o400, 0o755] {
        call(&daemon, "file.write", json!({"path": "m", "data": "", "mode": mode}));
        assert_eq!(fs::metadata(workspace.join("m")).unwrap().mode() & 0o7777, mode);
    }
    let (kind, message) =
        refused(&daemon, "file.write", json!({"path": "m", "data": "x", "mode": 0o4755}));
    assert!(kind == "invalidArgument" && message.contains("511"), "{kind}: {message}");
    assert_eq!(fs::read(workspace.join("m")).unwrap(), b"");
    // Nothing half done is left anywhere.
    let staging = workspace.with_file_name("staging");
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
}

#[test]
fn appending_adds_and_follows_links_that_stay_inside() {
    let daemon = with_sandbox(TestDaemon::start());
    let append = |path: &str| {
        call(&daemon, "file.write", json!({"path": path, "data": "x\n", "append": true}))
    };
    assert_eq!(append("log")["size"], 2);
    assert_eq!(append("log")["size"], 4);
    inside(&daemon, "ln -s log link; ln -s /etc/passwd out");
    assert_eq!(append("link")["size"], 6);
    assert_eq!(inside(&daemon, "cat log; readlink link"), "x\nx\nx\nlog\n");
    let (kind, _) =
        refused(&daemon, "file.write", json!({"path": "out", "data": "x", "append": true}));
    assert_eq!(kind, "pathDenied");
    // Without it the link itself is replaced.
    call(&daemon, "file.write", json!({"path": "out", "data": "x"}));
    assert_eq!(inside(&daemon, "cat out; test ! -L out"), "x");
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_changes() {
    let daemon = with_sandbox(TestDaemon::start());
    inside(&daemon, "mkdir d; echo keep > f");
    for (method, params, kind, part) in [
        ("file.read", json!({}), "invalidArgument", "path"),
        ("file.read", json!({"path": "f", "pathBase64": "Zg=="}), "invalidArgument", "not both"),
        ("file.read", json!({"pathBase64": "%"}), "invalidArgument", "base64"),
        ("file.read", json!({"path": "a\u{0}b"}), "invalidArgument", "NUL"),
        ("file.read", json!({"path": "f", "offset": -1}), "invalidArgument", "offset"),
        ("file.read", json!({"path": "f", "ofset": 1}), "invalidArgument", "ofset"),
        ("file.read", json!({"path": "none"}), "fileNotFound", "/workspace/none"),
        ("file.read", json!({"path": "f/x"}), "conflict", "/workspace/f/x"),
        ("file.read", json!({"path": "d"}), "conflict", "is a directory"),
        ("file.read", json!({"path": ""}), "conflict", "is a directory"),
        ("file.write", json!({"path": "d", "data": "x"}), "conflict", "is a directory"),
        ("file.write", json!({"path": "/workspace", "data": "x"}), "pathDenied", "/workspace"),
        ("file.write", json!({"path": "f/x", "data": "x"}), "conflict", "not a directory"),
        ("file.write", json!({"path": "f"}), "invalidArgument", "data"),
        (
            "file.write",
            json!({"path": "f", "data": "%", "encoding": "base64"}),
            "invalidArgument",
            "data is not base64",
        ),
        ("file.write", json!({"path": "x".repeat(256), "data": ""}), "invalidArgument", "too long"),
    ] {
        let (got, message) = refused(&daemon, method, params.clone());
        assert!(got == kind && message.contains(part), "{method} {params}: {got}: {message}");
    }
    assert_eq!(inside(&daemon, "cat f; ls"), "keep\nd\nf\n");
    let (kind, _) = daemon.refused("file.read", json!({"sessionId": "none", "path": "f"}));
    assert_eq!(kind, "sandboxNotFound");
}
