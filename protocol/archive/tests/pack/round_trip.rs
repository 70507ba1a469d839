//! What a tree has comes out again.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, lseek};
use noxrunner_archive::{Packer, Tree, measure};

use crate::support::{READERS, assert_same, members, names, os, pack, unpack};

fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = TimeSpec::new(seconds, nanos);
    let here = nix::fcntl::AT_FDCWD;
    utimensat(here, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

fn assert_comes_out(top: &Path) {
    for tree in [Tree::Own, Tree::Sandbox] {
        let (archive, packed) = pack(top, tree).unwrap();
        assert_eq!((packed.skipped, packed.unreadable), (0, 0));
        assert_eq!(archive.len() % 512, 0);
        for reader in READERS {
            assert_same(reader, top, unpack(&archive, reader).path());
        }
    }
}

#[test]
fn contents_modes_times_and_empty_directories() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    for size in [0, 1, 511, 512, 513, 262_143, 262_144, 262_145, 1_000_000] {
        let content: Vec<u8> = (0..size).map(|i: u32| (i % 251) as u8).collect();
        fs::write(top.join(format!("file{size}")), content).unwrap();
    }
    fs::create_dir_all(top.join("a/b/empty")).unwrap();
    for mode in [0o400, 0o644, 0o755, 0o4755, 0o2755, 0o1644, 0o7777] {
        let path = top.join(format!("a/mode{mode:o}"));
        fs::write(&path, "m").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(top.join("a/b"), fs::Permissions::from_mode(0o1775)).unwrap();
    for (number, (seconds, nanos)) in
        [(0, 0), (0, 1), (-1, 500_000_000), (-86_400, 0), (1_700_000_000, 999_999_999)]
            .into_iter()
            .enumerate()
    {
        let path = top.join(format!("time{number}"));
        fs::write(&path, "t").unwrap();
        set_mtime(&path, seconds, nanos);
    }
    set_mtime(&top.join("a/b"), 1_234_567_890, 123_456_789);
    assert_comes_out(top);
}

#[test]
fn links_of_both_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    fs::create_dir(top.join("d")).unwrap();
    fs::write(top.join("d/first"), "once").unwrap();
    fs::hard_link(top.join("d/first"), top.join("second")).unwrap();
    let long = "n".repeat(250);
    fs::hard_link(top.join("d/first"), top.join("d").join(&long)).unwrap();
    symlink("d/first", top.join("link")).unwrap();
    symlink("nowhere/at/all", top.join("dangling")).unwrap();
    symlink("/etc/passwd", top.join("absolute")).unwrap();
    symlink(os(b"short \xff\xfe"), top.join("raw")).unwrap();
    symlink(os(&[b"\xff".as_slice(), &[b'x'; 200]].concat()), top.join("raw long")).unwrap();
    symlink("t/".repeat(300), top.join("long")).unwrap();
    assert_comes_out(top);
    let (archive, packed) = pack(top, Tree::Own).unwrap();
    assert_eq!(packed.bytes, 4, "stored once");
    let stored = members(&archive).into_iter().filter(|(_, content)| content == b"once").count();
    assert_eq!(stored, 1);
}

#[test]
fn names_of_every_length_and_encoding() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    for length in [1, 99, 100, 101, 155, 156, 254, 255] {
        fs::write(top.join("f".repeat(length)), length.to_string()).unwrap();
        let inner = top.join("d".repeat(length));
        fs::create_dir(&inner).unwrap();
        for length in [1, 99, 100, 101, 255] {
            fs::write(inner.join("g".repeat(length)), length.to_string()).unwrap();
        }
    }
    let deep = top.join(["deep-down"; 60].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("here"), "far").unwrap();
    for name in [b"raw \xff".as_slice(), b"new\nline", b"=", "grün".as_bytes(), &[b'\xfe'; 255]] {
        fs::write(top.join(os(name)), "n").unwrap();
        fs::create_dir(top.join(os(&[b"dir".as_slice(), &name[..name.len().min(200)]].concat())))
            .unwrap();
    }
    assert_comes_out(top);
}

/// Where a file has data, as the file system says.
fn runs(path: &Path) -> Vec<(i64, i64)> {
    let file = File::open(path).unwrap();
    let (mut runs, mut at) = (Vec::new(), 0);
    while let Ok(data) = lseek(&file, at, Whence::SeekData) {
        at = lseek(&file, data, Whence::SeekHole).unwrap();
        runs.push((data, at));
    }
    runs
}

#[test]
fn holes_stay_holes() {
    const MIB: u64 = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    let make = |name: &str, size: u64, data: &[u64]| {
        let file = File::create(top.join(name)).unwrap();
        file.set_len(size).unwrap();
        for &at in data {
            file.write_all_at(&[at as u8 + 1; 4096], at * MIB).unwrap();
        }
    };
    make("hole", 64 * MIB, &[]);
    make("ends in a hole", 16 * MIB + 123, &[0, 3, 7]);
    make("begins with one", 8 * MIB + 4096, &[8]);
    make(&"long name ".repeat(20), 16 * MIB, &[1, 2]);
    fs::create_dir(top.join("d")).unwrap();
    make("d/in a directory", 16 * MIB, &[5]);
    fs::hard_link(top.join("hole"), top.join("hole again")).unwrap();
    let raw = top.join(os(b"raw \xff"));
    fs::rename(top.join("d/in a directory"), &raw).unwrap();
    assert_eq!(runs(&top.join("hole")), [], "this file system has no holes");

    for tree in [Tree::Own, Tree::Sandbox] {
        let (archive, packed) = pack(top, tree).unwrap();
        assert_eq!(packed.bytes, 7 * 4096);
        assert!(archive.len() < 128 * 1024, "{}", archive.len());
        for reader in READERS {
            let unpacked = unpack(&archive, reader);
            assert_same(reader, top, unpacked.path());
            for name in ["hole", "ends in a hole", "begins with one"].map(Path::new) {
                let (from, to) = (top.join(name), unpacked.path().join(name));
                assert_eq!(runs(&from), runs(&to), "{reader:?}: {name:?}");
                let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
                assert_eq!(blocks(&from), blocks(&to), "{reader:?}: {name:?}");
            }
        }
    }
    assert_eq!(measure(File::open(top).unwrap().as_fd(), None).unwrap(), 7 * 4096);
}

#[test]
fn of_too_many_holes_the_last_are_filled() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("sieve")).unwrap();
    for at in 0..10_200 {
        file.write_all_at(b"x", at * 16_384).unwrap();
    }
    file.sync_all().unwrap();
    assert_eq!(runs(&dir.path().join("sieve")).len(), 10_200);
    let (archive, packed) = pack(dir.path(), Tree::Sandbox).unwrap();
    assert_eq!(packed.bytes, 9_999 * 4096 + (10_199 - 9_999) * 16_384 + 1);
    for reader in READERS {
        assert_same(reader, dir.path(), unpack(&archive, reader).path());
    }
}

#[test]
fn names_begin_as_asked_and_come_sorted() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b", "a", "c/x", "c.d", "B"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "1234").unwrap();
    }
    let top = File::open(dir.path()).unwrap();
    let mut packer = Packer::new(Vec::new(), Tree::Own);
    packer.contents(top.as_fd(), b"").unwrap();
    packer.contents(top.as_fd(), b"p/q/").unwrap();
    packer.entry(top.as_fd(), os(b"c"), b"see").unwrap();
    packer.entry(top.as_fd(), os(b"a"), b"x/y").unwrap();
    let (archive, packed) = packer.finish().unwrap();
    let found = names(&archive);
    let expected = [
        "B", "a", "b", "c/", "c/x", "c.d", "p/q/B", "p/q/a", "p/q/b", "p/q/c/", "p/q/c/x",
        "p/q/c.d", "see/", "see/x", "x/y",
    ];
    let mut expected = expected.map(str::to_owned).to_vec();
    // Sorted by name in each directory, so "c" with what is in it before "c.d".
    assert_eq!(found, expected.drain(..).map(Into::into).collect::<Vec<std::ffi::OsString>>());
    assert_eq!((packed.members, packed.bytes), (15, 4 * 12));
    assert_eq!(measure(top.as_fd(), None).unwrap(), 20);
    assert_eq!(measure(top.as_fd(), Some(os(b"c"))).unwrap(), 4);
}

#[test]
fn the_same_tree_gives_the_same_archive() {
    let trees = [(0..3_000).collect::<Vec<_>>(), (0..3_000).rev().collect()];
    let archives = trees.map(|order| {
        let dir = tempfile::tempdir().unwrap();
        for name in order {
            let path = dir.path().join(format!("{name:x}"));
            fs::write(&path, "x").unwrap();
            set_mtime(&path, 1, 0);
        }
        pack(dir.path(), Tree::Sandbox).unwrap().0
    });
    assert!(archives[0] == archives[1]);
}

#[test]
fn more_names_than_are_sorted_at_once_all_come() {
    let dir = tempfile::tempdir().unwrap();
    for name in 0..25_000 {
        File::create(dir.path().join(format!("{name:05}"))).unwrap();
    }
    let (archive, packed) = pack(dir.path(), Tree::Sandbox).unwrap();
    let mut names = names(&archive);
    names.sort();
    let all: Vec<_> = (0..25_000).map(|name| format!("{name:05}").into()).collect::<Vec<_>>();
    assert_eq!((packed.members, names), (25_000, all));
}
