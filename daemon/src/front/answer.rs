//! What an answer of the backend's means.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::LOCATION;
use hyper::{Method, Response, StatusCode};
use noxrunner_protocol::ErrorKind;
use noxrunner_protocol::http::HttpError;

use super::error::{Trouble, chain};

/// How much of a refusal is read, in bytes.
const REFUSAL: usize = 64 * 1024;

/// How much of a refusal that is not JSON is passed on, in characters.
const WORDS: usize = 300;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// It could not be asked.
    Invalid(String),
    /// The backend does not do it.
    Refused { kind: ErrorKind, message: String, hint: Option<String> },
    /// The backend failed.
    Trouble(Trouble),
}

/// Why a try came to nothing.
#[derive(Debug)]
pub(super) struct Setback {
    pub(super) why: Unanswered,
    /// Whether another one may come to something.
    pub(super) again: bool,
}

impl Setback {
    /// It took too long.
    pub(super) fn late(what: &'static str, within: Duration) -> Self {
        Trouble::TimedOut { what, within }.into()
    }

    /// Whether there is no such sandbox.
    pub(super) const fn is_missing(&self) -> bool {
        matches!(self.why, Unanswered::Refused { kind: ErrorKind::SandboxNotFound, .. })
    }
}

impl From<Trouble> for Unanswered {
    fn from(why: Trouble) -> Self {
        Self::Trouble(why)
    }
}

impl From<Unanswered> for Setback {
    fn from(why: Unanswered) -> Self {
        Self { why, again: false }
    }
}

impl From<Trouble> for Setback {
    fn from(why: Trouble) -> Self {
        let again = why.is_worth_another_try();
        Self { why: why.into(), again }
    }
}

/// Gives back an answer that is what was asked for, or the beginning of it.
pub(super) async fn judge(
    answer: Response<Incoming>,
    method: &Method,
) -> Result<Response<Incoming>, Setback> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status.is_redirection() {
        let to = answer.headers().get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()));
        let to = to.unwrap_or_default().into_owned();
        return Err(Trouble::Redirected { status, to }.into());
    }
    // Its status says enough where what it says does not come.
    let said = take(answer.into_body(), REFUSAL).await.unwrap_or_default();
    let again = matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    );
    Err(Setback { why: refusal(status, &said, method), again })
}

/// Reads an answer's body to its end.
pub(super) async fn take(mut body: Incoming, most: usize) -> Result<Bytes, Trouble> {
    if body.size_hint().lower() > most as u64 {
        return Err(Trouble::TooLarge(most));
    }
    let mut taken = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Trouble::Broken(chain(&e)))?;
        if let Ok(data) = frame.into_data() {
            if taken.len() + data.len() > most {
                return Err(Trouble::TooLarge(most));
            }
            taken.extend_from_slice(&data);
        }
    }
    Ok(taken.into())
}

/// What a status from 400 on means.
fn refusal(status: StatusCode, body: &[u8], method: &Method) -> Unanswered {
    let HttpError { error: said, kind, hint } = serde_json::from_slice(body)
        .unwrap_or_else(|_| HttpError { error: words(body), kind: None, hint: None });
    // Ours say the hint in the message too, for those who look no further.
    let message = match &hint {
        Some(hint) => said.strip_suffix(&format!(" ({hint})")).unwrap_or(&said).to_owned(),
        None => said.clone(),
    };
    let kind = match (kind, status.as_u16()) {
        // Whose credentials: those of the front, of which its clients know nothing.
        (Some(ErrorKind::Unauthorized) | None, 401 | 403) => {
            return Trouble::Credentials { status, said }.into();
        }
        (Some(kind), _) => kind,
        // What makes a sandbox cannot miss one.
        (None, 404) if *method == Method::PUT => return Trouble::NoApi { status, said }.into(),
        (None, 404) => ErrorKind::SandboxNotFound,
        (None, 400 | 422) => ErrorKind::InvalidArgument,
        (None, 409) => ErrorKind::Conflict,
        (None, 413) => ErrorKind::PayloadTooLarge,
        (None, 429) => ErrorKind::LimitExceeded,
        (None, 501) => ErrorKind::Unsupported,
        (None, 503) => ErrorKind::NotReady,
        (None, 507) => ErrorKind::StorageFull,
        (None, _) => return Trouble::Failed { status, said }.into(),
    };
    let message = if message.is_empty() { format!("the backend says {status}") } else { message };
    Unanswered::Refused { kind, message, hint }
}

/// The beginning of what is no JSON, in one line.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str, method: &Method) -> Option<ErrorKind> {
        match refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes(), method) {
            Unanswered::Refused { kind, .. } => Some(kind),
            Unanswered::Trouble(_) => None,
            Unanswered::Invalid(why) => panic!("{why}"),
        }
    }

    #[test]
    fn a_kind_says_more_than_a_status() {
        for known in ErrorKind::ALL {
            let body = format!(r#"{{"error": "x", "kind": "{known}"}}"#);
            let status = known.http_status();
            let wanted = (*known != ErrorKind::Unauthorized).then_some(*known);
            assert_eq!(kind(status, &body, &Method::PUT), wanted, "{known}");
        }
    }

    #[test]
    fn without_one_the_status_has_to_do() {
        for (status, wanted) in [
            (400, Some(ErrorKind::InvalidArgument)),
            (401, None),
            (403, None),
            (404, Some(ErrorKind::SandboxNotFound)),
            (405, None),
            (409, Some(ErrorKind::Conflict)),
            (413, Some(ErrorKind::PayloadTooLarge)),
            (418, None),
            (429, Some(ErrorKind::LimitExceeded)),
            (500, None),
            (502, None),
            (503, Some(ErrorKind::NotReady)),
            (504, None),
            (507, Some(ErrorKind::StorageFull)),
        ] {
            for body in ["", r#"{"error": "x"}"#, "<html>", r#"{"error": "x", "kind": "new"}"#] {
                assert_eq!(kind(status, body, &Method::POST), wanted, "{status} {body}");
            }
        }
        assert_eq!(kind(404, r#"{"error": "x"}"#, &Method::PUT), None);
    }

    #[test]
    fn a_hint_is_said_once() {
        let body = br#"{"error": "no sandbox (create it)", "kind": "sandboxNotFound", "hint": "create it"}"#;
        let refused = refusal(StatusCode::NOT_FOUND, body, &Method::POST);
        let Unanswered::Refused { message, hint, .. } = refused else { panic!("{refused:?}") };
        assert_eq!((message.as_str(), hint.as_deref()), ("no sandbox", Some("create it")));
        assert_eq!(words(b" <html>\n\t<p>Oh  no</p>\xff"), "<html> <p>Oh no</p>\u{fffd}");
    }
}
