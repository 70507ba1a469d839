//! HTTP/1.1 on the same socket: `POST /` (or `/rpc`) is JSON-RPC, `GET /healthz` says OK,
//! below `/v1/` is the REST API, as far as it is built.

mod answer;
mod patience;
mod transfer;
mod v1;

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use noxrunner_protocol::http::SANDBOXES;
use noxrunner_protocol::message::Id;
use noxrunner_protocol::{ErrorKind, RpcError, limits};
use tokio::net::UnixStream;

use super::Stop;
use super::hangup::hung_up;
use super::peer::Peer;
use super::rpc::{Rpc, error_answer};
use crate::daemon::Daemon;
use answer::{Answer, answer, failed, not_allowed};
use patience::Patient;

/// How long a client may take for a request's headers.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);

/// Serves one connection to its end. Its calls go with it.
///
/// # Errors
/// As the socket's, and where what comes is not HTTP.
pub(super) async fn serve(
    stream: UnixStream,
    peer: Peer,
    daemon: &Arc<Daemon>,
    rpc: &Rpc,
    mut stop: Stop,
) -> io::Result<()> {
    let watched = stream.as_fd().try_clone_to_owned()?;
    let service = service_fn(move |request| async move {
        Ok::<_, Infallible>(route(request, peer, daemon, rpc).await)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        // Who closes its writing side still gets its answer; who closes all is noticed below.
        .half_close(true)
        .serve_connection(Patient::new(TokioIo::new(stream)), service);
    tokio::pin!(connection);
    tokio::select! {
        served = &mut connection => return served.map_err(io::Error::other),
        gone = hung_up(watched.as_fd()) => return gone,
        () = stop.wait() => {}
    }
    // The answer that is on its way is sent, and no further request taken.
    connection.as_mut().graceful_shutdown();
    connection.await.map_err(io::Error::other)
}

async fn route(request: Request<Incoming>, peer: Peer, daemon: &Arc<Daemon>, rpc: &Rpc) -> Answer {
    // No page has this socket as its origin, so any origin is a foreign one.
    if request.headers().contains_key(ORIGIN) {
        return failed(StatusCode::FORBIDDEN, "requests of web pages are refused");
    }
    if let Some(rest) = request.uri().path().strip_prefix(SANDBOXES).map(str::to_owned) {
        return v1::route(request, rest, peer.uid, daemon).await;
    }
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/" | "/rpc") => post(request, peer, rpc).await,
        (&Method::GET, "/healthz") => answer(StatusCode::OK, "text/plain", "OK\n".to_owned()),
        (_, "/" | "/rpc") => not_allowed("POST"),
        (_, "/healthz") => not_allowed("GET"),
        (_, path) => failed(
            StatusCode::NOT_FOUND,
            &format!("there is nothing at {path}: POST / takes JSON-RPC, GET /healthz says OK"),
        ),
    }
}

async fn post(request: Request<Incoming>, peer: Peer, rpc: &Rpc) -> Answer {
    let json = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(|v| {
        v.split(';').next().is_some_and(|v| v.trim().eq_ignore_ascii_case("application/json"))
    });
    if !json {
        return failed(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the request with the header content-type: application/json",
        );
    }
    let body = Limited::new(request.into_body(), limits::MAX_LINE_BYTES).collect().await;
    let body = match body {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let error = RpcError::new(
                ErrorKind::PayloadTooLarge,
                format!("a body has at most {} bytes", limits::MAX_LINE_BYTES),
            );
            let text = error_answer(Id::Null, error.hint("send less at a time"));
            return answer(StatusCode::PAYLOAD_TOO_LARGE, "application/json", text);
        }
        Err(_) => return failed(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    };
    match rpc.start(&body, peer).answer.await {
        Some(text) => answer(StatusCode::OK, "application/json", text),
        None => answer(StatusCode::NO_CONTENT, "application/json", String::new()),
    }
}
