//! Clients that hang up, sandboxes and daemons that end midway: nothing half done, nothing left.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use noxrunner_tests::archive::{Door, built};
use noxrunner_tests::{SOON, TestDaemon, eventually};

use super::{listing, nothing_staged, with_sandbox};

/// Far less than a client may be silent for, which is 30 s.
const AT_ONCE: Duration = Duration::from_secs(8);

/// An upload of which only some has been sent.
struct HalfSent {
    stream: UnixStream,
    rest: Vec<u8>,
}

impl HalfSent {
    /// Sends all but the end, and waits until the daemon has staged some of it.
    #[track_caller]
    fn begin(daemon: &TestDaemon, workspace: &Path) -> Self {
        let archive = built("w", "add('first', b'1' * 700000)\nadd('second', b'2' * 700000)");
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let head = format!(
            "POST /v1/sandboxes/s/files/upload HTTP/1.1\r\nhost: noxrunner\r\n\
             content-type: application/x-tar\r\ncontent-length: {}\r\n\r\n",
            archive.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let (sent, rest) = archive.split_at(1_000_000);
        stream.write_all(sent).unwrap();
        let staging = workspace.with_file_name("staging");
        eventually("some is staged", SOON, || {
            fs::exists(&staging).unwrap() && listing(&staging).iter().any(|l| l.contains("second"))
        });
        Self { stream, rest: rest.to_vec() }
    }

    fn status(mut self) -> String {
        let mut answer = String::new();
        let _ = self.stream.read_to_string(&mut answer);
        answer.lines().next().unwrap_or_default().to_owned()
    }
}

fn staging_is_empty(workspace: &Path) -> bool {
    // Only names: what is in it may be going this very moment.
    fs::read_dir(workspace.with_file_name("staging")).unwrap().count() == 0
}

#[test]
fn a_client_that_hangs_up_midway_leaves_nothing() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start());
    let half = HalfSent::begin(&daemon, &workspace);
    drop(half);
    eventually("what was staged is gone", SOON, || staging_is_empty(&workspace));
    assert_eq!(listing(&workspace), [""; 0]);
    // One that only stops sending has not sent all of it either.
    let half = HalfSent::begin(&daemon, &workspace);
    half.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let status = half.status();
    assert!(status.contains("400") || status.is_empty(), "{status}");
    eventually("what was staged is gone", SOON, || staging_is_empty(&workspace));
    assert_eq!(listing(&workspace), [""; 0]);
    // The control: with the rest it is whole.
    let mut half = HalfSent::begin(&daemon, &workspace);
    let rest = std::mem::take(&mut half.rest);
    half.stream.write_all(&rest).unwrap();
    half.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(half.status().contains("200"));
    assert_eq!(listing(&workspace).len(), 2);
}

#[test]
fn an_upload_that_is_under_way_does_not_keep_a_sandbox() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start());
    let half = HalfSent::begin(&daemon, &workspace);
    let started = Instant::now();
    daemon.delete("s");
    let took = started.elapsed();
    assert!(took < AT_ONCE, "the delete took {took:?}");
    let status = half.status();
    assert!(status.contains("404"), "{status}");
    assert_eq!(daemon.directories(), [""; 0]);
}

#[test]
fn a_download_that_nobody_reads_does_not_keep_a_sandbox() {
    let (daemon, _) = with_sandbox(TestDaemon::start());
    assert_eq!(daemon.sh("s", "head -c 30000000 /dev/zero > big").exit_code, 0);
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let head = "GET /v1/sandboxes/s/files/download?format=tar HTTP/1.1\r\nhost: noxrunner\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 100];
    stream.read_exact(&mut first).unwrap();
    let started = Instant::now();
    daemon.delete("s");
    let took = started.elapsed();
    assert!(took < AT_ONCE, "the delete took {took:?}");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 30_000_000 && !rest.ends_with(b"0\r\n\r\n"), "it looks whole");
    assert_eq!(daemon.directories(), [""; 0]);
}

#[test]
fn a_daemon_that_is_told_to_end_drops_what_is_under_way() {
    let (mut daemon, workspace) = with_sandbox(TestDaemon::start());
    let half = HalfSent::begin(&daemon, &workspace);
    let started = Instant::now();
    assert!(daemon.end_by(Signal::SIGTERM).success());
    let took = started.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
    assert!(!half.status().contains("200"));
    nothing_staged(&workspace);
    assert_eq!(listing(&workspace), [""; 0]);
}

#[test]
fn a_daemon_that_is_killed_leaves_nothing_of_an_upload_to_the_next() {
    let (mut daemon, workspace) = with_sandbox(TestDaemon::start());
    fs::write(workspace.join("before"), "kept").unwrap();
    let half = HalfSent::begin(&daemon, &workspace);
    daemon.end_by(Signal::SIGKILL);
    assert!(!half.status().contains("200"));
    assert!(!staging_is_empty(&workspace), "nothing to clear away: nothing is shown");
    daemon.start_again();
    assert!(!fs::exists(workspace.with_file_name("staging")).unwrap());
    assert_eq!(listing(&workspace), ["before: kept"]);
    let archive = built("w", "add('x', b'x')");
    assert_eq!(Door::Http.upload(&daemon, "s", ".", &archive).unwrap()["written"], 1);
}

#[test]
fn many_uploads_at_once_all_arrive() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start());
    thread::scope(|scope| {
        for n in 0..40 {
            let daemon = &daemon;
            scope.spawn(move || {
                let archive =
                    built("w:gz", &format!("add('d/{n}', b'{n}' * 50000)\nadd('same', b'{n}')"));
                let door = Door::BOTH[n % 2];
                assert_eq!(door.upload(daemon, "s", ".", &archive).unwrap()["written"], 2);
            });
        }
    });
    assert_eq!(fs::read_dir(workspace.join("d")).unwrap().count(), 40);
    nothing_staged(&workspace);
}
