//! `Transfers` against a server that follows a script, also the one of a server that fails
//! or means no good.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod common;

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use common::{Fake, Request, storage_full, uploaded};
use noxrunner_client::{ConnectError, Download, TransferError, Transfers};
use noxrunner_protocol::http::ArchiveFormat;
use noxrunner_protocol::{ErrorKind, RpcError, SessionId};

fn id() -> SessionId {
    "a/b".parse().unwrap()
}

fn transfers(fake: &Fake) -> Transfers {
    Transfers::new(&fake.socket())
}

/// All of a download, as plain tar.
fn downloaded(transfers: &Transfers) -> Result<(bool, Vec<u8>), TransferError> {
    let mut download = transfers.download(&id(), b"src", ArchiveFormat::Tar)?;
    let mut bytes = Vec::new();
    download.read_to_end(&mut bytes).map_err(Download::failure)?;
    Ok((download.redirected, bytes))
}

#[test]
fn an_upload_arrives_whole() {
    let archive: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let expected = archive.clone();
    let fake = Fake::http(move |request| {
        assert!(request.body().unwrap() == expected);
        request.json(200, &uploaded(1));
    });
    let result = transfers(&fake).upload(&id(), b"/w \xff", &mut &archive[..]).unwrap();
    assert_eq!((result.written, result.dest.as_deref()), (Some(1), Some("/workspace")));
    let head = fake.seen.recv().unwrap();
    let head = head.as_str().unwrap();
    let line = "POST /v1/sandboxes/a%2Fb/files/upload?dest=/w%20%FF HTTP/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    let head = head.to_lowercase();
    for header in ["content-type: application/x-tar\r\n", "transfer-encoding: chunked\r\n"] {
        assert!(head.contains(header), "{head}");
    }
}

#[test]
fn an_error_keeps_its_kind_and_hint() {
    let fake = Fake::http(|request| {
        if request.head.starts_with("POST") {
            request.body().unwrap();
        }
        request.json(507, &storage_full());
    });
    let expected = RpcError::new(ErrorKind::StorageFull, "no room").hint("delete something");
    for error in [
        transfers(&fake).upload(&id(), b"", &mut &b"x"[..]).unwrap_err(),
        downloaded(&transfers(&fake)).unwrap_err(),
    ] {
        assert!(matches!(&error, TransferError::Refused(e) if *e == expected), "{error:?}");
    }
}

#[test]
fn an_error_while_sending_is_heard() {
    // The answer in one and the same archive that never ends: first from a server that
    // closes, then from one that only stops reading.
    for closes in [true, false] {
        let (hold, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let fake = Fake::http(move |request| {
            request.stream.read_exact(&mut [0; 100_000]).unwrap();
            request.json(507, &storage_full());
            if !closes {
                let _ = held.lock().unwrap().recv();
            }
        });
        let error = transfers(&fake).upload(&id(), b"", &mut io::repeat(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{closes}: {error:?}");
        drop(hold);
    }
}

#[test]
fn a_server_that_goes_away_while_sending_closed_the_connection() {
    let fake = Fake::http(|request| request.stream.read_exact(&mut [0; 100_000]).unwrap());
    let error = transfers(&fake).upload(&id(), b"", &mut io::repeat(0)).unwrap_err();
    assert!(matches!(error, TransferError::Closed), "{error:?}");
}

#[test]
fn an_archive_that_cannot_be_read_is_cut_off() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let (tell, told) = channel();
    let fake = Fake::http(move |request| tell.send(request.body().is_err()).unwrap());
    let mut archive = (&[0; 600_000][..]).chain(Fails);
    let error = transfers(&fake).upload(&id(), b"", &mut archive).unwrap_err();
    assert!(matches!(&error, TransferError::Source(e) if e.to_string() == "gone"), "{error:?}");
    // The positive control is the upload that arrives whole.
    assert!(told.recv().unwrap());
}

#[test]
fn a_download_arrives_whole() {
    let archive: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    let sent = archive.clone();
    let fake = Fake::http(move |request| {
        request.begin("x-noxrunner-redirected: true\r\n");
        sent.chunks(70_000).for_each(|chunk| request.chunk(chunk));
        request.chunk(b"");
    });
    assert!(downloaded(&transfers(&fake)).unwrap() == (true, archive));
    let head = fake.seen.recv().unwrap();
    let line = "GET /v1/sandboxes/a%2Fb/files/download?src=src&format=tar HTTP/1.1\r\n";
    assert!(head.as_str().unwrap().starts_with(line), "{head}");
    let fake = Fake::http(|request| {
        request.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc");
    });
    assert_eq!(downloaded(&transfers(&fake)).unwrap(), (false, b"abc".to_vec()));
}

#[test]
fn a_download_that_is_cut_off_is_no_short_success() {
    fn cut(answer: impl Fn(&mut Request) + Clone + Send + 'static) -> TransferError {
        downloaded(&transfers(&Fake::http(answer))).unwrap_err()
    }
    for (why, error) in [
        (
            "no last chunk",
            cut(|request| {
                request.begin("");
                request.chunk(&[0; 1024]);
            }),
        ),
        (
            "in a chunk",
            cut(|request| {
                request.begin("");
                request.write(b"400\r\nxyz");
            }),
        ),
        (
            "shorter than said",
            cut(|request| request.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc")),
        ),
        ("no head", cut(|request| request.write(b"HTTP/1.1 200 OK\r\n"))),
        ("nothing", cut(|_| ())),
    ] {
        assert!(matches!(error, TransferError::Closed), "{why}: {error:?}");
    }
    // Its end could not be told from a cut.
    let error = cut(|request| request.write(b"HTTP/1.1 200 OK\r\n\r\nabc"));
    assert!(matches!(error, TransferError::BadAnswer(_)), "{error:?}");
}

#[test]
fn answers_of_something_else_are_refused() {
    for answer in [
        &b"HTTP/1.1 302 Found\r\nlocation: http://localhost/x\r\ncontent-length: 0\r\n\r\n"[..],
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops",
        b"{\"jsonrpc\":\"2.0\"}\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let fake = Fake::http(move |request| {
            if request.head.starts_with("POST") {
                request.body().unwrap();
            }
            request.write(answer);
        });
        let error = downloaded(&transfers(&fake)).unwrap_err();
        assert!(matches!(error, TransferError::BadAnswer(_)), "{error:?}");
        let error = transfers(&fake).upload(&id(), b"", &mut &b"x"[..]).unwrap_err();
        assert!(matches!(error, TransferError::BadAnswer(_)), "{error:?}");
    }
}

#[test]
fn a_transfer_can_be_stopped_while_nothing_comes() {
    let (began, begun) = channel();
    let fake = Fake::http(move |request| {
        request.begin("");
        request.chunk(b"x");
        began.send(()).unwrap();
        // Until the client hangs up.
        assert_eq!(request.stream.read(&mut [0]).unwrap(), 0);
    });
    let (stop, mut stops) = UnixStream::pair().unwrap();
    let transfers = transfers(&fake).stop_when_readable(stop.into());
    let stopping = std::thread::spawn(move || {
        begun.recv().unwrap();
        stops.write_all(b"x").unwrap();
    });
    let error = downloaded(&transfers).unwrap_err();
    assert!(matches!(error, TransferError::Stopped), "{error:?}");
    stopping.join().unwrap();
}

#[test]
fn only_who_is_trusted_is_talked_to() {
    let fake = Fake::http(|request| request.archive(b"x"));
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(fake.dir.path(), permissions).unwrap();
    };
    mode(0o777);
    let error = downloaded(&transfers(&fake)).unwrap_err();
    let TransferError::Connect(ConnectError::OpenDirectory { mode: 0o777, .. }) = error else {
        panic!("{error:?}")
    };
    mode(0o700);
    downloaded(&transfers(&fake)).unwrap();
    let absent = Transfers::new(&fake.dir.path().join("absent"));
    let error = downloaded(&absent).unwrap_err();
    assert!(matches!(error, TransferError::Connect(ConnectError::NoDaemon { .. })), "{error:?}");
}
