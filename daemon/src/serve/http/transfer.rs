//! Archives over HTTP, streamed both ways: a thread unpacks what arrives, or packs
//! what is sent, and a short queue between it and the connection bounds what is in memory.

use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use noxrunner_protocol::http::ArchiveFormat;
use noxrunner_protocol::types::UploadResult;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::pieces::{self, Piece, next};
use crate::daemon::{Daemon, joined};
use crate::error::CallError;
use crate::files::{Places, archive};
use crate::policy::PathUse;
use crate::sandbox::gate::Pass;
use crate::serve::service::{Packed, Place};

/// Pieces of a body between the connection and the thread.
const QUEUE: usize = 8;

/// A piece of what is sent, in bytes.
const PIECE: usize = 128 * 1024;

/// Unpacks the body of a request.
pub(in crate::serve) async fn unpack(
    daemon: &Arc<Daemon>,
    caller: u32,
    to: Place,
    body: &mut Incoming,
) -> Result<UploadResult, CallError> {
    let Place { id, path: dest } = to;
    let (sandbox, pass) = daemon.enter(caller, &id).await?;
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
        let mut arriving = Arriving { receive, piece: Bytes::new(), ended: false };
        archive::upload(&places, &dest, &mut arriving, limits)
    });
    let fed = tokio::select! {
        fed = feed(body, &send, daemon.service.wire.body_timeout) => fed,
        () = pass.closing() => Err(daemon.closed(&id)),
    };
    // Without the word that it was all, what has arrived is thrown away.
    drop(send);
    let unpacked = joined(unpacking.await)?;
    fed?;
    Ok(unpacked?)
}

/// Hands on a body, and says when that was all of it. Ends early where nobody takes it any more.
async fn feed(
    body: &mut Incoming,
    send: &mpsc::Sender<Piece>,
    patience: Duration,
) -> Result<(), CallError> {
    loop {
        let piece = next(body, patience).await.map_err(CallError::Invalid)?;
        let end = matches!(piece, Piece::End);
        if send.send(piece).await.is_err() || end {
            return Ok(());
        }
    }
}

/// A body that is arriving, for a thread that reads it.
struct Arriving {
    receive: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl Read for Arriving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Asked again, it is still the end.
        while self.piece.is_empty() && !self.ended {
            match self.receive.blocking_recv() {
                Some(Piece::Data(data)) => self.piece = data,
                Some(Piece::End) => self.ended = true,
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
pub(in crate::serve) async fn pack(
    daemon: &Arc<Daemon>,
    caller: u32,
    from: Place,
    format: ArchiveFormat,
) -> Result<Packed, CallError> {
    let Place { id, path: src } = from;
    let (sandbox, pass) = daemon.enter(caller, &id).await?;
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
    Ok(Packed { redirected, body: pieces::body(receive) })
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
