//! Why a daemon could not be reached, and why a call got no result.

use std::io;
use std::path::PathBuf;

use noxrunner_protocol::{ErrorKind, RpcError, limits};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens on the socket, or it does not exist.
    #[error("no daemon answers on {}", .socket.display())]
    NoDaemon {
        /// The socket that was tried.
        socket: PathBuf,
    },
    /// The caller may not use the socket.
    #[error("{} may not be used by this user", .socket.display())]
    Forbidden {
        /// The socket that was tried.
        socket: PathBuf,
    },
    /// The socket's directory is something else, or only a link to one.
    #[error("{} is not a directory", .directory.display())]
    NotADirectory {
        /// Where the socket would be.
        directory: PathBuf,
    },
    /// The socket's directory belongs to another user, who could put anything there.
    #[error("{} belongs to user {owner}, not to user {uid} or root", .directory.display())]
    ForeignDirectory {
        /// Where the socket is.
        directory: PathBuf,
        /// The user id it belongs to.
        owner: u32,
        /// The user id of the caller.
        uid: u32,
    },
    /// Anybody could replace the socket.
    #[error("everybody may write to {} (mode {mode:04o})", .directory.display())]
    OpenDirectory {
        /// Where the socket is.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user listens on the socket.
    #[error("{} is served by user {server}, not by user {uid} or root", .socket.display())]
    ForeignServer {
        /// The socket that was tried.
        socket: PathBuf,
        /// The user id of who listens.
        server: u32,
        /// The user id of the caller.
        uid: u32,
    },
    /// The system refused for another reason.
    #[error("cannot use the socket {}: {source}", .socket.display())]
    Io {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ConnectError {
    /// What the caller can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoDaemon { .. } => "start one with `noxrunnerd --local-test` in another \
                terminal, or have one started: `noxctl --local-test …`"
                .to_owned(),
            Self::Forbidden { .. } => "ask for membership in the socket's group, or start a \
                daemon of your own with `noxrunnerd --local-test`"
                .to_owned(),
            Self::NotADirectory { .. } => {
                "name the socket by its real path, with --socket; links are not followed".to_owned()
            }
            Self::ForeignDirectory { .. } | Self::ForeignServer { .. } => {
                "use a socket of your own: set XDG_RUNTIME_DIR, or name one with --socket"
                    .to_owned()
            }
            Self::OpenDirectory { directory, .. } => {
                format!("close it with `chmod o-w {}`", directory.display())
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
                "a socket's path has at most 107 bytes: name a shorter one with --socket".to_owned()
            }
            Self::Io { .. } => "check the path, or name another socket with --socket".to_owned(),
        }
    }

    /// The kind that comes nearest in the table of errors.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoDaemon { .. } => ErrorKind::NotReady,
            Self::Forbidden { .. }
            | Self::ForeignDirectory { .. }
            | Self::OpenDirectory { .. }
            | Self::ForeignServer { .. } => ErrorKind::Unauthorized,
            Self::NotADirectory { .. } | Self::Io { .. } => ErrorKind::InvalidArgument,
        }
    }
}

/// Why a call has no result. After any of these but [`TooLong`](Self::TooLong),
/// [`Params`](Self::Params) and [`Refused`](Self::Refused), open a new connection.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon answered with an error.
    #[error("{}", .0.message)]
    Refused(RpcError),
    /// The request is longer than the daemon reads; nothing was sent.
    #[error("the request has {bytes} bytes, at most {} can be sent", limits::MAX_LINE_BYTES)]
    TooLong {
        /// Its length without the newline, in bytes.
        bytes: usize,
    },
    /// The params cannot be written as JSON; nothing was sent.
    #[error("the request cannot be written as JSON: {0}")]
    Params(serde_json::Error),
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Io(io::Error),
    /// No answer came in the time set with [`Connection::set_timeout`](crate::Connection::set_timeout).
    #[error("the daemon did not answer in time")]
    TimedOut,
    /// The daemon closed the connection before the answer was complete.
    #[error("the daemon closed the connection before it answered")]
    Closed,
    /// The answer is longer than a daemon may send.
    #[error("the daemon's answer has more than {} bytes", limits::MAX_RESPONSE_BYTES)]
    AnswerTooLong,
    /// The answer is not what `method` answers with.
    #[error("the daemon's answer to {method} cannot be understood: {source}")]
    BadAnswer {
        /// The method that was called.
        method: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The answer belongs to another call.
    #[error("the daemon answered another request than {method}")]
    WrongId {
        /// The method that was called.
        method: &'static str,
    },
}

impl CallError {
    /// What the caller can do about it, if anybody knows.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => error.hint.as_deref(),
            Self::TooLong { .. } => Some("send less at once: shorten the input or split it"),
            Self::Params(_) => Some("use only text and finite numbers in it"),
            Self::Io(_) | Self::Closed => {
                Some("the daemon may have ended: see its log, start it again and repeat the call")
            }
            Self::TimedOut => Some("see the daemon's log, or kill it and start it again"),
            Self::AnswerTooLong | Self::BadAnswer { .. } | Self::WrongId { .. } => Some(
                "is it noxrunnerd, and of this version? Compare `noxrunnerd --version` with \
                 `noxctl --version`",
            ),
        }
    }

    /// The kind that comes nearest in the table of errors.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(error) => error.kind,
            Self::TooLong { .. } => ErrorKind::PayloadTooLarge,
            Self::Params(_) => ErrorKind::InvalidArgument,
            Self::Io(_) | Self::TimedOut | Self::Closed => ErrorKind::NotReady,
            Self::AnswerTooLong | Self::BadAnswer { .. } | Self::WrongId { .. } => {
                ErrorKind::Upstream
            }
        }
    }
}
