//! Why a backend did not do what it was asked to.

use std::io;

use noxrunner_protocol::{ErrorKind, RpcError};
use rustls::CertificateError as Certificate;

/// What went wrong with a backend, and at which URL.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {problem}")]
pub struct RemoteError {
    /// What was asked, without its query.
    pub url: String,
    /// What went wrong.
    pub problem: Problem,
}

/// What can go wrong with a backend.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No address is known for the host's name.
    #[error("no address is known for {host}")]
    UnknownName {
        /// The name.
        host: String,
    },
    /// The host's name could not be looked up.
    #[error("cannot look up {host} with getent: {source}")]
    NoLookup {
        /// The name.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// The lookup of the host's name was given up.
    #[error("looking up {host} took more than {seconds} s")]
    SlowLookup {
        /// The name.
        host: String,
        /// How long it was waited for, in seconds.
        seconds: u64,
    },
    /// Nobody answers at any address of the host.
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    /// The two ends do not agree on a way to encrypt, or the certificate is not good.
    #[error("{}", tls(.0))]
    Tls(rustls::Error),
    /// This machine trusts nobody to sign certificates.
    #[error("this machine has no certificates of authorities to compare the backend's with")]
    NoRoots,
    /// The backend said or took nothing for so long.
    #[error("the backend was silent for {seconds} s")]
    Silent {
        /// How long it was waited for, in seconds.
        seconds: f64,
    },
    /// The backend answered with an error.
    #[error("{}", .0.message)]
    Refused(RpcError),
    /// The backend answered that it is elsewhere.
    #[error("it redirects to {to}, and redirects are not followed")]
    Redirected {
        /// Where it says that it is.
        to: String,
    },
    /// The answer is an HTML page, as proxies and other servers write.
    #[error("the answer is an HTML page with status {status}")]
    Page {
        /// The HTTP status.
        status: u16,
    },
    /// The answer is not what a backend answers with.
    #[error("the answer cannot be understood: {0}")]
    BadAnswer(String),
    /// The connection was closed too early.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(io::Error),
}

impl Problem {
    /// What the caller can do about it, if anybody knows.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownName { .. } | Self::SlowLookup { .. } => {
                "is the name right? Otherwise use an address in its place"
            }
            Self::NoLookup { .. } => "use an address in place of the name, or install getent",
            Self::Unreachable(_) => {
                "is the backend running, and is this its URL? It is connected to without a proxy"
            }
            Self::Tls(error) => tls_hint(error)?,
            Self::NoRoots => {
                "install the package ca-certificates, or name a file of them in SSL_CERT_FILE"
            }
            Self::Silent { .. } => "see the backend's log for what it waits for, and try again",
            Self::Refused(error) => return error.hint.clone().or_else(|| ours(error.kind)),
            Self::Redirected { .. } => {
                "if you trust where it points, use that as the URL of the backend"
            }
            Self::Page { .. } | Self::BadAnswer(_) => {
                "is it a NoxRunner v1 backend, and is the path in its URL right?"
            }
            Self::Closed | Self::Io(_) => {
                "the backend may have ended, or failed midway: see its log and try again"
            }
        };
        Some(hint.to_owned())
    }

    /// The kind that comes nearest in the table of errors.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(error) => error.kind,
            Self::UnknownName { .. }
            | Self::NoLookup { .. }
            | Self::SlowLookup { .. }
            | Self::Unreachable(_)
            | Self::Silent { .. }
            | Self::Closed
            | Self::Io(_) => ErrorKind::NotReady,
            Self::Tls(_)
            | Self::NoRoots
            | Self::Redirected { .. }
            | Self::Page { .. }
            | Self::BadAnswer(_) => ErrorKind::Upstream,
        }
    }
}

/// What to do about an error of a backend that does not say it itself.
fn ours(kind: ErrorKind) -> Option<String> {
    let hints = [
        (ErrorKind::SandboxNotFound, "is there such a sandbox, and is the path in the URL right?"),
        (
            ErrorKind::Unauthorized,
            "does it want a token, or another one? Name its file with --token-file or \
             NOXRUNNER_TOKEN_FILE",
        ),
        (ErrorKind::NotReady, "try again soon, or create the sandbox with --wait"),
    ];
    hints.iter().find(|(other, _)| *other == kind).map(|(_, hint)| (*hint).to_owned())
}

/// Why a certificate is not good enough, where that is told apart.
#[derive(Clone, Copy)]
enum Distrust {
    Issuer,
    Name,
    Age,
    Other,
}

fn distrust(why: &Certificate) -> Distrust {
    let name =
        matches!(why, Certificate::NotValidForName | Certificate::NotValidForNameContext { .. });
    let age = matches!(
        why,
        Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. }
    );
    match (why == &Certificate::UnknownIssuer, name, age) {
        (true, _, _) => Distrust::Issuer,
        (_, true, _) => Distrust::Name,
        (_, _, true) => Distrust::Age,
        _ => Distrust::Other,
    }
}

fn tls(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(why) = error else {
        return format!("no encrypted connection comes about: {error}");
    };
    match distrust(why) {
        Distrust::Issuer => {
            "its certificate is not signed by anybody whom this machine trusts".to_owned()
        }
        Distrust::Name => "its certificate is for another name".to_owned(),
        Distrust::Age => format!("its certificate is too old or too new: {why}"),
        Distrust::Other => format!("its certificate is not good: {why}"),
    }
}

fn tls_hint(error: &rustls::Error) -> Option<&'static str> {
    let rustls::Error::InvalidCertificate(why) = error else {
        return Some("does it speak HTTPS on that port?");
    };
    match distrust(why) {
        Distrust::Issuer => Some(
            "if it should be trusted, add its authority to this machine's, or name the file of \
             the authority's certificate in SSL_CERT_FILE",
        ),
        Distrust::Name => Some("use the name that its certificate is for in the URL"),
        Distrust::Age => Some("is this machine's clock right? Otherwise the backend needs another"),
        Distrust::Other => None,
    }
}
