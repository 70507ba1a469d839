//! What can go wrong between a client and the backend, and how the client hears of it.

use std::fmt;
use std::time::Duration;

use hyper::StatusCode;
use noxrunner_protocol::{ErrorKind, RpcError};

use crate::serve::rpc::shown;

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The backend's API has no such thing.
    #[error("{0}: the backend's API (NoxRunner v1) has no such thing")]
    Unsupported(&'static str),
    /// The front knows nothing of that sandbox, and the backend cannot be asked.
    #[error(
        "the backend's API (NoxRunner v1) does not describe sandboxes, and this daemon has not \
         made {0:?} since it started"
    )]
    NotSeen(String),
    /// A param does not make sense.
    #[error("{0}")]
    Invalid(String),
    /// What is asked for does not fit into an answer.
    #[error("{0}")]
    TooLarge(String),
    /// The caller may not do this.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The daemon is ending.
    #[error("the daemon is stopping")]
    Stopping,
    /// The backend does not do it, and has said why.
    #[error("{message}")]
    Refused {
        /// What that is here.
        kind: ErrorKind,
        /// What it said.
        message: String,
        /// What it said to do about it.
        hint: Option<String>,
    },
    /// The backend failed, or could not be asked.
    #[error("{url}: {why}")]
    Upstream {
        /// The backend.
        url: String,
        /// How it failed.
        why: Trouble,
    },
}

/// How a backend fails.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// There is no connection to be had.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// A connection ended or broke before its answer was whole.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It took too long.
    #[error("{what} took longer than {} s", .within.as_secs_f64())]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        within: Duration,
    },
    /// It sent the request elsewhere. Whoever it names would get the token and what is asked.
    #[error("answered {status}, a redirect to {to:?}, which is not followed")]
    Redirected {
        /// Its status.
        status: StatusCode,
        /// Where to.
        to: String,
    },
    /// It did not take the token.
    #[error("refused the credentials ({status}): {said}")]
    Credentials {
        /// Its status.
        status: StatusCode,
        /// What it said.
        said: String,
    },
    /// It has nothing at that address.
    #[error("has no NoxRunner v1 API there ({status}): {said}")]
    NoApi {
        /// Its status.
        status: StatusCode,
        /// What it said.
        said: String,
    },
    /// It has a bad day.
    #[error("answered {status}: {said}")]
    Failed {
        /// Its status.
        status: StatusCode,
        /// What it said.
        said: String,
    },
    /// Its answer is not what the API says.
    #[error("answered what is none of NoxRunner v1's answers: {0}")]
    Nonsense(String),
    /// Its answer is longer than any should be.
    #[error("answered more than {0} bytes")]
    TooLarge(usize),
}

impl Trouble {
    /// Whether what can be done twice is worth another try.
    pub fn is_worth_another_try(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Broken(_) => true,
            Self::Failed { status, .. } => matches!(
                *status,
                StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            Self::TimedOut { .. }
            | Self::Redirected { .. }
            | Self::Credentials { .. }
            | Self::NoApi { .. }
            | Self::Nonsense(_)
            | Self::TooLarge(_) => false,
        }
    }

    const fn hint(&self) -> &'static str {
        match self {
            Self::Connect(_) => {
                "is it running, and is --base-url right? Proxies of the environment are ignored"
            }
            Self::Broken(_) | Self::TimedOut { .. } | Self::Failed { .. } => {
                "the backend's log may say more; what it was asked may or may not have been done"
            }
            Self::Redirected { .. } => "start the daemon with the address that it leads to",
            Self::Credentials { .. } => {
                "start the daemon with the backend's token: --base-url-token-file FILE"
            }
            Self::NoApi { .. } | Self::Nonsense(_) | Self::TooLarge(_) => "is --base-url right?",
        }
    }
}

impl From<FrontError> for RpcError {
    fn from(error: FrontError) -> Self {
        // What a backend says is anybody's text, and is shown on terminals.
        let message = shown(&error.to_string());
        let (kind, hint) = match error {
            FrontError::Unsupported(_) => {
                (ErrorKind::Unsupported, Some("health lists what this daemon cannot do".to_owned()))
            }
            FrontError::NotSeen(_) => {
                (ErrorKind::Unsupported, Some("sandbox.touch says whether it exists".to_owned()))
            }
            FrontError::Invalid(_) => (ErrorKind::InvalidArgument, None),
            FrontError::TooLarge(_) => (
                ErrorKind::PayloadTooLarge,
                Some("what is larger goes over HTTP on the same socket: /v1/sandboxes/ID/files/download".to_owned()),
            ),
            FrontError::Unauthorized(_) => (
                ErrorKind::Unauthorized,
                Some("ask the user who runs the daemon, or root".to_owned()),
            ),
            FrontError::Stopping => {
                (ErrorKind::NotReady, Some("start the daemon again".to_owned()))
            }
            FrontError::Refused { kind, hint, .. } => (kind, hint.as_deref().map(shown)),
            FrontError::Upstream { why, .. } => (ErrorKind::Upstream, Some(why.hint().to_owned())),
        };
        Self { kind, message, hint }
    }
}

/// An error with all that led to it: clients of a front have nobody else to ask.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Some say what led to them themselves.
        if !said.contains(&text) {
            let separator = if said.is_empty() { "" } else { ": " };
            // Writing to a string does not fail.
            let _ = fmt::Write::write_fmt(&mut said, format_args!("{separator}{text}"));
        }
        next = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backend_says_is_cut_and_escaped() {
        let said = format!("\u{1b}[2J{}", "x".repeat(10_000));
        let why = Trouble::Failed { status: StatusCode::INTERNAL_SERVER_ERROR, said: said.clone() };
        let failed = FrontError::Upstream { url: "http://x".to_owned(), why };
        let refused = FrontError::Refused {
            kind: ErrorKind::Conflict,
            message: said.clone(),
            hint: Some(said),
        };
        for (error, kind) in [(failed, ErrorKind::Upstream), (refused, ErrorKind::Conflict)] {
            let error = RpcError::from(error);
            assert_eq!(error.kind, kind);
            for text in [&error.message, &error.hint.unwrap_or_default()] {
                assert!(!text.contains('\u{1b}') && text.chars().count() < 2_100, "{text}");
            }
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let failed = |code| Trouble::Failed {
            status: StatusCode::from_u16(code).unwrap(),
            said: String::new(),
        };
        for (code, again) in [(500, false), (501, false), (502, true), (503, true), (504, true)] {
            assert_eq!(failed(code).is_worth_another_try(), again, "{code}");
        }
        assert!(Trouble::Connect(String::new()).is_worth_another_try());
        let late = Trouble::TimedOut { what: "it", within: Duration::from_millis(1_500) };
        assert!(!late.is_worth_another_try());
        assert_eq!(late.to_string(), "it took longer than 1.5 s");
    }
}
