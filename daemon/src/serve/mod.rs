//! The wire's side of the daemon: connections in, answers out.
//!
//! | room | what it does |
//! |---|---|
//! | [`listen`] | the socket: made, probed, left without a trace |
//! | [`peer`] | who is at the other end |
//! | [`lines`] | newline-delimited JSON-RPC |
//! | [`http`] | HTTP/1.1 |
//! | [`rpc`] | the methods; the only room that knows jsonrpsee |
//! | [`handlers`] | verify, convert, hand off |
//! | [`files`] | the same for files |
//! | [`hangup`] | telling a client that is gone from one that has only finished asking |

pub mod files;
pub mod handlers;
pub mod hangup;
pub mod http;
pub mod lines;
pub mod listen;
pub mod peer;
pub mod rpc;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::daemon::Daemon;
use peer::Peer;
use rpc::Rpc;

/// How long a client may take to its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// How long to wait when no descriptor is left for another connection.
const BREATHER: Duration = Duration::from_millis(50);

/// Serves every client that connects until the daemon is to end, and sees them off.
pub async fn serve(listener: UnixListener, daemon: Arc<Daemon>, rpc: Rpc) {
    let mut clients = tokio::task::JoinSet::new();
    let mut stop = Stop::of(&daemon);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.wait() => break,
            // Forgotten as they end, so that the set does not grow.
            Some(_) = clients.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let (daemon, rpc) = (Arc::clone(&daemon), rpc.clone());
                clients.spawn(async move {
                    let _counted = Connected::new(&daemon);
                    if let Err(error) = client(stream, &daemon, &rpc).await {
                        tracing::debug!(%error, "a connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
    // Each ends by itself, or is dropped with the set.
    drop(listener);
    let _ = timeout(FAREWELL, async { while clients.join_next().await.is_some() {} }).await;
}

/// How long clients may take, when the daemon ends, to hear what was already answered.
const FAREWELL: Duration = Duration::from_secs(1);

/// Tells that the daemon is to end.
#[derive(Debug)]
struct Stop(watch::Receiver<bool>);

impl Stop {
    fn of(daemon: &Daemon) -> Self {
        Self(daemon.stop.subscribe())
    }

    /// Waits until the daemon is to end.
    async fn wait(&mut self) {
        // The sender lives as long as the daemon, whose end this then is.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// A connection that counts for as long as it is open.
struct Connected<'a>(&'a Daemon);

impl<'a> Connected<'a> {
    fn new(daemon: &'a Daemon) -> Self {
        daemon.connections.send_modify(|n| *n += 1);
        Self(daemon)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connections.send_modify(|n| *n -= 1);
    }
}

async fn client(stream: UnixStream, daemon: &Arc<Daemon>, rpc: &Rpc) -> io::Result<()> {
    let peer = Peer::of(&stream)?;
    if !peer.may_use(daemon.uid) {
        tracing::warn!(uid = peer.uid, "refused a client of another user");
        return lines::refuse(stream, daemon.uid).await;
    }
    let mut stop = Stop::of(daemon);
    let first = tokio::select! {
        first = timeout(FIRST_BYTE, first_byte(&stream)) => first,
        () = stop.wait() => return Ok(()),
    };
    let Ok(first) = first else { return Ok(()) };
    match first? {
        None => Ok(()),
        // HTTP methods are upper-case words; no JSON text begins with one.
        Some(byte) if byte.is_ascii_uppercase() => {
            http::serve(stream, peer, daemon, rpc, Stop::of(daemon)).await
        }
        Some(_) => lines::serve(stream, peer, rpc, Stop::of(daemon)).await,
    }
}

/// The first byte of a connection, left where it is; `None` at end of file.
async fn first_byte(stream: &UnixStream) -> io::Result<Option<u8>> {
    let peek = || {
        let mut byte = [0];
        let n = recv(stream.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)?;
        Ok((n == 1).then_some(byte[0]))
    };
    stream.async_io(Interest::READABLE, peek).await
}
