//! One request and its answer, to the daemon's socket or to a backend elsewhere.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ureq::http::response::Parts;
use ureq::http::{Method, Request, header};
use ureq::{Agent, Body, SendBody};

use crate::TransferError;
use crate::transport::{Names, RouteConnector};
use crate::v1::{Backend, Problem};

/// Bytes that go to the system at once, each way: less costs calls, more leaves the
/// processor's cache between the copies that are made of them.
const BUFFER_BYTES: usize = 128 * 1024;

/// Most bytes of an error that are read, and most characters of it that are shown.
const MAX_ERROR_BYTES: u64 = 64 * 1024;
const MAX_ERROR_CHARS: usize = 2000;

/// What requests over the socket are addressed to. Nothing looks the name up.
const SOCKET_BASE: &str = "http://localhost";

/// The way to who answers.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// The daemon on this socket, the caller's own or root's.
    Socket(PathBuf),
    /// A backend elsewhere.
    Backend(Arc<Backend>),
}

impl Route {
    /// The URL of a path, for errors; errors about a socket name it themselves.
    pub(crate) fn url(&self, path: &str) -> Option<String> {
        let path = path.split('?').next().unwrap_or_default();
        match self {
            Self::Socket(_) => None,
            Self::Backend(backend) => Some(backend.base.join(path)),
        }
    }
}

/// How requests are made. Each one has a connection of its own.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    /// The way to who answers.
    pub(crate) route: Route,
    /// Ends every wait once there is something to read in it.
    pub(crate) stop: Option<Arc<OwnedFd>>,
    /// How long the other side may be silent.
    pub(crate) patience: Option<Duration>,
}

/// What is sent.
pub(crate) enum Content<'a> {
    /// Nothing, as with `GET` and `DELETE`.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// What is read, in chunks.
    Reader(&'a mut dyn Read),
}

/// A request.
pub(crate) struct Ask<'a> {
    /// Its method.
    pub(crate) method: Method,
    /// Its path and query.
    pub(crate) path: String,
    /// The type of what is sent.
    pub(crate) content_type: Option<&'static str>,
    /// What is sent.
    pub(crate) content: Content<'a>,
    /// Set when the other side answers, or hangs up, before it has read all of it.
    pub(crate) answered: Arc<AtomicBool>,
}

impl Ask<'_> {
    /// A request that sends nothing.
    pub(crate) fn new(method: Method, path: String) -> Self {
        let (content_type, answered) = (None, Arc::default());
        Self { method, path, content_type, content: Content::None, answered }
    }
}

impl Requests {
    /// Requests that wait for ever.
    pub(crate) fn new(route: Route) -> Self {
        Self { route, stop: None, patience: None }
    }

    /// The same, but who is silent for so long is given up.
    pub(crate) fn patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Sends a request and waits until its answer begins.
    ///
    /// # Errors
    /// Where there is none, or it is an error.
    pub(crate) fn ask(&self, ask: Ask<'_>) -> Result<Answer, TransferError> {
        let url = self.route.url(&ask.path);
        self.send(ask, url.clone()).map_err(|e| e.at(url.as_deref()))
    }

    fn send(&self, ask: Ask<'_>, url: Option<String>) -> Result<Answer, TransferError> {
        let Ask { method, path, content_type, content, answered } = ask;
        let uri = match &self.route {
            Route::Socket(_) => format!("{SOCKET_BASE}{path}"),
            Route::Backend(backend) => backend.base.join(&path),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Route::Backend(backend) = &self.route
            && let Some(token) = &backend.token
        {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        let bad = |e: ureq::http::Error| TransferError::BadAnswer(e.to_string());
        let agent = self.agent(answered);
        let sent = match content {
            Content::None => agent.run(request.body(()).map_err(bad)?),
            Content::Bytes(bytes) => agent.run(request.body(bytes).map_err(bad)?),
            Content::Reader(reader) => {
                agent.run(request.body(SendBody::from_reader(reader)).map_err(bad)?)
            }
        };
        let (head, body) = sent.map_err(TransferError::from_http)?.into_parts();
        Answer { head, body, url }.checked()
    }

    fn agent(&self, answered: Arc<AtomicBool>) -> Agent {
        let config = Agent::config_builder()
            // The environment's proxies are for other machines than this one, and who asks for a
            // backend gets that one.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_idle_connections(0)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .user_agent(concat!("noxrunner-client/", env!("CARGO_PKG_VERSION")))
            .build();
        let connector = RouteConnector {
            route: self.route.clone(),
            stop: self.stop.clone(),
            patience: self.patience,
            answered,
        };
        Agent::with_parts(config, connector, Names(self.route.clone()))
    }
}

/// An answer that is no error, as far as its status says.
pub(crate) struct Answer {
    /// What comes before its body.
    pub(crate) head: Parts,
    /// Its body.
    pub(crate) body: Body,
    /// What was asked, of a backend.
    pub(crate) url: Option<String>,
}

impl Answer {
    fn checked(self) -> Result<Self, TransferError> {
        let status = self.head.status.as_u16();
        match status {
            200 => Ok(self),
            // Of a backend any success will do: this one deletes with 204, others with 200.
            201..300 if self.url.is_some() => Ok(self),
            300..400 if self.url.is_some() => {
                let to = self.head.headers.get(header::LOCATION);
                let to = to.map_or_else(|| "nowhere".into(), |to| clean(&lossy(to.as_bytes())));
                Err(Problem::Redirected { to }.into())
            }
            400.. => Err(self.refusal(status)),
            _ => Err(TransferError::BadAnswer(format!("status {status}"))),
        }
    }

    fn refusal(self, status: u16) -> TransferError {
        let (remote, page) = (self.url.is_some(), self.is_page());
        let mut body = Vec::new();
        // What cannot be read of an error leaves its status.
        let _ = self.body.into_reader().take(MAX_ERROR_BYTES).read_to_end(&mut body);
        if !remote {
            let why = || format!("status {status} without an error in JSON");
            return TransferError::refused(status, &body)
                .unwrap_or_else(|| TransferError::BadAnswer(why()));
        }
        if page || body.trim_ascii_start().starts_with(b"<") {
            return Problem::Page { status }.into();
        }
        let said = || TransferError::said(status, &clean(&lossy(&body)));
        TransferError::refused(status, &body).unwrap_or_else(said)
    }

    /// Whether it says of itself that it is for people.
    fn is_page(&self) -> bool {
        let kind = self.head.headers.get(header::CONTENT_TYPE).map(|kind| lossy(kind.as_bytes()));
        kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("html"))
    }

    /// That it is no page of a proxy or of another server.
    pub(crate) fn not_a_page(&self) -> Result<(), TransferError> {
        let status = self.head.status.as_u16();
        if self.url.is_some() && self.is_page() {
            return Err(TransferError::from(Problem::Page { status }).at(self.url.as_deref()));
        }
        Ok(())
    }

    /// All of an answer of no more than so many bytes.
    pub(crate) fn all(self, most: u64) -> Result<Vec<u8>, TransferError> {
        self.not_a_page()?;
        let url = self.url.as_deref();
        let mut bytes = Vec::new();
        let mut bounded = self.body.into_reader().take(most + 1);
        bounded.read_to_end(&mut bytes).map_err(|e| TransferError::from_io(e).at(url))?;
        if bytes.len() as u64 > most {
            let error = TransferError::BadAnswer(format!("it has more than {most} bytes"));
            return Err(error.at(url));
        }
        Ok(bytes)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What somebody else wrote, for an error of ours: one line, not too long, that drives no
/// terminal.
pub(crate) fn clean(text: &str) -> String {
    let text = text.trim();
    let mut cleaned: String = text
        .chars()
        .take(MAX_ERROR_CHARS)
        .flat_map(|c| {
            let (plain, escaped) = match c {
                '\n' | '\r' | '\t' => (Some(' '), None),
                c if c.is_control() => (None, Some(c.escape_default())),
                c => (Some(c), None),
            };
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect();
    if text.chars().nth(MAX_ERROR_CHARS).is_some() {
        cleaned.push('…');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_one_harmless_line() {
        assert_eq!(clean(" a\r\nb\x1b[31m\u{9b}\n"), "a  b\\u{1b}[31m\\u{9b}");
        let long = clean(&"é".repeat(2001));
        assert_eq!((long.chars().count(), long.ends_with('…')), (2001, true));
        assert_eq!(clean(&"é".repeat(2000)).chars().count(), 2000);
    }
}
