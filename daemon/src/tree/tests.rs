use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::remove::remove_tree_within;
use super::*;

const LAST: &str = "manifest.json";

/// A directory with a tree `top` in it that is to be removed.
struct Forest(tempfile::TempDir);

impl Forest {
    fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    fn within(dir: &Path) -> Self {
        let forest = Self(tempfile::tempdir_in(dir).unwrap());
        fs::create_dir(forest.at("")).unwrap();
        forest
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join("top").join(path)
    }

    fn dir(&self, path: &str) -> PathBuf {
        let dir = self.at(path);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn file(&self, path: &str) -> PathBuf {
        fs::write(self.at(path), "content").unwrap();
        self.at(path)
    }

    fn remove(&self) -> Result<(), TreeError> {
        self.remove_entry("top")
    }

    fn remove_entry(&self, name: &str) -> Result<(), TreeError> {
        remove_tree(held(self.0.path()).as_fd(), OsStr::new(name), OsStr::new(LAST))
    }

    #[track_caller]
    fn assert_removed(&self) {
        assert_eq!(self.remove(), Ok(()));
        assert!(fs::symlink_metadata(self.at("")).is_err(), "the tree is still there");
    }
}

fn held(path: &Path) -> OwnedFd {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap()
}

/// Makes `depth` directories, each in the one before, deeper than any path can name.
fn nest(at: &Path, depth: u64) {
    let mut here = held(at);
    for _ in 0..depth {
        mkdirat(&here, "d", Mode::S_IRWXU).unwrap();
        here = openat(&here, "d", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    openat(&here, "file", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs the body as an ordinary user: the kernel asks root for no rights, so as
/// root such a test would prove nothing. Under root the test runs itself again
/// as nobody, from a copy that nobody may read.
fn as_an_ordinary_user(test: &str, body: impl FnOnce()) {
    if !nix::unistd::geteuid().is_root() {
        return body();
    }
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    chmod(dir.path(), 0o755);
    let copy = dir.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    std::os::unix::fs::chown(&tmp, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut again = Command::new(copy);
    again.args(["--exact", test]).env("TMPDIR", &tmp).current_dir(&tmp).uid(NOBODY).gid(NOBODY);
    assert_one_passed(&mut again);
}

fn assert_one_passed(tests: &mut Command) {
    let output = tests.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}\n{stderr}");
}

#[test]
fn every_kind_of_entry_goes_and_what_links_lead_to_stays() {
    let forest = Forest::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "kept").unwrap();
    for dir in ["", "a", "a/b", "a/b/c"] {
        forest.dir(dir);
        fs::write(forest.at(dir).join("file"), "").unwrap();
        symlink(outside.path(), forest.at(dir).join("link to directory")).unwrap();
        symlink(outside.path().join("precious"), forest.at(dir).join("link to file")).unwrap();
        symlink("nowhere", forest.at(dir).join("dangling")).unwrap();
        symlink("..", forest.at(dir).join("up")).unwrap();
        fs::hard_link(outside.path().join("precious"), forest.at(dir).join("hard")).unwrap();
        nix::unistd::mkfifo(&forest.at(dir).join("fifo"), Mode::S_IRWXU).unwrap();
        drop(UnixListener::bind(forest.at(dir).join("socket")).unwrap());
    }
    forest.dir("empty");
    forest.file(LAST);
    forest.assert_removed();
    assert_eq!(fs::read(outside.path().join("precious")).unwrap(), b"kept");
}

#[test]
fn what_is_no_directory_is_left_alone_and_what_is_gone_is_no_error() {
    let forest = Forest::new();
    symlink("top", forest.0.path().join("link")).unwrap();
    fs::write(forest.0.path().join("file"), "").unwrap();
    for name in ["link", "file"] {
        let error = TreeError::NotADirectory { name: name.into() };
        assert_eq!(forest.remove_entry(name), Err(error));
        assert!(fs::symlink_metadata(forest.0.path().join(name)).is_ok());
    }
    assert_eq!(forest.remove_entry("missing"), Ok(()));
    assert!(forest.at("").is_dir());
}

#[test]
fn names_like_the_removers_own_do_not_stop_it() {
    let forest = Forest::new();
    forest.dir(".removing-0/a/b");
    forest.dir("x/y/z");
    forest.dir(".removing-2");
    forest.file(".removing-1");
    forest.assert_removed();
}

/// Two sizes: one on the disk, and a large one in memory where there is such a
/// place, for ext4 takes a hundred times as long to make so many.
fn sizes(on_disk: u64, in_memory: u64) -> [(u64, PathBuf); 2] {
    let (disk, memory) = (std::env::temp_dir(), PathBuf::from("/dev/shm"));
    let quick = if memory.is_dir() { memory } else { disk.clone() };
    [(on_disk, disk), (in_memory, quick)]
}

#[test]
fn depth_costs_neither_descriptors_nor_stack() {
    const TEST: &str = "tree::tests::depth_costs_neither_descriptors_nor_stack";
    const INSIDE: &str = "NOXRUNNER_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(INSIDE).is_none() {
        let mut inside = Command::new("sh");
        inside
            .args(["-c", "ulimit -n 32 && exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap());
        inside.args(["--exact", TEST]).env(INSIDE, "").env("RUST_MIN_STACK", "262144");
        return assert_one_passed(&mut inside);
    }
    for (depth, place) in sizes(3_000, 100_000) {
        let forest = Forest::within(&place);
        nest(&forest.dir("work"), depth);
        nest(&forest.at(""), 2);
        let usage = usage(held(&forest.at("")).as_fd()).unwrap();
        assert_eq!((usage.inodes, usage.unreadable), (depth + 6, 0));
        forest.assert_removed();
    }
}

#[test]
fn width_costs_nothing() {
    for (width, place) in sizes(1_000, 100_000) {
        let forest = Forest::within(&place);
        let dir = held(&forest.dir("wide"));
        for n in 0..width {
            let name = n.to_string();
            openat(&dir, name.as_str(), OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
        }
        for n in 0..100 {
            forest.dir(&format!("dirs/{n}/sub/sub"));
        }
        assert_eq!(usage(held(&forest.at("")).as_fd()).unwrap().inodes, width + 303);
        forest.assert_removed();
    }
}

#[test]
fn directories_and_files_without_rights_go_too() {
    as_an_ordinary_user("tree::tests::directories_and_files_without_rights_go_too", || {
        for mode in [0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o600] {
            let forest = Forest::new();
            for dir in ["a/b/c", "a/empty", "d"] {
                forest.dir(dir);
            }
            for file in ["a/b/c/file", "a/b/file", "d/file", "file"] {
                chmod(&forest.file(file), 0o000);
            }
            for dir in ["a/b/c", "a/b", "a/empty", "a", "d", ""] {
                chmod(&forest.at(dir), mode);
            }
            // The control: without rights given back, it cannot be done.
            fs::remove_dir_all(forest.at("")).expect_err("rights matter to this user");
            forest.assert_removed();
        }
    });
}

#[test]
fn the_target_of_a_link_keeps_its_mode() {
    as_an_ordinary_user("tree::tests::the_target_of_a_link_keeps_its_mode", || {
        let outside = tempfile::tempdir().unwrap();
        let closed = outside.path().join("closed");
        fs::create_dir(&closed).unwrap();
        chmod(&closed, 0o000);
        let forest = Forest::new();
        symlink(&closed, forest.dir("a/b").join("link")).unwrap();
        chmod(&forest.at("a"), 0o000);
        forest.assert_removed();
        assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o777, 0o000);
        chmod(&closed, 0o700);
    });
}

/// Removes while two threads go on writing by path, by descriptor and by moving
/// directories about; they end when it returns.
fn remove_under_fire(forest: &Forest, patience: Duration) -> Result<(), TreeError> {
    let (written, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let work = held(&forest.dir("a/work"));
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (work, written, stop) = (&work, &written, &stop);
            scope.spawn(move || {
                // What fails here fails because it has been removed. They end by
                // themselves, too: a slow disk must not make this test a large one.
                while !stop.load(Ordering::Relaxed) {
                    let n = written.fetch_add(1, Ordering::Relaxed);
                    if n > 50_000 {
                        break;
                    }
                    let dir = forest.at(&format!("a/{writer}/{}", n % 100));
                    let _ = fs::create_dir_all(dir.join("deeper"));
                    let _ = fs::write(dir.join(format!("{n}")), "");
                    let _ = fs::rename(&dir, forest.at(&format!("{n}")));
                    let name = format!("{n}");
                    let _ = mkdirat(work, name.as_str(), Mode::S_IRWXU);
                    let _ = openat(work, "file", OFlag::O_CREAT | OFlag::O_RDWR, Mode::S_IRWXU);
                }
            });
        }
        while written.load(Ordering::Relaxed) < 1_000 {
            std::thread::yield_now();
        }
        let parent = held(forest.0.path());
        let _stop = StopOnDrop(&stop);
        remove_tree_within(parent.as_fd(), OsStr::new("top"), OsStr::new(LAST), patience)
    })
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_writer_is_outlasted_or_named() {
    let [_, (_, memory)] = sizes(0, 0);
    for patience in [Duration::ZERO, Duration::from_millis(300)] {
        let forest = Forest::within(&memory);
        forest.file(LAST);
        match remove_under_fire(&forest, patience) {
            Ok(()) | Err(TreeError::StillFilled { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        // The writers may have made it anew by path; nothing holds it now.
        forest.assert_removed();
    }
}

#[test]
fn a_mount_point_inside_is_named_and_not_entered() {
    const TEST: &str = "tree::tests::a_mount_point_inside_is_named_and_not_entered";
    const PLACE: &str = "NOXRUNNER_TEST_MOUNTED";
    if let Some(place) = std::env::var_os(PLACE) {
        let parent = held(Path::new(&place));
        let removed = remove_tree(parent.as_fd(), OsStr::new("top"), OsStr::new(LAST));
        assert_eq!(removed, Err(TreeError::MountPoint { name: "mnt".into() }));
        assert!(Path::new(&place).join("top/a/mnt/precious").exists());
        let above = held(&Path::new(&place).join("top/a"));
        let removed = remove_tree(above.as_fd(), OsStr::new("mnt"), OsStr::new(LAST));
        assert_eq!(removed, Err(TreeError::MountPoint { name: "mnt".into() }));
        assert!(Path::new(&place).join("top/a/mnt/precious").exists());
        let tree = held(&Path::new(&place).join("top"));
        assert_eq!(usage(tree.as_fd()).unwrap().inodes, 3, "top, the manifest and a");
        return;
    }
    let forest = Forest::new();
    forest.dir("a/mnt");
    forest.file(LAST);
    let script = r#"mount -t tmpfs none "$1/top/a/mnt" && touch "$1/top/a/mnt/precious" && exec "$2" --exact "$3""#;
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    inside.arg(forest.0.path()).arg(std::env::current_exe().unwrap()).arg(TEST);
    assert_one_passed(inside.env(PLACE, forest.0.path()));
    assert!(forest.at(LAST).exists(), "the manifest goes last");
    forest.assert_removed();
}

#[test]
fn usage_counts_blocks_and_hard_links_once() {
    let forest = Forest::new();
    forest.dir("a");
    fs::write(forest.at("a/file"), vec![1; 1 << 20]).unwrap();
    fs::hard_link(forest.at("a/file"), forest.at("hard")).unwrap();
    symlink("/usr", forest.at("link")).unwrap();
    fs::File::create(forest.at("sparse")).unwrap().set_len(1 << 30).unwrap();
    let blocks: u64 = ["", "a", "a/file", "link", "sparse"]
        .iter()
        .map(|path| fs::symlink_metadata(forest.at(path)).unwrap().blocks())
        .sum();
    let want = TreeUsage { disk_bytes: blocks * 512, inodes: 5, unreadable: 0 };
    assert!((1 << 20..2 << 20).contains(&want.disk_bytes), "{want:?}");
    assert_eq!(usage(held(&forest.at("")).as_fd()), Ok(want));
}

#[test]
fn unreadable_directories_are_counted_and_left_as_they_are() {
    as_an_ordinary_user(
        "tree::tests::unreadable_directories_are_counted_and_left_as_they_are",
        || {
            for mode in [0o000, 0o100, 0o400] {
                let forest = Forest::new();
                forest.dir("closed/hidden");
                forest.dir("open/sub");
                chmod(&forest.at("closed"), mode);
                let usage = usage(held(&forest.at("")).as_fd()).unwrap();
                assert_eq!((usage.inodes, usage.unreadable), (4, 1), "{mode:o}");
                assert_eq!(fs::metadata(forest.at("closed")).unwrap().mode() & 0o777, mode);
                chmod(&forest.at("closed"), 0o700);
            }
        },
    );
}

#[test]
fn the_newest_of_a_tree_is_found_wherever_it_is() {
    let forest = Forest::new();
    forest.dir("a/b");
    let (file, dir, top) = (forest.file("a/b/file"), forest.at("a/b"), forest.at(""));
    symlink("/proc", forest.at("link")).unwrap();
    let newest = || newest_mtime(held(&top).as_fd()).unwrap();
    let set = |path: &Path, at: SystemTime| {
        let times = fs::FileTimes::new().set_modified(at);
        fs::File::open(path).unwrap().set_times(times).unwrap();
    };
    let real = newest();
    let later = |seconds| real + Duration::from_secs(seconds);
    for (seconds, path) in [(1_000, &file), (2_000, &dir), (3_000, &top), (4_000, &file)] {
        set(path, later(seconds) + Duration::from_nanos(5));
        assert_eq!(newest(), later(seconds) + Duration::from_nanos(5));
    }
    assert_eq!(
        fs::symlink_metadata(&top).unwrap().modified().unwrap(),
        later(3_000) + Duration::from_nanos(5)
    );
}
