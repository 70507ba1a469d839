//! What can go wrong, what to do about it, and the exit status it leads to.

use std::io;
use std::path::PathBuf;

use noxrunner_client::v1::{PlainToken, RemoteError, TokenError};
use noxrunner_client::{CallError, ConnectError, TransferError};
use noxrunner_protocol::socket::SYSTEM_SOCKET;
use noxrunner_protocol::{ErrorKind, RpcError, limits};

use crate::files::FileError;
use crate::spawn::SpawnError;

/// Why a verb did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("{}", .0.to_string().trim_end())]
    Usage(clap::Error),
    #[error(transparent)]
    PlainToken(#[from] PlainToken),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("{url}: the NoxRunner v1 API has no `{what}`")]
    NotOverHttp { what: String, url: String },
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no daemon answers on {}, nor on {SYSTEM_SOCKET}", .own.display())]
    NoDaemon { own: PathBuf },
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("the daemon on {} (process {pid}) was told to end and has not after {seconds} s",
        .socket.display())]
    StillRunning { socket: PathBuf, pid: u32, seconds: u64 },
    #[error("the daemon closed the connection, and the sandbox is gone with it")]
    LeaseEnded,
    #[error("cannot write to standard output: {0}")]
    Stdout(io::Error),
    #[error("cannot read standard input: {0}")]
    Stdin(io::Error),
    #[error(
        "standard input has more than the {} bytes that a request carries",
        limits::MAX_LINE_BYTES
    )]
    StdinTooLong,
    #[error("the command's output in the daemon's answer is not base64: {0}")]
    NotBase64(base64::DecodeError),
}

impl CliError {
    /// 2 for what the caller should have said differently, 130 after an interrupt, otherwise 1.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::PlainToken(_) => 2,
            Self::File(error) => error.status(),
            Self::Connect(_)
            | Self::Token(_)
            | Self::NotOverHttp { .. }
            | Self::Remote(_)
            | Self::NoDaemon { .. }
            | Self::Call(_)
            | Self::Transfer(_)
            | Self::Spawn(_)
            | Self::StillRunning { .. }
            | Self::LeaseEnded
            | Self::Stdout(_)
            | Self::Stdin(_)
            | Self::StdinTooLong
            | Self::NotBase64(_) => 1,
        }
    }

    /// What the user can do about it, if anybody knows.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Connect(error) => error.hint(),
            Self::NoDaemon { own } => ConnectError::NoDaemon { socket: own.clone() }.hint(),
            Self::Call(error) => return error.hint().map(str::to_owned),
            Self::Transfer(error) => return error.hint(),
            Self::File(error) => return error.hint().map(str::to_owned),
            Self::Spawn(error) => error.hint(),
            Self::Token(error) => error.hint(),
            Self::NotOverHttp { .. } => "a daemon of this machine has it, over its socket: leave \
                out --base-url, or unset NOXRUNNER_BASE_URL"
                .to_owned(),
            Self::Remote(error) => return error.problem.hint(),
            Self::StillRunning { pid, .. } => {
                format!("see its log for what it waits for, or end it with `kill -9 {pid}`")
            }
            Self::LeaseEnded => "see the daemon's log, and create the sandbox again".to_owned(),
            Self::Stdout(_) => "is there room, and is whoever reads still there?".to_owned(),
            Self::Stdin(_) => "leave out -i if the command needs no input".to_owned(),
            Self::StdinTooLong => {
                "send less at once, for example in pieces that `tee -a` joins".to_owned()
            }
            Self::NotBase64(_) => {
                "compare `noxrunnerd --version` with `noxctl --version`".to_owned()
            }
            Self::Usage(_) | Self::PlainToken(_) => return None,
        })
    }

    /// The error as the wire would carry it, for `--json`.
    pub(crate) fn to_rpc(&self) -> RpcError {
        let kind = match self {
            Self::Usage(_)
            | Self::PlainToken(_)
            | Self::Token(_)
            | Self::Stdin(_)
            | Self::Stdout(_) => ErrorKind::InvalidArgument,
            Self::NotOverHttp { .. } => ErrorKind::Unsupported,
            Self::Remote(error) => error.problem.kind(),
            Self::Connect(error) => error.kind(),
            Self::Call(error) => error.kind(),
            Self::Transfer(error) => error.kind(),
            Self::File(error) => error.kind(),
            Self::NoDaemon { .. }
            | Self::Spawn(_)
            | Self::StillRunning { .. }
            | Self::LeaseEnded => ErrorKind::NotReady,
            Self::StdinTooLong => ErrorKind::PayloadTooLarge,
            Self::NotBase64(_) => ErrorKind::Upstream,
        };
        RpcError { kind, message: self.to_string(), hint: self.hint() }
    }
}
