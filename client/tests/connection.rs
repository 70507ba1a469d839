//! `Connection` against a peer that follows a script, also the one of a peer
//! that means no good.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs::{Permissions, set_permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use noxrunner_client::{CallError, ConnectError, Connection};
use noxrunner_protocol::limits::{MAX_LINE_BYTES, MAX_RESPONSE_BYTES};
use noxrunner_protocol::method::{RpcDiscover, SandboxExec, SandboxTouch};
use noxrunner_protocol::types::{ExecParams, NoParams, SandboxRef};
use noxrunner_protocol::{ErrorKind, RpcError};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    (dir, socket)
}

/// Serves one connection: `script` gets the requests' lines and the stream to answer on.
fn serve<F>(socket: &Path, script: F) -> JoinHandle<()>
where
    F: FnOnce(&mut dyn FnMut() -> String, &mut UnixStream) + Send + 'static,
{
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut next = || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line
        };
        script(&mut next, &mut stream);
    })
}

/// What one call gets where the peer answers it with these bytes and closes.
fn answered(bytes: &[u8]) -> Result<String, CallError> {
    let (_dir, socket) = place();
    let bytes = bytes.to_vec();
    let peer = serve(&socket, move |next, stream| {
        next();
        stream.write_all(&bytes).unwrap();
    });
    let outcome = touch(&mut Connection::open(&socket).unwrap());
    peer.join().unwrap();
    outcome
}

fn touch(connection: &mut Connection) -> Result<String, CallError> {
    let params = SandboxRef { session_id: "s".parse().unwrap() };
    connection.call::<SandboxTouch>(&params).map(|touched| touched.expires_at)
}

#[test]
fn calls_go_out_one_a_line_and_their_answers_come_back() {
    let (_dir, socket) = place();
    let peer = serve(&socket, |next, stream| {
        for id in 1..=2 {
            let request: serde_json::Value = serde_json::from_str(&next()).unwrap();
            let expected = serde_json::json!({"jsonrpc": "2.0", "id": id,
                "method": "sandbox.touch", "params": {"sessionId": "s"}});
            assert_eq!(request, expected);
            let answer =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"expiresAt":"{id}"}}}}"#);
            // In two writes: an answer need not arrive at once.
            let (head, tail) = answer.split_at(20);
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(tail.as_bytes()).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
    });
    let mut connection = Connection::open(&socket).unwrap();
    assert_eq!(touch(&mut connection).unwrap(), "1");
    assert_eq!(touch(&mut connection).unwrap(), "2");
    peer.join().unwrap();
}

#[test]
fn an_error_keeps_its_kind_and_hint() {
    let line = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32041,"message":"no sandbox","data":{"kind":"sandboxNotFound","hint":"create it"}}}
"#;
    let Err(CallError::Refused(error)) = answered(line) else { panic!("no error") };
    assert_eq!(error, RpcError::new(ErrorKind::SandboxNotFound, "no sandbox").hint("create it"));
    // About the connection as a whole, as for a line that is too long.
    let line = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32047,"message":"too long"}}
"#;
    let Err(CallError::Refused(error)) = answered(line) else { panic!("no error") };
    assert_eq!(error.kind, ErrorKind::PayloadTooLarge);
}

#[test]
fn an_answer_of_another_call_is_no_answer() {
    for id in ["2", r#""1""#, "null"] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"expiresAt":"x"}}}}"#);
        let outcome = answered(format!("{line}\n").as_bytes());
        assert!(matches!(outcome, Err(CallError::WrongId { .. })), "{id}: {outcome:?}");
    }
}

#[test]
fn a_connection_closed_before_the_answer_is_complete_says_so() {
    for bytes in [&b""[..], br#"{"jsonrpc":"2.0","#, br#"{"jsonrpc":"2.0","id":1,"result":{}}"#] {
        assert!(matches!(answered(bytes), Err(CallError::Closed)), "{bytes:?}");
    }
}

#[test]
fn garbage_is_refused() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"\xff\xfe\n",
        b"\n",
        b"[]\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"expiresAt\":7}}\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":1}\n",
    ] {
        let outcome = answered(bytes);
        let Err(CallError::BadAnswer { method: "sandbox.touch", .. }) = outcome else {
            panic!("{bytes:?}: {outcome:?}")
        };
    }
}

#[test]
fn an_answer_is_read_only_as_far_as_answers_may_go() {
    let whole = format!(r#"{{"id":1,"result":"{}"}}"#, "x".repeat(MAX_RESPONSE_BYTES));
    for (answer, ends) in [(whole + "\n", true), ("x".repeat(MAX_RESPONSE_BYTES + 65536), false)] {
        let (_dir, socket) = place();
        let peer = serve(&socket, move |next, stream| {
            next();
            stream.write_all(answer.as_bytes()).unwrap();
            // Still open: only the bound can end the reading.
            next();
        });
        let mut connection = Connection::open(&socket).unwrap();
        let outcome = connection.call::<RpcDiscover>(&NoParams {});
        match ends {
            true => assert!(outcome.is_ok()),
            false => assert!(matches!(outcome, Err(CallError::AnswerTooLong))),
        }
        drop(connection);
        peer.join().unwrap();
    }
}

#[test]
fn a_request_too_long_is_not_sent() {
    let (_dir, socket) = place();
    let peer = serve(&socket, |next, _| assert_eq!(next(), ""));
    let mut connection = Connection::open(&socket).unwrap();
    let mut exec = ExecParams::new("s".parse().unwrap(), vec!["cat".to_owned()]);
    exec.stdin = Some("x".repeat(MAX_LINE_BYTES));
    let error = connection.call::<SandboxExec>(&exec).unwrap_err();
    assert!(matches!(error, CallError::TooLong { bytes } if bytes > MAX_LINE_BYTES), "{error}");
    drop(connection);
    peer.join().unwrap();
}

#[test]
fn a_silent_daemon_is_not_waited_for_longer_than_told() {
    let (_dir, socket) = place();
    let peer = serve(&socket, |next, _| {
        next();
        assert_eq!(next(), "");
    });
    let mut connection = Connection::open(&socket).unwrap();
    connection.set_timeout(Some(Duration::from_millis(20))).unwrap();
    assert!(matches!(touch(&mut connection), Err(CallError::TimedOut)));
    drop(connection);
    peer.join().unwrap();
}

#[test]
fn a_daemon_that_closes_at_once_is_heard_out() {
    let (_dir, socket) = place();
    let peer = serve(&socket, |_, stream| {
        let error = RpcError::new(ErrorKind::LimitExceeded, "too many connections");
        let line = serde_json::json!({"jsonrpc": "2.0", "id": null, "error": error});
        writeln!(stream, "{line}").unwrap();
    });
    let mut connection = Connection::open(&socket).unwrap();
    peer.join().unwrap();
    let Err(CallError::Refused(error)) = touch(&mut connection) else { panic!("no error") };
    assert_eq!(error.kind, ErrorKind::LimitExceeded);
}

#[test]
fn without_a_daemon_the_socket_is_named() {
    let (dir, socket) = place();
    let missing = dir.path().join("missing/s.sock");
    drop(UnixListener::bind(&socket).unwrap());
    for path in [&socket, &dir.path().join("absent"), &missing] {
        let error = Connection::open(path).unwrap_err();
        assert!(matches!(error, ConnectError::NoDaemon { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let (dir, socket) = place();
    let _listener = UnixListener::bind(&socket).unwrap();
    let mode = |mode| set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    let error = Connection::open(&socket).unwrap_err();
    assert!(matches!(error, ConnectError::OpenDirectory { mode: 0o777, .. }), "{error:?}");
    mode(0o1777);
    Connection::open(&socket).unwrap();
    mode(0o750);
    Connection::open(&socket).unwrap();
}

#[test]
fn a_link_to_a_directory_is_refused() {
    let (dir, socket) = place();
    let _listener = UnixListener::bind(&socket).unwrap();
    let link = dir.path().join("link");
    symlink(dir.path(), &link).unwrap();
    let error = Connection::open(&link.join("s.sock")).unwrap_err();
    assert!(matches!(error, ConnectError::NotADirectory { .. }), "{error:?}");
}

#[test]
fn what_is_no_socket_is_refused() {
    let (_dir, socket) = place();
    std::fs::write(&socket, "").unwrap();
    // Linux says "connection refused" here, too.
    assert!(matches!(Connection::open(&socket), Err(ConnectError::NoDaemon { .. })));
    let long = socket.with_file_name("x".repeat(200));
    let error = Connection::open(&long).unwrap_err();
    assert!(error.hint().contains("107 bytes"), "{error:?}");
}
