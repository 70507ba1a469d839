//! Archives over HTTP, streamed both ways: a thread unpacks what arrives, or packs
//! what is sent, and a short queue between it and the connection bounds what is in memory.

use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::http::HeaderValue;
use hyper::{Response, StatusCode};
use noxrunner_protocol::SessionId;
use noxrunner_protocol::http::{ArchiveFormat, REDIRECTED, TAR};
use noxrunner_protocol::types::UploadResult;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{Answer, json, refused};
use crate::daemon::{Daemon, joined};
use crate::error::CallError;
use crate::files::{Places, archive};
use crate::policy::PathUse;
use crate::sandbox::gate::Pass;

/// Pieces of a body between the connection and the thread.
const QUEUE: usize = 8;

/// A piece of what is sent, in bytes.
const PIECE: usize = 128 * 1024;

/// How long a client may send nothing of what it has begun.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// How long a client may go on sending an archive that was refused already. Who
/// writes all before reading hears the reason only so.
const LINGER: Duration = Duration::from_secs(2);

/// Unpacks the body of a request.
pub(super) async fn upload(
    daemon: &Arc<Daemon>,
    caller: u32,
    id: SessionId,
    dest: Vec<u8>,
    mut body: Incoming,
) -> Answer {
    let outcome = unpack(daemon, caller, &id, dest, &mut body).await;
    if outcome.is_err() {
        let until = Instant::now() + LINGER;
        while let Ok(Some(Ok(_))) = timeout_at(until, body.frame()).await {}
    }
    match outcome {
        Ok(result) => json(StatusCode::OK, &result),
        Err(error) => refused(error),
    }
}

async fn unpack(
    daemon: &Arc<Daemon>,
    caller: u32,
    id: &SessionId,
    dest: Vec<u8>,
    body: &mut Incoming,
) -> Result<UploadResult, CallError> {
    let (sandbox, pass) = daemon.enter(caller, id).await?;
    let permit = daemon.workers.transfer().await?;
    let names = daemon.names(sandbox.dir.path()).map_err(CallError::names)?;
    let limits = daemon.policy.upload_limits();
    let (send, receive) = mpsc::channel(QUEUE);
    let pass = Arc::new(pass);
    let held = (permit, Arc::clone(&pass));
    // Not this call's: what arrived whole is put in place, whoever has hung up since.
    let unpacking = spawn_blocking(move || {
        let _held = held;
        let places = Places::of(&sandbox, &names);
        let dest = places.decide(&dest, PathUse::Directory)?;
        archive::upload(&places, &dest, &mut Arriving { receive, piece: Bytes::new() }, limits)
    });
    let fed = tokio::select! {
        fed = feed(body, &send) => fed,
        () = pass.closing() => Err(daemon.closed(id)),
    };
    // Without the word that it was all, what has arrived is thrown away.
    drop(send);
    let unpacked = joined(unpacking.await)?;
    fed?;
    Ok(unpacked?)
}

/// Hands on a body, and says when that was all of it. Ends early where nobody takes it any more.
async fn feed(body: &mut Incoming, send: &mpsc::Sender<Piece>) -> Result<(), CallError> {
    loop {
        let piece = match timeout(BODY_PATIENCE, body.frame()).await {
            Err(_) => {
                let waited = BODY_PATIENCE.as_secs();
                let why = format!("nothing more of the archive arrived for {waited} s");
                return Err(CallError::Invalid(why));
            }
            Ok(None) => Piece::End,
            Ok(Some(Err(error))) => {
                let why = format!("the archive did not arrive whole: {error}");
                return Err(CallError::Invalid(why));
            }
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Piece::Data(data),
                Err(_trailers) => continue,
            },
        };
        let end = matches!(piece, Piece::End);
        if send.send(piece).await.is_err() || end {
            return Ok(());
        }
    }
}

enum Piece {
    Data(Bytes),
    End,
}

/// A body that is arriving, for a thread that reads it.
struct Arriving {
    receive: mpsc::Receiver<Piece>,
    piece: Bytes,
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receive.blocking_recv() {
                Some(Piece::Data(data)) => self.piece = data,
                Some(Piece::End) => {
                    // Asked again, it is still the end.
                    self.receive.close();
                    self.piece = Bytes::new();
                    return Ok(0);
                }
                None => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "it did not arrive whole",
                    ));
                }
            }
        }
        let n = into.len().min(self.piece.len());
        into[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}

/// Packs a tree into the body of an answer.
pub(super) async fn download(
    daemon: &Arc<Daemon>,
    caller: u32,
    id: SessionId,
    src: Vec<u8>,
    format: ArchiveFormat,
) -> Answer {
    match pack(daemon, caller, &id, src, format).await {
        Ok(answer) => answer,
        Err(error) => refused(error),
    }
}

async fn pack(
    daemon: &Arc<Daemon>,
    caller: u32,
    id: &SessionId,
    src: Vec<u8>,
    format: ArchiveFormat,
) -> Result<Answer, CallError> {
    let (sandbox, pass) = daemon.enter(caller, id).await?;
    let permit = daemon.workers.transfer().await?;
    let names = daemon.names(sandbox.dir.path()).map_err(CallError::names)?;
    let (send, receive) = mpsc::channel(QUEUE);
    let (tell, found) = oneshot::channel();
    let runtime = Handle::current();
    drop(spawn_blocking(move || {
        let _held = permit;
        let places = Places::of(&sandbox, &names);
        let found =
            places.decide(&src, PathUse::Directory).and_then(|src| archive::find(&places, &src));
        let source = match found {
            Ok(source) => source,
            Err(error) => return drop(tell.send(Err(error))),
        };
        if tell.send(Ok(source.redirected)).is_err() {
            return;
        }
        let leaving = Leaving { send, pass, runtime };
        let mut out = BufWriter::with_capacity(PIECE, leaving);
        let packed = archive::download(&source, format, &mut out);
        let sent = packed.map_err(io::Error::other).and_then(|_| {
            out.flush()?;
            out.get_ref().hand_on(Piece::End)
        });
        if let Err(error) = sent {
            // What is still in it would be waited for, and without the word that it was all
            // what has gone out already is no whole archive.
            drop(out.into_parts());
            tracing::debug!(%error, "a download ended early");
        }
    }));
    // The thread tells, unless the runtime ends.
    let redirected = found.await.map_err(|_| CallError::Stopping)?.map_err(CallError::File)?;
    let body = unfold(Some(receive), |receive| async {
        let mut receive = receive?;
        match receive.recv().await {
            Some(Piece::Data(data)) => Some((Ok(Frame::data(data)), Some(receive))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("the archive is not complete")), None)),
        }
    });
    let mut answer = Response::new(StreamBody::new(body).boxed());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TAR));
    if redirected {
        answer.headers_mut().insert(REDIRECTED, HeaderValue::from_static("true"));
    }
    Ok(answer)
}

/// A body on its way, for a thread that writes it.
struct Leaving {
    send: mpsc::Sender<Piece>,
    pass: Pass,
    runtime: Handle,
}

impl Leaving {
    /// Waits for room in the queue, unless the sandbox is to go or nobody reads any more.
    fn hand_on(&self, piece: Piece) -> io::Result<()> {
        let deleted = || io::Error::other("the sandbox was deleted meanwhile");
        if self.pass.is_closing() {
            return Err(deleted());
        }
        let piece = match self.send.try_send(piece) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(TrySendError::Full(piece)) => piece,
        };
        self.runtime.block_on(async {
            tokio::select! {
                sent = self.send.send(piece) => sent.map_err(|_| io::ErrorKind::BrokenPipe.into()),
                () = self.pass.closing() => Err(deleted()),
            }
        })
    }
}

impl Write for Leaving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hand_on(Piece::Data(Bytes::copy_from_slice(bytes)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
