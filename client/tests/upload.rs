//! `upload` and `cp` into a sandbox, against a daemon that follows a script.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::channel;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Fake, finished, storage_full, uploaded};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The members of an archive: what each is (as tar's type flag), with what bits.
fn members(archive: &[u8]) -> BTreeMap<String, (u8, u32)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let (header, path) = (entry.header(), entry.path().unwrap());
        let path = path.to_str().unwrap().trim_end_matches('/').to_owned();
        (path, (header.entry_type().as_byte(), header.mode().unwrap() & 0o7777))
    });
    entries.collect()
}

/// A sandbox with a directory, a file and links, as `file.stat` sees it.
fn stat(path: &str) -> Value {
    let entry = |kind: &str, target: Option<&str>, redirected: bool| {
        let mut stat = json!({"name": "x", "type": kind, "size": 0, "mode": 0o750,
            "modifiedAt": "2026-01-01T00:00:00Z", "redirected": redirected});
        if let Some(target) = target {
            stat["target"] = target.into();
        }
        json!({"result": stat})
    };
    match path {
        "/workspace" | "/workspace/d" => entry("directory", None, false),
        "/workspace/f" => entry("file", None, false),
        "/workspace/link" => entry("symlink", Some("d"), false),
        "/workspace/dangling" => entry("symlink", Some("nowhere"), false),
        "/workspace/loop" => entry("symlink", Some("loop"), false),
        "/" => entry("directory", None, true),
        _ => json!({"error": {"code": -32043, "message": format!("no file {path}"),
            "data": {"kind": "fileNotFound"}}}),
    }
}

fn rpc(request: &Value) -> Value {
    match request["method"].as_str().unwrap() {
        "file.stat" => stat(request["params"]["path"].as_str().unwrap()),
        "file.upload" => json!({"result": uploaded(1)}),
        other => panic!("{other}"),
    }
}

/// Files by name, a directory `tree` with all kinds of things and one `big` file.
fn local() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("f"), "hello").unwrap();
    fs::set_permissions(at("f"), Permissions::from_mode(0o751)).unwrap();
    symlink("f", at("to-f")).unwrap();
    fs::create_dir_all(at("tree/empty")).unwrap();
    fs::write(at("tree/in"), "x").unwrap();
    symlink("in", at("tree/to-in")).unwrap();
    fs::write(at("big"), vec![7; 3_000_000]).unwrap();
    fs::create_dir(at("other")).unwrap();
    fs::write(at("other/f"), "").unwrap();
    dir
}

/// The dest and the members of what was uploaded in a line.
fn in_a_line(fake: &Fake) -> (String, BTreeMap<String, (u8, u32)>) {
    let seen = std::iter::from_fn(|| fake.seen.try_recv().ok());
    let upload = seen.into_iter().find(|seen| seen["method"] == "file.upload").unwrap();
    let archive = STANDARD.decode(upload["archive"].as_str().unwrap()).unwrap();
    (upload["dest"].as_str().unwrap().to_owned(), members(&archive))
}

fn run_in(dir: &TempDir, fake: &Fake, args: &[&str]) -> (i32, String, String) {
    let output = fake.noxctl(args).current_dir(dir).output().unwrap();
    let (status, stdout, stderr) = finished(output);
    (status, String::from_utf8(stdout).unwrap(), stderr)
}

fn names(members: &BTreeMap<String, (u8, u32)>) -> Vec<&str> {
    members.keys().map(String::as_str).collect()
}

#[test]
fn a_few_files_go_in_a_line() {
    let (dir, fake) = (local(), Fake::new(rpc, |request| panic!("{}", request.head)));
    let (status, stdout, stderr) =
        run_in(&dir, &fake, &["upload", "s", "f", "to-f", "tree/in", "--dest", "sub"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "✓ Uploaded 3 file(s) to /workspace\n");
    let (dest, members) = in_a_line(&fake);
    assert_eq!((dest.as_str(), names(&members)), ("sub", vec!["f", "in", "to-f"]));
    // The second is the link's file: as a file of its own or as another name of the first.
    assert_eq!(members["f"], (b'0', 0o751));
    assert!([b'0', b'1'].contains(&members["to-f"].0), "{members:?}");
}

#[test]
fn a_directory_is_uploaded_with_all_that_is_in_it() {
    let (dir, fake) = (local(), Fake::new(rpc, |request| panic!("{}", request.head)));
    let (status, stdout, _) = run_in(&dir, &fake, &["upload", "s", "--dir", "tree", "--json"]);
    assert_eq!(status, 0);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap(), uploaded(1));
    let (dest, members) = in_a_line(&fake);
    assert_eq!((dest.as_str(), names(&members)), ("/workspace", vec!["empty", "in", "to-in"]));
    assert_eq!(["empty", "in", "to-in"].map(|name| members[name].0), *b"502");
}

#[test]
fn what_is_larger_is_streamed() {
    let (tell, told) = channel();
    let fake = Fake::new(rpc, move |request| {
        tell.send(request.body().unwrap()).unwrap();
        request.json(200, &uploaded(1));
    });
    let dir = local();
    let (status, stdout, stderr) = run_in(&dir, &fake, &["upload", "s", "big", "f"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "✓ Uploaded 2 file(s) to /workspace\n");
    let archive = told.recv().unwrap();
    assert_eq!(names(&members(&archive)), ["big", "f"]);
    assert!(archive.windows(1000).any(|window| window == [7; 1000]));
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    let (dir, fake) = (local(), Fake::new(rpc, |_| ()));
    fs::create_dir(dir.path().join("nothing")).unwrap();
    for (args, status, part) in [
        (&["f", "other/f"][..], 2, "last name"),
        (&["f", "./f"], 2, "last name"),
        (&["f", "tree"], 1, "--dir"),
        (&["f", "absent"], 1, "File not found: absent"),
        (&["/dev/null"], 1, "/dev/null"),
        (&["--dir", "f"], 1, "Not a directory: f"),
        (&["--dir", "absent"], 1, "File not found: absent"),
        (&["--dir", "nothing"], 1, "No files to upload in nothing"),
    ] {
        let args = [&["upload", "s"], args].concat();
        let (code, stdout, stderr) = run_in(&dir, &fake, &args);
        assert_eq!((code, stdout.as_str()), (status, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
        assert!(fake.seen.try_recv().is_err(), "{args:?}");
    }
}

#[test]
fn an_error_while_sending_is_shown() {
    let fake = Fake::new(rpc, |request| {
        request.stream.read_exact(&mut [0; 100_000]).unwrap();
        request.json(507, &storage_full());
    });
    let dir = local();
    let (status, stdout, stderr) = run_in(&dir, &fake, &["upload", "s", "big"]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    assert_eq!(stderr, "✗ no room\nℹ delete something\n");
    let (_, _, stderr) = run_in(&dir, &fake, &["upload", "s", "big", "--json"]);
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["error"]["data"], json!({"kind": "storageFull", "hint": "delete something"}));
}

#[test]
fn an_upload_that_cannot_be_packed_is_cut_off() {
    let (tell, told) = channel();
    let fake = Fake::new(rpc, move |request| tell.send(request.body().is_err()).unwrap());
    let dir = local();
    let deep = format!("tree/{}", "d/".repeat(noxrunner_archive::MAX_DEPTH + 2));
    fs::create_dir_all(dir.path().join(deep)).unwrap();
    fs::rename(dir.path().join("big"), dir.path().join("tree/big")).unwrap();
    let (status, stdout, stderr) = run_in(&dir, &fake, &["upload", "s", "--dir", "tree"]);
    assert_eq!((status, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("directories deep"), "{stderr}");
    assert!(told.recv().unwrap());
}

#[test]
fn what_the_daemon_changed_is_said() {
    let fake = Fake::new(
        |_| {
            json!({"result": {"written": 1, "bytes": 5, "skipped": 1, "rerooted": 0,
            "setIdCleared": 3, "dest": "/workspace", "redirected": true, "warnings": ["odd"]}})
        },
        |_| (),
    );
    let dir = local();
    let args = ["upload", "s", "f", "big", "--dest", "/etc"];
    let (status, ..) = run_in(&dir, &fake, &args[..3]);
    assert_eq!(status, 0);
    let (_, stdout, stderr) = run_in(&dir, &fake, &["upload", "s", "f", "tree/in", "--dest", "/x"]);
    assert_eq!(stdout, "✓ Uploaded 1 file(s) to /workspace\n");
    // The daemon's own words for what it counted, and no others.
    let warnings: Vec<&str> = stderr.lines().filter(|line| line.starts_with('⚠')).collect();
    let redirected = "⚠ the destination leads out of the sandbox: /workspace instead";
    assert_eq!(warnings, [redirected, "⚠ odd"], "{stderr}");
    let (_, _, stderr) = run_in(&dir, &fake, &["upload", "s", "f", "--quiet"]);
    assert_eq!(stderr, "");
}

#[test]
fn a_copy_in_goes_where_dockers_goes() {
    let (dir, fake) = (local(), Fake::new(rpc, |request| panic!("{}", request.head)));
    let all = ["name", "name/empty", "name/in", "name/to-in"];
    let tree = |name: &str| -> Vec<String> {
        all.iter().map(|member| member.replacen("name", name, 1)).collect()
    };
    let one = |name: &str| vec![name.to_owned()];
    for (src, dst, dest, expected) in [
        ("f", "s:d", "/workspace/d", one("f")),
        ("f", "s:/workspace/d/", "/workspace/d", one("f")),
        ("f", "s:", "/workspace", one("f")),
        ("f", "s:link", "/workspace/d", one("f")),
        ("f", "s:f", "/workspace", one("f")),
        ("f", "s:new", "/workspace", one("new")),
        ("f", "s:d/../d/new", "/workspace/d", one("new")),
        ("f", "s:dangling", "/workspace", one("dangling")),
        ("f", "s:loop", "/workspace", one("loop")),
        ("to-f", "s:d", "/workspace/d", one("to-f")),
        ("f", "s:/passwd", "/", one("passwd")),
        ("f", "s:/", "/workspace", one("f")),
        ("tree", "s:d", "/workspace/d", tree("tree")),
        ("tree/", "s:d", "/workspace/d", tree("tree")),
        ("tree/../tree", "s:d", "/workspace/d", tree("tree")),
        ("tree", "s:new", "/workspace", tree("new")),
        ("tree", "s:new/", "/workspace", tree("new")),
        ("tree/.", "s:new", "/workspace", tree("new")),
        ("tree/empty/..", "s:d", "/workspace/d", tree("tree")),
        ("tree/.", "s:d", "/workspace/d", ["empty", "in", "to-in"].map(String::from).to_vec()),
    ] {
        let (status, stdout, stderr) = run_in(&dir, &fake, &["cp", src, dst]);
        assert_eq!((status, stdout.as_str()), (0, ""), "{src} {dst}: {stderr}");
        let (found, members) = in_a_line(&fake);
        let members: Vec<_> = members.into_keys().collect();
        assert_eq!((found.as_str(), members), (dest, expected), "{src} {dst}");
    }
    for (src, dst, part) in [
        ("f", "s:new/", "no directory /workspace/new"),
        ("f", "s:new/f", "no directory /workspace/new"),
        ("f", "s:f/", "not a directory"),
        ("tree", "s:f", "not a directory"),
        ("absent", "s:d", "File not found"),
        ("/dev/null", "s:d", "neither"),
    ] {
        let (status, _, stderr) = run_in(&dir, &fake, &["cp", src, dst]);
        assert_eq!(status, 1, "{src} {dst}");
        assert!(stderr.contains(part), "{src} {dst}: {stderr}");
        assert!(!fake.seen.try_iter().any(|seen| seen["method"] == "file.upload"), "{src} {dst}");
    }
}

#[test]
fn an_archive_on_standard_input_goes_through() {
    let (tell, told) = channel();
    let fake = Fake::new(rpc, move |request| {
        tell.send((request.head.clone(), request.body().unwrap())).unwrap();
        request.json(200, &uploaded(1));
    });
    let mut noxctl = fake.noxctl(&["cp", "-", "s:link"]).stdin(Stdio::piped()).spawn().unwrap();
    noxctl.stdin.take().unwrap().write_all(b"anything").unwrap();
    assert!(noxctl.wait().unwrap().success());
    let (head, body) = told.recv().unwrap();
    assert!(head.contains("upload?dest=/workspace/d HTTP"), "{head}");
    assert_eq!(body, b"anything");
    for (dst, part) in [("s:new", "no directory"), ("s:f", "not a directory")] {
        let (status, _, stderr) = fake.run(&["cp", "-", dst]);
        assert_eq!(status, 1);
        assert!(stderr.contains(part), "{dst}: {stderr}");
    }
    assert!(Path::new(&fake.socket()).exists());
}
