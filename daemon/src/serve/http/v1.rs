//! The NoxRunner v1 REST API: which request means what. Each is one of JSON-RPC's operations,
//! spelled as HTTP.

mod params;
mod query;

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode};
use noxrunner_protocol::http::{ArchiveFormat, REDIRECTED, TAR};
use noxrunner_protocol::types::SandboxRef;
use noxrunner_protocol::{ErrorKind, RpcError, SessionId};
use percent_encoding::percent_decode_str;

use super::answer::{Answer, answer, failed, json, not_allowed, refused};
use super::body::{self, NotTaken, discard, not_of_type};
use crate::config::WireBounds;
use crate::serve::files::WORKSPACE;
use crate::serve::rpc::Caller;
use crate::serve::service::{Packed, Place, Sandboxes};
use query::Query;

/// What an archive may call itself.
const ARCHIVES: [&str; 4] = [TAR, "application/tar", "application/gzip", "application/x-gtar"];

/// Answers what is asked below `/v1/sandboxes/`; `rest` is the path from there on.
pub(super) async fn route(
    request: Request<Incoming>,
    rest: &str,
    caller: Caller,
    bounds: &WireBounds,
    sandboxes: &dyn Sandboxes,
) -> Answer {
    let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
    let id = match session_id(id) {
        Ok(id) => id,
        Err(why) => return failed(StatusCode::BAD_REQUEST, &why),
    };
    let outcome = match (request.method(), action) {
        (&Method::PUT, "") => create(request, id, caller, bounds, sandboxes).await,
        (&Method::DELETE, "") => delete(&request, id, caller, sandboxes).await,
        (&Method::POST, "touch") => touch(&request, id, caller, sandboxes).await,
        (&Method::POST, "exec") => exec(request, id, caller, bounds, sandboxes).await,
        (&Method::POST, "files/upload") => upload(request, id, caller, sandboxes).await,
        (&Method::GET, "files/download") => download(&request, id, caller, sandboxes).await,
        (_, "") => Ok(not_allowed("PUT, DELETE")),
        (_, "touch" | "exec" | "files/upload") => Ok(not_allowed("POST")),
        (_, "files/download") => Ok(not_allowed("GET")),
        (_, other) => Ok(failed(
            StatusCode::NOT_FOUND,
            &format!(
                "there is no {other:?} of a sandbox: touch, exec, files/upload, files/download; \
                 a slash in a session id is written %2F"
            ),
        )),
    };
    outcome.unwrap_or_else(|answer| answer)
}

/// A path's segment is decoded once.
fn session_id(segment: &str) -> Result<SessionId, String> {
    let decoded = percent_decode_str(segment).decode_utf8();
    let text = decoded.map_err(|_| "the session id is not UTF-8".to_owned())?;
    text.parse().map_err(|e| format!("{text:?}: {e}"))
}

/// An answer, or one that says what is wrong.
type Outcome = Result<Answer, Answer>;

async fn create(
    request: Request<Incoming>,
    id: SessionId,
    caller: Caller,
    bounds: &WireBounds,
    sandboxes: &dyn Sandboxes,
) -> Outcome {
    let body = json_body(request, bounds).await?;
    let params::Read { params, unknown } = params::create(&body, &id).map_err(invalid)?;
    let mut result = sandboxes.create(caller, params).await.map_err(|e| refused(&e))?;
    result.warnings.extend(unknown);
    Ok(json(StatusCode::OK, &result))
}

async fn exec(
    request: Request<Incoming>,
    id: SessionId,
    caller: Caller,
    bounds: &WireBounds,
    sandboxes: &dyn Sandboxes,
) -> Outcome {
    let body = json_body(request, bounds).await?;
    let params::Read { params, unknown } = params::exec(&body, &id).map_err(invalid)?;
    let mut result = sandboxes.exec(caller, params).await.map_err(|e| refused(&e))?;
    result.warnings.extend(unknown);
    Ok(json(StatusCode::OK, &result))
}

async fn touch(
    request: &Request<Incoming>,
    session_id: SessionId,
    caller: Caller,
    sandboxes: &dyn Sandboxes,
) -> Outcome {
    no_query(request).map_err(invalid)?;
    let touched = sandboxes.touch(caller, SandboxRef { session_id }).await;
    Ok(json(StatusCode::OK, &touched.map_err(|e| refused(&e))?))
}

async fn delete(
    request: &Request<Incoming>,
    session_id: SessionId,
    caller: Caller,
    sandboxes: &dyn Sandboxes,
) -> Outcome {
    no_query(request).map_err(invalid)?;
    sandboxes.delete(caller, SandboxRef { session_id }).await.map_err(|e| refused(&e))?;
    let mut answer = answer(StatusCode::NO_CONTENT, "", String::new());
    answer.headers_mut().remove(CONTENT_TYPE);
    Ok(answer)
}

async fn upload(
    request: Request<Incoming>,
    id: SessionId,
    caller: Caller,
    sandboxes: &dyn Sandboxes,
) -> Outcome {
    if let Some(answer) = not_of_type(&request, &ARCHIVES) {
        return Err(answer);
    }
    let query = Query::of(request.uri().query(), &["dest"]).map_err(invalid)?;
    let path = query.get("dest").unwrap_or_else(|| WORKSPACE.to_vec());
    let (outcome, mut body) =
        sandboxes.upload(caller, Place { id, path }, request.into_body()).await;
    match outcome {
        Ok(result) => Ok(json(StatusCode::OK, &result)),
        Err(error) => {
            discard(&mut body).await;
            Err(refused(&error))
        }
    }
}

async fn download(
    request: &Request<Incoming>,
    id: SessionId,
    caller: Caller,
    sandboxes: &dyn Sandboxes,
) -> Outcome {
    let query = Query::of(request.uri().query(), &["src", "format"]).map_err(invalid)?;
    let path = query.get("src").unwrap_or_else(|| WORKSPACE.to_vec());
    let format = query.get("format").map(|name| String::from_utf8_lossy(&name).into_owned());
    let format = match format.as_deref().map(ArchiveFormat::from_name) {
        None => ArchiveFormat::default(),
        Some(Some(format)) => format,
        Some(None) => return Err(invalid("format is tar.gz or tar")),
    };
    let packed = sandboxes.download(caller, Place { id, path }, format).await;
    let Packed { redirected, body } = packed.map_err(|e| refused(&e))?;
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TAR));
    if redirected {
        answer.headers_mut().insert(REDIRECTED, HeaderValue::from_static("true"));
    }
    Ok(answer)
}

/// The JSON of a request, which may have none.
async fn json_body(request: Request<Incoming>, bounds: &WireBounds) -> Result<Vec<u8>, Answer> {
    no_query(&request).map_err(invalid)?;
    let headers = request.headers();
    let is_empty = !headers.contains_key(TRANSFER_ENCODING)
        && headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
    if is_empty {
        return Ok(b"{}".to_vec());
    }
    if let Some(answer) = not_of_type(&request, &["application/json"]) {
        return Err(answer);
    }
    match body::take(request, bounds.max_request, bounds.body_timeout).await {
        Ok(body) => Ok(body.to_vec()),
        Err(NotTaken::TooLarge(error)) => Err(refused(&error)),
        Err(NotTaken::Broken(answer)) => Err(answer),
    }
}

fn no_query(request: &Request<Incoming>) -> Result<(), String> {
    Query::of(request.uri().query(), &[]).map(drop)
}

/// Says what is wrong with a request.
fn invalid(why: impl AsRef<str>) -> Answer {
    refused(&RpcError::new(ErrorKind::InvalidArgument, why.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_decoded_once() {
        assert_eq!(session_id("a%2Fb%2525").unwrap().as_str(), "a/b%25");
        assert_eq!(session_id("a+b").unwrap().as_str(), "a+b");
        assert!(
            session_id("%FF").is_err() && session_id("").is_err() && session_id("%00").is_err()
        );
    }
}
