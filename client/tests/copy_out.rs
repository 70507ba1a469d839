//! `cp` out of a sandbox.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::Fake;
use common::archive::{archive, file, raw, run_in, tree, usual};
use serde_json::{Value, json};
use tar::EntryType;

/// A sandbox where `/workspace/d` is a directory, `/workspace/f` a file, and links to both.
fn rpc(request: &Value) -> Value {
    assert_eq!(request["method"], "file.stat");
    let (kind, target) = match request["params"]["path"].as_str().unwrap() {
        "/workspace" | "/workspace/d" => ("directory", None),
        "/workspace/f" => ("file", None),
        "/workspace/to-d" => ("symlink", Some("d")),
        "/workspace/to-f" => ("symlink", Some("/workspace/f")),
        path => {
            return json!({"error": {"code": -32043, "message": format!("no file {path}"),
                "data": {"kind": "fileNotFound"}}});
        }
    };
    let mut stat = json!({"name": "../../x", "type": kind, "size": 0, "mode": 0o750,
        "modifiedAt": "2026-01-01T00:00:00Z", "redirected": false});
    if let Some(target) = target {
        stat["target"] = target.into();
    }
    json!({ "result": stat })
}

fn sandbox() -> Fake {
    Fake::new(rpc, |request| {
        if request.head.contains("src=/workspace/f&") {
            request.archive(&archive(&[file("f", 0o751, "hello")]));
        } else {
            request.archive(&usual());
        }
    })
}

#[test]
fn a_copy_out_goes_where_dockers_goes() {
    let fake = sandbox();
    let sub = |at: &str| [at, "/sub", "/sub/f", "/to-f"].map(|part| part.to_owned());
    let below = |at: &str| {
        let mut all: Vec<String> = sub("").into_iter().map(|part| format!("{at}{part}")).collect();
        all.push("here".to_owned());
        all.push("old".to_owned());
        all.sort();
        all.dedup();
        all
    };
    let one = |name: &str| {
        let mut all = vec!["here".to_owned(), "old".to_owned(), name.to_owned()];
        all.sort();
        all.dedup();
        all
    };
    for (src, dst, expected) in [
        ("s:f", "here", one("here/f")),
        ("s:f", "here/", one("here/f")),
        ("s:/workspace/f", ".", one("f")),
        ("s:f", "./new", one("new")),
        ("s:f", "old", one("old")),
        ("s:to-f", "here", one("here/to-f")),
        ("s:d", "here", below("here/d")),
        ("s:d/", "new", below("new")),
        ("s:d", "new/", below("new")),
        ("s:to-d", "here", below("here/to-d")),
        ("s:d/.", "here", below("here")),
        ("s:d/.", "new", below("new")),
        ("s:", "new", below("new")),
        ("s:", "here", below("here/workspace")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("here")).unwrap();
        fs::write(dir.path().join("old"), "old").unwrap();
        let (status, stdout, stderr) = run_in(&dir, &fake, &["cp", src, dst]);
        assert_eq!((status, stdout.as_str()), (0, ""), "{src} {dst}: {stderr}");
        assert_eq!(tree(dir.path()), expected, "{src} {dst}");
        if dst == "new" {
            assert_eq!(dir.path().join("new").metadata().unwrap().mode() & 0o7777, 0o750);
        }
        if dst == "old" {
            assert_eq!(fs::read_to_string(dir.path().join("old")).unwrap(), "hello");
        }
    }
    for (src, dst, part) in [
        ("s:f", "new/", "File not found"),
        ("s:f", "new/f", "File not found"),
        ("s:f", "old/", "Not a directory"),
        ("s:d", "old", "Not a directory"),
        ("s:absent", ".", "no /workspace/absent"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), "old").unwrap();
        let (status, _, stderr) = run_in(&dir, &fake, &["cp", src, dst]);
        assert_eq!(status, 1, "{src} {dst}");
        assert!(stderr.contains(part), "{src} {dst}: {stderr}");
        assert_eq!(tree(dir.path()), ["old"]);
    }
}

#[test]
fn one_file_that_was_asked_for_is_all_that_is_taken() {
    for members in [
        vec![file("f", 0o644, "x"), file("extra", 0o644, "x")],
        vec![raw("f/", EntryType::Directory, "", 0o755, b""), file("f/x", 0o644, "x")],
        vec![],
    ] {
        let bytes = archive(&members);
        let fake = Fake::new(rpc, move |request| request.archive(&bytes));
        let dir = tempfile::tempdir().unwrap();
        let (status, _, stderr) = run_in(&dir, &fake, &["cp", "s:f", "."]);
        assert_eq!(status, 1);
        assert!(stderr.contains("not that of one file"), "{stderr}");
        assert_eq!(tree(dir.path()), [""; 0]);
    }
}

#[test]
fn a_copy_to_standard_output_is_an_archive() {
    let (status, stdout, stderr) = sandbox().run(&["cp", "s:d", "-"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout == usual());
    assert_eq!(sandbox().run(&["cp", "s:d", "-", "--json"]).0, 2);
}
