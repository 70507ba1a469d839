//! Archives that are cut, damaged, too large or lying.

use std::io::{self, Read};
use std::os::fd::AsFd;

use noxrunner_archive::{Limits, Rules, StageError, stage, stays_beneath};

use super::support::*;

fn archive() -> Made {
    let mut sparse = Made::header(b"sparse", b'S', 1, b"");
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(9);
    gnu.sparse[0].set_offset(4);
    gnu.sparse[0].set_length(1);
    sparse.set_cksum();
    Made::default()
        .dir("d")
        .member("long", b'L', "", &[b"d/".as_slice(), &[b'n'; 200], b"\0"].concat())
        .file("short", "content")
        .pax(&[("path", "d/pax"), ("mtime", "1.5")])
        .file("x", &"y".repeat(1500))
        .raw(&sparse, b"s")
        .symlink("l", "d")
        .hard_link("h", "d/pax")
}

#[test]
fn an_archive_cut_anywhere_is_not_whole() {
    let whole = archive().end();
    let marker = whole.len() - 1024;
    let odd = [1, 2, 3, 511, 513, 700, 1029, marker - 1, marker + 1, marker + 511];
    for cut in (0..whole.len()).step_by(512).chain(odd) {
        let (_, report) = unpack_within(&whole[..cut], ROOMY);
        if cut == marker + 512 {
            assert!(report.is_ok(), "{cut}: {report:?}");
        } else {
            assert!(matches!(report, Err(StageError::Truncated(_))), "{cut}: {report:?}");
        }
    }
    unpack(&whole);
    let StageError::Truncated(why) = refused(b"") else { panic!() };
    assert!(why.contains("empty"));
}

#[test]
fn a_gzip_stream_cut_anywhere_is_not_whole() {
    let whole = gzip(&archive().end());
    unpack(&whole);
    for cut in 0..whole.len() {
        let error = refused(&whole[..cut]);
        assert!(matches!(error, StageError::Truncated(_)), "{cut}: {error:?}");
    }
    let mut bad = whole.clone();
    let checksum = bad.len() - 8;
    bad[checksum] ^= 1;
    assert_damaged(&bad, "gzip");
    let mut twice = gzip(&archive().0);
    twice.extend(gzip(&[0; 1024]));
    unpack(&twice);
}

#[test]
fn no_changed_byte_of_a_header_goes_unnoticed() {
    let whole = archive().end();
    for at in (0..512).filter(|at| !(148..156).contains(at)) {
        let mut bad = whole.clone();
        bad[at] ^= 0x01;
        assert_damaged(&bad, "checksum");
    }
    assert_damaged(&[b'x'; 2048], "checksum");
    assert_damaged(&[b"\x28\xb5\x2f\xfd".as_slice(), &[1; 2048]].concat(), "zstd");
}

#[test]
fn the_bounds_are_exact() {
    let whole = archive().end();
    for archive in [whole.clone(), gzip(&whole)] {
        let bytes = whole.len() as u64;
        let within =
            |bytes, members| unpack_within(&archive, Limits { bytes, members, keep_free: 0 }).1;
        assert_eq!(within(bytes, 6).unwrap().written, 6);
        let error = within(bytes - 1, 6).unwrap_err();
        assert!(matches!(error, StageError::TooLarge { limit } if limit == bytes - 1));
        assert!(matches!(within(bytes, 5), Err(StageError::TooManyMembers { limit: 5 })));
        assert!(matches!(within(0, 6), Err(StageError::TooLarge { limit: 0 })));
    }
}

#[test]
fn skipped_members_count() {
    let many = (0..10).fold(Made::default(), |made, _| made.member("p", b'6', "", b"")).end();
    let limits = Limits { members: 9, ..ROOMY };
    assert!(matches!(unpack_within(&many, limits).1, Err(StageError::TooManyMembers { .. })));
}

/// Gives the same bytes again and again.
struct Endless(Vec<u8>, usize);

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(self.0.len() - self.1);
        into[..count].copy_from_slice(&self.0[self.1..self.1 + count]);
        self.1 = (self.1 + count) % self.0.len();
        Ok(count)
    }
}

fn endless(bytes: Vec<u8>, limit: u64) -> StageError {
    let tree = Tree::new();
    let limits = Limits { bytes: limit, ..ROOMY };
    let rules = Rules { limits, owner: None, link_stays: &stays_beneath };
    stage(&mut Endless(bytes, 0), tree.open().as_fd(), &rules).unwrap_err()
}

#[test]
fn a_bomb_ends_at_the_bound() {
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let bomb = gzip(&vec![0; 64 << 20]);
    let mut made = Made::default().raw(&Made::header(b"bomb", b'0', 4 << 30, b""), b"").0;
    let header = gzip(&made);
    let before = peak();
    let archive: Vec<u8> = [header.as_slice(), &bomb].concat();
    assert!(matches!(endless(archive, 48 << 20), StageError::TooLarge { .. }));
    // Nothing but zeros after the end.
    made.clear();
    assert!(matches!(endless(bomb, 256 << 20), StageError::TooLarge { .. }));
    // Streams that unpack to nothing, for ever.
    assert!(matches!(endless(gzip(b""), 1 << 20), StageError::TooLarge { .. }));
    // Other tests of this process run meanwhile; an archive in memory would be more.
    let grown = peak() - before;
    assert!(grown < 150_000, "{grown} KiB");
}

struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::Error::new(io::ErrorKind::ConnectionReset, "gone")),
            count => Ok(count),
        }
    }
}

#[test]
fn a_source_that_fails_is_not_a_damaged_archive() {
    let whole = archive().end();
    let packed = gzip(&whole);
    for bytes in [&whole[..0], &whole[..1], &whole[..700], &whole, &packed[..40], &packed] {
        let tree = Tree::new();
        let rules = Rules { limits: ROOMY, owner: None, link_stays: &stays_beneath };
        match stage(&mut Failing(bytes), tree.open().as_fd(), &rules) {
            Err(StageError::Input(error)) => assert_eq!(error.to_string(), "gone"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_room_is_said_before_anything_is_written() {
    let limits = Limits { keep_free: u64::MAX, ..ROOMY };
    let (tree, report) = unpack_within(&archive().end(), limits);
    assert!(matches!(report, Err(StageError::NoRoom { keep_free: u64::MAX })));
    assert!(tree.is_empty());
    // More than any disk has, said by a header.
    let large = Made::default().raw(&Made::header(b"large", b'0', 1 << 60, b""), b"").end();
    assert!(matches!(refused(&large), StageError::NoRoom { .. }));
}

#[test]
fn lying_sizes() {
    let beyond = Made::default().raw(&Made::header(b"f", b'0', 4096, b""), b"abc").end();
    assert!(matches!(refused(&beyond), StageError::Truncated(_)));
    let mut negative = Made::header(b"f", b'0', 0, b"");
    negative.as_old_mut().size = [0xff; 12];
    negative.set_cksum();
    assert_damaged(&Made::default().raw(&negative, b"").end(), "size");
    let pax = |size: &str| Made::default().pax(&[("size", size)]).file("f", "").end();
    assert_damaged(&pax("18446744073709551615"), "size");
    assert_damaged(&pax("9223372036854775808"), "size");
    assert!(matches!(refused(&pax("1024")), StageError::Truncated(_)));
    // Links have no data, whatever they say.
    let link = Made::default().raw(&Made::header(b"l", b'2', 1 << 40, b"f"), b"").file("f", "f");
    assert_eq!(unpack(&link.end()).1.written, 2);
}

#[test]
fn extensions_are_bounded_and_belong_to_a_member() {
    let long = |flag, size: usize| Made::default().member("x", flag, "", &vec![b'n'; size]);
    assert_damaged(&long(b'L', 65_537).file("f", "").end(), "65537");
    assert_damaged(&long(b'K', 65_537).file("f", "").end(), "65537");
    assert_damaged(&long(b'x', (1 << 20) + 1).file("f", "").end(), "1048577");
    let huge = Made::default().raw(&Made::header(b"x", b'x', 1 << 50, b""), b"").end();
    assert_damaged(&huge, "extension");
    assert_damaged(&Made::default().pax(&[("path", "a")]).end(), "missing");
    assert_damaged(&Made::default().member("x", b'x', "", b"bad").file("f", "").end(), "pax");
    let xattr = "v".repeat(60_000);
    let fits = Made::default().pax(&[("SCHILY.xattr.user.a", &xattr), ("path", "p")]);
    assert!(unpack(&fits.file("f", "").end()).0.at("p").exists());
}

fn old_sparse(real: u64, size: u64, parts: &[(u64, u64)]) -> Vec<u8> {
    let mut header = Made::header(b"s", b'S', size, b"");
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(real);
    for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(parts) {
        slot.set_offset(*offset);
        slot.set_length(*length);
    }
    header.set_cksum();
    Made::default().raw(&header, &vec![b'd'; usize::try_from(size).unwrap()]).end()
}

#[test]
fn maps_that_lie() {
    let (tree, _) = unpack(&old_sparse(10, 3, &[(2, 1), (5, 2), (10, 0)]));
    assert_eq!(std::fs::read(tree.at("s")).unwrap(), b"\0\0d\0\0dd\0\0\0");
    assert_damaged(&old_sparse(10, 3, &[(5, 2), (2, 1)]), "order");
    assert_damaged(&old_sparse(10, 3, &[(2, 2), (3, 1)]), "overlap");
    assert_damaged(&old_sparse(10, 3, &[(8, 3)]), "beyond");
    assert_damaged(&old_sparse(10, 1, &[(u64::MAX / 2, 1)]), "beyond");
    assert_damaged(&old_sparse(10, 3, &[(2, 2)]), "size");
    assert_damaged(&old_sparse(1 << 63, 0, &[]), "size");
    let pax =
        |records: &[(&str, &str)], data: &str| Made::default().pax(records).file("s", data).end();
    let (major, minor) = (("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"));
    let size = ("GNU.sparse.realsize", "9");
    let data = format!("{:\0<512}ab", "1\n3\n2\n");
    let (tree, _) = unpack(&pax(&[major, minor, size], &data));
    assert_eq!(std::fs::read(tree.at("s")).unwrap(), b"\0\0\0ab\0\0\0\0");
    assert_damaged(&pax(&[major, minor], &data), "without");
    assert_damaged(&pax(&[("GNU.sparse.major", "2"), minor, size], &data), "version");
    assert_damaged(&pax(&[major, minor, size], "1\n3\n2\n"), "longer");
    for map in ["2\n3\n2\n", "1\n3\nx\n", "1000001\n", "1\n3\n100000000000000000000000\n"] {
        let data = format!("{map:\0<512}ab");
        assert_damaged(&pax(&[major, minor, size], &data), "map");
    }
    let old = |map, blocks| {
        let records = [("GNU.sparse.size", "9"), ("GNU.sparse.numblocks", blocks), map];
        pax(&records, "ab")
    };
    unpack(&old(("GNU.sparse.map", "3,2"), "1"));
    assert_damaged(&old(("GNU.sparse.map", "3,2"), "2"), "number of parts");
    assert_damaged(&old(("GNU.sparse.map", "3,3"), "1"), "size");
    assert_damaged(&old(("GNU.sparse.map", "3"), "1"), "value");
}

#[test]
fn a_map_without_end_is_given_up() {
    let mut header = Made::header(b"s", b'S', 0, b"");
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(1 << 40);
    gnu.set_is_extended(true);
    gnu.sparse.iter_mut().for_each(|part| {
        part.set_offset(0);
        part.set_length(0);
    });
    header.set_cksum();
    let mut more = tar::GnuExtSparseHeader::new();
    more.set_is_extended(true);
    more.sparse_mut().iter_mut().for_each(|part| {
        part.set_offset(0);
        part.set_length(0);
    });
    let mut bytes = header.as_bytes().to_vec();
    (0..50_000).for_each(|_| bytes.extend_from_slice(more.as_bytes()));
    assert_damaged(&bytes, "1000000 parts");
}

#[test]
fn a_great_many_members() {
    let mut made = Made::default();
    for at in 0..20_000 {
        made = made.file(&format!("{}/{at}", at / 1000), "");
    }
    let (_, report) = unpack(&made.end());
    assert_eq!(report.written, 20_000);
}
