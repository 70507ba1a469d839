//! How HTTP answers are made. Every error is JSON, whatever its status.

use std::io;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{Response, StatusCode, http::HeaderValue};
use noxrunner_protocol::RpcError;
use noxrunner_protocol::http::HttpError;
use serde::Serialize;

/// An answer, whose body may still be in the making.
pub(super) type Answer = Response<BoxBody<Bytes, io::Error>>;

/// An answer of one piece.
pub(super) fn answer(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// A result as JSON.
pub(super) fn json(status: StatusCode, result: &impl Serialize) -> Answer {
    // None of the protocol's types fails to be written.
    answer(status, "application/json", serde_json::to_string(result).unwrap_or_default())
}

/// An error that has no kind in the table: it is about HTTP itself.
pub(super) fn failed(status: StatusCode, why: &str) -> Answer {
    json(status, &HttpError { error: why.to_owned(), kind: None, hint: None })
}

/// An error of a call.
pub(super) fn refused(error: &RpcError) -> Answer {
    let status = StatusCode::from_u16(error.kind.http_status());
    json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &HttpError::from(error))
}

/// There is something here, but not by that method.
pub(super) fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer =
        failed(StatusCode::METHOD_NOT_ALLOWED, &format!("the method here is {allowed}"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}
