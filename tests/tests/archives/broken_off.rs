//! Requests on TCP that end too early: wherever that is, nothing of the archive is there.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

use noxrunner_tests::archive::{Door, built};
use noxrunner_tests::doors::http_answer;
use noxrunner_tests::{ON_TCP, SOON, TestDaemon, eventually};

use super::{listing, with_sandbox};

/// How a client goes.
#[derive(Debug, Clone, Copy)]
enum Going {
    /// It says that it sends no more, and waits for what may come.
    Ends,
    /// It closes.
    Closes,
}

/// What a client hears that asked whether it may go on (RFC 9110, section 10.1.1).
const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The beginning of an upload, and how the length of its body is given.
fn head(framing: &str) -> Vec<u8> {
    format!(
        "POST /v1/sandboxes/s/files/upload HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/x-tar\r\nexpect: 100-continue\r\n{framing}\r\n\r\n"
    )
    .into_bytes()
}

/// Sends the head of a request and so much of its body, once that is waited for, and goes. Gives
/// what was answered.
#[track_caller]
fn send(daemon: &TestDaemon, head: &[u8], body: &[u8], going: Going) -> String {
    let mut stream = TcpStream::connect(daemon.http()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(head).unwrap();
    let mut interim = [0; GO_ON.len()];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(interim, GO_ON, "{}", String::from_utf8_lossy(&interim));
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    if matches!(going, Going::Ends) {
        stream.shutdown(Shutdown::Write).unwrap();
        // Told or not, it is over.
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

#[test]
fn at_any_byte_nothing_is_left() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start_with(&ON_TCP));
    fs::write(workspace.join("a"), "kept").unwrap();
    let archive = built("w:gz", "add('a', b'new')\nadd('b/c', b'c' * 3000)\nadd('d')");
    let (one, two) = archive.split_at(archive.len() / 2);
    let mut chunks = Vec::new();
    for part in [one, two] {
        chunks.extend(format!("{:x}\r\n", part.len()).into_bytes());
        chunks.extend([part, b"\r\n"].concat());
    }
    chunks.extend(b"0\r\n\r\n");
    let requests = [
        (head(&format!("content-length: {}", archive.len())), &archive),
        (head("transfer-encoding: chunked"), &chunks),
    ];
    for (head, body) in &requests {
        for cut in 0..body.len() {
            // Each in its turn, and both where it is nearly whole.
            let goings = [Going::Ends, Going::Closes];
            let some = if cut + 12 < body.len() { &goings[cut % 2..=cut % 2] } else { &goings[..] };
            for going in some {
                let answer = send(&daemon, head, &body[..cut], *going);
                assert!(!answer.contains(" 200 "), "{going:?} after {cut} bytes: {answer}");
            }
        }
        assert_eq!(listing(&workspace), ["a: kept"]);
    }
    let staging = workspace.with_file_name("staging");
    let is_over = || fs::read_dir(&staging).unwrap().count() == 0;
    eventually("nothing is under way", SOON, is_over);
    assert_eq!(listing(&workspace), ["a: kept"]);
    // The control: with its last byte it is taken.
    for (head, body) in &requests {
        let mut stream = TcpStream::connect(daemon.http()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&[head, &body[..]].concat()).unwrap();
        let mut stream = BufReader::new(stream);
        assert_eq!(http_answer(&mut stream).0, 100);
        let (status, answer) = http_answer(&mut stream);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        assert_eq!(listing(&workspace).len(), 4);
        fs::remove_dir_all(workspace.join("b")).unwrap();
    }
    assert_eq!(Door::Tcp.upload(&daemon, "s", ".", &archive).unwrap()["written"], 3);
    // Of the last that was broken off, too, which may have begun only when the others were over.
    eventually("nothing is left", SOON, is_over);
}
