//! Many connections that do nothing, or never finish what they begin.

use std::io::{Read, Write};
use std::net::TcpStream;

use noxrunner_tests::meanwhile::Meanwhile;
use noxrunner_tests::{SOON, eventually};

use crate::{JSON, answer, ask, connect, request, start};

fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let read = (&*stream).read(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    matches!(read, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn six_hundred_idle_and_two_hundred_half_sent_keep_nobody_out() {
    let daemon = start(&["--header-timeout", "100s"]);
    let other = Meanwhile::of(&daemon);
    let mut idle: Vec<TcpStream> = (0..600).map(|_| connect(&daemon)).collect();
    let half = [
        "P",
        "PUT /v1/sandboxes/h HTTP/1.1\r\nhost: local",
        "POST /v1/sandboxes/s/exec HTTP/1.1\r\n",
    ];
    let mut half_sent: Vec<TcpStream> = (0..200).map(|_| connect(&daemon)).collect();
    for (n, stream) in half_sent.iter_mut().enumerate() {
        stream.write_all(half[n % half.len()].as_bytes()).unwrap();
    }
    assert_eq!(ask(&daemon, "PUT /v1/sandboxes/s", &[JSON], "{}").status, 200);
    for n in 0..20 {
        let body = format!("{{\"cmd\": [\"echo\", \"{n}\"]}}");
        let ran = ask(&daemon, "POST /v1/sandboxes/s/exec", &[JSON], &body).json();
        assert_eq!(ran["stdout"], format!("{n}\n"));
    }
    // Nobody had to go for that, and who has waited is served as well.
    assert!(idle.iter().chain(&half_sent).all(is_open));
    let one = idle.last_mut().unwrap();
    one.write_all(request("GET /healthz", &[], "").as_bytes()).unwrap();
    assert_eq!(answer(&mut *one).status, 200);
    let one = half_sent.last_mut().unwrap();
    one.write_all(b"host\r\n\r\n").unwrap();
    assert_eq!(answer(one).json()["created"], true);
    other.noticed_nothing();
}

#[test]
fn the_one_that_is_idle_longest_makes_room() {
    let daemon = start(&["--max-http-connections", "8"]);
    let idle: Vec<TcpStream> = (0..8).map(|_| connect(&daemon)).collect();
    eventually("all are taken", SOON, || {
        daemon.call("daemon.info", serde_json::json!({})).unwrap()["connections"] == 9
    });
    assert_eq!(ask(&daemon, "GET /healthz", &[], "").status, 200);
    eventually("one has gone", SOON, || !is_open(&idle[0]));
    assert!(idle[1..].iter().all(is_open));
    // Where all are busy, the next one is told so.
    daemon.create("s");
    let body = r#"{"cmd": ["sh", "-c", "until [ -e go ]; do sleep 0.02; done"]}"#;
    let exec = request("POST /v1/sandboxes/s/exec", &[JSON], body);
    let mut busy: Vec<TcpStream> = (0..8).map(|_| connect(&daemon)).collect();
    busy.iter_mut().for_each(|stream| stream.write_all(exec.as_bytes()).unwrap());
    eventually("all are busy", SOON, || {
        let found = daemon.call("sandbox.get", serde_json::json!({"sessionId": "s"})).unwrap();
        found["execs"] == 8
    });
    let refused = ask(&daemon, "GET /healthz", &[], "");
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.error().contains("--max-http-connections"), "{refused:?}");
    daemon.sh("s", "touch go");
    for stream in busy {
        assert_eq!(answer(stream).json()["exitCode"], 0);
    }
}

#[test]
fn headers_have_to_come() {
    let daemon = start(&["--header-timeout", "2s"]);
    let mut half = connect(&daemon);
    half.write_all(b"GET /healthz HTTP/1.1\r\nhost: loc").unwrap();
    let mut idle = connect(&daemon);
    assert_eq!(half.read(&mut [0]).unwrap(), 0);
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    assert_eq!(ask(&daemon, "GET /healthz", &[], "").status, 200);
}
