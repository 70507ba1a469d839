//! Backends that do not do as they should: each failure is an error of a few lines that names the
//! URL, and nothing is asked twice.

use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use noxrunner_client::TransferError;
use noxrunner_client::protocol::http::ArchiveFormat;
use noxrunner_client::v1::{Client, Problem};
use noxrunner_tests::SOON;

use super::fake::{Asked, Fake};
use super::{ask, fails, noxctl, said};

type Answer = Box<dyn FnMut(&mut Asked) + Send>;

#[test]
fn every_bad_answer_is_one_error() {
    let page = format!("<!DOCTYPE html><html>{}</html>", "<p>sorry</p>\n".repeat(10_000));
    let unlabelled = page.clone();
    let escapes = r#"{"error": "a\u001b[31mb\nc\u202e"}"#;
    let long = format!(r#"{{"error": "{}"}}"#, "é".repeat(100_000));
    let huge = format!(r#"{{"exitCode": 0, "stdout": "{}"}}"#, "x".repeat(20_000_000));
    let cases: Vec<(Answer, &[&str])> = vec![
        (Box::new(|_| {}), &["closed before"]),
        (Box::new(|asked| asked.say("HTTP/1.1 200 O")), &[]),
        (Box::new(|asked| asked.say("nonsense\r\n\r\n")), &["cannot be understood"]),
        (
            Box::new(|asked| asked.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"exit")),
            &["closed before"],
        ),
        (Box::new(move |asked| asked.answer(500, "text/html", &page)), &["HTML page", "500"]),
        (Box::new(move |asked| asked.answer(502, "", &unlabelled)), &["HTML page", "502"]),
        (Box::new(|asked| asked.answer(200, "text/html", "{}")), &["HTML page", "200"]),
        (Box::new(|asked| asked.json(200, "{]")), &["cannot be understood"]),
        (Box::new(|asked| asked.json(200, r#"{"exitCode": "0"}"#)), &["cannot be understood"]),
        (Box::new(|asked| asked.json(200, "[]")), &["cannot be understood"]),
        (Box::new(move |asked| asked.json(200, &huge)), &["more than 16777216 bytes"]),
        (Box::new(|asked| asked.answer(500, "text/plain", "it broke\n")), &["it broke", "500"]),
        (Box::new(|asked| asked.answer(503, "text/plain", "")), &["status 503"]),
        (Box::new(|asked| asked.json(500, r#"{"message": "m"}"#)), &[r#"{"message": "m"}"#]),
        (Box::new(move |asked| asked.json(500, escapes)), &["31mb c"]),
        (Box::new(move |asked| asked.json(500, &long)), &["éé", "…"]),
        (
            Box::new(|asked| asked.json(401, r#"{"error": "who are you"}"#)),
            &["who are you", "--token-file"],
        ),
    ];
    for (answer, parts) in cases {
        let fake = Fake::new(answer);
        fails(ask(&fake.url(), &["exec", "s", "x"]), &[parts, &[&fake.url()]].concat());
        // It may have run.
        assert_eq!(fake.lines(), ["POST /v1/sandboxes/s/exec"], "{parts:?}");
    }
    // The positive control, and what is not OK.
    let fake = Fake::new(|asked| asked.answer(200, "text/plain", "OK"));
    assert_eq!(ask(&fake.url(), &["health"]).0, 0);
    for (status, body) in [(200, "starting"), (503, "OK"), (404, "OK")] {
        let fake = Fake::new(move |asked| asked.answer(status, "text/plain", body));
        fails(ask(&fake.url(), &["health"]), &[&fake.url(), body]);
    }
}

#[test]
fn redirects_are_not_followed_but_named() {
    let other = Fake::new(|asked| asked.answer(200, "text/plain", "OK"));
    for status in [301, 302, 303, 307, 308] {
        let to = format!("{}/v1/elsewhere", other.url());
        let fake = Fake::new(move |asked| {
            let head = format!("HTTP/1.1 {status} Moved\r\nlocation: {to}\r\ncontent-length: 0");
            asked.say(head + "\r\n\r\n");
        });
        for verb in [&["exec", "s", "x"][..], &["health"], &["delete", "s"], &["download", "s"]] {
            fails(ask(&fake.url(), verb), &[&other.url(), "redirects are not followed"]);
        }
    }
    assert_eq!(other.lines(), [""; 0]);
}

#[test]
fn a_silent_backend_is_given_up() {
    let patience = Duration::from_millis(300);
    // Where something has to come first, which may take a while.
    let longer = patience * 10;
    let id = "s".parse().unwrap();
    let problem = |error: TransferError| {
        let TransferError::Remote(error) = error else { panic!("{error}") };
        error.problem
    };
    let silent = |problem: Problem| assert!(matches!(problem, Problem::Silent { .. }), "{problem}");
    let patient = |url: String, patience: Duration| {
        Client::new(url.parse().unwrap(), None).unwrap().patience(patience)
    };
    let client = |fake: &Fake| patient(fake.url(), patience);
    // The answers of both never come; their threads end with the test.
    let forever = || std::thread::sleep(SOON * 10);
    let begun = Instant::now();
    let fake = Fake::new(move |_| forever());
    silent(client(&fake).touch(&id).unwrap_err().problem);
    let fake = Fake::new(move |asked| {
        asked.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{");
        forever();
    });
    silent(client(&fake).exec(&id, &Default::default()).unwrap_err().problem);
    let fake = Fake::new(move |asked| {
        asked.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{");
        forever();
    });
    let transfers = patient(fake.url(), longer).transfers();
    let mut download = transfers.download(&id, b"x", ArchiveFormat::TarGz).unwrap();
    let error = download.read_to_end(&mut Vec::new()).unwrap_err();
    silent(problem(noxrunner_client::Download::failure(error)));
    // One that takes nothing of an upload.
    let fake = Fake::early(move |_| forever());
    let upload = client(&fake).transfers().upload(&id, b"x", &mut std::io::repeat(0));
    silent(problem(upload.unwrap_err()));
    // One that only listens.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    silent(patient(url, patience).health().unwrap_err().problem);
    let took = begun.elapsed();
    assert!(took >= patience * 4 + longer && took < SOON / 2, "{took:?}");
    // Its users say so with the old tool's flag, and what runs a command waits for it all the same.
    let begun = Instant::now();
    let fake = Fake::new(move |_| forever());
    fails(ask(&fake.url(), &["--timeout", "0.2", "touch", "s"]), &["0.2 s"]);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < SOON / 2, "{took:?}");
    let fake = Fake::new(move |asked| {
        std::thread::sleep(patience * 3);
        asked.json(200, r#"{"exitCode": 0, "stdout": "late", "stderr": ""}"#);
    });
    let late = ask(&fake.url(), &["--timeout", "0.2", "--verbose", "exec", "s", "x"]);
    assert_eq!((late.0, late.1.as_str()), (0, "late"));
    // Slow is not silent: each piece comes in time, all of them do not.
    let fake = Fake::new(move |asked| {
        for piece in ["HTTP/1.1 200 OK\r\n", "x: y\r\n", "content-length: 2\r\n", "\r\n", "O", "K"]
        {
            std::thread::sleep(longer / 5);
            asked.say(piece);
        }
    });
    patient(fake.url(), longer).health().unwrap();
}

#[test]
fn an_upload_that_is_refused_midway_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("big")).unwrap();
    // More than the connection holds, even compressed.
    std::io::copy(&mut std::fs::File::open("/dev/urandom").unwrap().take(20_000_000), &mut &file)
        .unwrap();
    let (ended, has_ended) = channel::<()>();
    let fake = Fake::early(move |asked| {
        asked.json(413, r#"{"error": "too large", "hint": "send less"}"#);
        // It reads no more: who goes on sending waits for ever. Nor does it close the connection,
        // or what is unread would have the answer thrown away (RFC 9112, 9.6).
        let _ = has_ended.recv();
    });
    let upload = ["upload", "s", "--dir", dir.path().to_str().unwrap()];
    let answer = ask(&fake.url(), &upload);
    drop(ended);
    fails(answer, &["too large", "send less", &fake.url()]);
    // One that hangs up without a word.
    let fake = Fake::early(|_| {});
    fails(ask(&fake.url(), &upload), &["closed before", &fake.url()]);
}

#[test]
fn nobody_there_is_said_with_the_url() {
    // The port of nobody: it is not given out.
    let url = "http://127.0.0.1:1/x";
    for verb in [&["health"][..], &["exec", "s", "x"], &["upload", "s", "/etc/passwd"]] {
        fails(ask(url, verb), &[url, "cannot connect", "is the backend running"]);
    }
    let (status, stdout, stderr) = said(&mut noxctl(&["--base-url", url, "--json", "health"]));
    let error: serde_json::Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!((status, stdout.as_str()), (1, ""));
    assert_eq!(error["error"]["data"]["kind"], "notReady");
}
