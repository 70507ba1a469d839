//! Merging what was staged into a tree.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)] // Whatever else it is fails a test.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use noxrunner_archive::{Limits, MergeError, Rules, merge, stage, stays_beneath};

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "stage/support.rs"]
mod support;
use support::*;

/// Stages an archive; what it staged is still to be merged.
fn staged(archive: &[u8]) -> Tree {
    let tree = Tree::new();
    let limits = Limits { bytes: 1 << 30, members: 1 << 20, keep_free: 0 };
    let rules = Rules { limits, owner: None, link_stays: &stays_beneath };
    stage(&mut &archive[..], tree.open().as_fd(), &rules).unwrap();
    tree
}

fn merged(archive: &[u8], dest: &Tree) -> Result<(), MergeError> {
    let staging = staged(archive);
    let done = merge(staging.open().as_fd(), dest.open().as_fd());
    assert!(done.is_err() || staging.is_empty(), "something was left: {:?}", staging.listing());
    done
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn trees_are_joined_and_files_and_links_replaced() {
    let dest = Tree::new();
    fs::create_dir_all(dest.at("d/e")).unwrap();
    for name in ["keep", "f", "d/keep", "d/f", "d/e/keep", "to-link"] {
        fs::write(dest.at(name), "old").unwrap();
    }
    symlink("keep", dest.at("to-file")).unwrap();
    symlink("nowhere", dest.at("d/l")).unwrap();
    fs::hard_link(dest.at("keep"), dest.at("second-name")).unwrap();
    let made = Made::default()
        .dir("d")
        .dir("d/e")
        .file("f", "new")
        .file("d/f", "new")
        .file("d/new", "new")
        .file("d/e/new", "new")
        .file("n/e/w", "new")
        .symlink("to-link", "f")
        .file("to-file", "new")
        .symlink("d/l", "f")
        .file("second-name", "new")
        .hard_link("third-name", "second-name");
    merged(&made.end(), &dest).unwrap();
    for name in ["keep", "d/keep", "d/e/keep"] {
        assert_eq!(text(&dest.at(name)), "old", "{name}");
    }
    for name in
        ["f", "d/f", "d/new", "d/e/new", "n/e/w", "to-link", "to-file", "d/l", "second-name"]
    {
        assert_eq!(text(&dest.at(name)), "new", "{name}");
    }
    assert_eq!(fs::read_link(dest.at("d/l")).unwrap(), Path::new("f"));
    let inode = |name| fs::symlink_metadata(dest.at(name)).unwrap().ino();
    assert_eq!(inode("second-name"), inode("third-name"));
}

#[test]
fn links_in_the_destination_are_never_followed() {
    let (outside, dest) = (Tree::new(), Tree::new());
    fs::write(outside.at("control"), "control").unwrap();
    for name in ["dir", "implicit"] {
        symlink(outside.path(), dest.at(name)).unwrap();
    }
    symlink(outside.at("control"), dest.at("file")).unwrap();
    let before = outside.listing();
    let made = Made::default()
        .dir("dir")
        .file("dir/control", "1")
        .file("implicit/control", "2")
        .file("file", "3");
    merged(&made.end(), &dest).unwrap();
    assert_eq!(outside.listing(), before);
    assert_eq!(text(&dest.at("dir/control")), "1");
    assert_eq!(text(&dest.at("implicit/control")), "2");
    assert_eq!(text(&dest.at("file")), "3");
}

#[test]
fn what_is_in_the_way_is_found_before_anything_is_moved() {
    let dest = Tree::new();
    fs::create_dir_all(dest.at("d/z/file")).unwrap();
    fs::write(dest.at("d/z/dir"), "").unwrap();
    chmod(&dest.at("d/z"), 0o500);
    let before = dest.listing();
    let first = Made::default().file("a", "").file("d/a", "").file("d/z/a", "");
    for (made, name) in [
        (first.clone().file("d/z/file", ""), "d/z/file"),
        (first.clone().symlink("d/z/file", "x"), "d/z/file"),
        (first.clone().dir("d/z/dir"), "d/z/dir"),
        (first.clone().file("d/z/dir/x", ""), "d/z/dir"),
    ] {
        match merged(&made.end(), &dest) {
            Err(MergeError::InTheWay { name: found }) => assert_eq!(found, name),
            other => panic!("{other:?}"),
        }
        assert_eq!(dest.listing(), before);
    }
    merged(&first.end(), &dest).unwrap();
    assert!(dest.at("d/z/a").exists());
}

#[test]
fn directories_without_rights_arrive_as_they_were_packed() {
    let script = "\
add('ro', type=tarfile.DIRTYPE, mode=0o555, mtime=11)
add('ro/f', b'1', mtime=12)
add('ro/none', type=tarfile.DIRTYPE, mode=0, mtime=13)
add('ro/none/f', b'2', mode=0o400, mtime=14)";
    let dest = Tree::new();
    for _ in 0..2 {
        // The second time both have all of them.
        merged(&python_tar("GNU_FORMAT", script), &dest).unwrap();
        let want = ["ro/ 555 11.000000000", "ro/f 644 12.", "ro/none/ 0 13.", "ro/none/f 400 14."];
        let lines = dest.listing();
        assert_eq!(lines.len(), want.len());
        for (line, want) in lines.iter().zip(want) {
            assert!(line.starts_with(want), "{line}");
        }
    }
}

#[test]
fn only_directories_that_are_members_change_those_that_were_there() {
    let dest = Tree::new();
    for name in ["member", "implicit", "implicit/member"] {
        fs::create_dir(dest.at(name)).unwrap();
        chmod(&dest.at(name), 0o2710);
    }
    let script = "\
add('implicit/member', type=tarfile.DIRTYPE, mode=0o750, mtime=7)
add('implicit/member/f', b'')
add('member', type=tarfile.DIRTYPE, mode=0o700, mtime=8)
add('member/x/y/f', b'')
add('member/x/m', type=tarfile.DIRTYPE, mode=0o555, mtime=9)
add('member/x/m/z/f', b'')
add('late/a/f', b'')
add('late', type=tarfile.DIRTYPE, mode=0o700, mtime=10)";
    let archive = python_tar("GNU_FORMAT", script);
    merged(&archive, &dest).unwrap();
    let meta = |name| fs::metadata(dest.at(name)).unwrap();
    let mode = |name| meta(name).mode() & 0o7777;
    // Their own set-group-id bit stays.
    assert_eq!((mode("member"), meta("member").mtime()), (0o2700, 8));
    assert_eq!((mode("implicit/member"), meta("implicit/member").mtime()), (0o2750, 7));
    assert_eq!(mode("implicit"), 0o2710);
    // What nobody asked for has no mark left, and the time of now.
    let now = meta("implicit").mtime();
    for name in ["member/x", "member/x/y", "member/x/m/z", "late/a"] {
        assert_eq!(mode(name) & !0o2000, 0o755, "{name}");
        assert!((now - meta(name).mtime()).abs() < 100, "{name}");
    }
    assert_eq!((mode("member/x/m") & !0o2000, meta("member/x/m").mtime()), (0o555, 9));
    assert_eq!((mode("late") & !0o2000, meta("late").mtime()), (0o700, 10));
}

#[test]
fn a_pipe_in_the_destination_is_replaced_and_not_opened() {
    let dest = Tree::new();
    nix::unistd::mkfifo(&dest.at("f"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    merged(&Made::default().file("f", "new").end(), &dest).unwrap();
    assert_eq!(text(&dest.at("f")), "new");
    nix::unistd::mkfifo(&dest.at("d"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = merged(&Made::default().dir("d").end(), &dest).unwrap_err();
    assert!(matches!(error, MergeError::InTheWay { .. }), "{error}");
}

#[test]
fn many_entries_of_one_directory() {
    let dest = Tree::new();
    fs::create_dir(dest.at("d")).unwrap();
    let mut made = Made::default();
    for at in 0..20_000 {
        made = made.file(&format!("d/{at}"), "");
    }
    merged(&made.end(), &dest).unwrap();
    assert_eq!(fs::read_dir(dest.at("d")).unwrap().count(), 20_000);
}

/// Somebody exchanges a directory of the destination for a link to outside, again and again.
#[test]
fn nothing_leaves_a_destination_that_is_changed_meanwhile() {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    let (outside, dest) = (Tree::new(), Tree::new());
    fs::write(outside.at("f0"), "control").unwrap();
    fs::create_dir_all(dest.at("d/e")).unwrap();
    symlink(outside.path(), dest.at("other")).unwrap();
    let before = outside.listing();
    let mut made = Made::default().dir("d").dir("d/e");
    for at in 0..50 {
        made = made.file(&format!("d/f{at}"), "1").file(&format!("d/e/f{at}"), "1");
    }
    let archive = made.end();
    let (done, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (one, two) = (dest.at("d"), dest.at("other"));
                let flags = RenameFlags::RENAME_EXCHANGE;
                if renameat2(AT_FDCWD, &one, AT_FDCWD, &two, flags).is_ok() {
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for _ in 0..60 {
            let staging = staged(&archive);
            let merged = merge(staging.open().as_fd(), dest.open().as_fd());
            assert_eq!(outside.listing(), before, "{merged:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(swaps.load(Ordering::Relaxed) > 60, "nothing was exchanged");
    assert!(File::open(dest.path()).is_ok());
}
