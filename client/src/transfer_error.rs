//! Why an archive did not get to where it should.

use std::io;

use noxrunner_protocol::http::HttpError;
use noxrunner_protocol::{ErrorKind, RpcError};

use crate::ConnectError;
use crate::request::clean;
use crate::v1::{Problem, RemoteError};

/// Why a transfer failed. What was sent of an upload is then nowhere, and what came of a
/// download is not all of it.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The daemon answered with an error.
    #[error("{}", .0.message)]
    Refused(RpcError),
    /// The archive to be sent cannot be read.
    #[error("cannot read the archive that is to be sent: {0}")]
    Source(io::Error),
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Io(io::Error),
    /// The daemon closed the connection too early.
    #[error("the daemon closed the connection before the transfer was complete")]
    Closed,
    /// The answer is not what a daemon answers with.
    #[error("the daemon's answer cannot be understood: {0}")]
    BadAnswer(String),
    /// It was stopped, as asked for with [`Transfers::stop_when_readable`](crate::Transfers::stop_when_readable).
    #[error("the transfer was stopped")]
    Stopped,
    /// A backend elsewhere, or the way to it, failed.
    #[error(transparent)]
    Remote(Box<RemoteError>),
}

impl TransferError {
    /// What the caller can do about it, if anybody knows.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Connect(error) => error.hint(),
            Self::Refused(error) => return error.hint.clone(),
            Self::Remote(error) => return error.problem.hint(),
            Self::Io(_) | Self::Closed => "the daemon may have ended, or failed midway: see its \
                log and repeat the transfer"
                .to_owned(),
            Self::BadAnswer(_) => "is it noxrunnerd, and of this version? Compare `noxrunnerd \
                --version` with `noxctl --version`"
                .to_owned(),
            Self::Source(_) | Self::Stopped => return None,
        })
    }

    /// The kind that comes nearest in the table of errors.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Refused(error) => error.kind,
            Self::Source(_) => ErrorKind::InvalidArgument,
            Self::Io(_) | Self::Closed | Self::Stopped => ErrorKind::NotReady,
            Self::BadAnswer(_) => ErrorKind::Upstream,
            Self::Remote(error) => error.problem.kind(),
        }
    }

    /// The same, of a backend's: at which URL. Without a URL it is the daemon's.
    pub(crate) fn at(self, url: Option<&str>) -> Self {
        let Some(url) = url else { return self };
        let problem = match self {
            Self::Refused(error) => Problem::Refused(error),
            Self::Io(error) => Problem::Io(error),
            Self::Closed => Problem::Closed,
            Self::BadAnswer(why) => Problem::BadAnswer(why),
            Self::Remote(error) => error.problem,
            Self::Connect(_) | Self::Source(_) | Self::Stopped => return self,
        };
        Self::Remote(Box::new(RemoteError { url: url.to_owned(), problem }))
    }

    /// What an error of the HTTP client is.
    pub(crate) fn from_http(error: ureq::Error) -> Self {
        if let ureq::Error::Io(e) = error {
            return Self::from_io(e);
        }
        if let ureq::Error::Other(e) = error {
            return e.downcast().map_or_else(|e| Self::BadAnswer(e.to_string()), |ours| *ours);
        }
        Self::BadAnswer(error.to_string())
    }

    /// What a backend says that does not write its errors in JSON.
    pub(crate) fn said(status: u16, text: &str) -> Self {
        let message = match text {
            "" => format!("status {status}"),
            text => format!("{text} (status {status})"),
        };
        Self::Refused(RpcError::new(nearest(status), message))
    }

    /// What an error in reading or writing through the HTTP client is.
    pub(crate) fn from_io(error: io::Error) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(ours) => return ours,
            Err(error) => error,
        };
        let error = match error.downcast::<rustls::Error>() {
            Ok(error) => return Problem::Tls(error).into(),
            Err(error) => error,
        };
        match error.downcast::<ureq::Error>() {
            Ok(error) => Self::from_http(error),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            Err(e) => Self::Io(e),
        }
    }

    /// What the body of an answer with this status says, if it is an error in JSON.
    pub(crate) fn refused(status: u16, body: &[u8]) -> Option<Self> {
        let HttpError { mut error, kind, hint } = serde_json::from_slice(body).ok()?;
        // The text is for whoever reads nothing else, and ends with the hint.
        if let Some(hint) = &hint
            && let Some(message) = error.strip_suffix(&format!(" ({hint})"))
        {
            error = message.to_owned();
        }
        let kind = kind.unwrap_or_else(|| nearest(status));
        let (error, hint) = (clean(&error), hint.map(|hint| clean(&hint)));
        Some(Self::Refused(RpcError { kind, message: error, hint }))
    }
}

impl From<Problem> for TransferError {
    /// At a URL that is named later.
    fn from(problem: Problem) -> Self {
        Self::Remote(Box::new(RemoteError { url: String::new(), problem }))
    }
}

/// The kind that a status stands for where the body names none, as other backends' do not.
fn nearest(status: u16) -> ErrorKind {
    match status {
        404 => ErrorKind::SandboxNotFound,
        400 => ErrorKind::InvalidArgument,
        403 => ErrorKind::PathDenied,
        _ => {
            let same = |kind: &&ErrorKind| kind.http_status() == status;
            ErrorKind::ALL.iter().find(same).copied().unwrap_or(ErrorKind::Upstream)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_loses_the_hint_that_its_text_repeats() {
        let sent = RpcError::new(ErrorKind::StorageFull, "no room").hint("delete something");
        let body = serde_json::to_vec(&HttpError::from(&sent)).unwrap();
        let refused = TransferError::refused(507, &body);
        let Some(TransferError::Refused(error)) = refused else { panic!() };
        assert_eq!(error, sent);
    }

    #[test]
    fn other_backends_errors_have_a_kind_by_their_status() {
        for (status, kind) in [
            (400, ErrorKind::InvalidArgument),
            (404, ErrorKind::SandboxNotFound),
            (413, ErrorKind::PayloadTooLarge),
            (503, ErrorKind::NotReady),
            (418, ErrorKind::Upstream),
        ] {
            let error = TransferError::refused(status, br#"{"error": "no"}"#).unwrap();
            assert_eq!((error.kind(), error.to_string()), (kind, "no".to_owned()), "{status}");
        }
        for body in [&b""[..], b"<html>", b"[]"] {
            assert!(TransferError::refused(500, body).is_none(), "{body:?}");
        }
    }
}
