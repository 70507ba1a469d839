//! `download`, also from a daemon that means no good.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod common;

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use common::archive::{archive, file, raw, run_in, sends, tree, usual};
use common::{Fake, Request, finished, storage_full};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::EntryType;
use tempfile::TempDir;

#[test]
fn a_download_is_unpacked_with_modes_times_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::http(sends(usual()));
    let (status, stdout, stderr) = run_in(&dir, &fake, &["download", "s", "--extract", "a/b"]);
    assert_eq!((status, stdout.as_str(), stderr.as_str()), (0, "✓ Extracted to a/b\n", ""));
    let at = dir.path().join("a/b");
    assert_eq!(tree(&at), ["sub", "sub/f", "to-f"]);
    let f = at.join("to-f").metadata().unwrap();
    assert_eq!((f.mode() & 0o7777, f.mtime(), f.len()), (0o751, 1_000_000_000, 5));
    assert_eq!(at.join("sub").metadata().unwrap().mode() & 0o7777, 0o750);
    let head = fake.seen.recv().unwrap();
    assert!(head.as_str().unwrap().contains("src=/workspace&format=tar HTTP"), "{head}");
    // Into the current directory, over what is there.
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/kept"), "").unwrap();
    let (status, stdout, _) = run_in(&dir, &fake, &["download", "s", "--json"]);
    assert_eq!(status, 0);
    let result: Value = serde_json::from_str(&stdout).unwrap();
    let expected = json!({"src": "/workspace", "extract": ".", "bytes": usual().len(),
        "redirected": false, "written": 3, "skipped": 0, "rerooted": 0, "setIdCleared": 0});
    assert_eq!(result, expected);
    assert_eq!(tree(&dir.path().join("sub")), ["f", "kept"]);
}

#[test]
fn nothing_of_a_hostile_archive_gets_out() {
    let outside = tempfile::tempdir().unwrap();
    let dir = TempDir::new_in(outside.path()).unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let (out, absolute) = (outside.path().to_str().unwrap(), secret.to_str().unwrap());
    let hostile = archive(&[
        file(absolute, 0o644, "overwritten"),
        file("../secret", 0o644, "overwritten"),
        file("a/../../secret", 0o644, "overwritten"),
        raw("out", EntryType::Symlink, out, 0o777, b""),
        file("out/secret", 0o644, "overwritten"),
        raw("up", EntryType::Symlink, "..", 0o777, b""),
        file("up/secret", 0o644, "overwritten"),
        raw("hard", EntryType::Link, absolute, 0o644, b""),
        raw("device", EntryType::Char, "", 0o666, b""),
        raw("fifo", EntryType::Fifo, "", 0o666, b""),
        file("setid", 0o6755, "x"),
        // The positive control.
        file("good", 0o644, "good"),
    ]);
    let fake = Fake::http(sends(hostile));
    let (status, _, stderr) = run_in(&dir, &fake, &["download", "s"]);
    assert_eq!(status, 0, "{stderr}");
    for part in ["left out", "by their last name", "set-user-id"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(secret.metadata().unwrap().nlink(), 1);
    let here = dir.path().file_name().unwrap().to_str().unwrap();
    let mut top: Vec<_> = fs::read_dir(outside.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    top.sort();
    assert_eq!(top.len(), 2, "{top:?}");
    assert!(top.iter().any(|name| name == here) && top.iter().any(|name| name == "secret"));
    assert_eq!(fs::read_to_string(dir.path().join("good")).unwrap(), "good");
    assert_eq!(dir.path().join("setid").metadata().unwrap().mode() & 0o7777, 0o755);
    let found = tree(dir.path());
    for name in &found {
        let kind = dir.path().join(name).symlink_metadata().unwrap().file_type();
        assert!(kind.is_file() || kind.is_dir(), "{name}");
    }
    for absent in ["device", "fifo", "hard"] {
        assert!(!found.iter().any(|name| name == absent), "{found:?}");
    }
}

#[test]
fn links_that_stand_in_the_target_are_not_written_through() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let dir = tempfile::tempdir().unwrap();
    symlink(outside.path().join("secret"), dir.path().join("f")).unwrap();
    let fake = Fake::http(sends(archive(&[file("f", 0o644, "new")])));
    let (status, _, stderr) = run_in(&dir, &fake, &["download", "s"]);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
    assert!(dir.path().join("f").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "new");
}

#[test]
fn what_is_cut_off_or_no_archive_leaves_nothing() {
    let whole = archive(&[
        raw("closed/", EntryType::Directory, "", 0o000, b""),
        file("closed/f", 0o644, &"x".repeat(5000)),
    ]);
    let cut = whole[..2000].to_vec();
    let no_last_chunk = whole;
    type Answer = Box<dyn Fn(&mut Request) + Send + Sync>;
    let answers: [(Answer, &str, &str); 4] = [
        (
            Box::new(move |request: &mut Request| {
                request.begin("");
                request.chunk(&cut);
            }),
            "before the transfer was complete",
            "notReady",
        ),
        (
            Box::new(move |request: &mut Request| {
                request.begin("");
                request.chunk(&no_last_chunk);
            }),
            "before the transfer was complete",
            "notReady",
        ),
        (Box::new(|request: &mut Request| request.archive(&[b'x'; 2048])), "archive", "badArchive"),
        (
            Box::new(|request: &mut Request| request.json(507, &storage_full())),
            "no room",
            "storageFull",
        ),
    ];
    for (answer, part, kind) in answers {
        let answer = std::sync::Arc::new(answer);
        let fake = Fake::http(move |request| answer(request));
        let dir = tempfile::tempdir().unwrap();
        for args in [&["--extract", "new/dir"][..], &[]] {
            let args = [&["download", "s", "--json"], args].concat();
            let (status, stdout, stderr) = run_in(&dir, &fake, &args);
            assert_eq!((status, stdout.as_str()), (1, ""), "{stderr}");
            assert!(stderr.contains(part), "{stderr}");
            let error: Value = serde_json::from_str(&stderr).unwrap();
            assert_eq!(error["error"]["data"]["kind"], kind, "{stderr}");
            assert_eq!(tree(dir.path()), [""; 0], "{stderr}");
        }
    }
}

#[test]
fn an_archive_is_written_as_it_came() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(&usual()).unwrap();
    let gzip = gzip.finish().unwrap();
    let fake = Fake::http(sends(gzip.clone()));
    let dir = tempfile::tempdir().unwrap();
    let args = ["download", "s", "--src", "sub", "--output", "o.tar.gz"];
    let (status, stdout, stderr) = run_in(&dir, &fake, &args);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(stdout, "✓ Downloaded to o.tar.gz\n");
    assert_eq!(tree(dir.path()), ["o.tar.gz"]);
    assert!(fs::read(dir.path().join("o.tar.gz")).unwrap() == gzip);
    let head = fake.seen.recv().unwrap();
    assert!(head.as_str().unwrap().contains("src=sub HTTP"), "{head}");
    // To standard output nothing but the archive.
    let (status, stdout, stderr) = fake.run(&["download", "s", "-o", "-"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert!(stdout == gzip);
    assert_eq!(fake.run(&["download", "s", "-o", "-", "--json"]).0, 2);
    // What is no file is not replaced.
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reading = std::thread::spawn(move || fs::read(fifo).unwrap());
    assert_eq!(run_in(&dir, &fake, &["download", "s", "-o", "fifo"]).0, 0);
    assert!(reading.join().unwrap() == gzip);
}

#[test]
fn a_file_is_replaced_only_by_a_whole_archive() {
    let fake = Fake::http(|request| {
        request.begin("");
        request.chunk(b"half");
    });
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old");
    fs::write(&old, "old").unwrap();
    fs::set_permissions(&old, Permissions::from_mode(0o600)).unwrap();
    symlink("old", dir.path().join("link")).unwrap();
    for name in ["old", "link", "new"] {
        let (status, stdout, stderr) = run_in(&dir, &fake, &["download", "s", "--output", name]);
        assert_eq!((status, stdout.as_str()), (1, ""), "{stderr}");
        assert_eq!(tree(dir.path()), ["link", "old"], "{stderr}");
        assert_eq!(fs::read_to_string(&old).unwrap(), "old");
    }
    let fake = Fake::http(sends(b"new".to_vec()));
    assert_eq!(run_in(&dir, &fake, &["download", "s", "--output", "link"]).0, 0);
    assert_eq!(fs::read_to_string(&old).unwrap(), "new");
    assert_eq!(old.metadata().unwrap().mode() & 0o7777, 0o600);
    assert!(dir.path().join("link").is_symlink());
}

#[test]
fn an_interrupt_leaves_nothing() {
    for (signal, args) in [
        ("-INT", &["download", "s", "--extract", "new"][..]),
        ("-TERM", &["download", "s", "--extract", "new"]),
        ("-HUP", &["download", "s", "-o", "f"]),
    ] {
        let (began, begun) = channel();
        let fake = Fake::http(move |request| {
            request.begin("");
            request.chunk(&usual()[..1200]);
            began.send(()).unwrap();
            // Until the client hangs up.
            assert_eq!(request.stream.read(&mut [0]).unwrap_or(0), 0);
        });
        let dir = tempfile::tempdir().unwrap();
        let noxctl = fake
            .noxctl(args)
            .current_dir(&dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        begun.recv().unwrap();
        let pid = noxctl.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let (status, stdout, stderr) = finished(noxctl.wait_with_output().unwrap());
        assert_eq!((status, stdout.len()), (130, 0), "{stderr}");
        assert!(stderr.contains("interrupted"), "{stderr}");
        assert_eq!(tree(dir.path()), [""; 0]);
    }
}
