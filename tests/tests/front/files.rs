//! Archives and files through the front, whatever their size.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use noxrunner_tests::archive::{Door, built, curl, http_download, untar};
use noxrunner_tests::{SOON, TestDaemon, Tier, eventually, run, text};
use serde_json::json;

use super::Both;
use super::server::{Reply, Server};

/// What a big transfer may cost it, in MiB.
const COST: u64 = 32;

const BIG: u64 = 200;

#[test]
fn a_big_archive_goes_through_in_little_memory() {
    let both = Both::start();
    both.front.create("s");
    let up = "/v1/sandboxes/s/files/upload?dest=up";
    let (before, _) = both.front.memory();
    // tar writes nothing that compresses away: the upload is as long as it looks.
    let script = format!(
        "head -c {} /dev/zero > big && tar -c big | curl --silent --unix-socket {} \
         --header 'content-type: application/x-tar' --request POST --upload-file - \
         --write-out '%{{http_code}}' --output /dev/null http://noxrunner{up}",
        BIG * 1024 * 1024,
        both.front.socket.display()
    );
    let dir = tempfile::tempdir().unwrap();
    let output = run(Command::new("sh").args(["-c", &script]).current_dir(dir.path()));
    assert_eq!(text(&output.stdout), "200", "{output:?}");
    let grown = both.front.memory().1.saturating_sub(before);
    assert!(grown < COST, "an upload of {BIG} MiB takes {grown} MiB");
    let mut down = curl(&both.front, "/v1/sandboxes/s/files/download?src=up/big&format=tar");
    let mut down = down.stdout(Stdio::piped()).spawn().unwrap();
    let length = std::io::copy(&mut down.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    assert!(down.wait().unwrap().success() && length > BIG * 1024 * 1024, "{length}");
    let grown = both.front.memory().1.saturating_sub(before);
    assert!(grown < COST, "a download of {BIG} MiB takes {grown} MiB");
}

#[test]
fn archives_go_both_ways_by_both_doors() {
    let both = Both::start();
    both.front.create("s");
    let archive = built("w:gz", "add('d/x', b'x', mode=0o755)\nadd('e', type=DIR)");
    for (door, dest) in [(Door::Rpc, "a"), (Door::Http, "b c")] {
        let dest_path = dest.replace(' ', "%20");
        let to = if door == Door::Http { dest_path.as_str() } else { dest };
        let said = door.upload(&both.front, "s", to, &archive).unwrap();
        assert_eq!(
            (&said["written"], &said["dest"]),
            (&json!(2), &json!(format!("/workspace/{dest}")))
        );
    }
    let outside = Door::Rpc.upload(&both.front, "s", "/etc", &archive).unwrap();
    assert_eq!(outside["redirected"], true);
    let (kind, _) = Door::Rpc.upload(&both.front, "s", "a", b"no archive").unwrap_err();
    assert_eq!(kind, "badArchive");
    let (kind, _) = Door::Http.upload(&both.front, "t", "a", &archive).unwrap_err();
    assert_eq!(kind, "sandboxNotFound");

    let sent = both.front.call("file.download", json!({"sessionId": "s", "src": "a"})).unwrap();
    use base64::Engine as _;
    let archive = base64::engine::general_purpose::STANDARD;
    let packed = archive.decode(sent["archive"].as_str().unwrap()).unwrap();
    let (status, streamed) = http_download(&both.front, "s", "src=b+c&format=tar").unwrap();
    assert_eq!(status, 200);
    for packed in [packed, streamed] {
        let dir = tempfile::tempdir().unwrap();
        untar(&packed, dir.path());
        assert_eq!(std::fs::read(dir.path().join("d/x")).unwrap(), b"x");
        assert!(dir.path().join("e").is_dir());
    }
    let (kind, _) = both.front.refused("file.download", json!({"sessionId": "s", "src": "none"}));
    assert_eq!(kind, "fileNotFound");
    both.front.sh("s", "head -c 16000000 /dev/urandom > big");
    let (kind, message) = both.front.refused("file.download", json!({"sessionId": "s"}));
    assert!(kind == "payloadTooLarge" && message.contains("bytes"), "{kind}: {message}");
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let both = Both::start();
    both.front.create("s");
    let archive = built("w", "add('x', b'x' * 1000000)");
    let head = "POST /v1/sandboxes/s/files/upload?dest=d HTTP/1.1\r\nhost: x\r\n\
                content-type: application/x-tar\r\ntransfer-encoding: chunked\r\n\r\n";
    // Made by the first upload that gets there.
    let staging = both.backend.workspace("s").with_file_name("staging");
    let staged = || std::fs::read_dir(&staging).map_or(0, Iterator::count);
    for hangs_up in [true, false] {
        let mut stream = std::os::unix::net::UnixStream::connect(&both.front.socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(format!("{:x}\r\n", archive.len()).as_bytes()).unwrap();
        stream.write_all(&archive).unwrap();
        eventually("it is staged", SOON, || staged() == 1);
        // All but the word that it was all.
        if !hangs_up {
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(), "{answer}");
        }
        drop(stream);
        eventually("nothing is staged", SOON, || staged() == 0);
        assert_eq!(both.backend.sh("s", "ls").stdout, "");
    }
    // Whole, it arrives.
    assert_eq!(Door::Http.upload(&both.front, "s", "d", &archive).unwrap()["written"], 1);
}

#[test]
fn a_download_that_breaks_off_is_no_whole_one() {
    let raw = |text: &str| text.as_bytes().to_vec();
    let server = Server::new(move |asked, _| match asked.line.split("src=").nth(1).unwrap() {
        "cut" => Reply::Raw(raw("HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\nabc")),
        "chunk" => {
            Reply::Raw(raw("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"))
        }
        "stall" => Reply::Stalled(raw("HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\nabc")),
        _ => Reply::json(200, "abc"),
    });
    let front = TestDaemon::front_of(&server.url, &["--body-timeout", "300ms"]);
    std::thread::scope(|scope| {
        for src in ["cut", "chunk", "stall"] {
            let (front, server) = (&front, &server);
            scope.spawn(move || {
                let output = http_download(front, "s", &format!("src={src}")).unwrap_err();
                // A part of it came.
                assert_eq!(output.status.code(), Some(18), "{src}: {output:?}");
                let params = json!({"sessionId": "s", "src": src});
                assert_eq!(front.refused("file.download", params).0, "upstream", "{src}");
                let line = format!("GET /v1/sandboxes/s/files/download?src={src}");
                assert_eq!(server.count(&line), 2);
            });
        }
    });
    assert_eq!(http_download(&front, "s", "src=all").unwrap(), (200, b"abc".to_vec()));
}

/// Whether that is what comes by a connection, rather than a question for its health, which may have
/// been given up already.
fn asks_for_an_upload(stream: &mut TcpStream) -> bool {
    let mut head = [0; 1024];
    let _ = stream.read(&mut head);
    head.starts_with(b"POST ")
}

#[test]
fn a_backend_that_takes_nothing_of_an_upload_is_given_up() {
    // Reads the head alone: its script is asked when all of it is there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let deaf = std::thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            if asks_for_an_upload(&mut stream) {
                return stream;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nOK");
        }
    });
    // What curl has to send next is bounded by it, too.
    let bounds = ["--body-timeout", "2s", "--upstream-timeout", "5s"];
    let front = TestDaemon::front_of(&url, &bounds);
    let archive = built("w", "add('x', b'x' * 30000000)");
    let (kind, message) = Door::Http.upload(&front, "s", "d", &archive).unwrap_err();
    assert!(kind == "upstream" && message.contains("taking more"), "{kind}: {message}");
    drop(deaf.join().unwrap());
}

#[test]
fn an_upload_that_is_refused_midway_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let refuses = std::thread::spawn(move || {
        let mut done = false;
        while !done {
            let (mut stream, _) = listener.accept().unwrap();
            done = asks_for_an_upload(&mut stream);
            let (status, body) = match done {
                true => (413, r#"{"error": "too large for me"}"#),
                false => (200, "OK"),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n");
            let _ = write!(stream, "{head}connection: close\r\n\r\n{body}");
            let _ = stream.shutdown(Shutdown::Write);
            // What is unread at the close could hide the answer (RFC 9112, section 9.6).
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let front = TestDaemon::front_of(&url, &[]);
    let archive = built("w", "add('x', b'x' * 30000000)");
    let (kind, message) = Door::Http.upload(&front, "s", "d", &archive).unwrap_err();
    assert!(kind == "payloadTooLarge" && message.contains("for me"), "{kind}: {message}");
    refuses.join().unwrap();
}

#[test]
fn files_are_looked_at_read_and_written() {
    for tier in [Tier::Full, Tier::None] {
        let backend = TestDaemon::of_tier_with(tier, &["--http", "127.0.0.1:0"]);
        let front = TestDaemon::front_of(&format!("http://{}", backend.http()), &[]);
        front.create("s");
        let call = |method: &str, params: serde_json::Value| {
            let mut params = params;
            params["sessionId"] = json!("s");
            front.call(method, params)
        };
        let write = json!({"path": "d/-f", "data": "grüße\n", "mode": 0o600});
        assert_eq!(call("file.write", write).unwrap(), json!({"size": 8, "redirected": false}));
        let again = json!({"path": "/workspace/d/-f", "data": "aGk=", "encoding": "base64"});
        call("file.write", again).unwrap();
        let stat = call("file.stat", json!({"path": "d/-f"})).unwrap();
        assert_eq!(
            (&stat["name"], &stat["type"], &stat["size"], &stat["mode"]),
            (&json!("-f"), &json!("file"), &json!(2), &json!(0o600)),
            "{stat}"
        );
        backend.sh("s", "ln -s d/-f l; mkfifo p; ln -s none dangling; printf '\\377ab' > bytes");
        let real = backend.call("file.stat", json!({"sessionId": "s", "path": "l"})).unwrap();
        let seen = call("file.stat", json!({"path": "l"})).unwrap();
        assert_eq!((&seen["type"], &seen["target"]), (&real["type"], &real["target"]));
        let read = |params: serde_json::Value| call("file.read", params);
        let through_link = read(json!({"path": "l"})).unwrap();
        assert_eq!((&through_link["data"], &through_link["eof"]), (&json!("hi"), &json!(true)));
        let bytes = read(json!({"path": "bytes", "encoding": "base64", "offset": 0, "length": 2}));
        let bytes = bytes.unwrap();
        assert_eq!(
            (&bytes["data"], &bytes["size"], &bytes["eof"]),
            (&json!("/2E="), &json!(3), &json!(false))
        );
        let rest = read(json!({"path": "bytes", "offset": 2})).unwrap();
        assert_eq!((&rest["data"], &rest["eof"]), (&json!("b"), &json!(true)));
        let beyond = read(json!({"path": "bytes", "offset": 9})).unwrap();
        assert_eq!((&beyond["data"], &beyond["bytes"]), (&json!(""), &json!(0)));
        backend.sh("s", "head -c 1500000 /dev/urandom > big");
        let (mut offset, mut whole) = (0, Vec::new());
        loop {
            let part =
                read(json!({"path": "big", "offset": offset, "encoding": "base64"})).unwrap();
            use base64::Engine as _;
            let engine = base64::engine::general_purpose::STANDARD;
            whole.extend(engine.decode(part["data"].as_str().unwrap()).unwrap());
            offset += part["bytes"].as_u64().unwrap();
            if part["eof"] == true {
                break;
            }
        }
        assert_eq!(whole, std::fs::read(backend.workspace("s").join("big")).unwrap());

        assert_eq!(
            call("file.mkdir", json!({"path": "m/n"})).unwrap(),
            json!({"redirected": false})
        );
        assert_eq!(
            call("file.mkdir", json!({"path": "m/n"})).unwrap(),
            json!({"redirected": false})
        );
        for (method, params, kind) in [
            ("file.stat", json!({"path": "none"}), "fileNotFound"),
            ("file.read", json!({"path": "none"}), "fileNotFound"),
            ("file.read", json!({"path": "dangling"}), "fileNotFound"),
            ("file.read", json!({"path": "d"}), "conflict"),
            ("file.read", json!({"path": "p"}), "conflict"),
            ("file.read", json!({"path": "big", "length": 2_000_000}), "invalidArgument"),
            ("file.write", json!({"path": "d", "data": ""}), "conflict"),
            ("file.write", json!({"path": ".", "data": ""}), "conflict"),
            ("file.write", json!({"path": "x", "data": "", "mode": 0o4755}), "invalidArgument"),
            ("file.write", json!({"path": "x", "data": "", "append": true}), "unsupported"),
            ("file.mkdir", json!({"path": "m/n", "parents": false}), "conflict"),
            ("file.mkdir", json!({"path": "q/n", "parents": false}), "fileNotFound"),
            ("file.mkdir", json!({"path": "bytes"}), "conflict"),
            ("file.stat", json!({"pathBase64": "/w=="}), "unsupported"),
            ("file.list", json!({}), "unsupported"),
        ] {
            let error = call(method, params.clone()).unwrap_err();
            assert_eq!(error.kind.name(), kind, "{method} {params}: {error}");
        }
        assert_eq!(backend.sh("s", "ls m d; test ! -e x").stdout, "d:\n-f\n\nm:\nn\n");
    }
}
