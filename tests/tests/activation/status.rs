//! What a service manager hears of the daemon.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use noxrunner_tests::{SOON, TestDaemon, eventually};
use serde_json::json;
use tempfile::TempDir;

/// Hears what a service tells its manager.
struct Manager {
    _dir: TempDir,
    name: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
        let name = dir.path().join("notify");
        let socket = UnixDatagram::bind(&name).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { _dir: dir, name, socket }
    }

    /// A daemon of it.
    #[track_caller]
    fn start(&self, arguments: &[&str]) -> TestDaemon {
        let variable = format!("NOTIFY_SOCKET={}", self.name.display());
        TestDaemon::start_under(&["env", &variable], arguments)
    }

    #[track_caller]
    fn hear(&self) -> String {
        let mut bytes = [0; 1024];
        let n = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    }

    /// Listens until this is said, and gives all that was said before.
    #[track_caller]
    fn hear_until(&self, wanted: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let said = self.hear();
            if said == wanted {
                return before;
            }
            assert!(before.len() < 20, "{wanted:?} is not among {before:?}");
            before.push(said);
        }
    }
}

#[test]
fn it_is_ready_then_how_it_is_then_it_ends() {
    let manager = Manager::new();
    let mut daemon = manager.start(&["--isolation", "full"]);
    let first = manager.hear();
    let counts = first.strip_prefix("READY=1\nSTATUS=0 sandboxes, ");
    let counts = counts.unwrap_or_else(|| panic!("{first}"));
    assert!(["0 clients, tier full\n", "1 client, tier full\n"].contains(&counts), "{first}");
    let client = daemon.connect();
    daemon.create("a");
    manager.hear_until("STATUS=1 sandbox, 1 client, tier full\n");
    drop(client);
    daemon.create("b");
    manager.hear_until("STATUS=2 sandboxes, 0 clients, tier full\n");
    daemon.delete("a");
    let before = manager.hear_until("STATUS=1 sandbox, 0 clients, tier full\n");
    assert!(before.iter().all(|said| !said.contains("READY")), "once is enough: {before:?}");
    assert!(daemon.end_by(Signal::SIGTERM).success());
    assert_eq!(manager.hear(), "STOPPING=1\nSTATUS=ending its sandboxes\n");
}

#[test]
fn it_is_ready_when_it_has_what_its_predecessor_left() {
    let manager = Manager::new();
    let mut daemon = manager.start(&["--isolation", "none"]);
    daemon.create("a");
    daemon.create("b");
    manager.hear_until("STATUS=2 sandboxes, 0 clients, tier none\n");
    daemon.end_by(Signal::SIGKILL);
    daemon.start_again();
    let first = manager.hear();
    assert!(first.starts_with("READY=1\nSTATUS=2 sandboxes, "), "{first}");
}

#[test]
fn one_that_cannot_start_is_never_ready() {
    let manager = Manager::new();
    let daemon = manager.start(&[]);
    daemon.create("s");
    manager.hear_until(&line(&daemon, "1 sandbox"));
    // The base directory is the first one's.
    daemon.fails_to_start();
    manager.socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 1024];
    // That the second has asked the first may be news of the first's.
    while let Ok(n) = manager.socket.recv(&mut bytes) {
        let said = String::from_utf8_lossy(&bytes[..n]);
        assert!(said.starts_with("STATUS=1 sandbox, "), "{said}");
    }
}

/// How a daemon with these sandboxes is that nobody uses.
fn line(daemon: &TestDaemon, sandboxes: &str) -> String {
    format!("STATUS={sandboxes}, 0 clients, tier {}\n", daemon.tier.name())
}

#[test]
fn a_crowd_of_clients_is_no_crowd_of_lines() {
    let manager = Manager::new();
    let daemon = manager.start(&[]);
    daemon.create("before");
    manager.hear_until(&line(&daemon, "1 sandbox"));
    let began = Instant::now();
    let mut answers = 0;
    while began.elapsed() < Duration::from_secs(2) || answers <= 20 {
        daemon.call("health", json!({})).unwrap();
        answers += 1;
    }
    daemon.create("after");
    let lines = 1 + manager.hear_until(&line(&daemon, "2 sandboxes")).len();
    let seconds = began.elapsed().as_secs();
    let bound = usize::try_from(seconds).unwrap() + 1;
    assert!(lines <= bound, "{lines} lines in {seconds} s for {answers} clients");
}

#[test]
fn a_manager_that_does_not_read_holds_nothing_up() {
    let manager = Manager::new();
    let crowd = UnixDatagram::unbound().unwrap();
    crowd.connect(&manager.name).unwrap();
    crowd.set_nonblocking(true).unwrap();
    let mut sent = 0;
    while crowd.send(b"full").is_ok() {
        sent += 1;
    }
    assert!(sent > 0);
    let mut daemon = manager.start(&[]);
    daemon.create("s");
    assert_eq!(daemon.exec("s", &["echo", "served"]).stdout, "served\n");
    assert!(daemon.end_by(Signal::SIGTERM).success());
    // The control: nothing of it came through.
    manager.socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 1024];
    while let Ok(n) = manager.socket.recv(&mut bytes) {
        assert_eq!(&bytes[..n], b"full");
        sent -= 1;
    }
    assert_eq!(sent, 0);
    eventually("nothing of it runs", SOON, || daemon.processes().is_empty());
}
