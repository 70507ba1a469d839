//! What would stall who opens it: every operation answers at once all the same.

use std::time::{Duration, Instant};

use noxrunner_tests::{SOON, TestDaemon, eventually, exec_params, in_both_tiers};
use serde_json::{Value, json};

use super::{call, inside, refused, with_sandbox};

/// Far less than the 45 s of a lease that nobody gives up, or the ever of a pipe or a device.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Calls a method, sees that it waits for nothing, and gives the result or the error's kind.
#[track_caller]
fn at_once(daemon: &TestDaemon, method: &str, mut params: Value) -> Result<Value, String> {
    params["sessionId"] = json!("s");
    let started = Instant::now();
    let answer = daemon.call(method, params.clone());
    let took = started.elapsed();
    assert!(took < AT_ONCE, "{method} {params} took {took:?}");
    answer.map_err(|error| error.kind.name().to_owned())
}

/// An archive with one file of that name.
fn archive_of(name: &str) -> String {
    use base64::Engine as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), "uploaded").unwrap();
    let mut tar = std::process::Command::new("tar");
    let packed = noxrunner_tests::run(tar.arg("-cC").arg(dir.path()).arg(name));
    assert!(packed.status.success(), "{packed:?}");
    base64::engine::general_purpose::STANDARD.encode(packed.stdout)
}

/// Every operation with `thing` in its way, which is made anew by `make` where it was replaced.
fn everything_answers(daemon: &TestDaemon, thing: &str, kind: &str, make: &dyn Fn()) {
    let no = |kind: &str| Err(kind.to_owned());
    make();
    let path = json!({"path": thing});
    assert_eq!(at_once(daemon, "file.read", path.clone()), no("conflict"), "{thing}");
    let append = json!({"path": thing, "data": "x", "append": true});
    assert_eq!(at_once(daemon, "file.write", append), no("conflict"), "{thing}");
    assert_eq!(at_once(daemon, "file.stat", path.clone()).unwrap()["type"], kind);
    assert_eq!(at_once(daemon, "file.list", path.clone()), no("conflict"), "{thing}");
    let below = json!({"path": format!("{thing}/x")});
    assert_eq!(at_once(daemon, "file.read", below.clone()), no("conflict"), "{thing}");
    assert_eq!(at_once(daemon, "file.mkdir", below), no("conflict"), "{thing}");
    let workdir = json!({"cmd": ["true"], "workdir": thing});
    assert_eq!(at_once(daemon, "sandbox.exec", workdir), no("conflict"), "{thing}");
    let listed = at_once(daemon, "file.list", json!({})).unwrap();
    assert!(listed["entries"].as_array().unwrap().iter().any(|e| e["name"] == thing));
    at_once(daemon, "file.download", json!({})).unwrap();
    let alone = at_once(daemon, "file.download", json!({"src": thing}));
    assert!(kind == "file" || alone == no("conflict"), "{thing}: {alone:?}");
    at_once(daemon, "file.rename", json!({"from": thing, "to": "moved"})).unwrap();
    at_once(daemon, "file.rename", json!({"from": "moved", "to": thing})).unwrap();
    at_once(daemon, "file.write", json!({"path": thing, "data": "written"})).unwrap();
    assert_eq!(call(daemon, "file.read", path.clone())["data"], "written");
    at_once(daemon, "file.remove", path.clone()).unwrap();
    make();
    at_once(daemon, "file.upload", json!({"archive": archive_of(thing)})).unwrap();
    assert_eq!(call(daemon, "file.read", path.clone())["data"], "uploaded");
    at_once(daemon, "file.remove", path).unwrap();
    inside(daemon, "mkdir dir");
    make();
    inside(daemon, &format!("mv {thing} dir"));
    at_once(daemon, "file.remove", json!({"path": "dir", "recursive": true})).unwrap();
}

in_both_tiers!(a_named_pipe, a_socket, a_file_with_a_lease);

fn a_named_pipe(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    everything_answers(&daemon, "thing", "fifo", &|| {
        inside(&daemon, "mkfifo thing");
    });
}

fn a_socket(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    let bind = "import socket; socket.socket(socket.AF_UNIX).bind('thing')";
    everything_answers(&daemon, "thing", "socket", &|| {
        assert_eq!(daemon.exec("s", &["python3", "-c", bind]).exit_code, 0);
    });
}

/// Takes a write lease (1024 is `F_SETLEASE` of fcntl(2)) and keeps it, whoever wants the file.
const LEASE: &str = "
import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open('thing', os.O_RDWR | os.O_CREAT, 0o644)
os.write(fd, b'leased')
fcntl.fcntl(fd, 1024, fcntl.F_WRLCK)
if os.fork():
    os._exit(0)
os.setsid()
time.sleep(600)
";

fn a_file_with_a_lease(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    let lease = || {
        let taken = daemon.exec("s", &["python3", "-c", LEASE]);
        assert_eq!(taken.exit_code, 0, "{}", taken.stderr);
    };
    // The control: who opens it plainly waits for as long as the holder likes.
    lease();
    let path = daemon.workspace("s").join("thing");
    let open = std::thread::spawn({
        let path = path.clone();
        move || std::fs::read(path).unwrap()
    });
    let waits = || {
        let opened = "/proc/self/task";
        std::fs::read_dir(opened).unwrap().any(|task| {
            let wchan = task.unwrap().path().join("wchan");
            std::fs::read_to_string(wchan).is_ok_and(|at| at.contains("break_lease"))
        })
    };
    eventually("the control waits for the lease", SOON, waits);
    let (kind, message) = refused(&daemon, "file.read", json!({"path": "thing"}));
    assert!(kind == "conflict" && message.contains("leased"), "{kind}: {message}");
    inside(&daemon, "mv thing old");
    everything_answers(&daemon, "thing", "file", &lease);
    daemon.delete("s");
    assert_eq!(open.join().unwrap(), b"leased");
}

#[test]
fn a_pool_full_of_pipes_keeps_nobody_waiting() {
    let daemon = with_sandbox(TestDaemon::start());
    inside(&daemon, "mkfifo thing; echo 1 > f");
    let mut wire = daemon.wire();
    for id in 0..200 {
        wire.request(id, "file.read", json!({"sessionId": "s", "path": "thing"}));
    }
    assert_eq!(at_once(&daemon, "file.read", json!({"path": "f"})).unwrap()["data"], "1\n");
    at_once(&daemon, "health", json!({})).unwrap_err();
    for _ in 0..200 {
        assert_eq!(wire.receive()["error"]["data"]["kind"], "conflict");
    }
    let params = exec_params("s", &["cat", "f"]);
    assert_eq!(daemon.exec_params(params).stdout, "1\n");
}

mod root_only {
    use super::*;

    #[test]
    fn a_device() {
        let daemon = with_sandbox(TestDaemon::start());
        let path = daemon.workspace("s").join("thing");
        // /dev/zero has no end, for who reads it.
        everything_answers(&daemon, "thing", "charDevice", &|| {
            let mut mknod = std::process::Command::new("mknod");
            let made = noxrunner_tests::run(mknod.arg(&path).args(["c", "1", "5"]));
            assert!(made.status.success(), "{made:?}");
        });
    }
}
