//! Newline-delimited JSON-RPC 2.0: one request, notification or batch a line.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use noxrunner_protocol::framing::{Line, LineReader};
use noxrunner_protocol::message::Id;
use noxrunner_protocol::{ErrorKind, RpcError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::WriteHalf;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::calls::Calls;
use super::connections::Connected;
use super::hangup::hung_up;
use super::room::Bill;
use super::rpc::{Answer, Client, Rpc, error_answer};
use super::{Stop, linger};
use crate::config::WireBounds;

/// How many lines a connection has taken up before others have their turn.
const TURN: usize = 16;

/// Read at once, in bytes.
const READ_BYTES: usize = 8 * 1024;

/// Serves one connection to its end. Its calls go with it.
///
/// # Errors
/// As the socket's.
pub(super) async fn serve(
    mut stream: UnixStream,
    client: &Client,
    connected: &Connected,
    rpc: &Rpc,
    bounds: &WireBounds,
    mut stop: Stop,
) -> io::Result<()> {
    // For noticing a hang-up while the halves are borrowed.
    let watched = stream.as_fd().try_clone_to_owned()?;
    let (mut reader, mut writer) = stream.split();
    let mut input = LineReader::new(bounds.max_request);
    let mut calls = Calls::new(bounds.max_calls);
    let mut output = Output::new(bounds.output_buffer);
    let mut busy = None;
    let mut unwanted = false;
    // Polled when one of them happens, and not, each with its lock, in every turn of the loop.
    let mut signals: FuturesUnordered<BoxFuture<'_, Signal>> = [
        stop.wait().map(|()| Signal::Stop).boxed(),
        connected.unwanted().map(|()| Signal::Unwanted).boxed(),
    ]
    .into_iter()
    .collect();
    // Watched for from the first call on that is waited for: before, there is nothing to drop, the end of
    // the input tells as much, and the kernel would look at the watch with each message.
    let mut gone = Some(hung_up(watched.as_fd()).map(Signal::HungUp).boxed());
    loop {
        let mut room = calls.has_room() && output.has_room();
        let mut asked = 0;
        while room && asked < TURN {
            match input.next_line() {
                Some(Line::Whole(line)) => {
                    asked += 1;
                    if let Some(answer) = calls.start(rpc.start(line, client)) {
                        output.add(answer);
                    }
                }
                Some(Line::TooLong) => {
                    input.end();
                    output.add(too_long(bounds.max_request));
                }
                None => break,
            }
            room = calls.has_room() && output.has_room();
        }
        while !calls.is_empty()
            && output.has_room()
            && let Some(answer) = calls.ready()
        {
            output.add(answer);
        }
        output.write_some(&writer)?;
        let is_idle = calls.is_empty() && output.is_empty();
        if !is_idle {
            busy.get_or_insert_with(|| connected.busy());
        }
        if (asked == TURN || !room) && calls.has_room() && output.has_room() {
            // Lines that were read already have to wait for others' turns, as one read may hold hundreds.
            yield_now().await;
            continue;
        }
        if is_idle {
            if input.has_ended() || unwanted {
                break;
            }
            if asked > 0 {
                connected.used();
            }
            busy = None;
        }
        if !calls.is_empty() {
            signals.extend(gone.take());
        }
        let signal = tokio::select! {
            biased;
            read = reader.read_buf(input.space(READ_BYTES)), if room && !input.has_ended() => {
                if read? == 0 {
                    input.end();
                }
                continue;
            }
            answer = calls.answer(), if !calls.is_empty() && output.has_room() => {
                output.add(answer);
                continue;
            }
            writable = writer.writable(), if !output.is_empty() => {
                writable?;
                continue;
            }
            () = output.stalls(bounds.write_timeout) => return Err(io::ErrorKind::TimedOut.into()),
            Some(signal) = signals.next() => signal,
        };
        match signal {
            Signal::HungUp(gone) => return gone,
            // When what it waits for is answered.
            Signal::Unwanted => unwanted = true,
            Signal::Stop => {
                // What is answered is said, the answer to daemon.shutdown for one; the rest is dropped.
                while let Some(answer) = calls.ready() {
                    output.add(answer);
                }
                return writer.write_all(output.rest()).await;
            }
        }
    }
    linger(stream).await
}

/// What else may happen to a connection.
enum Signal {
    /// Its client is gone, or cannot be watched.
    HungUp(io::Result<()>),
    /// It is to make room for another.
    Unwanted,
    /// The daemon is to end.
    Stop,
}

/// Answers on their way to the client.
struct Output {
    text: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    /// What the answers in it have of the connection's room.
    bills: Vec<Bill>,
    most: usize,
    /// Since when the client takes nothing, while there is something to take.
    stalled_since: Option<Instant>,
}

impl Output {
    fn new(most: usize) -> Self {
        Self { text: Vec::new(), taken: 0, bills: Vec::new(), most, stalled_since: None }
    }

    fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    fn has_room(&self) -> bool {
        self.rest().len() < self.most
    }

    fn rest(&self) -> &[u8] {
        &self.text[self.taken..]
    }

    fn add(&mut self, Answer { text, bill }: Answer) {
        if self.text.is_empty() && text.len() >= self.most {
            // Not copied: it is most of the memory that a connection takes.
            self.text = text.into_bytes();
        } else {
            self.text.extend_from_slice(text.as_bytes());
        }
        self.text.push(b'\n');
        self.bills.push(bill);
    }

    /// Writes what the socket takes now.
    fn write_some(&mut self, writer: &WriteHalf<'_>) -> io::Result<()> {
        while !self.is_empty() {
            match writer.try_write(self.rest()) {
                Ok(taken) => {
                    self.taken += taken;
                    self.stalled_since = None;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        if self.is_empty() {
            self.taken = 0;
            self.bills.clear();
            self.text.clear();
            // The memory of a large answer is not kept for the next one.
            self.text.shrink_to(self.most);
        }
        Ok(())
    }

    /// Waits until the client has taken nothing for so long.
    fn stalls(&self, patience: Duration) -> impl Future<Output = ()> + use<> {
        let since = self.stalled_since;
        async move {
            match since {
                Some(since) => sleep_until(since + patience).await,
                None => std::future::pending().await,
            }
        }
    }
}

fn too_long(most: usize) -> Answer {
    let error =
        RpcError::new(ErrorKind::PayloadTooLarge, format!("a line has at most {most} bytes"));
    error_answer(Id::Null, error.hint("send less at a time; this connection ends here"))
}
