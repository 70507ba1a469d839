//! Much, up and down: byte for byte, and the daemon takes little memory for it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output};

use noxrunner_tests::archive::Door;
use noxrunner_tests::{ON_TCP, TestDaemon, text};

/// How much more memory the daemon may take at its peak, in KiB.
const MOST_KIB: u64 = 32 * 1024;

mod heavy {
    use super::*;

    #[test]
    fn a_gigabyte_by_tcp_is_the_same_in_little_memory() {
        let daemon = TestDaemon::start_with(&ON_TCP);
        daemon.create("s");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("big");
        write_big(&file, 1 << 30);
        let mut curl = Door::Tcp.curl(&daemon, "/v1/sandboxes/s/files/upload");
        curl.args(["--fail", "-X", "POST", "-H", "content-type: application/x-tar", "-T", "-"]);
        // Of no length that is known.
        let mut up = piped("tar -cC \"$0\" big | \"$@\"", dir.path(), &curl);
        let grown = growth(&daemon, || done(&mut up));
        println!("upload: the daemon grew by {grown} KiB");
        assert!(grown < MOST_KIB, "the daemon grew by {grown} KiB");
        assert_same(&file, &daemon.workspace("s").join("big"));
        let mut curl = Door::Tcp.curl(&daemon, "/v1/sandboxes/s/files/download?format=tar");
        curl.arg("--fail");
        let mut down = piped("\"$@\" | tar -xO big | cmp - \"$0\"/big", dir.path(), &curl);
        let grown = growth(&daemon, || done(&mut down));
        println!("download: the daemon grew by {grown} KiB");
        assert!(grown < MOST_KIB, "the daemon grew by {grown} KiB");
    }

    #[test]
    fn much_by_noxctl_and_compressed_is_the_same_in_little_memory() {
        let daemon = TestDaemon::start();
        daemon.create("s");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("big");
        write_big(&file, 1 << 27);
        let name = |path: &Path| path.to_str().unwrap().to_owned();
        let grown = growth(&daemon, || done(&mut daemon.noxctl(&["upload", "s", &name(&file)])));
        assert!(grown < MOST_KIB, "the daemon grew by {grown} KiB");
        let back = dir.path().join("back");
        let extract = ["download", "s", "--extract", &name(&back)];
        let grown = growth(&daemon, || done(&mut daemon.noxctl(&extract)));
        assert!(grown < MOST_KIB, "the daemon grew by {grown} KiB");
        assert_same(&file, &back.join("big"));
        // The compressed one, which every client of the API reads.
        let packed = dir.path().join("big.tar.gz");
        let save = ["download", "s", "--output", &name(&packed)];
        let grown = growth(&daemon, || done(&mut daemon.noxctl(&save)));
        assert!(grown < MOST_KIB, "the daemon grew by {grown} KiB");
        let script = "tar -xzOf \"$0\" big | cmp - \"$1\"";
        done(Command::new("sh").args(["-c", script]).args([&packed, &file]));
    }
}

/// A line of a shell with a directory as `$0` and a command as `$@`, which fails where any part does.
fn piped(line: &str, dir: &Path, command: &Command) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", line]).arg(dir).arg(command.get_program());
    shell.args(command.get_args());
    shell
}

/// By how much the daemon's memory grew at most while something was done, in KiB.
fn growth(daemon: &TestDaemon, work: impl FnOnce()) -> u64 {
    let pid = daemon.pid();
    // Forgets the peak so far (proc_pid_clear_refs(5)).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = status(pid, "VmRSS:");
    work();
    // The kernel counts a little behind.
    status(pid, "VmHWM:").saturating_sub(before)
}

fn status(pid: nix::unistd::Pid, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Half of it can be compressed, half cannot.
fn write_big(path: &Path, bytes: u64) {
    let mut file = File::create(path).unwrap();
    let mut random = vec![0; 1 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    let mut written = 0_u64;
    while written < bytes {
        // No two pieces are the same, so that none can pass for another.
        random[..8].copy_from_slice(&written.to_le_bytes());
        file.write_all(&random).unwrap();
        file.write_all(&vec![b'0' + (written >> 21) as u8 % 10; 1 << 20]).unwrap();
        written += 2 << 20;
    }
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    done(Command::new("cmp").args([one, other]));
}

/// Runs a command that may take longer than most; the test's own limit ends it.
#[track_caller]
fn done(command: &mut Command) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}{}", text(&stdout), text(&stderr));
}
