//! Newline-delimited JSON-RPC 2.0: one request, notification or batch a line.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use noxrunner_protocol::framing::{Line, LineReader};
use noxrunner_protocol::message::{Id, response};
use noxrunner_protocol::{ErrorKind, RpcError, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::Stop;
use super::hangup::hung_up;
use super::peer::Peer;
use super::rpc::{Rpc, error_answer};

/// Answers that wait for a slow client, in bytes. Beyond it no further answer is taken in.
const OUTPUT_BYTES: usize = 256 * 1024;

/// How long a client may go on sending what is not read any more.
const LINGER: Duration = Duration::from_secs(1);

/// Read at once, in bytes.
const READ_BYTES: usize = 8 * 1024;

/// How long a client may take none of its answers.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// Serves one connection to its end. Its calls go with it.
///
/// # Errors
/// As the socket's.
pub(super) async fn serve(
    mut stream: UnixStream,
    peer: Peer,
    rpc: &Rpc,
    mut stop: Stop,
) -> io::Result<()> {
    // For noticing a hang-up while the halves are borrowed.
    let watched = stream.as_fd().try_clone_to_owned()?;
    let (mut reader, mut writer) = stream.split();
    let mut input = LineReader::default();
    let mut calls = FuturesUnordered::new();
    let mut in_flight = 0;
    let mut output = Vec::new();
    let mut progress = Instant::now();
    let gone = hung_up(watched.as_fd());
    tokio::pin!(gone);
    loop {
        let room = in_flight < limits::MAX_CALLS_IN_FLIGHT && output.len() < OUTPUT_BYTES;
        if room {
            match input.next_line() {
                Some(Line::Whole(line)) => {
                    let work = rpc.start(&line, peer);
                    let weight = work.calls;
                    in_flight += weight;
                    calls.push(async move { (weight, work.answer.await) });
                    continue;
                }
                Some(Line::TooLong) => {
                    input.end();
                    output.extend(too_long());
                    output.push(b'\n');
                    continue;
                }
                None => {}
            }
        }
        if input.has_ended() && calls.is_empty() && output.is_empty() {
            break;
        }
        tokio::select! {
            read = reader.read_buf(input.space(READ_BYTES)), if room && !input.has_ended() => {
                if read? == 0 {
                    input.end();
                }
            }
            Some((weight, answer)) = calls.next(), if output.len() < OUTPUT_BYTES => {
                in_flight -= weight;
                if let Some(answer) = answer {
                    if output.is_empty() {
                        progress = Instant::now();
                    }
                    output.extend_from_slice(answer.as_bytes());
                    output.push(b'\n');
                }
            }
            written = writer.write(&output), if !output.is_empty() => {
                output.drain(..written?);
                progress = Instant::now();
            }
            () = sleep_until(progress + WRITE_PATIENCE), if !output.is_empty() => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            hung_up = &mut gone => return hung_up,
            () = stop.wait() => {
                // What is answered is said, the answer to daemon.shutdown for one; the rest is dropped.
                while let Some(Some((_, Some(answer)))) = calls.next().now_or_never() {
                    output.extend_from_slice(answer.as_bytes());
                    output.push(b'\n');
                }
                return writer.write_all(&output).await;
            }
        }
    }
    linger(stream).await
}

/// Closes a connection of which something may be unread. What is unread at the
/// close is an error at the other end (ECONNRESET, unix(7)), which could hide the last answer.
async fn linger(mut stream: UnixStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = vec![0; READ_BYTES];
    let drained = async {
        while stream.read(&mut unread).await? > 0 {}
        Ok(())
    };
    timeout(LINGER, drained).await.unwrap_or(Ok(()))
}

fn too_long() -> Vec<u8> {
    let error = RpcError::new(
        ErrorKind::PayloadTooLarge,
        format!("a line has at most {} bytes", limits::MAX_LINE_BYTES),
    );
    error_answer(Id::Null, error.hint("send less at a time; this connection ends here"))
        .into_bytes()
}

/// Tells a client of another user why it is not served.
///
/// # Errors
/// As the socket's.
pub async fn refuse(mut stream: UnixStream, uid: u32) -> io::Result<()> {
    let error = RpcError::new(
        ErrorKind::Unauthorized,
        format!("this daemon serves the user with id {uid} and root only"),
    );
    let error = error.hint("start a daemon of your own: noxrunnerd --local-test");
    let mut line = response::<()>(Id::Null, Err(error)).map_err(io::Error::other)?;
    line.push('\n');
    timeout(WRITE_PATIENCE, stream.write_all(line.as_bytes())).await??;
    linger(stream).await
}
