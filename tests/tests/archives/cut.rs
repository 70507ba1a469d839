//! Archives that end too early, or are damaged: a clear answer, and nothing of them.

use noxrunner_tests::archive::{Door, built};
use noxrunner_tests::{ON_TCP, TestDaemon};

use super::{listing, nothing_staged, with_sandbox};

/// Files, directories and links, long names and a sparse one: every kind of block.
const CODE: &str = "add('a/b', b'x' * 1500)\nadd('l', type=SYM, link='a/b')\n\
    add('n' * 150, b'long')\nadd('d/', type=DIR)\nadd('h', type=LNK, link='a/b')\n\
    add('last', b'y' * 600)";

#[track_caller]
fn refused(daemon: &TestDaemon, door: Door, archive: &[u8], what: &str) -> String {
    match door.upload(daemon, "s", "/workspace", archive) {
        Err((kind, message)) => {
            assert_eq!(kind, "badArchive", "{what}: {message}");
            message
        }
        Ok(result) => panic!("{what}: {result}"),
    }
}

#[test]
fn cut_at_every_block_nothing_is_left() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start_with(&ON_TCP));
    std::fs::write(workspace.join("before"), "kept").unwrap();
    let archive = built("w", CODE);
    // Python pads to 10,240 bytes; what comes after the first block of zeros is only padding.
    let zeros = [0; 512];
    let end = archive.chunks(512).position(|block| block == zeros).unwrap();
    for blocks in 0..=end {
        for door in Door::ALL {
            let what = format!("{door:?}, cut after {blocks} blocks");
            let message = refused(&daemon, door, &archive[..blocks * 512], &what);
            assert!(message.contains("cut off"), "{what}: {message}");
        }
        if blocks < end {
            refused(&daemon, Door::Rpc, &archive[..blocks * 512 + 100], "cut in a block");
        }
        assert_eq!(listing(&workspace), ["before: kept"], "after {blocks} blocks");
    }
    nothing_staged(&workspace);
    // The control: with its end it is whole.
    let whole = &archive[..(end + 1) * 512];
    assert_eq!(Door::Rpc.upload(&daemon, "s", "/workspace", whole).unwrap()["written"], 6);
    assert_eq!(listing(&workspace).len(), 8);
}

#[test]
fn gzip_that_is_cut_or_damaged_leaves_nothing() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start_with(&ON_TCP));
    let archive = built("w:gz", CODE);
    for cut in (1..archive.len()).step_by(7).chain([archive.len() - 1]) {
        refused(&daemon, Door::Rpc, &archive[..cut], &format!("cut after {cut} bytes"));
    }
    // The checksum of what was compressed is in its last eight bytes (RFC 1952).
    for at in [archive.len() - 8, archive.len() - 1, archive.len() / 2] {
        let mut damaged = archive.clone();
        damaged[at] ^= 0x55;
        for door in Door::ALL {
            refused(&daemon, door, &damaged, &format!("byte {at} is wrong"));
        }
    }
    assert_eq!(listing(&workspace), [""; 0]);
    nothing_staged(&workspace);
    assert_eq!(Door::Http.upload(&daemon, "s", "/workspace", &archive).unwrap()["written"], 6);
}

#[test]
fn what_is_no_archive_is_told_so() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start_with(&ON_TCP));
    let mut checksum = built("w", CODE);
    checksum[0] ^= 1;
    let mut second = built("w", CODE);
    // The header of the second member: after the first one and its three blocks.
    second[512 * 4 + 1] ^= 1;
    for (what, archive) in [
        ("text", b"hello, this is not a tar archive".repeat(40)),
        ("a wrong checksum", checksum),
        ("a wrong checksum later on", second),
        ("gzip of nothing", Vec::from(*b"\x1f\x8b")),
    ] {
        for door in Door::ALL {
            refused(&daemon, door, &archive, what);
        }
    }
    for door in Door::ALL {
        let message = refused(&daemon, door, b"", "nothing");
        assert!(message.contains("empty"), "{message}");
    }
    assert_eq!(listing(&workspace), [""; 0]);
    // An archive of nothing is one.
    let result = Door::Http.upload(&daemon, "s", "/workspace", &built("w:gz", "")).unwrap();
    assert_eq!(result["written"], 0);
}
