//! A directory and a link to a directory outside that change places all the time.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::{RenameFlags, renameat2};
use noxrunner_archive::Tree;

use crate::support::pack;

const SECRET: &[u8] = b"what is outside stays outside";
const SWAPS: u64 = 100_000;

/// Whether a walk that trusts names finds the secret: it asks what an entry is, and then goes
/// there by its name.
fn naive_walk_finds_it(top: &Path) -> bool {
    let mut todo = vec![top.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(stat) = fs::symlink_metadata(&path) else { continue };
            if stat.is_dir() {
                todo.push(path);
            } else if stat.is_file() && fs::read(&path).is_ok_and(|content| content == SECRET) {
                return true;
            }
        }
    }
    false
}

fn holds_secret(archive: &[u8]) -> bool {
    archive.windows(SECRET.len()).any(|window| window == SECRET)
}

#[test]
fn a_link_in_a_directorys_place_is_never_followed() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let top = inside.path();
    fs::write(outside.path().join("file"), SECRET).unwrap();
    fs::create_dir(top.join("a")).unwrap();
    fs::write(top.join("a/file"), "harmless").unwrap();
    symlink(outside.path(), top.join("b")).unwrap();
    fs::write(top.join("c"), "harmless").unwrap();
    symlink(outside.path().join("file"), top.join("d")).unwrap();
    assert!(holds_secret(&pack(outside.path(), Tree::Sandbox).unwrap().0), "as it would look");

    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut leaked, mut naive, mut packs, mut links, mut directories) = (0, 0, 0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let held = File::open(top).unwrap();
            let swap = |one: &str, other: &str| {
                renameat2(&held, one, &held, other, RenameFlags::RENAME_EXCHANGE).unwrap();
            };
            while !stop.load(Ordering::Relaxed) {
                swap("a", "b");
                swap("c", "d");
                swaps.fetch_add(2, Ordering::Relaxed);
            }
        });
        while swaps.load(Ordering::Relaxed) < SWAPS || naive == 0 {
            let (archive, packed) = pack(top, Tree::Sandbox).unwrap();
            leaked += u64::from(holds_secret(&archive));
            links += u64::from(packed.bytes == 0);
            directories += u64::from(packed.bytes > 0);
            packs += 1;
            naive += u64::from(naive_walk_finds_it(top));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let swaps = swaps.into_inner();
    println!("{packs} archives in {swaps} swaps; the naive walk was led out {naive} times");
    assert_eq!(leaked, 0, "of {packs} archives");
    assert!(directories > 0, "{links} archives had links only");
}
