//! Clients that take their time.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use noxrunner_tests::doors::{DOORS, Door, Visitor, connect, http_answer, is_hung_up, post_head};
use noxrunner_tests::meanwhile::Meanwhile;
use noxrunner_tests::wire::request;
use noxrunner_tests::{SOON, TestDaemon, eventually};
use serde_json::{Value, json};

/// The bound that a test sets where nobody has to do anything within it.
const BOUND: Duration = Duration::from_secs(1);

/// The one for who does something now and then, or for the first time.
const LONGER: Duration = Duration::from_secs(3);

/// Reads until the daemon closes, and says after how long.
#[track_caller]
fn closes(mut stream: &UnixStream, since: Instant) -> (Duration, String) {
    let mut text = Vec::new();
    // What the daemon closed before it had read all of it is an error (unix(7)).
    let _ = stream.read_to_end(&mut text);
    let took = since.elapsed();
    assert!(took < SOON, "it was not closed");
    (took, String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn about(bound: Duration, took: Duration) {
    assert!(took >= bound && took < bound + SOON / 2, "closed after {took:?}");
}

#[test]
fn who_says_nothing_is_closed_and_who_has_said_something_is_not() {
    let daemon = TestDaemon::start_with(&["--first-byte-timeout", "3s"]);
    let mut knows = daemon.wire();
    knows.call(1, "health", json!({}));
    let mut began = daemon.wire();
    let whole = format!("{}\n", request(1, "health", json!({})));
    let (first, rest) = whole.split_at(1);
    began.send(first);
    let (since, silent) = (Instant::now(), connect(&daemon.socket));
    let (took, text) = closes(&silent, since);
    about(LONGER, took);
    assert_eq!(text, "");
    assert_eq!(knows.call(2, "health", json!({}))["result"]["status"], "ok");
    began.send(rest);
    assert_eq!(began.receive()["result"]["status"], "ok");
}

#[test]
fn headers_have_to_come() {
    let daemon = TestDaemon::start_with(&["--header-timeout", "1s"]);
    for head in ["P", "POST / HTTP/1.1\r\n", "GET /healthz HTTP/1.1\r\nhost: x\r\nx: "] {
        let (since, mut stream) = (Instant::now(), connect(&daemon.socket));
        stream.write_all(head.as_bytes()).unwrap();
        let (took, text) = closes(&stream, since);
        about(BOUND, took);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{head:?}: {text}");
    }
    // A header each while is not enough either.
    let (since, mut stream) = (Instant::now(), connect(&daemon.socket));
    stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    while stream.write_all(b"a: b\r\n").is_ok() {
        assert!(since.elapsed() < SOON, "it goes on for ever");
        std::thread::sleep(BOUND / 10);
    }
    about(BOUND, since.elapsed());
}

#[test]
fn a_body_that_stops_is_not_waited_for() {
    let daemon = TestDaemon::start_with(&["--body-timeout", "1s"]);
    daemon.create("s");
    let body = request(1, "health", json!({})).to_string();
    let (first, rest) = body.split_at(10);
    let begin = |daemon: &TestDaemon| {
        let stream = connect(&daemon.socket);
        (&stream).write_all((post_head(body.len()) + first).as_bytes()).unwrap();
        stream
    };
    let (since, stalled) = (Instant::now(), begin(&daemon));
    let (status, said) = http_answer(&mut BufReader::new(&stalled));
    about(BOUND, since.elapsed());
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert!(status == 408 && said["error"].as_str().unwrap().contains("1 s"), "{status} {said}");
    // The same for an archive.
    let mut upload = connect(&daemon.socket);
    write!(upload, "POST /v1/sandboxes/s/files/upload HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-tar\r\ncontent-length: 10240\r\n\r\nabc").unwrap();
    let (status, said) = http_answer(&mut BufReader::new(&upload));
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert!(status == 400 && said["error"].as_str().unwrap().contains("1 s"), "{status} {said}");
    // Control: it may take longer than the bound as long as something comes.
    let daemon = TestDaemon::start_with(&["--body-timeout", "3s"]);
    let (slow, since) = (begin(&daemon), Instant::now());
    for piece in rest.as_bytes().chunks(rest.len() / 8) {
        std::thread::sleep(LONGER / 6);
        (&slow).write_all(piece).unwrap();
    }
    assert!(since.elapsed() > LONGER, "the control is too fast to say anything");
    assert_eq!(http_answer(&mut BufReader::new(&slow)).0, 200);
}

#[test]
fn who_takes_nothing_is_closed_and_who_takes_a_little_is_not() {
    let daemon = TestDaemon::start_with(&["--write-timeout", "3s"]);
    daemon.create("s");
    daemon.sh("s", "head -c 1000000 /dev/zero | tr '\\0' x > big");
    let other = Meanwhile::of(&daemon);
    // Each asks for more than a socket holds.
    let read = request(1, "file.read", json!({"sessionId": "s", "path": "big"})).to_string();
    let takes_nothing = |door: Door| {
        let mut visitor = door.open(&daemon.socket);
        let before = Instant::now();
        visitor.say(&read);
        eventually(&format!("{door:?} is closed"), SOON, || is_hung_up(visitor.stream()));
        assert!(before.elapsed() >= LONGER / 2, "{door:?}: after {:?}", before.elapsed());
    };
    let takes_a_little = |door: Door| {
        let mut slow = door.open(&daemon.socket);
        slow.say(&read);
        let (mut taken, since) = (0, Instant::now());
        let mut piece = vec![0; 100_000];
        while taken < 1_000_000 {
            std::thread::sleep(LONGER / 6);
            let n = slow.stream().read(&mut piece).unwrap();
            assert!(n > 0, "{door:?}: closed after {:?}", since.elapsed());
            taken += n;
        }
        // A socket holds some two of its ten pieces: that long the daemon had something to write.
        assert!(since.elapsed() > LONGER * 3 / 2, "the control is too fast to say anything");
    };
    std::thread::scope(|scope| {
        for door in DOORS {
            scope.spawn(move || takes_nothing(door));
            scope.spawn(move || takes_a_little(door));
        }
    });
    other.noticed_nothing();
}

#[test]
fn a_byte_at_a_time_is_read_and_holds_nobody_up() {
    let daemon = TestDaemon::start_with(&["--first-byte-timeout", "3s"]);
    let other = Meanwhile::of(&daemon);
    let text = format!("{}\n", request(1, "health", json!({})));
    let mut dawdlers: Vec<UnixStream> = (0..20).map(|_| connect(&daemon.socket)).collect();
    let since = Instant::now();
    for byte in text.bytes() {
        dawdlers.iter_mut().for_each(|stream| stream.write_all(&[byte]).unwrap());
        std::thread::sleep(Duration::from_millis(70));
    }
    assert!(since.elapsed() > LONGER, "they are too fast to say anything");
    for stream in &dawdlers {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["result"]["status"], "ok");
    }
    other.noticed_nothing();
}

#[test]
fn half_closed_sockets_get_their_answers() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let other = Meanwhile::of(&daemon);
    let exec = |id| {
        let params = json!({"sessionId": "s", "cmd": ["sh", "-c", "sleep 0.3; echo done"]});
        request(id, "sandbox.exec", params).to_string()
    };
    let mut all: Vec<Visitor> = Vec::new();
    for door in [Door::Lines, Door::Post] {
        for id in 0..20 {
            let mut visitor = door.open(&daemon.socket);
            visitor.say(exec(id));
            visitor.stream().shutdown(std::net::Shutdown::Write).unwrap();
            all.push(visitor);
        }
    }
    for mut visitor in all {
        assert_eq!(visitor.hear()["result"]["stdout"], "done\n");
    }
    other.noticed_nothing();
}
