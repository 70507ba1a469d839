//! What GNU tar and Python write is unpacked as it was packed.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::support::*;

/// A tree with everything that all formats have.
fn sample() -> Tree {
    let tree = Tree::new();
    fs::create_dir_all(tree.at("dir/sub")).unwrap();
    fs::create_dir(tree.at("empty")).unwrap();
    fs::write(tree.at("dir/file"), "content").unwrap();
    fs::write(tree.at("dir/sub/block"), vec![b'x'; 1024]).unwrap();
    fs::write(tree.at("dir/sub/odd"), vec![b'y'; 300_001]).unwrap();
    fs::write(tree.at("none"), "").unwrap();
    fs::write(tree.at("script"), "#!/bin/sh").unwrap();
    fs::hard_link(tree.at("none"), tree.at("other")).unwrap();
    symlink("dir/file", tree.at("link")).unwrap();
    symlink("../link", tree.at("dir/up")).unwrap();
    chmod(&tree.at("script"), 0o751);
    chmod(&tree.at("empty"), 0o555);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["dir/file", "dir/sub/block", "dir/sub/odd", "none", "script", "dir/sub", "dir"] {
        File::open(tree.at(name)).unwrap().set_modified(old).unwrap();
    }
    for name in ["link", "dir/up", "empty", "dir"] {
        let mut touch = Command::new("touch");
        touch.args(["-h", "-d", "@900000000"]).arg(tree.at(name));
        assert!(touch.status().unwrap().success());
    }
    tree
}

#[test]
fn every_format_of_gnu_tar() {
    let tree = sample();
    for format in ["v7", "oldgnu", "ustar", "gnu", "pax"] {
        let archive = gnu_tar(tree.path(), &[&format!("--format={format}")]);
        for archive in [gzip(&archive), archive] {
            let (unpacked, report) = unpack(&archive);
            assert_eq!(unpacked.listing(), tree.listing(), "{format}");
            assert_eq!((report.written, report.bytes), (11, 301_041), "{format}");
            assert_eq!(report.skipped_links + report.skipped_special + report.rerooted, 0);
            let inode = |name| fs::metadata(unpacked.at(name)).unwrap().ino();
            assert_eq!(inode("none"), inode("other"), "{format}");
        }
    }
}

#[test]
fn long_names_and_names_that_are_not_utf_8() {
    let tree = Tree::new();
    let long = "n".repeat(255);
    fs::create_dir_all(tree.at(&long).join(&long)).unwrap();
    fs::write(tree.at(&long).join(&long).join("file"), "1").unwrap();
    fs::write(tree.at(std::ffi::OsStr::from_bytes(b"\xff\xfe\n=a\\")), "2").unwrap();
    symlink(format!("{long}/{long}/file"), tree.at("link")).unwrap();
    for options in [&["--format=gnu"][..], &["--format=pax"]] {
        let (unpacked, _) = unpack(&gnu_tar(tree.path(), options));
        let names = |tree: &Tree| -> Vec<String> {
            tree.listing().iter().map(|line| line.rsplit_once('.').unwrap().0.into()).collect()
        };
        assert_eq!(names(&unpacked), names(&tree), "{options:?}");
    }
    // ustar has room for this one in its prefix.
    let script = "add('p' * 90 + '/' + 'q' * 60 + '/' + 'r' * 99, b'in')";
    let (unpacked, _) = unpack(&python_tar("USTAR_FORMAT", script));
    let path = format!("{}/{}/{}", "p".repeat(90), "q".repeat(60), "r".repeat(99));
    assert_eq!(fs::read(unpacked.at(path)).unwrap(), b"in");
}

/// A plain archive begins with a name, and a name may begin with any byte.
#[test]
fn a_first_name_that_begins_as_gzip_does() {
    for name in [&b"\x1f\x8b"[..], b"\x1f\x8b\x08file"] {
        let plain = Made::default().raw(&Made::header(name, b'0', 7, b""), b"content").end();
        for archive in [gzip(&plain), plain] {
            let (unpacked, report) = unpack(&archive);
            assert_eq!((report.written, report.bytes), (1, 7));
            let content = fs::read(unpacked.at(std::ffi::OsStr::from_bytes(name))).unwrap();
            assert_eq!(content, b"content");
        }
    }
}

#[test]
fn times_to_the_nanosecond_and_before_1970() {
    let tree = Tree::new();
    fs::create_dir(tree.at("dir")).unwrap();
    fs::write(tree.at("dir/file"), "").unwrap();
    symlink("file", tree.at("dir/link")).unwrap();
    for (name, time) in [
        ("dir/file", "@-1.250000001"),
        ("dir/link", "@1234567890.987654321"),
        ("dir", "@77.000000007"),
    ] {
        let touch = Command::new("touch").args(["-h", "-d", time]).arg(tree.at(name)).status();
        assert!(touch.unwrap().success());
    }
    let (unpacked, _) = unpack(&gnu_tar(tree.path(), &["--format=pax"]));
    assert_eq!(unpacked.listing(), tree.listing());
    assert!(tree.listing().iter().any(|line| line.contains("-2.749999999")));
    let (unpacked, _) = unpack(&gnu_tar(tree.path(), &["--format=gnu"]));
    assert_eq!(fs::metadata(unpacked.at("dir/file")).unwrap().mtime(), -2, "base 256");
}

fn sparse() -> Tree {
    let tree = Tree::new();
    let file = File::create(tree.at("sparse")).unwrap();
    for at in 0..40 {
        file.write_all_at(&[at + 1; 4096], u64::from(at) * (1 << 20) + (1 << 19)).unwrap();
    }
    file.set_len(64 << 20).unwrap();
    File::create(tree.at("hole")).unwrap().set_len(16 << 20).unwrap();
    let full = File::create(tree.at("to-the-end")).unwrap();
    full.write_all_at(b"end", (8 << 20) - 3).unwrap();
    tree
}

#[test]
fn holes_stay_holes_in_every_way_to_tell_of_them() {
    let tree = sparse();
    for options in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let archive = gnu_tar(tree.path(), &[&["--sparse"], options].concat());
        assert!(archive.len() < 1 << 20, "the archive has the holes");
        let (unpacked, report) = unpack(&archive);
        let same = |line: &String| line.split(' ').skip(3).collect::<String>();
        let (got, want) = (unpacked.listing(), tree.listing());
        assert_eq!(
            got.iter().map(same).collect::<Vec<_>>(),
            want.iter().map(same).collect::<Vec<_>>()
        );
        for name in ["sparse", "hole", "to-the-end"] {
            let blocks = fs::metadata(unpacked.at(name)).unwrap().blocks();
            assert!(blocks <= 1024, "{options:?} {name}: {blocks} blocks");
        }
        assert!(report.bytes < 1 << 20);
    }
}

#[test]
fn pythons_archives() {
    let script = "\
add('d', type=tarfile.DIRTYPE, mode=0o711, mtime=5)
add('d/f', b'data', mode=0o640, mtime=6)
add('d/c', b'contiguous', type=tarfile.CONTTYPE)
add('old/', type=tarfile.AREGTYPE, mode=0o700, mtime=8)
add('d/s', type=tarfile.SYMTYPE, linkname='f')
add('d/h', type=tarfile.LNKTYPE, linkname='d/f')
add('\\u00fc' * 120, b'long')
add('z', type=tarfile.SYMTYPE, linkname='t' * 150)";
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        let (tree, report) = unpack(&python_tar(format, script));
        assert_eq!(report.written, 8);
        assert_eq!(fs::read(tree.at("d/c")).unwrap(), b"contiguous");
        assert_eq!(fs::read(tree.at("\u{fc}".repeat(120))).unwrap(), b"long");
        assert_eq!(fs::read_link(tree.at("z")).unwrap().as_os_str().len(), 150);
        let meta = |name| fs::metadata(tree.at(name)).unwrap();
        assert_eq!((meta("d").mode() & 0o7777, meta("d").mtime()), (0o711, 5));
        assert_eq!((meta("d/f").mode() & 0o7777, meta("d/f").mtime()), (0o640, 6));
        assert!(meta("old").is_dir());
        assert_eq!(meta("d/f").nlink(), 2);
    }
}

#[test]
fn global_records_hold_until_a_member_has_its_own() {
    let made = Made::default()
        .member("global", b'g', "", b"12 mtime=77\n14 comment=no\n")
        .file("a", "")
        .pax(&[("mtime", "88.5")])
        .file("b", "")
        .pax(&[("mtime", "")])
        .file("c", "")
        .pax(&[("size", "3"), ("path", "dir/long")])
        .raw(&Made::header(b"short", b'0', 0, b""), b"abc")
        .file("e", "e");
    let (tree, _) = unpack(&made.end());
    let mtime = |name| fs::metadata(tree.at(name)).unwrap().mtime();
    assert_eq!(["a", "b", "c", "e"].map(mtime), [77, 88, 1000, 77]);
    assert_eq!(fs::read(tree.at("dir/long")).unwrap(), b"abc");
    assert_eq!(fs::read(tree.at("e")).unwrap(), b"e");
}

#[test]
fn sums_of_signed_bytes_count_too() {
    let mut header = Made::header(b"\xffname", b'0', 0, b"");
    let sum = i64::from(header.cksum().unwrap()) - 256;
    header.as_old_mut().cksum.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let (tree, _) = unpack(&Made::default().raw(&header, b"").end());
    assert!(tree.at(std::ffi::OsStr::from_bytes(b"\xffname")).exists());
    header.as_old_mut().cksum[5] ^= 1;
    assert_damaged(&Made::default().raw(&header, b"").end(), "checksum");
}

#[test]
fn directories_without_rights_keep_their_children_and_times() {
    let script = "\
add('ro', type=tarfile.DIRTYPE, mode=0o555, mtime=11)
add('ro/f', b'1', mtime=12)
add('none', type=tarfile.DIRTYPE, mode=0, mtime=13)
add('none/sub', type=tarfile.DIRTYPE, mode=0, mtime=14)
add('none/sub/f', b'2', mode=0, mtime=15)
add('x', b'3')
add('none/sub/late', b'4', mtime=16)
add('link', type=tarfile.LNKTYPE, linkname='none/sub/f')
add('ro/link', type=tarfile.LNKTYPE, linkname='none/sub/late')
add('none/sub/link', type=tarfile.LNKTYPE, linkname='ro/f')
add('imp/licit', b'5')";
    let (tree, report) = unpack(&python_tar("GNU_FORMAT", script));
    assert_eq!(report.skipped_links, 0);
    let lines = tree.listing().join("\n");
    for line in
        ["ro/ 555 11.", "none/ 0 13.", "none/sub/ 0 14.", "none/sub/f 0 15.", "ro/f 644 12."]
    {
        assert!(lines.lines().any(|l| l.starts_with(line)), "{line} in\n{lines}");
    }
}
