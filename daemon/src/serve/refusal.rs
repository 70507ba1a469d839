//! What a client hears that is not served: one answer, in the language it speaks.

use std::io;
use std::time::Duration;

use noxrunner_protocol::http::HttpError;
use noxrunner_protocol::message::Id;
use noxrunner_protocol::{ErrorKind, RpcError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{first_byte, linger, rpc};

/// How long a client may take to say which language it speaks, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a client is not served.
#[derive(Debug)]
pub enum Refusal<'a> {
    /// It is another user's, and the daemon serves this one's.
    Stranger {
        /// The daemon's user.
        uid: u32,
        /// The group whose members it serves too.
        group: Option<&'a str>,
    },
    /// There are so many connections, all busy.
    Full {
        /// How many.
        most: usize,
        /// The option that says how many there may be.
        by: &'static str,
    },
    /// It came by TCP, and is none of those who may.
    Unknown(String),
}

impl Refusal<'_> {
    /// In the words of the wire.
    pub fn error(&self) -> RpcError {
        match self {
            Self::Stranger { uid, group } => {
                let group = group.map(|group| format!(", members of the group {group}"));
                let error = RpcError::new(
                    ErrorKind::Unauthorized,
                    format!(
                        "this daemon serves the user with id {uid}{} and root only",
                        group.unwrap_or_default()
                    ),
                );
                error.hint("start a daemon of your own: noxrunnerd --local-test")
            }
            Self::Unknown(why) => {
                let error = RpcError::new(ErrorKind::Unauthorized, why.clone());
                error.hint(
                    "start the daemon with --http-allow-uid UID, or with --http-token-file FILE \
                     and send the token",
                )
            }
            Self::Full { most, by } => {
                let error = RpcError::new(
                    ErrorKind::LimitExceeded,
                    format!("{most} connections are open and all of them are busy"),
                );
                error.hint(format!(
                    "try again when one has ended, or start the daemon with more {by}"
                ))
            }
        }
    }
}

/// Tells the client, and closes.
///
/// # Errors
/// As the socket's, and where the client takes too long.
pub async fn tell(mut stream: UnixStream, error: RpcError) -> io::Result<()> {
    // Who says nothing hears it as a line.
    let first = timeout(PATIENCE, first_byte(&stream)).await.unwrap_or(Ok(None))?;
    let text = match first {
        Some(byte) if byte.is_ascii_uppercase() => http(&error),
        Some(_) | None => format!("{}\n", rpc::error_answer(Id::Null, error).text),
    };
    timeout(PATIENCE, stream.write_all(text.as_bytes())).await??;
    linger(stream).await
}

/// Tells a client that can only speak HTTP, and closes.
///
/// # Errors
/// As [`tell`].
pub async fn tell_http(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    error: RpcError,
) -> io::Result<()> {
    timeout(PATIENCE, stream.write_all(http(&error).as_bytes())).await??;
    linger(stream).await
}

/// An HTTP answer, the last of its connection.
fn http(error: &RpcError) -> String {
    // None of the protocol's types fails to be written.
    let body = serde_json::to_string(&HttpError::from(error)).unwrap_or_default();
    let status = hyper::StatusCode::from_u16(error.kind.http_status()).unwrap_or_default();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}
