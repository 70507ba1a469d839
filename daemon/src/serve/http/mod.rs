//! HTTP/1.1, on the daemon's socket and on TCP: `POST /` (or `/rpc`) is JSON-RPC and an upgrade there
//! is WebSocket, `GET /healthz` says OK, `GET /openrpc.json` is the OpenRPC document, below `/v1/` is
//! the REST API.

mod answer;
mod body;
mod door;
mod kept;
mod patience;
pub(crate) mod pieces;
mod reason;
pub(super) mod transfer;
mod unread;
mod v1;
mod websocket;

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use noxrunner_protocol::http::SANDBOXES;
use noxrunner_protocol::message::Id;
use noxrunner_protocol::openrpc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::connections::Connected;
use super::handlers::VERSION;
use super::hangup::hung_up;
use super::rpc::{Answer as Said, Caller, Client, Rpc, Work, error_answer};
use super::{Served, Stop};
use crate::config::WireBounds;
use answer::{Answer, answer, failed, json, not_allowed};
pub use door::Door;
use kept::Kept;
use patience::Patient;
use reason::Reasoned;
use websocket::Upgrading;

/// Serves one connection to its end. Its calls go with it.
///
/// # Errors
/// As the socket's, and where what comes is not HTTP.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    door: Door,
    client: &Client,
    connected: &Connected,
    served: &Served,
    mut stop: Stop,
) -> io::Result<()> {
    let bounds = &served.service.wire;
    let watched = stream.as_fd().try_clone_to_owned()?;
    let upgrading = Upgrading::default();
    let service = service_fn(|request| {
        // Until the client has taken all of the answer.
        let busy = connected.busy();
        let upgrading = Arc::clone(&upgrading);
        let door = &door;
        async move {
            let answer = match door::refuse(&request, door) {
                Some(answer) => answer,
                None => route(request, client, served, &upgrading).await,
            };
            Ok::<_, Infallible>(answer.map(|body| Kept::new(body, busy)))
        }
    });
    let stream = Reasoned::new(Patient::new(TokioIo::new(stream), bounds.write_timeout));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        // Who closes its writing side of a socket still gets its answer; who closes all is noticed
        // below. TCP does not tell the one from the other (FIN, RFC 9293), and there it is the latter.
        .half_close(matches!(door, Door::Socket))
        .serve_connection(stream, service)
        .with_upgrades();
    tokio::pin!(connection);
    let gone = hung_up(watched.as_fd());
    tokio::pin!(gone);
    tokio::select! {
        // First: who is to make room is idle, and no request may begin that nobody would answer.
        biased;
        () = connected.unwanted() => return Ok(()),
        served = &mut connection => if let Err(error) = served {
            unread::drain(watched.as_fd(), connected, &mut stop).await?;
            return Err(io::Error::other(error));
        },
        gone = &mut gone => return gone,
        () = stop.wait() => {
            // The answer that is on its way is sent, and no further request taken.
            connection.as_mut().graceful_shutdown();
            return connection.await.map_err(io::Error::other);
        }
    }
    let upgraded = upgrading.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(upgraded) = upgraded else {
        return unread::drain(watched.as_fd(), connected, &mut stop).await;
    };
    tokio::select! {
        served = websocket::serve(upgraded, client, connected, &served.rpc, bounds, &mut stop) => served,
        gone = &mut gone => gone,
    }
}

async fn route(
    request: Request<Incoming>,
    client: &Client,
    served: &Served,
    upgrading: &Upgrading,
) -> Answer {
    let caller = Caller { peer: client.peer, arrived: Instant::now() };
    let bounds = &served.service.wire;
    if let Some(rest) = request.uri().path().strip_prefix(SANDBOXES).map(str::to_owned) {
        return v1::route(request, &rest, caller, bounds, served.sandboxes.as_ref()).await;
    }
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/" | "/rpc") => post(request, client, bounds, &served.rpc).await,
        (_, "/" | "/rpc") if websocket::is_asked(&request) => websocket::agree(request, upgrading),
        (&Method::GET, "/healthz") => match served.sandboxes.healthy().await {
            Ok(()) => answer(StatusCode::OK, "text/plain", "OK\n".to_owned()),
            Err(error) => failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        },
        (&Method::GET, "/openrpc.json") => json(StatusCode::OK, &openrpc::document(VERSION)),
        (_, "/" | "/rpc") => not_allowed("POST"),
        (_, "/healthz" | "/openrpc.json") => not_allowed("GET"),
        (_, path) => failed(
            StatusCode::NOT_FOUND,
            &format!(
                "there is nothing at {path}: {SANDBOXES}ID is the REST API, POST / takes JSON-RPC, \
                 GET /healthz says OK"
            ),
        ),
    }
}

async fn post(
    request: Request<Incoming>,
    client: &Client,
    bounds: &WireBounds,
    rpc: &Rpc,
) -> Answer {
    if let Some(answer) = body::not_of_type(&request, &["application/json"]) {
        return answer;
    }
    let body = match body::take(request, bounds.max_request, bounds.body_timeout).await {
        Ok(body) => body,
        Err(body::NotTaken::TooLarge(error)) => {
            let text = error_answer(Id::Null, error).text;
            return answer(StatusCode::PAYLOAD_TOO_LARGE, "application/json", text);
        }
        Err(body::NotTaken::Broken(answer)) => return answer,
    };
    let answered = match rpc.start(&body, client) {
        Work::Done(answer) => answer,
        Work::Running { answer, .. } => Some(answer.await),
    };
    match answered {
        Some(Said { text, bill }) => answer(StatusCode::OK, "application/json", text)
            .map(|body| Kept::new(body, bill).boxed()),
        None => answer(StatusCode::NO_CONTENT, "application/json", String::new()),
    }
}
