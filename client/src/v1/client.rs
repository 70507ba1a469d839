//! What can be asked of a backend.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::{self, CreateBody, Created, ExecBody, Executed};
use noxrunner_protocol::limits;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Method;

use super::{Backend, BaseUrl, PlainToken, Problem, RemoteError, Token};
use crate::request::{Ask, Content, Requests, Route, clean};
use crate::{TransferError, Transfers};

/// How long a backend may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much longer than its command an exec is waited for: the command's time begins when the
/// backend has read the request, and its answer must get here.
const EXEC_GRACE: Duration = Duration::from_secs(30);

/// Longest answer to an exec, in bytes.
const MAX_EXEC_BYTES: u64 = limits::MAX_RESPONSE_BYTES as u64;

/// A backend. Every request has a connection of its own, and none is sent twice.
#[derive(Debug, Clone)]
pub struct Client {
    backend: Arc<Backend>,
    patience: Option<Duration>,
    timeout: Duration,
}

impl Client {
    /// The backend at this URL, which is not connected to yet.
    ///
    /// # Errors
    /// [`PlainToken`] for a token and a URL that is neither `https` nor on the loopback.
    pub fn new(base: BaseUrl, token: Option<Token>) -> Result<Self, PlainToken> {
        token.as_ref().map_or(Ok(()), |token| token.may_go_to(&base))?;
        let backend = Arc::new(Backend { base, token, tls: OnceLock::new() });
        Ok(Self { backend, patience: None, timeout: PATIENCE })
    }

    /// Gives up on a backend that is silent for so long, in place of 60 s, but for execs, which are
    /// waited for at least 30 s longer than their command may take.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Gives up on a backend that is silent for so long, whatever is asked of it.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Where the backend is.
    pub fn base(&self) -> &BaseUrl {
        &self.backend.base
    }

    /// Archives to and from the backend.
    pub fn transfers(&self) -> Transfers {
        Transfers::over(self.requests(self.timeout))
    }

    /// Asks whether the backend is well.
    ///
    /// # Errors
    /// Where it is not, or says nothing of the kind.
    pub fn health(&self) -> Result<(), RemoteError> {
        let ask = Ask::new(Method::GET, http::HEALTH.to_owned());
        let requests = self.requests(self.timeout);
        let body = requests.ask(ask).and_then(|answer| answer.all(limits::MAX_LINE_BYTES as u64));
        let body = body.map_err(|e| self.remote(e))?;
        if body.windows(2).any(|two| two == b"OK") {
            return Ok(());
        }
        let said = clean(&String::from_utf8_lossy(&body));
        let problem = Problem::BadAnswer(format!("{said:?} is not OK"));
        Err(RemoteError { url: self.base().join(http::HEALTH), problem })
    }

    /// Makes a sandbox, or keeps the one of that name and gives it the new time to live.
    ///
    /// # Errors
    /// Where the backend refuses, or does not answer as it should.
    pub fn create(&self, id: &SessionId, body: &CreateBody) -> Result<Created, RemoteError> {
        self.json(Method::PUT, http::sandbox(id), body, self.timeout)
    }

    /// Runs a command to its end. It is not sent again where no answer comes, since it may have
    /// run.
    ///
    /// # Errors
    /// Where the backend refuses, or does not answer as it should.
    pub fn exec(&self, id: &SessionId, body: &ExecBody) -> Result<Executed, RemoteError> {
        self.json(Method::POST, http::exec(id), body, exec_patience(body).max(self.timeout))
    }

    /// Starts a sandbox's time to live anew.
    ///
    /// # Errors
    /// Where the backend refuses, or does not answer as it should.
    pub fn touch(&self, id: &SessionId) -> Result<(), RemoteError> {
        self.done(Ask { content: Content::Bytes(&[]), ..Ask::new(Method::POST, http::touch(id)) })
    }

    /// Removes a sandbox with all that is in it.
    ///
    /// # Errors
    /// Where the backend refuses, or does not answer as it should.
    pub fn delete(&self, id: &SessionId) -> Result<(), RemoteError> {
        self.done(Ask::new(Method::DELETE, http::sandbox(id)))
    }

    fn done(&self, ask: Ask<'_>) -> Result<(), RemoteError> {
        let answer = self.requests(self.timeout).ask(ask).map_err(|e| self.remote(e))?;
        // Whatever it says beside its status; but a page in a sandbox's place is a mistake.
        answer.not_a_page().map_err(|e| self.remote(e))
    }

    fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T, RemoteError> {
        let url = self.base().join(&path);
        let failed = |e: serde_json::Error| RemoteError {
            url: url.clone(),
            problem: Problem::BadAnswer(e.to_string()),
        };
        let body = serde_json::to_vec(body).map_err(failed)?;
        let ask = Ask {
            content_type: Some(http::JSON),
            content: Content::Bytes(&body),
            ..Ask::new(method, path)
        };
        let answer = self.requests(patience).ask(ask).map_err(|e| self.remote(e))?;
        let body = answer.all(MAX_EXEC_BYTES).map_err(|e| self.remote(e))?;
        serde_json::from_slice(&body).map_err(failed)
    }

    fn requests(&self, patience: Duration) -> Requests {
        let patience = self.patience.unwrap_or(patience);
        Requests::new(Route::Backend(Arc::clone(&self.backend))).patience(patience)
    }

    fn remote(&self, error: TransferError) -> RemoteError {
        match error {
            TransferError::Remote(error) => *error,
            // Not of a backend's, and not without an archive.
            other @ (TransferError::Connect(_)
            | TransferError::Refused(_)
            | TransferError::Source(_)
            | TransferError::Io(_)
            | TransferError::Closed
            | TransferError::BadAnswer(_)
            | TransferError::Stopped) => RemoteError {
                url: self.base().to_string(),
                problem: Problem::BadAnswer(other.to_string()),
            },
        }
    }
}

/// How long the answer to an exec is waited for: always longer than its command may run.
fn exec_patience(body: &ExecBody) -> Duration {
    body.timeout_seconds.unwrap_or_default().duration() + EXEC_GRACE
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_exec_is_waited_for_longer_than_its_command_may_run() {
        let mut body = ExecBody::default();
        assert_eq!(exec_patience(&body), Duration::from_secs(60));
        body.timeout_seconds = 86_400.0.try_into().ok();
        assert_eq!(exec_patience(&body), Duration::from_secs(86_430));
    }

    #[test]
    fn a_token_goes_over_no_network_in_plain() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "t").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let token = Token::read(file.path()).unwrap();
        let client = |url: &str, token| Client::new(url.parse().unwrap(), token);
        client("http://10.0.0.1", Some(token.clone())).unwrap_err();
        client("http://name.example", Some(token.clone())).unwrap_err();
        for good in ["http://localhost", "http://127.0.0.1:1", "https://10.0.0.1"] {
            client(good, Some(token.clone())).unwrap();
        }
        client("http://10.0.0.1", None).unwrap();
    }
}
