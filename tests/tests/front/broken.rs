//! A backend that is slow, silent, gone or out of its mind: whoever asks hears `upstream` within
//! the time that was set, and nobody else waits.

use std::time::{Duration, Instant};

use noxrunner_tests::{SOON, TestDaemon, eventually};
use serde_json::{Value, json};

use super::server::{Reply, Server};

/// Waits for little, but for long enough to ask, and longest for what follows a connection.
const IMPATIENT: [&str; 6] = [
    "--upstream-timeout",
    "2500ms",
    "--upstream-exec-grace",
    "2400ms",
    "--upstream-connect-timeout",
    "400ms",
];

/// An exec that the backend has two and a half seconds for.
fn exec(id: &str) -> Value {
    json!({"sessionId": id, "cmd": ["ls"], "timeoutSeconds": 0.1})
}

/// How long it may take to hear that something took too long, on a machine that is busy.
const LATE: Duration = Duration::from_secs(SOON.as_secs() / 2);

/// Asks, and wants `upstream` with these words in time.
#[track_caller]
fn fails(front: &TestDaemon, method: &str, params: Value, words: &str) {
    let begun = Instant::now();
    let (kind, message) = front.refused(method, params);
    assert_eq!(kind, "upstream", "{method}: {message}");
    assert!(message.contains(words) && message.contains("http://127.0.0.1:"), "{message}");
    assert!(message.chars().count() < 2_100 && !message.contains('\u{1b}'), "{message}");
    assert!(begun.elapsed() < LATE, "{:?}: {message}", begun.elapsed());
}

/// The answers that are none, and what is said of them.
fn nonsense() -> Vec<(&'static str, Reply, &'static str)> {
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let html = format!("<html>\u{1b}[2J<p>Oh no</p>{}", "x".repeat(9_000));
    let failed = format!(
        "HTTP/1.1 500 X\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{html}",
        html.len()
    );
    vec![
        ("html", raw(&failed), "500"),
        ("json", Reply::json(200, r#"{"podName": 7, "exitCode": "x"}"#), "none of NoxRunner v1"),
        ("text", Reply::json(200, "it works!"), "none of NoxRunner v1"),
        ("empty", Reply::json(200, ""), "none of NoxRunner v1"),
        ("list", Reply::json(200, "[]"), "none of NoxRunner v1"),
        ("deep", Reply::json(200, &"[".repeat(100_000)), "none of NoxRunner v1"),
        ("close", Reply::Close, "the connection broke"),
        ("cut", raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"podName\""), "broke"),
        ("head", raw("HTTP/1.1 200 O"), "broke"),
        ("chunk", raw("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), "broke"),
        ("smtp", raw("220 mail.example.org ESMTP\r\n"), "broke"),
        (
            "away",
            raw("HTTP/1.1 302 X\r\nlocation: http://\u{1b}x/\r\ncontent-length: 0\r\n\r\n"),
            "",
        ),
        ("moved", raw("HTTP/1.1 308 X\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"), "redirect"),
        ("same", raw("HTTP/1.1 304 X\r\n\r\n"), "304"),
        ("teapot", Reply::json(418, r#"{"error": "short and stout"}"#), "short and stout"),
        ("long", raw("HTTP/1.1 200 X\r\ncontent-length: 999999999999\r\n\r\n{"), "more than"),
        ("flood", Reply::Flood, ""),
    ]
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    let server = Server::new(|asked, _| {
        let name = asked.line.split('/').nth(3).unwrap().to_owned();
        nonsense().into_iter().find(|(known, ..)| *known == name).unwrap().1
    });
    let front = TestDaemon::front_of(&server.url, &["--upstream-exec-grace", "20s"]);
    let (before, _) = front.memory();
    let all = nonsense();
    for some in all.chunks(6) {
        std::thread::scope(|scope| {
            for (name, _, words) in some {
                let (front, server) = (&front, &server);
                scope.spawn(move || {
                    let params = json!({"sessionId": name, "cmd": ["ls"], "timeoutSeconds": 1});
                    fails(front, "sandbox.exec", params, words);
                    let exec = format!("POST /v1/sandboxes/{name}/exec");
                    assert_eq!(server.count(&exec), 1, "{name}");
                    fails(front, "sandbox.create", json!({"sessionId": name}), words);
                });
            }
        });
    }
    // An answer is held to 16 MiB.
    let grown = front.memory().1 - before;
    assert!(grown < 64, "{grown} MiB");
    eventually("the backend is well", SOON, || {
        let health = front.call("health", json!({})).unwrap();
        assert_eq!(health["sandboxes"], 0);
        health["status"] == "ok"
    });
}

#[test]
fn what_takes_too_long_is_given_up_and_nobody_else_waits() {
    let server = Server::with_health(|asked, _| match asked.line.as_str() {
        line if line.contains("slow") => Reply::Trickle,
        line if line.contains("half") => {
            Reply::Stalled(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec())
        }
        _ => Reply::Silence,
    });
    let front = TestDaemon::front_of(&server.url, &IMPATIENT);
    std::thread::scope(|scope| {
        for id in ["silent", "slow", "half"] {
            let front = &front;
            scope.spawn(move || fails(front, "sandbox.exec", exec(id), "a command took longer"));
            for method in ["sandbox.create", "sandbox.touch", "sandbox.delete"] {
                scope.spawn(move || {
                    fails(front, method, json!({"sessionId": id}), "took longer than 2.5 s");
                });
            }
        }
        // The backend is not well, and that is said within a second, however many ask and whether
        // or not it was asked itself just before. One after another they would wait for 5.6 s.
        for _ in 0..8 {
            scope.spawn(|| {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(1_100) {
                    let asked = Instant::now();
                    let health = front.call("health", json!({})).unwrap();
                    let took = asked.elapsed();
                    assert!(took < Duration::from_millis(2_500), "{took:?}");
                    let status = health["status"].as_str().unwrap();
                    assert!(status.starts_with("upstream: "), "{status}");
                    assert!(status.contains("longer"), "{status}");
                }
            });
        }
    });
    // What is given up is not waited for by anybody: every connection is closed.
    eventually("it has no connection to the backend", SOON, || connections(&front) == 0);
    let count = || server.count("POST /v1/sandboxes/silent/exec");
    eventually("the backend has heard of it", SOON, || count() > 0);
    assert_eq!(count(), 1);
}

/// How many TCP sockets it has open.
fn connections(daemon: &TestDaemon) -> usize {
    let tcp = std::fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid())).unwrap();
    let inodes: Vec<&str> =
        tcp.lines().skip(1).filter_map(|line| line.split_whitespace().nth(9)).collect();
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let links = open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    links
        .filter(|link| {
            let link = link.to_string_lossy();
            let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.contains(&inode))
        })
        .count()
}

#[test]
fn health_is_asked_of_the_backend_once_a_second_at_most() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&asked);
    let server = Server::with_health(move |_, _| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Reply::json(200, "OK")
    });
    let front = TestDaemon::front_of(&server.url, &[]);
    let begun = Instant::now();
    for _ in 0..50 {
        front.call("health", json!({})).unwrap();
    }
    let most = 2 + usize::try_from(begun.elapsed().as_secs()).unwrap();
    let asked = asked.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=most).contains(&asked), "{asked} of {most}");
}

#[test]
fn a_backend_that_is_not_there_is_said_to_be_gone() {
    // The port of nobody: it is not given out.
    let front = TestDaemon::front_of("http://127.0.0.1:1", &IMPATIENT);
    fails(&front, "sandbox.exec", exec("s"), "cannot connect");
    fails(&front, "sandbox.create", json!({"sessionId": "s"}), "cannot connect");
    eventually("health says so, too", SOON, || {
        let health = front.call("health", json!({})).unwrap();
        health["status"].as_str().unwrap().contains("cannot connect")
    });
    // A name that leads nowhere (RFC 6761, section 6.4).
    let front = TestDaemon::front_of("http://nox.invalid", &IMPATIENT);
    let (kind, message) = front.refused("sandbox.exec", exec("s"));
    assert!(kind == "upstream" && message.contains("http://nox.invalid"), "{kind}: {message}");
    // TLS with who speaks none.
    let server = Server::new(|_, _| Reply::created());
    let front = TestDaemon::front_of(&server.url.replace("http:", "https:"), &IMPATIENT);
    let (kind, message) = front.refused("sandbox.exec", exec("s"));
    assert!(kind == "upstream" && message.contains("cannot connect"), "{kind}: {message}");
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn it_ends_in_time_whatever_it_waits_for() {
    let server = Server::with_health(|_, _| Reply::Silence);
    let mut front = TestDaemon::front_of(&server.url, &[]);
    let mut wire = front.wire();
    wire.request(1, "sandbox.exec", json!({"sessionId": "s", "cmd": ["ls"]}));
    eventually("it is asked", SOON, || server.count("POST /v1/sandboxes/s/exec") == 1);
    let begun = Instant::now();
    assert!(front.end_by(nix::sys::signal::Signal::SIGTERM).success());
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
}

#[test]
fn a_refusal_keeps_its_meaning() {
    let server = Server::new(|asked, _| {
        let status: u16 = asked.line.split('/').nth(3).unwrap().parse().unwrap();
        Reply::json(status, r#"{"error": "because \u001b[2J"}"#)
    });
    let front = TestDaemon::front_of(&server.url, &[]);
    for (status, wanted) in [
        (400, "invalidArgument"),
        (401, "upstream"),
        (403, "upstream"),
        (404, "sandboxNotFound"),
        (405, "upstream"),
        (409, "conflict"),
        (413, "payloadTooLarge"),
        (429, "limitExceeded"),
        (500, "upstream"),
        (503, "notReady"),
        (507, "storageFull"),
    ] {
        let params = json!({"sessionId": status.to_string(), "cmd": ["ls"]});
        let (kind, message) = front.refused("sandbox.exec", params);
        assert_eq!(kind, wanted, "{status}: {message}");
        assert!(message.contains(r"because \u{1b}[2J"), "{message}");
    }
    // Of what makes a sandbox it means that this is no backend.
    let (kind, message) = front.refused("sandbox.create", json!({"sessionId": "404"}));
    assert!(kind == "upstream" && message.contains("no NoxRunner v1 API"), "{kind}: {message}");
}
