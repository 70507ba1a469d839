//! JSON-RPC over WebSocket (RFC 6455): each message is a request, notification or batch,
//! each answer a message of its own.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use hyper::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use noxrunner_protocol::message::Id;
use noxrunner_protocol::{ErrorKind, RpcError};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::answer::{Answer, answer, failed};
use crate::config::WireBounds;
use crate::serve::calls::Calls;
use crate::serve::connections::Connected;
use crate::serve::rpc::{Client, Rpc, error_answer};
use crate::serve::{LINGER, Stop};

/// Where a request leaves its connection for what comes after HTTP.
pub(super) type Upgrading = Arc<Mutex<Option<OnUpgrade>>>;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The version of the protocol (RFC 6455, section 4.1).
const VERSION: &str = "13";

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked(request: &Request<Incoming>) -> bool {
    request.method() == Method::GET && names(request, &UPGRADE, "websocket")
}

/// Whether one of the words of a header is this one.
fn names(request: &Request<Incoming>, header: &HeaderName, word: &str) -> bool {
    let values = request.headers().get_all(header).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(word))
}

/// Agrees to a WebSocket, whose connection is left in `upgrading`, or says what is wrong.
pub(super) fn agree(mut request: Request<Incoming>, upgrading: &Upgrading) -> Answer {
    let header = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    if header(SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        let why = format!("send the header sec-websocket-version: {VERSION}");
        let mut answer = failed(StatusCode::UPGRADE_REQUIRED, &why);
        answer.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
        return answer;
    }
    let key = header(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let accept = key.and_then(|key| HeaderValue::try_from(key).ok());
    let Some(accept) = accept.filter(|_| names(&request, &CONNECTION, "upgrade")) else {
        return failed(
            StatusCode::BAD_REQUEST,
            "a WebSocket takes the headers connection: upgrade and sec-websocket-key",
        );
    };
    *upgrading.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(hyper::upgrade::on(&mut request));
    let mut answer = answer(StatusCode::SWITCHING_PROTOCOLS, "", String::new());
    let headers = answer.headers_mut();
    headers.clear();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

/// Serves one WebSocket to its end. Its calls go with it. It is dropped where its client hangs up;
/// a client that takes nothing is the stream's affair.
///
/// # Errors
/// As the socket's, and where what comes is no WebSocket.
pub(super) async fn serve(
    upgrading: OnUpgrade,
    client: &Client,
    connected: &Connected,
    rpc: &Rpc,
    bounds: &WireBounds,
    stop: &mut Stop,
) -> io::Result<()> {
    let stream = TokioIo::new(upgrading.await.map_err(io::Error::other)?);
    let config = WebSocketConfig::default()
        .max_message_size(Some(bounds.max_request))
        .max_frame_size(Some(bounds.max_request));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut out, mut messages) = socket.split();
    let mut calls = Calls::new(bounds.max_calls);
    let mut busy = None;
    let unwanted = connected.unwanted();
    tokio::pin!(unwanted);
    let farewell = loop {
        if calls.is_empty() {
            connected.used();
            busy = None;
        } else {
            busy.get_or_insert_with(|| connected.busy());
        }
        let work = tokio::select! {
            message = messages.next(), if calls.has_room() => match message {
                Some(Ok(Message::Text(text))) => rpc.start(text.as_bytes(), client),
                Some(Ok(Message::Binary(bytes))) => rpc.start(&bytes, client),
                // Pings are answered by the library, while it reads and writes.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    out.flush().await.map_err(io::Error::other)?;
                    continue;
                }
                Some(Ok(Message::Close(_))) | None => break None,
                Some(Err(error)) => break Some(refusal(error, bounds.max_request)?),
            },
            answer = calls.answer() => {
                say(&mut out, answer.text).await?;
                drop(answer.bill);
                continue;
            }
            () = &mut unwanted, if busy.is_none() => break Some((CloseCode::Again, None)),
            () = stop.wait() => {
                // What is answered is said, the answer to daemon.shutdown for one; the rest is dropped.
                while let Some(answer) = calls.ready() {
                    say(&mut out, answer.text).await?;
                }
                break Some((CloseCode::Away, None));
            }
        };
        if let Some(answer) = calls.start(work) {
            say(&mut out, answer.text).await?;
        }
    };
    if let Some((code, text)) = farewell {
        if let Some(text) = text {
            say(&mut out, text).await?;
        }
        let frame = CloseFrame { code, reason: Utf8Bytes::default() };
        let _ = out.send(Message::Close(Some(frame))).await;
    }
    let _ = out.close().await;
    // As lines do: what is unread at the close could hide the last words.
    let drained = async { while let Some(Ok(_)) = messages.next().await {} };
    let _ = timeout(LINGER, drained).await;
    Ok(())
}

async fn say(out: &mut SplitSink<Socket, Message>, text: String) -> io::Result<()> {
    out.send(Message::text(text)).await.map_err(io::Error::other)
}

/// How to part from a client whose message cannot be taken.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library may add errors at any time")]
fn refusal(error: Error, most: usize) -> io::Result<(CloseCode, Option<String>)> {
    let (code, error) = match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            let why = format!("a message has at most {most} bytes");
            let error = RpcError::new(ErrorKind::PayloadTooLarge, why);
            let error = error.hint("send less at a time; this connection ends here");
            (CloseCode::Size, error)
        }
        Error::Utf8(_) => {
            let error = RpcError::new(ErrorKind::ParseError, "a text message is not UTF-8");
            (CloseCode::Invalid, error.hint("this connection ends here"))
        }
        Error::Protocol(_) => return Ok((CloseCode::Protocol, None)),
        // The stream is at its end, or broken.
        error => return Err(io::Error::other(error)),
    };
    Ok((code, Some(error_answer(Id::Null, error).text)))
}
