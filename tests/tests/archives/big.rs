//! A gigabyte up and down: byte for byte, and the daemon takes little memory for it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output};

use noxrunner_tests::{TestDaemon, text};

/// How much more memory the daemon may take at its peak, in KiB.
const MOST_KIB: u64 = 32 * 1024;

const BYTES: u64 = 1 << 30;

mod heavy {
    use super::*;

    #[test]
    fn a_gigabyte_is_the_same_in_little_memory() {
        let daemon = TestDaemon::start();
        daemon.create("s");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("big");
        write_big(&file);
        let sum = sha256(&file);
        let grown = growth(&daemon, || {
            let done = output(&mut daemon.noxctl(&["upload", "s", file.to_str().unwrap()]));
            assert!(done.status.success(), "{}", text(&done.stderr));
        });
        assert!(grown < MOST_KIB, "the daemon grew by {grown} KiB");
        println!("upload: the daemon grew by {grown} KiB");
        let inside = daemon.exec("s", &["sha256sum", "big"]);
        assert_eq!(inside.stdout.split(' ').next(), Some(sum.as_str()));
        fs::remove_file(&file).unwrap();
        let back = dir.path().join("back");
        let grown = growth(&daemon, || {
            let into = back.to_str().unwrap();
            let done = output(&mut daemon.noxctl(&["download", "s", "--extract", into]));
            assert!(done.status.success(), "{}", text(&done.stderr));
        });
        assert!(grown < MOST_KIB, "the daemon grew by {grown} KiB");
        println!("download: the daemon grew by {grown} KiB");
        assert_eq!(sha256(&back.join("big")), sum);
        fs::remove_dir_all(&back).unwrap();
        // The compressed one, which every client of the API reads.
        let packed = dir.path().join("big.tar.gz");
        let grown = growth(&daemon, || {
            let into = packed.to_str().unwrap();
            let done = output(&mut daemon.noxctl(&["download", "s", "--output", into]));
            assert!(done.status.success(), "{}", text(&done.stderr));
        });
        assert!(grown < MOST_KIB, "the daemon grew by {grown} KiB");
        let script = "tar -xzOf \"$1\" big | sha256sum";
        let unpacked = output(Command::new("sh").args(["-c", script, "-"]).arg(&packed));
        assert_eq!(text(&unpacked.stdout).split(' ').next(), Some(sum.as_str()));
    }
}

/// By how much the daemon's memory grew at most while something was done, in KiB.
fn growth(daemon: &TestDaemon, work: impl FnOnce()) -> u64 {
    let pid = daemon.pid();
    // Forgets the peak so far (proc_pid_clear_refs(5)).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
    let before = status(pid, "VmRSS:");
    work();
    status(pid, "VmHWM:") - before
}

fn status(pid: nix::unistd::Pid, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Half of it can be compressed, half cannot.
fn write_big(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut random = vec![0; 1 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    let mut written = 0_u64;
    while written < BYTES {
        // No two pieces are the same, so that none can pass for another.
        random[..8].copy_from_slice(&written.to_le_bytes());
        file.write_all(&random).unwrap();
        file.write_all(&vec![b'0' + (written >> 21) as u8 % 10; 1 << 20]).unwrap();
        written += 2 << 20;
    }
}

fn sha256(path: &Path) -> String {
    let summed = output(Command::new("sha256sum").arg(path));
    text(&summed.stdout).split(' ').next().unwrap().to_owned()
}

/// Runs a command that may take longer than most; the test's own limit ends it.
fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}
