//! More clients than there is room for.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use noxrunner_tests::doors::{DOORS, Door, connect, http_answer};
use noxrunner_tests::meanwhile::Meanwhile;
use noxrunner_tests::wire::{Wire, refusal, request};
use noxrunner_tests::{SOON, TestDaemon, eventually};
use serde_json::{Value, json};

/// How many connections there may be.
const MOST: usize = 256;

/// How many come.
const COME: usize = 300;

fn is_open(stream: &UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = (&*stream).read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match read {
        Ok(0) => false,
        Ok(_) => panic!("it was told something"),
        Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn those_that_are_idle_longest_make_room() {
    let daemon = TestDaemon::start();
    let mut come: Vec<Wire> = Vec::new();
    for n in 0..COME {
        let mut wire = daemon.wire();
        wire.call(n as u64, "health", json!({}));
        come.push(wire);
        if n == MOST / 2 {
            // The first one has just been used: it goes later than those that were not.
            come[0].call(0, "health", json!({}));
        }
    }
    let gone: Vec<usize> = (0..COME).filter(|n| !is_open(come[*n].stream())).collect();
    assert_eq!(gone, (1..=COME - MOST).collect::<Vec<_>>());
    for (n, wire) in come.iter_mut().enumerate().filter(|(n, _)| !gone.contains(n)) {
        assert_eq!(wire.call(n as u64, "health", json!({}))["result"]["status"], "ok");
    }
}

#[test]
fn three_hundred_that_only_connect_keep_nobody_out() {
    let daemon = TestDaemon::start();
    let other = Meanwhile::of(&daemon);
    let mut idle: Vec<UnixStream> = Vec::new();
    for n in 0..COME {
        idle.push(connect(&daemon.socket));
        if n % 3 == 0 {
            // Something begun is no call yet.
            idle[n].write_all(if n % 2 == 0 { b"{" } else { b"POST" }).unwrap();
        }
    }
    for door in DOORS {
        let mut visitor = door.open(&daemon.socket);
        visitor.say(request(1, "health", json!({})).to_string());
        assert_eq!(visitor.hear()["result"]["status"], "ok", "{door:?}");
    }
    let open = idle.iter().filter(|stream| is_open(stream)).count();
    assert!(open <= MOST && open > MOST / 2, "{open} are open");
    other.noticed_nothing();
}

/// Has a connection wait in the sandbox `s` until the file `go` is there.
fn keep_busy(socket: &Path, door: Door, id: u64) -> noxrunner_tests::doors::Visitor {
    let script = format!("touch at{id}; until [ -e go ]; do sleep 0.02; done");
    let params = json!({"sessionId": "s", "cmd": ["sh", "-c", script], "timeoutSeconds": 60});
    let mut visitor = door.open(socket);
    visitor.say(request(id, "sandbox.exec", params).to_string());
    visitor
}

/// Does something before the daemon can look at it: a client that it finds before its first words is
/// after a while told what one is that says nothing.
fn unseen<T>(daemon: &TestDaemon, doing: impl FnOnce() -> T) -> T {
    kill(daemon.pid(), Signal::SIGSTOP).unwrap();
    let done = doing();
    kill(daemon.pid(), Signal::SIGCONT).unwrap();
    done
}

#[test]
fn where_all_are_busy_the_next_one_is_told_so() {
    let daemon = TestDaemon::start_with(&["--max-connections", "6"]);
    daemon.create("s");
    let workspace = daemon.workspace("s");
    let doors = DOORS.iter().chain(&DOORS).copied();
    let mut busy: Vec<_> =
        (0..).zip(doors).map(|(id, door)| keep_busy(&daemon.socket, door, id)).collect();
    eventually("all of them are busy", SOON, || {
        (0..busy.len()).all(|id| workspace.join(format!("at{id}")).exists())
    });
    let mut wire = unseen(&daemon, || {
        let mut wire = daemon.wire();
        wire.request(1, "health", json!({}));
        wire
    });
    let answer = wire.receive();
    let (kind, message) = refusal(&answer);
    assert_eq!((kind.as_str(), &answer["id"]), ("limitExceeded", &Value::Null));
    assert!(message.starts_with("6 connections"), "{message}");
    wire.closed();
    let http = unseen(&daemon, || {
        let mut http = connect(&daemon.socket);
        http.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        http
    });
    let (status, said) = http_answer(&mut BufReader::new(&http));
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!((status, &said["kind"]), (429, &json!("limitExceeded")), "{said}");
    // Who says nothing is told too.
    let mut silent = Wire::open(&daemon.socket);
    assert_eq!(refusal(&silent.receive()).0, "limitExceeded");
    fs::write(workspace.join("go"), "").unwrap();
    for visitor in &mut busy {
        assert_eq!(visitor.hear()["result"]["exitCode"], 0);
    }
    // Each of them is idle now and makes room.
    assert_eq!(daemon.wire().call(1, "health", json!({}))["result"]["status"], "ok");
    drop(busy);
}

#[test]
fn refusals_do_not_pile_up() {
    let daemon = TestDaemon::start_with(&["--max-connections", "2"]);
    daemon.create("s");
    let workspace = daemon.workspace("s");
    let _busy = [0, 1].map(|id| keep_busy(&daemon.socket, Door::Lines, id));
    eventually("both are busy", SOON, || {
        [0, 1].iter().all(|n| workspace.join(format!("at{n}")).exists())
    });
    let refused: Vec<UnixStream> = (0..COME).map(|_| connect(&daemon.socket)).collect();
    // Told or not, each is closed soon.
    for stream in &refused {
        let mut said = Vec::new();
        (&*stream).read_to_end(&mut said).unwrap();
    }
    let open = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    assert!(open < 100, "{open} descriptors are open");
    fs::write(workspace.join("go"), "").unwrap();
    eventually("there is room again", SOON, || {
        let mut stream = connect(&daemon.socket);
        let _ = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\"}\n");
        let mut said = String::new();
        let _ = BufReader::new(&stream).read_line(&mut said);
        said.contains("\"ok\"")
    });
}
