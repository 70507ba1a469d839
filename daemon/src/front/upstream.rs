//! Asking the backend: requests out, answers in, tries again where that does no harm.

use std::io;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use noxrunner_protocol::http::{BaseUrl, JSON};
use noxrunner_protocol::limits::MAX_RESPONSE_BYTES;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{self, Setback, Unanswered};
use super::connect::Connector;
use super::error::{FrontError, Trouble, chain};
use crate::config::UpstreamOptions;

/// What is sent, as a whole or as it comes.
pub(super) type Body = BoxBody<Bytes, io::Error>;

/// How long to wait before each further try.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];

/// How long a connection that nothing is asked on is kept.
const KEPT_FOR: Duration = Duration::from_secs(20);

/// From how many bytes on an answer is read on a thread of its own.
const LARGE: usize = 64 * 1024;

/// The backend.
#[derive(Debug)]
pub struct Upstream {
    /// Where it is.
    pub url: BaseUrl,
    authorization: Option<HeaderValue>,
    /// For what may be asked twice: a connection that is kept may be closed just as it is used.
    kept: Client<Connector, Body>,
    /// For what may not. Each request has a connection of its own, which closes with its answer, or
    /// when nobody waits for that any more.
    single: Client<Connector, Body>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    method: Method,
    path: String,
    json: Option<Bytes>,
    /// What it is in words, where it takes too long.
    what: &'static str,
}

impl Ask {
    pub(super) fn new(method: Method, path: String, what: &'static str) -> Self {
        Self { method, path, json: None, what }
    }

    /// With a body.
    #[must_use]
    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        // None of the protocol's types fails to be written.
        self.json = Some(serde_json::to_vec(body).unwrap_or_default().into());
        self
    }
}

impl Upstream {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// Where there can be no TLS.
    pub fn new(
        url: BaseUrl,
        token: Option<HeaderValue>,
        options: &UpstreamOptions,
    ) -> io::Result<Self> {
        let connector = Connector::new(&url, options.upstream_connect_timeout)?;
        let client = |idle: usize| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(KEPT_FOR)
                .pool_max_idle_per_host(idle)
                .build(connector.clone())
        };
        Ok(Self { url, authorization: token, kept: client(8), single: client(0) })
    }

    /// Asks for what can be done twice. The whole of it takes no longer than this.
    pub(super) async fn again(&self, ask: Ask, within: Duration) -> Result<Bytes, FrontError> {
        self.tries(ask.what, within, |_| self.attempt(&self.kept, &ask)).await
    }

    /// The same for a deletion. What is not there when it is asked again was deleted before, by a
    /// try whose answer got lost.
    pub(super) async fn delete(&self, ask: Ask, within: Duration) -> Result<(), FrontError> {
        let attempt = async |number| match self.attempt(&self.kept, &ask).await {
            Err(setback) if number > 1 && setback.is_missing() => Ok(()),
            outcome => outcome.map(drop),
        };
        self.tries(ask.what, within, attempt).await
    }

    /// Tries something, and again where that may help; each try hears its number. All together
    /// take no longer than this.
    pub(super) async fn tries<T, F>(
        &self,
        what: &'static str,
        within: Duration,
        attempt: impl Fn(usize) -> F,
    ) -> Result<T, FrontError>
    where
        F: Future<Output = Result<T, Setback>>,
    {
        let deadline = Instant::now() + within;
        let mut pauses = PAUSES.iter();
        let mut number = 1;
        loop {
            let late = || Setback::late(what, within);
            let tried = timeout_at(deadline, attempt(number)).await;
            let setback = match tried.unwrap_or_else(|_| Err(late())) {
                Ok(done) => return Ok(done),
                Err(setback) => setback,
            };
            match pauses.next() {
                Some(pause) if setback.again && Instant::now() + *pause < deadline => {
                    tracing::debug!(what, "asking the backend again");
                    sleep(*pause).await;
                    number += 1;
                }
                Some(_) | None => return Err(self.failed(setback.why)),
            }
        }
    }

    /// Asks for what must not be done twice.
    pub(super) async fn once(&self, ask: Ask, deadline: Instant) -> Result<Bytes, FrontError> {
        let within = deadline.saturating_duration_since(Instant::now());
        let tried = timeout_at(deadline, self.attempt(&self.single, &ask)).await;
        tried
            .unwrap_or_else(|_| Err(Setback::late(ask.what, within)))
            .map_err(|setback| self.failed(setback.why))
    }

    /// One try, to the end of its answer.
    async fn attempt(&self, client: &Client<Connector, Body>, ask: &Ask) -> Result<Bytes, Setback> {
        let body = ask.json.clone().unwrap_or_default();
        let content_type = ask.json.as_ref().map(|_| JSON);
        let length = (ask.method != Method::GET).then_some(body.len() as u64);
        let body = Full::new(body).map_err(|never| match never {}).boxed();
        let request = self.request(&ask.method, &ask.path, content_type, length, body)?;
        let answer = Self::send(client, request).await?;
        let answer = answer::judge(answer, &ask.method).await?;
        let whole = answer::take(answer.into_body(), MAX_RESPONSE_BYTES).await;
        whole.map_err(Setback::from)
    }

    /// Begins a transfer on a connection of its own, until the head of its answer is there and is
    /// no refusal.
    pub(super) async fn transfer(
        &self,
        method: &Method,
        path: &str,
        content_type: Option<&'static str>,
        length: Option<u64>,
        body: Body,
    ) -> Result<Response<Incoming>, Setback> {
        let request = self.request(method, path, content_type, length, body)?;
        answer::judge(Self::send(&self.single, request).await?, method).await
    }

    async fn send(
        client: &Client<Connector, Body>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Trouble> {
        client.request(request).await.map_err(trouble)
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        content_type: Option<&'static str>,
        length: Option<u64>,
        body: Body,
    ) -> Result<Request<Body>, Unanswered> {
        let uri = self.url.join(path).parse::<Uri>();
        let uri = uri.map_err(|_| Unanswered::Invalid("the path is too long".to_owned()))?;
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("noxrunnerd/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(token) = &self.authorization {
            headers.insert(AUTHORIZATION, token.clone());
        }
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        Ok(request)
    }

    /// The error of a call that the backend did not carry out.
    pub(super) fn failed(&self, why: Unanswered) -> FrontError {
        match why {
            Unanswered::Invalid(why) => FrontError::Invalid(why),
            Unanswered::Refused { kind, message, hint } => {
                FrontError::Refused { kind, message, hint }
            }
            Unanswered::Trouble(why) => {
                let url = self.url.to_string();
                tracing::warn!(%url, %why, "the backend failed");
                FrontError::Upstream { url, why }
            }
        }
    }

    /// An answer's JSON.
    pub(super) async fn read<T>(&self, body: Bytes) -> Result<T, FrontError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let is_large = body.len() >= LARGE;
        let read = move || serde_json::from_slice(&body).map_err(|e| e.to_string());
        // A large one would keep everybody waiting.
        let read = if !is_large {
            read()
        } else {
            spawn_blocking(read).await.map_err(|_| FrontError::Stopping)?
        };
        read.map_err(|why| self.failed(Trouble::Nonsense(why).into()))
    }
}

/// What became of a request without an answer.
fn trouble(error: Error) -> Trouble {
    let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), chain);
    if error.is_connect() { Trouble::Connect(why) } else { Trouble::Broken(why) }
}
