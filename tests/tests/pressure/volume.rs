//! Clients that send too much, or ask for it.

use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use noxrunner_protocol::limits::MAX_LINE_BYTES;
use noxrunner_tests::doors::{DOORS, connect, http_answer, is_hung_up, websocket};
use noxrunner_tests::meanwhile::Meanwhile;
use noxrunner_tests::wire::{Wire, refusal, request};
use noxrunner_tests::{SOON, TestDaemon, eventually};
use serde_json::{Value, json};
use tungstenite::Message;

/// What a flood may cost the daemon, in MiB.
const FLOOD: u64 = 64;

const GIGABYTE: usize = 1024 * 1024 * 1024;

/// Sends a gigabyte, or as much of it as the daemon takes.
fn flood(mut stream: &UnixStream) {
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..GIGABYTE / piece.len() {
        if stream.write_all(&piece).is_err() {
            return;
        }
    }
}

/// Does something and checks that the daemon never had more than so many MiB more than before.
#[track_caller]
fn costs_at_most(daemon: &TestDaemon, mebibytes: u64, doing: impl FnOnce()) {
    let (before, _) = daemon.memory();
    doing();
    let (_, most) = daemon.memory();
    let cost = most.saturating_sub(before);
    assert!(cost < mebibytes, "it cost {cost} MiB");
}

#[test]
fn a_gigabyte_without_a_newline_is_refused_once() {
    let daemon = TestDaemon::start();
    let other = Meanwhile::of(&daemon);
    costs_at_most(&daemon, FLOOD, || {
        let mut wire = daemon.wire();
        flood(wire.stream());
        let answer = wire.receive();
        assert_eq!((refusal(&answer).0.as_str(), &answer["id"]), ("payloadTooLarge", &Value::Null));
        wire.closed();
    });
    other.noticed_nothing();
}

#[test]
fn a_gigabyte_by_post_is_refused_once() {
    let daemon = TestDaemon::start();
    let other = Meanwhile::of(&daemon);
    costs_at_most(&daemon, FLOOD, || {
        for length in [format!("content-length: {GIGABYTE}"), "transfer-encoding: chunked".into()] {
            let mut stream = connect(&daemon.socket);
            write!(
                stream,
                "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{length}\r\n\r\n"
            )
            .unwrap();
            if length.contains("chunked") {
                write!(stream, "40000000\r\n").unwrap();
            }
            let sent = stream.try_clone().unwrap();
            let sending = std::thread::spawn(move || flood(&sent));
            let (status, said) = http_answer(&mut BufReader::new(&stream));
            let said: Value = serde_json::from_slice(&said).unwrap();
            assert_eq!((status, refusal(&said).0.as_str()), (413, "payloadTooLarge"));
            drop(stream);
            sending.join().unwrap();
        }
    });
    other.noticed_nothing();
}

#[test]
fn a_gigabyte_over_a_websocket_is_refused_once() {
    let daemon = TestDaemon::start();
    let other = Meanwhile::of(&daemon);
    costs_at_most(&daemon, FLOOD, || {
        let mut socket = websocket(&daemon.socket);
        // The head of one frame of a gigabyte (RFC 6455, section 5.2), masked with zeroes.
        let mut head = vec![0x82, 0xff];
        head.extend((GIGABYTE as u64).to_be_bytes());
        head.extend([0; 4]);
        socket.get_ref().write_all(&head).unwrap();
        let answer = socket.read().unwrap();
        let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
        assert_eq!(refusal(&answer).0, "payloadTooLarge");
        let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("not closed") };
        assert_eq!(u16::from(close.code), 1009);
        // The same in pieces, none of which is too long.
        let mut socket = websocket(&daemon.socket);
        let piece = vec![b' '; 1024 * 1024];
        for n in 0..=MAX_LINE_BYTES / piece.len() {
            let mut head = vec![if n == 0 { 0x02 } else { 0x00 }, 0xff];
            head.extend((piece.len() as u64).to_be_bytes());
            head.extend([0; 4]);
            socket.get_ref().write_all(&[&head, &piece[..]].concat()).unwrap();
        }
        let answer = socket.read().unwrap();
        let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
        assert_eq!(refusal(&answer).0, "payloadTooLarge");
    });
    other.noticed_nothing();
}

/// Has 64 commands wait to print what takes six times as much as JSON, each of which leaves a mark.
fn zeroes(id: u64) -> Value {
    let script = format!("touch did{id}; head -c 1000000 /dev/zero");
    let params = json!({"sessionId": "s", "cmd": ["sh", "-c", script], "timeoutSeconds": 100});
    request(id, "sandbox.exec", params)
}

/// What 64 such answers may cost at once, in MiB: 128 of text and 128 of results of which
/// they are made. All of them would be 370 as text alone.
const ANSWERS: u64 = 320;

/// How many of the commands have run.
fn marks(daemon: &TestDaemon) -> usize {
    let names = std::fs::read_dir(daemon.workspace("s")).unwrap();
    names
        .filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().starts_with("did"))
        .count()
}

/// How many files were opened since, as the kernel tells (inotify(7)).
fn opened(events: &Inotify) -> usize {
    match events.read_events() {
        // Events of one file that are alike are told as one: each is to be read once.
        Ok(events) => events.iter().filter(|event| event.name.is_some()).count(),
        Err(Errno::EAGAIN) => 0,
        Err(errno) => panic!("{errno}"),
    }
}

#[test]
fn who_does_not_read_has_no_more_begun_than_there_is_room_for() {
    // A socket takes some two hundred kilobytes, and eight answers more may be under way.
    for (longest, begun) in [("64Ki", 8..=14), ("16Mi", 64..=64)] {
        let bounds = ["--max-answer", longest, "--output-buffer", "64Mi"];
        let daemon = TestDaemon::start_with(&bounds);
        daemon.create("s");
        let files = "for n in $(seq 0 63); do head -c 60000 /dev/zero | tr '\\0' x > file$n; done";
        daemon.sh("s", files);
        let events = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        events.add_watch(&daemon.workspace("s"), AddWatchFlags::IN_OPEN).unwrap();
        let mut wire = daemon.wire();
        (0..64).for_each(|id| {
            let params = json!({"sessionId": "s", "path": format!("file{id}")});
            wire.request(id, "file.read", params);
        });
        let mut reads = 0;
        let deadline = Instant::now() + SOON;
        while reads < *begun.start() {
            assert!(Instant::now() < deadline, "{longest}: only {reads} were read");
            reads += opened(&events);
            std::thread::sleep(Duration::from_millis(5));
        }
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            reads += opened(&events);
            assert!(begun.contains(&reads), "{longest}: {reads} were read");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut ids: Vec<u64> = (0..64).map(|_| wire.receive()["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..64).collect::<Vec<_>>());
        assert_eq!(reads + opened(&events), 64);
    }
}

#[test]
fn commands_that_wait_for_each_other_all_run_however_much_they_may_print() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let mut wire = daemon.wire();
    for id in 0..64 {
        let script =
            format!("touch did{id}; until [ $(ls | grep -c did) = 64 ]; do sleep 0.5; done");
        let params = json!({"sessionId": "s", "cmd": ["sh", "-c", script], "timeoutSeconds": 100,
            "encoding": "base64", "maxOutputBytes": 4 * 1024 * 1024});
        wire.request(id, "sandbox.exec", params);
    }
    wire.stream().set_read_timeout(Some(3 * SOON)).unwrap();
    for _ in 0..64 {
        assert_eq!(wire.receive()["result"]["exitCode"], 0);
    }
}

#[test]
fn a_client_that_reads_late_gets_all_of_it() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let other = Meanwhile::of(&daemon);
    costs_at_most(&daemon, ANSWERS, || {
        let mut wire = daemon.wire();
        (0..64).for_each(|id| wire.send(format!("{}\n", zeroes(id))));
        eventually("all of it has run", SOON * 2, || marks(&daemon) == 64);
        let mut ids: Vec<u64> = (0..64).map(|_| whole(&wire.receive())).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..64).collect::<Vec<_>>());
    });
    other.noticed_nothing();
}

#[track_caller]
fn whole(answer: &Value) -> u64 {
    let printed = answer["result"]["stdout"].as_str().unwrap();
    assert!(printed.len() == 1_000_000 && printed.bytes().all(|byte| byte == 0));
    answer["id"].as_u64().unwrap()
}

#[test]
fn a_client_that_never_reads_costs_what_one_connection_may() {
    let daemon = TestDaemon::start_with(&["--write-timeout", "2s"]);
    daemon.create("s");
    let other = Meanwhile::of(&daemon);
    costs_at_most(&daemon, ANSWERS, || {
        for door in DOORS {
            let mut visitor = door.open(&daemon.socket);
            (0..64).for_each(|id| visitor.say(zeroes(id).to_string()));
            eventually(&format!("{door:?} is given up"), SOON * 2, || is_hung_up(visitor.stream()));
        }
    });
    other.noticed_nothing();
}

#[test]
fn a_batch_whose_answers_are_too_much_is_one_error_and_no_memory() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let other = Meanwhile::of(&daemon);
    costs_at_most(&daemon, ANSWERS, || {
        let batch = Value::Array((0..64).map(zeroes).collect());
        let mut wire = daemon.wire();
        wire.stream().set_read_timeout(Some(SOON * 2)).unwrap();
        wire.send(format!("{batch}\n"));
        let answer = wire.receive();
        assert_eq!((refusal(&answer).0.as_str(), &answer["id"]), ("payloadTooLarge", &Value::Null));
        // Carried out they were.
        assert_eq!(marks(&daemon), 64);
    });
    other.noticed_nothing();
}

#[test]
fn the_bounds_are_settings() {
    let daemon = TestDaemon::start_with(&[
        "--max-request",
        "8Ki",
        "--max-answer",
        "64Ki",
        "--max-calls",
        "4",
    ]);
    daemon.create("s");
    let padded = |length: usize| {
        let health = request(1, "health", json!({})).to_string();
        format!("{health}{}", " ".repeat(length - health.len()))
    };
    for door in DOORS {
        let mut visitor = door.open(&daemon.socket);
        visitor.say(padded(8 * 1024));
        assert_eq!(visitor.hear()["result"]["status"], "ok", "{door:?}");
        let exec = |bytes: usize| {
            let cmd = json!(["sh", "-c", format!("head -c {bytes} /dev/zero | tr '\\0' x")]);
            request(2, "sandbox.exec", json!({"sessionId": "s", "cmd": cmd})).to_string()
        };
        visitor.say(exec(60_000));
        assert_eq!(visitor.hear()["result"]["stdoutBytes"], 60_000, "{door:?}");
        visitor.say(exec(70_000));
        let answer = visitor.hear();
        assert_eq!((refusal(&answer).0.as_str(), &answer["id"]), ("payloadTooLarge", &json!(2)));
        let batch = |n| Value::Array(vec![request(1, "health", json!({})); n]).to_string();
        visitor.say(batch(4));
        assert_eq!(visitor.hear().as_array().unwrap().len(), 4);
        visitor.say(batch(5));
        assert_eq!(refusal(&visitor.hear()).0, "limitExceeded", "{door:?}");
        visitor.say(padded(8 * 1024 + 1));
        assert_eq!(refusal(&visitor.hear()).0, "payloadTooLarge", "{door:?}");
    }
}

#[test]
fn a_batch_waits_until_its_calls_fit() {
    let daemon = TestDaemon::start_with(&["--max-calls", "4"]);
    daemon.create("s");
    let workspace = daemon.workspace("s");
    let waits = |id: u64, gate: &str| {
        let script = format!("touch at{id}; until [ -e {gate} ]; do sleep 0.01; done");
        request(id, "sandbox.exec", json!({"sessionId": "s", "cmd": ["sh", "-c", script]}))
    };
    let mut wire = Wire::open(&daemon.socket);
    let batch = json!([waits(2, "two"), waits(3, "two"), waits(4, "two"), waits(5, "two")]);
    wire.send(format!("{}\n{batch}\n", waits(1, "one")));
    eventually("the first one runs", SOON, || workspace.join("at1").exists());
    // Another one still fits, but does not overtake.
    wire.request(6, "health", json!({}));
    wire.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = std::io::Read::read(&mut wire.stream(), &mut [0]);
    assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(!workspace.join("at2").exists(), "five calls are in flight");
    wire.stream().set_read_timeout(Some(SOON)).unwrap();
    std::fs::write(workspace.join("one"), "").unwrap();
    assert_eq!(wire.receive()["id"], 1);
    std::fs::write(workspace.join("two"), "").unwrap();
    assert_eq!(wire.receive().as_array().unwrap().len(), 4);
    assert_eq!(wire.receive()["id"], 6);
}
