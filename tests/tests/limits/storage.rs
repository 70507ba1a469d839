//! Bytes and files on disk, in every place that a sandbox can write to.

use noxrunner_protocol::types::{Cause, ExecResult};
use serde_json::json;

use super::arm::{Arm, Limited};
use super::neighbours::{is, meets_its_limit};

const MIB: u64 = 1 << 20;

/// What is allowed, in MiB.
const LIMIT: u64 = 32;

/// How much more a watch may let pass, in MiB: three times what was seen at the most, 122.
const OVERSHOOT: u64 = 366;

/// And how many files: the more there are, the longer it takes to count them. 68,000 were seen.
const MORE_FILES: u64 = 200_000;

/// Files of a mebibyte each, up to 4 GiB.
const FILL: &str = "i=0; while [ $i -lt 4096 ]; do head -c 1048576 /dev/zero > f$i; i=$((i + 1)); \
    done; echo all of it";

/// Removes all files of a place without haste, so that somebody looks meanwhile.
const TIDY: &str = r#"exec python3 -c '
import os, time
time.sleep(0.7)
for name in os.listdir():
    os.remove(name)
time.sleep(0.7)
print("tidy")
'"#;

pub(crate) fn in_the_workspace(arm: Arm) {
    fill(arm, "/workspace");
}

pub(crate) fn in_the_home(arm: Arm) {
    fill(arm, "$HOME");
}

pub(crate) fn in_the_temporary_directory(arm: Arm) {
    fill(arm, "/tmp");
}

fn sandbox(arm: Arm) -> Limited {
    arm.sandbox("", json!({"ephemeralStorageLimit": format!("{LIMIT}Mi")}))
}

#[track_caller]
fn used(daemon: &Limited) -> u64 {
    daemon.usage("s", "diskBytes") / MIB
}

#[track_caller]
fn fill(arm: Arm, place: &str) {
    let daemon = sandbox(arm);
    let go = format!("cd {place} && ");
    let full = |result: ExecResult| {
        is(&result, Cause::Limit, 137, "ephemeralStorageLimit");
        assert_eq!(result.stdout, "");
    };
    full(meets_its_limit(&daemon, &format!("{go}{FILL}")));
    let had = used(&daemon);
    println!("with a limit of {LIMIT} MiB there were {had} MiB in {place}");
    assert!((LIMIT..LIMIT + OVERSHOOT).contains(&had), "{had}");
    // Who is over it may look around, may not write more, and may tidy up.
    let looks = daemon.sh("s", &format!("{go}sleep 0.7; echo looked"));
    assert_eq!((looks.cause, looks.stdout.as_str()), (Cause::Exited, "looked\n"), "{looks:?}");
    full(daemon.sh("s", &format!("{go}i=again; while :; do head -c 99999 /dev/zero >> $i; done")));
    let path = daemon.sh("s", &format!("{go}echo $PWD/f0"));
    daemon.call("file.remove", json!({"sessionId": "s", "path": path.stdout.trim()})).unwrap();
    let tidy = daemon.sh("s", &format!("{go}{TIDY}"));
    is(&tidy, Cause::Exited, 0, "");
    assert_eq!(tidy.stdout, "tidy\n");
    assert!(used(&daemon) < 1, "{}", used(&daemon));
    // Then there is room again, and again as much as before.
    let writes = daemon.sh("s", &format!("{go}head -c 20000000 /dev/zero > x; sleep 0.7; echo on"));
    assert_eq!((writes.cause, writes.stdout.as_str()), (Cause::Exited, "on\n"), "{writes:?}");
    full(meets_its_limit(&daemon, &format!("{go}{FILL}")));
    daemon.leaves_nothing();
}

pub(crate) fn one_file_is_held_by_the_kernel(arm: Arm) {
    let daemon = sandbox(arm);
    // RLIMIT_FSIZE: a signal, and an error where that is ignored, as Python does. Files with holes
    // take up nothing, so that nobody else can have stopped it.
    let grow = |to: u64, signal: &str| {
        format!(
            r#"exec python3 -c '
import errno, os, signal
signal.signal(signal.SIGXFSZ, signal.{signal})
try:
    os.truncate("big", {to})
    print("grown")
except OSError as e:
    print(errno.errorcode[e.errno])
'"#
        )
    };
    for place in ["/workspace", "$HOME", "/tmp"] {
        let run = |script: &str| daemon.sh("s", &format!("cd {place}; : > big; {script}"));
        let big = run("echo $PWD/big").stdout.trim().to_owned();
        let fits = run(&grow(LIMIT * MIB, "SIG_DFL"));
        assert_eq!((fits.cause, fits.stdout.as_str()), (Cause::Exited, "grown\n"), "{fits:?}");
        is(&run(&grow(LIMIT * MIB + 1, "SIG_DFL")), Cause::Limit, 137, "a file of it grew");
        let told = run(&grow(LIMIT * MIB + 1, "SIG_IGN"));
        assert_eq!((told.cause, told.stdout.as_str()), (Cause::Exited, "EFBIG\n"), "{told:?}");
        // One that is written, whoever is the first to notice.
        let killed = run("exec head -c 67108864 /dev/zero > big");
        is(&killed, Cause::Limit, 137, "ephemeralStorageLimit");
        assert!(used(&daemon) <= LIMIT, "{}", used(&daemon));
        // Not by a command: with its directories the sandbox is over the limit now, and the first
        // look at the next command may count all of it.
        daemon.call("file.remove", json!({"sessionId": "s", "path": big})).unwrap();
    }
    daemon.leaves_nothing();
}

pub(crate) fn a_hundred_thousand_files(arm: Arm) {
    let daemon = arm.sandbox("default_inodes = \"20k\"", json!({}));
    let script = r#"exec python3 -c '
import os
for n in range(300000):
    if n % 1000 == 0:
        os.mkdir(f"d{n}")
    open(f"d{n - n % 1000}/{n}", "w").close()
print("all of them")
'"#;
    let result = meets_its_limit(&daemon, script);
    is(&result, Cause::Limit, 137, "default_inodes");
    assert_eq!(result.stdout, "");
    let had = daemon.usage("s", "inodes");
    println!("with a limit of 20000 there were {had}");
    assert!((20_000..20_000 + MORE_FILES).contains(&had), "{had}");
    let tidy = "exec python3 -c '
import os, shutil
for name in os.listdir():
    shutil.rmtree(name)
'";
    is(&daemon.sh("s", tidy), Cause::Exited, 0, "");
    assert!(daemon.usage("s", "inodes") < 100);
    is(&daemon.sh("s", "mkdir d; sleep 0.7; echo > d/x"), Cause::Exited, 0, "");
    daemon.leaves_nothing();
}

/// What is left free belongs to everybody.
pub(crate) fn a_disk_that_is_nearly_full() {
    let policy = tempfile::tempdir().unwrap();
    let file = policy.path().join("policy.toml");
    std::fs::write(&file, "keep_free = \"64Mi\"").unwrap();
    let arguments = ["--policy", file.to_str().unwrap()];
    let daemon = noxrunner_tests::TestDaemon::start_under(&ON_A_SMALL_DISK, &arguments);
    let _small = Small(daemon.base.clone());
    daemon.create("s");
    daemon.create("neighbour");
    // Fast as long as there is room, then so slowly that whoever looks late still finds some.
    let slowly = FILL.replace("i=$((", "sleep 0.1; i=$((");
    let slowly = format!("set -x; head -c 50331648 /dev/zero > most; {slowly}");
    let result = daemon.exec_params(noxrunner_tests::life::timed("s", &slowly, 30.0));
    is(&result, Cause::Limit, 137, "keep_free");
    let free = nix::sys::statvfs::statvfs(&daemon.base).unwrap();
    let free = free.blocks_available() * free.fragment_size() / MIB;
    println!("{free} MiB are left free of 64");
    assert!((16..64).contains(&free), "{free}");
    // Others read, and the one who filled it tidies up.
    is(&daemon.sh("neighbour", "sleep 0.7; ls"), Cause::Exited, 0, "");
    is(&daemon.sh("s", TIDY), Cause::Exited, 0, "");
    let writes = "head -c 20000000 /dev/zero > x; sleep 0.7";
    is(&daemon.sh("neighbour", writes), Cause::Exited, 0, "");
    for id in ["s", "neighbour"] {
        daemon.delete(id);
    }
    assert_eq!(daemon.directories(), [""; 0]);
    // The small disk goes before the daemon: what is mounted on cannot be removed.
}

/// Starts what follows with a small file system over its base directory.
const ON_A_SMALL_DISK: [&str; 4] = [
    "sh",
    "-c",
    "for a; do [ \"$p\" = --base-dir ] && b=$a; p=$a; done; \
     mount -t tmpfs -o size=128m none \"$b\" && exec \"$@\"",
    "-",
];

/// That file system, taken away again.
struct Small(std::path::PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        let gone = noxrunner_tests::run(umount.arg("--lazy").arg(&self.0));
        assert!(gone.status.success() || std::thread::panicking(), "{gone:?}");
    }
}
