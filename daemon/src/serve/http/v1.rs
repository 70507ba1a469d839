//! The NoxRunner v1 REST API: which request means what.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, StatusCode};
use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::ArchiveFormat;
use percent_encoding::percent_decode_str;

use super::answer::{Answer, failed, not_allowed};
use super::transfer;
use crate::daemon::Daemon;
use crate::serve::files::WORKSPACE;

/// What an archive may call itself.
const ARCHIVES: [&str; 4] =
    ["application/x-tar", "application/tar", "application/gzip", "application/x-gtar"];

/// Answers what is asked below `/v1/sandboxes/`; `rest` is the path from there on.
pub(super) async fn route(
    request: Request<Incoming>,
    rest: String,
    caller: u32,
    daemon: &Arc<Daemon>,
) -> Answer {
    let (id, action) = rest.split_once('/').unwrap_or((&rest, ""));
    let id = match session_id(id) {
        Ok(id) => id,
        Err(why) => return failed(StatusCode::BAD_REQUEST, &why),
    };
    match (request.method(), action) {
        (&Method::POST, "files/upload") => upload(request, id, caller, daemon).await,
        (&Method::GET, "files/download") => download(&request, id, caller, daemon).await,
        (_, "files/upload") => not_allowed("POST"),
        (_, "files/download") => not_allowed("GET"),
        (_, other) => failed(
            StatusCode::NOT_FOUND,
            &format!("there is no {other:?} of a sandbox here: files/upload, files/download"),
        ),
    }
}

/// A path's segment is decoded once.
fn session_id(segment: &str) -> Result<SessionId, String> {
    let decoded = percent_decode_str(segment).decode_utf8();
    let text = decoded.map_err(|_| "the session id is not UTF-8".to_owned())?;
    text.parse().map_err(|e| format!("{text:?}: {e}"))
}

async fn upload(
    request: Request<Incoming>,
    id: SessionId,
    caller: u32,
    daemon: &Arc<Daemon>,
) -> Answer {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let content_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    if !ARCHIVES.iter().any(|known| known.eq_ignore_ascii_case(content_type.trim())) {
        return failed(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the archive with the header content-type: application/x-tar",
        );
    }
    let query = match Query::of(request.uri().query(), &["dest"]) {
        Ok(query) => query,
        Err(why) => return failed(StatusCode::BAD_REQUEST, &why),
    };
    let dest = query.get("dest").unwrap_or_else(|| WORKSPACE.to_vec());
    transfer::upload(daemon, caller, id, dest, request.into_body()).await
}

async fn download(
    request: &Request<Incoming>,
    id: SessionId,
    caller: u32,
    daemon: &Arc<Daemon>,
) -> Answer {
    let query = match Query::of(request.uri().query(), &["src", "format"]) {
        Ok(query) => query,
        Err(why) => return failed(StatusCode::BAD_REQUEST, &why),
    };
    let src = query.get("src").unwrap_or_else(|| WORKSPACE.to_vec());
    let format = query.get("format").map(|name| String::from_utf8_lossy(&name).into_owned());
    let format = match format.as_deref().map(ArchiveFormat::from_name) {
        None => ArchiveFormat::default(),
        Some(Some(format)) => format,
        Some(None) => return failed(StatusCode::BAD_REQUEST, "format is tar.gz or tar"),
    };
    transfer::download(daemon, caller, id, src, format).await
}

/// What follows the question mark, as forms write it (application/x-www-form-urlencoded).
#[derive(Debug)]
struct Query(Vec<(String, Vec<u8>)>);

impl Query {
    fn of(text: Option<&str>, known: &[&str]) -> Result<Self, String> {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded =
            |text: &str| -> Vec<u8> { percent_decode_str(&text.replace('+', " ")).collect() };
        let mut query = Self(Vec::new());
        for (name, value) in pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))) {
            let name = String::from_utf8_lossy(&decoded(name)).into_owned();
            if !known.contains(&name.as_str()) {
                return Err(format!("{name:?} means nothing here: {}", known.join(", ")));
            }
            if query.0.iter().any(|(other, _)| *other == name) {
                return Err(format!("{name} is given twice"));
            }
            query.0.push((name, decoded(value)));
        }
        Ok(query)
    }

    /// A value; an empty one is as good as none.
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        let found = self.0.iter().find(|(other, value)| other == name && !value.is_empty());
        found.map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_queries_are_decoded_once() {
        assert_eq!(session_id("a%2Fb%2525").unwrap().as_str(), "a/b%25");
        assert_eq!(session_id("a+b").unwrap().as_str(), "a+b");
        assert!(
            session_id("%FF").is_err() && session_id("").is_err() && session_id("%00").is_err()
        );
        let query = Query::of(Some("dest=a+b%2Bc%FF&"), &["dest"]).unwrap();
        assert_eq!(query.get("dest").unwrap(), b"a b+c\xff");
        assert_eq!(Query::of(Some("dest="), &["dest"]).unwrap().get("dest"), None);
        assert!(Query::of(Some("dst=x"), &["dest"]).unwrap_err().contains("dst"));
        assert!(Query::of(Some("dest=a&dest=b"), &["dest"]).unwrap_err().contains("twice"));
    }
}
