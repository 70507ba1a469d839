//! WebSocket: a client that knows it well, one of bare frames, and jsonrpsee's own.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::io::{BufReader, Write};

use jsonrpsee::core::client::{BatchResponse, ClientT, Error};
use jsonrpsee::core::params::{BatchRequestBuilder, ObjectParams};
use jsonrpsee::rpc_params;
use jsonrpsee_ws_client::{WsClient, WsClientBuilder};
use noxrunner_tests::doors::{connect, http_answer, websocket};
use noxrunner_tests::wire::{refusal, request};
use noxrunner_tests::{SOON, TestDaemon, eventually, in_both_tiers};
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Message, WebSocket};

type Socket = WebSocket<std::os::unix::net::UnixStream>;

#[track_caller]
fn hear(socket: &mut Socket) -> Value {
    let message = socket.read().unwrap();
    assert!(message.is_text(), "{message:?}");
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

fn health(id: u64) -> String {
    request(id, "health", json!({})).to_string()
}

#[test]
fn jsonrpsees_own_client_has_a_session() {
    let daemon = TestDaemon::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = own_client(&daemon).await;
        let created: Value =
            client.request("sandbox.create", params(json!({"sessionId": "s"}))).await.unwrap();
        assert_eq!(created["created"], true);
        let exec = |cmd: Value| params(json!({"sessionId": "s", "cmd": cmd}));
        let ran: Value = client.request("sandbox.exec", exec(json!(["echo", "hi"]))).await.unwrap();
        assert_eq!(ran["stdout"], "hi\n");
        // Answers come as they are ready, and to whom they belong: this command ends when the other
        // answer is there.
        let script = "until [ -e go ]; do sleep 0.1; done; echo slow";
        let slow = client.request::<Value, _>("sandbox.exec", exec(json!(["sh", "-c", script])));
        let go = daemon.workspace("s").join("go");
        let quick = async {
            let quick: Value = client.request("health", rpc_params![]).await.unwrap();
            assert_eq!(quick["status"], "ok");
            std::fs::write(go, "").unwrap();
        };
        let (slow, ()) = tokio::join!(slow, quick);
        assert_eq!(slow.unwrap()["stdout"], "slow\n");

        let refused = client.request::<Value, _>("sandbox.get", params(json!({"sessionId": "no"})));
        let Err(Error::Call(error)) = refused.await else { panic!("not refused") };
        let data: Value = serde_json::from_str(error.data().unwrap().get()).unwrap();
        assert_eq!((error.code(), &data["kind"]), (-32041, &json!("sandboxNotFound")));
        let mut batch = BatchRequestBuilder::new();
        batch.insert("health", rpc_params![]).unwrap();
        batch.insert("no.such", rpc_params![]).unwrap();
        let answers: BatchResponse<'_, Value> = client.batch_request(batch).await.unwrap();
        assert_eq!((answers.num_successful_calls(), answers.num_failed_calls()), (1, 1));
        let deleted: Value =
            client.request("sandbox.delete", params(json!({"sessionId": "s"}))).await.unwrap();
        assert_eq!(deleted["deleted"], true);
    });
    assert_eq!(daemon.directories(), [""; 0]);
}

async fn own_client(daemon: &TestDaemon) -> WsClient {
    let stream = tokio::net::UnixStream::connect(&daemon.socket).await.unwrap();
    let client = WsClientBuilder::new().request_timeout(SOON);
    client.build_with_stream("ws://noxrunner/rpc", stream).await.unwrap()
}

fn params(object: Value) -> ObjectParams {
    let mut params = ObjectParams::new();
    for (name, value) in object.as_object().unwrap() {
        params.insert(name, value).unwrap();
    }
    params
}

#[test]
fn text_binary_pieces_and_pings_are_taken() {
    let daemon = TestDaemon::start();
    let mut socket = websocket(&daemon.socket);
    socket.send(Message::text(health(1))).unwrap();
    assert_eq!(hear(&mut socket)["id"], 1);
    socket.send(Message::binary(health(2))).unwrap();
    assert_eq!(hear(&mut socket)["id"], 2);
    socket.send(Message::Ping(b"well?".as_slice().into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(b"well?".as_slice().into()));
    // One message in three pieces, with a ping between them (RFC 6455, section 5.4).
    let text = health(3).into_bytes();
    let (first, rest) = text.split_at(5);
    let (second, third) = rest.split_at(7);
    let piece = |bytes: &[u8], kind, last| Frame::message(bytes.to_vec(), OpCode::Data(kind), last);
    socket.send(Message::Frame(piece(first, Data::Text, false))).unwrap();
    socket.send(Message::Ping(b"".as_slice().into())).unwrap();
    socket.send(Message::Frame(piece(second, Data::Continue, false))).unwrap();
    socket.send(Message::Frame(piece(third, Data::Continue, true))).unwrap();
    assert!(socket.read().unwrap().is_pong());
    assert_eq!(hear(&mut socket)["id"], 3);
    // Several that are under way at once, and a batch.
    (4..20).for_each(|id| socket.send(Message::text(health(id))).unwrap());
    let mut ids: Vec<u64> = (4..20).map(|_| hear(&mut socket)["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (4..20).collect::<Vec<_>>());
    socket.send(Message::text(format!("[{},{}]", health(1), health(2)))).unwrap();
    assert_eq!(hear(&mut socket).as_array().unwrap().len(), 2);
    // Nobody asked for anything.
    socket.send(Message::text(r#"{"jsonrpc":"2.0","method":"health"}"#)).unwrap();
    socket.send(Message::text(health(21))).unwrap();
    assert_eq!(hear(&mut socket)["id"], 21);
    // A goodbye is answered.
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    socket.close(Some(goodbye)).unwrap();
    let Message::Close(Some(answered)) = socket.read().unwrap() else { panic!("no goodbye") };
    assert_eq!(answered.code, CloseCode::Normal);
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
}

#[test]
fn what_is_no_websocket_is_told_what_is_missing() {
    let daemon = TestDaemon::start();
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let whole = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", key];
    let ask = |method: &str, headers: &[&str]| {
        let mut stream = connect(&daemon.socket);
        let headers = headers.join("\r\n");
        write!(stream, "{method} / HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n").unwrap();
        http_answer(&mut BufReader::new(&stream))
    };
    let error = |body: &[u8]| {
        let said: Value = serde_json::from_slice(body).unwrap();
        said["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask("GET", &whole).0, 101);
    assert_eq!(
        ask("GET", &["Connection: keep-alive, Upgrade", "Upgrade: WebSocket", whole[2], key]).0,
        101
    );
    for (missing, status, word) in [
        (0, 400, "connection: upgrade"),
        (1, 405, "POST"),
        (2, 426, "sec-websocket-version: 13"),
        (3, 400, "sec-websocket-key"),
    ] {
        let mut headers = whole.to_vec();
        headers.remove(missing);
        let (got, body) = ask("GET", &headers);
        assert!(got == status && error(&body).contains(word), "{missing}: {got} {}", error(&body));
    }
    let old = [whole[0], whole[1], "sec-websocket-version: 8", key];
    assert_eq!(ask("GET", &old).0, 426);
    // A web page may open a WebSocket to anywhere without asking; it says where it comes from.
    let (status, body) = ask("GET", &[&whole[..], &["origin: http://localhost"]].concat());
    assert!(status == 403 && error(&body).contains("refused"), "{status}");
    assert_eq!(ask("POST", &whole).0, 415);
}

#[test]
fn what_breaks_the_protocol_is_closed_with_its_reason() {
    let daemon = TestDaemon::start();
    // An unmasked frame, a reserved operation, a control frame in pieces (RFC 6455, section 5).
    for (frame, code) in [
        (&b"\x81\x02{}"[..], CloseCode::Protocol),
        (b"\x83\x80\0\0\0\0", CloseCode::Protocol),
        (b"\x09\x80\0\0\0\0", CloseCode::Protocol),
        (b"\x81\x82\0\0\0\0\xff\xff", CloseCode::Invalid),
    ] {
        let mut socket = websocket(&daemon.socket);
        socket.get_ref().write_all(frame).unwrap();
        let mut last = socket.read().unwrap();
        if last.is_text() {
            let said: Value = serde_json::from_str(last.to_text().unwrap()).unwrap();
            assert_eq!(refusal(&said).0, "parseError");
            last = socket.read().unwrap();
        }
        let Message::Close(Some(close)) = last else { panic!("not closed: {last:?}") };
        assert_eq!(close.code, code, "{frame:?}");
    }
    let mut control = websocket(&daemon.socket);
    control.send(Message::text(health(1))).unwrap();
    assert_eq!(hear(&mut control)["result"]["status"], "ok");
}

in_both_tiers!(however_a_client_goes_its_commands_go_with_it);

fn however_a_client_goes_its_commands_go_with_it(daemon: TestDaemon) {
    daemon.create("s");
    for (n, goes) in [
        (|socket: Socket| drop(socket)) as fn(Socket),
        |mut socket| socket.close(None).unwrap(),
        |socket| socket.get_ref().shutdown(std::net::Shutdown::Write).unwrap(),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("pid{n}");
        let script = format!("echo $$ > {name}; exec sleep 1000");
        let params = json!({"sessionId": "s", "cmd": ["sh", "-c", script], "timeoutSeconds": 2000});
        let mut socket = websocket(&daemon.socket);
        socket.send(Message::text(request(1, "sandbox.exec", params).to_string())).unwrap();
        let process = daemon.process_in("s", &name);
        goes(socket);
        eventually(&format!("{n}: the command dies"), SOON, || !process.is_alive());
    }
}

#[test]
fn a_shutdown_is_answered_before_the_goodbye() {
    let mut daemon = TestDaemon::start();
    let mut other = websocket(&daemon.socket);
    let mut socket = websocket(&daemon.socket);
    let shutdown = request(1, "daemon.shutdown", json!({})).to_string();
    socket.send(Message::text(shutdown)).unwrap();
    assert_eq!(hear(&mut socket)["result"]["stopping"], true);
    for socket in [&mut socket, &mut other] {
        let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no goodbye") };
        assert_eq!(close.code, CloseCode::Away);
    }
    assert!(daemon.wait_for_end(SOON).success());
}
