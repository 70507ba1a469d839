use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

/// Numbers that nobody has on a machine where tests run: daemons of other tests begin at 1879048192.
const FIRST: u32 = 2_000_000_000;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("base")).unwrap();
        Self { dir }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    /// What one daemon has, with a range of that many numbers.
    fn open(&self, count: u32) -> Uids {
        self.open_range(&format!("{FIRST}-{}", FIRST + count - 1))
    }

    fn open_range(&self, range: &str) -> Uids {
        Uids::open(&self.state(), range.parse().unwrap(), &self.base()).unwrap()
    }

    fn counter(&self) -> PathBuf {
        self.state().join(format!("uids-{FIRST}"))
    }
}

fn numbers(uids: &[HostUid]) -> Vec<u32> {
    uids.iter().map(|uid| uid.get() - FIRST).collect()
}

fn take(uids: &Uids, count: usize) -> Vec<HostUid> {
    (0..count).map(|_| uids.reserve().unwrap()).collect()
}

#[test]
fn numbers_go_up_and_are_not_used_again() {
    let fx = Fixture::new();
    let uids = fx.open(100_000);
    drop(take(&uids, 3));
    assert_eq!(numbers(&take(&uids, 3)), [3, 4, 5]);
    // Only a block is written down: the next daemon begins above it.
    drop(uids);
    let next = fx.open(100_000);
    assert_eq!(numbers(&take(&next, 1)), [64]);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(fx.state()), mode(fx.counter())), (0o700, 0o600));
}

#[test]
fn two_daemons_never_give_the_same() {
    let fx = Fixture::new();
    // So few numbers that the counter goes round.
    let daemons = [fx.open(300), fx.open(300)];
    let all: Vec<Vec<HostUid>> = std::thread::scope(|scope| {
        // Two threads of each. They keep some to the end of the test, and give others back.
        let keep = |uids: &Uids| {
            let all = (0..100).map(|turn| (turn, uids.reserve().unwrap()));
            all.filter(|(turn, _)| turn % 2 == 0).map(|(_, uid)| uid).collect()
        };
        let threads: Vec<_> = [0, 1, 0, 1]
            .into_iter()
            .map(|n| {
                scope.spawn({
                    let uids = &daemons[n];
                    move || keep(uids)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let different: BTreeSet<u32> = all.iter().flatten().map(HostUid::get).collect();
    assert_eq!(different.len(), 200);
}

#[test]
fn threads_of_one_daemon_never_get_the_same() {
    let fx = Fixture::new();
    let uids = fx.open(1000);
    let all: Vec<Vec<HostUid>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| take(&uids, 200))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let different: BTreeSet<u32> = all.iter().flatten().map(HostUid::get).collect();
    assert_eq!(different.len(), 800);
}

#[test]
fn at_its_end_the_range_begins_anew_and_passes_over_what_is_held() {
    let fx = Fixture::new();
    let (one, other) = (fx.open(4), fx.open(4));
    let (first, second) = (one.reserve().unwrap(), other.reserve().unwrap());
    let third = one.reserve().unwrap();
    assert_eq!((first.get(), second.get(), third.get()), (FIRST, FIRST + 1, FIRST + 2));
    drop(third);
    let fourth = other.reserve().unwrap();
    assert_eq!(fourth.get(), FIRST + 3);
    // 0 and 1 are held, by either of them; 2 is not any more.
    assert_eq!(other.reserve().unwrap().get(), FIRST + 2);
    let last = one.reserve().unwrap();
    assert_eq!(last.get(), FIRST + 2);
    for uids in [&one, &other] {
        let error = uids.reserve().unwrap_err();
        assert!(matches!(error, UidError::Exhausted(_)), "{error}");
        assert!(error.to_string().contains("--sandbox-uids"));
    }
    // A daemon's end gives back what it held.
    drop((first, last, one));
    assert_eq!(numbers(&take(&other, 2)), [0, 2]);
    drop((second, fourth));
}

#[test]
fn a_lost_or_broken_counter_begins_anew_and_passes_over_what_is_held() {
    let fx = Fixture::new();
    let uids = fx.open(100_000);
    let _held = take(&uids, 2);
    let other = fx.open(100_000);
    let (unended, twice) = (FIRST.to_string(), format!("{0}\n{0}\n", FIRST + 8));
    for broken in [
        &b""[..],
        b"\xff\xfe",
        unended.as_bytes(),
        b"-1\n",
        b"1000\n",
        b"99999999999999999999\n",
        twice.as_bytes(),
        &[b'1'; 4096],
    ] {
        fs::write(fx.counter(), broken).unwrap();
        // Not the first one's two, nor what it keeps for later.
        let given = Uids::open(&fx.state(), other.range(), &fx.base()).unwrap();
        assert_eq!(numbers(&take(&given, 1)), [64], "{broken:?}");
    }
    fs::remove_file(fx.counter()).unwrap();
    assert_eq!(numbers(&take(&other, 1)), [64]);
    // What is no file at all says that something is wrong.
    fs::remove_file(fx.counter()).unwrap();
    fs::create_dir(fx.counter()).unwrap();
    assert!(matches!(fx.open(100_000).reserve(), Err(UidError::Io(..))));
}

#[test]
fn ranges_that_overlap_share_what_is_held() {
    let fx = Fixture::new();
    let low = fx.open(100);
    let held = take(&low, 8);
    let high = fx.open_range(&format!("{}-{}", FIRST + 5, FIRST + 9));
    assert_eq!(numbers(&take(&high, 1)), [8]);
    drop(held);
    assert!(matches!(low.claim(FIRST + 8).unwrap().get(), n if n == FIRST + 8));
}

#[test]
fn a_claimed_number_is_given_to_nobody_else() {
    let fx = Fixture::new();
    let (one, other) = (fx.open(3), fx.open(3));
    let claimed = one.claim(FIRST + 1).unwrap();
    for uids in [&one, &other] {
        assert!(matches!(uids.claim(FIRST + 1), Err(UidError::Taken(n)) if n == FIRST + 1));
    }
    let (first, second) = (one.reserve().unwrap(), other.reserve().unwrap());
    assert_eq!((first.get(), second.get()), (FIRST, FIRST + 2));
    drop(claimed);
    assert_eq!(other.claim(FIRST + 1).unwrap().get(), FIRST + 1);
}

#[test]
fn the_numbers_of_processes_are_passed_over() {
    let own = nix::unistd::getuid().as_raw();
    // A range of this process's own number alone: root's is in no range.
    if let Ok(range) = format!("{own}-{own}").parse() {
        let fx = Fixture::new();
        let uids = Uids::open(&fx.state(), range, &fx.base()).unwrap();
        assert!(matches!(uids.reserve(), Err(UidError::Exhausted(_))));
    }
}

#[test]
fn a_state_directory_that_others_may_use_is_refused() {
    let fx = Fixture::new();
    fs::create_dir(fx.state()).unwrap();
    fs::set_permissions(fx.state(), Permissions::from_mode(0o755)).unwrap();
    let range = "1000-1999".parse().unwrap();
    let error = Uids::open(&fx.state(), range, &fx.base()).unwrap_err();
    assert!(matches!(error, UidError::Foreign(_)), "{error}");
}

#[test]
fn locks_that_nobody_else_sees_are_not_relied_on() {
    let fx = Fixture::new();
    let uids = fx.open(2);
    let _held = uids.reserve().unwrap();
    fs::remove_file(fx.state().join("uids.lock")).unwrap();
    assert!(matches!(uids.reserve(), Err(UidError::Replaced(_))));
    assert!(matches!(uids.claim(FIRST + 1), Err(UidError::Replaced(_))));
}

mod root_only {
    use std::os::unix::fs::chown;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    /// The other tests would pass over what a process here has.
    const OWN: u32 = FIRST + 100_000_000;

    #[test]
    fn what_a_process_or_a_file_has_is_passed_over() {
        let fx = Fixture::new();
        let workspace = fx.base().join("noxrunner_sandbox_s.0123456789/workspace");
        fs::create_dir_all(&workspace).unwrap();
        chown(&workspace, Some(OWN), Some(OWN)).unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").uid(OWN + 1).gid(OWN + 1).stdin(Stdio::null());
        let mut process = sleep.spawn().unwrap();
        let uids = fx.open_range(&format!("{OWN}-{}", OWN + 2));
        let third = uids.reserve();
        let none = uids.reserve();
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(third.unwrap().get(), OWN + 2);
        assert!(matches!(none, Err(UidError::Exhausted(_))));
        assert_eq!(uids.reserve().unwrap().get(), OWN + 1);
        fs::remove_dir(&workspace).unwrap();
        assert_eq!(take(&uids, 3).len(), 3);
    }
}
