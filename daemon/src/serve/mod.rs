//! The wire's side of the daemon: connections in, answers out.
//!
//! | room | what it does |
//! |---|---|
//! | [`listen`] | the socket: made, probed, left without a trace |
//! | [`activation`] | the socket, where systemd made it |
//! | [`peer`] | who is at the other end |
//! | [`connections`] | how many there are, and who makes room |
//! | [`tcp`] | HTTP on TCP: where, and for whom |
//! | [`refusal`] | what a client hears that is not served |
//! | [`service`] | what all doors know, whatever the sandboxes live on |
//! | [`lines`] | newline-delimited JSON-RPC |
//! | [`http`] | HTTP/1.1, and WebSocket |
//! | [`calls`], [`room`] | what is in flight on a connection, and what its answers may take |
//! | [`rpc`] | the methods; the only room that knows jsonrpsee |
//! | [`handlers`] | verify, convert, hand off |
//! | [`files`] | the same for files |
//! | [`health`] | the method that is asked for most |
//! | [`hangup`] | telling a client that is gone from one that has only finished asking |

pub mod activation;
pub mod calls;
pub mod connections;
pub mod files;
pub mod handlers;
pub mod hangup;
pub mod health;
pub mod http;
pub mod lines;
pub mod listen;
mod local;
pub mod peer;
pub mod refusal;
pub mod room;
pub mod rpc;
pub mod service;
pub mod tcp;

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use connections::Connected;
use peer::Peer;
use refusal::Refusal;
use room::Room;
use rpc::{Client, Rpc};
use service::{Sandboxes, Service};
use tcp::TcpDoor;

/// How long to wait when no descriptor is left for another connection.
const BREATHER: Duration = Duration::from_millis(50);

/// How long a client may go on sending what is not read any more.
const LINGER: Duration = Duration::from_secs(1);

/// How many clients are told at once that they are not served. Further ones are not told.
const REFUSALS: usize = 64;

/// All that a client can reach.
#[derive(Clone)]
pub struct Served {
    /// What every door needs to know.
    pub service: Arc<Service>,
    /// The methods of JSON-RPC.
    pub rpc: Rpc,
    /// The operations of the REST API.
    pub sandboxes: Arc<dyn Sandboxes>,
}

/// Serves every client that connects until the daemon is to end, and sees them off.
pub async fn serve(listener: UnixListener, tcp: Option<TcpDoor>, served: Served) {
    let by_tcp = async {
        if let Some(door) = tcp {
            tcp::serve(door, served.clone()).await;
        }
    };
    tokio::join!(on_socket(listener, served.clone()), by_tcp);
}

async fn on_socket(listener: UnixListener, served: Served) {
    let mut clients = tokio::task::JoinSet::new();
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let mut stop = Stop::of(&served.service);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.wait() => break,
            // Forgotten as they end, so that the set does not grow.
            Some(_) = clients.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATHER).await;
                continue;
            }
        };
        match admit(&stream, &served.service) {
            Ok(Ok((client, connected))) => {
                let served = served.clone();
                clients.spawn(async move {
                    if let Err(error) = converse(stream, &client, &connected, &served).await {
                        tracing::debug!(%error, "a connection ended");
                    }
                });
            }
            Ok(Err(refusal)) => {
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    let error = refusal.error();
                    clients.spawn(async move {
                        let _one_of_few = permit;
                        let _ = refusal::tell(stream, error).await;
                    });
                }
            }
            Err(error) => tracing::debug!(%error, "a connection ended"),
        }
    }
    // Each ends by itself, or is dropped with the set.
    drop(listener);
    let _ = timeout(FAREWELL, async { while clients.join_next().await.is_some() {} }).await;
}

/// Looks at who connects, and whether there is room for it.
fn admit<'a>(
    stream: &UnixStream,
    service: &'a Service,
) -> io::Result<Result<(Client, Connected), Refusal<'a>>> {
    let group = service.socket_group.as_ref();
    let peer = Peer::of(stream, group.map(|group| group.gid.as_raw()))?;
    if !peer.may_use(service.uid) {
        tracing::warn!(uid = peer.uid, "refused a client of another user");
        let group = group.map(|group| group.name.as_str());
        return Ok(Err(Refusal::Stranger { uid: service.uid, group }));
    }
    Ok(match service.connections.admit() {
        Some(connected) => {
            let room = Room::new(service.wire.max_answer);
            Ok((Client { peer, room }, connected))
        }
        None => {
            tracing::debug!(uid = peer.uid, "refused a client: all connections are busy");
            Err(Refusal::Full { most: service.connections.most(), by: "--max-connections" })
        }
    })
}

/// How long clients may take, when the daemon ends, to hear what was already answered.
const FAREWELL: Duration = Duration::from_secs(1);

/// Tells that the daemon is to end.
#[derive(Debug)]
struct Stop(watch::Receiver<bool>);

impl Stop {
    fn of(service: &Service) -> Self {
        Self(service.stop.subscribe())
    }

    /// Waits until the daemon is to end.
    async fn wait(&mut self) {
        // The sender lives as long as the daemon, whose end this then is.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// Serves a client in the language it speaks.
async fn converse(
    stream: UnixStream,
    client: &Client,
    connected: &Connected,
    served: &Served,
) -> io::Result<()> {
    let bounds = &served.service.wire;
    let mut stop = Stop::of(&served.service);
    let first = tokio::select! {
        first = timeout(bounds.first_byte_timeout, first_byte(&stream)) => first,
        () = stop.wait() => return Ok(()),
        () = connected.unwanted() => return Ok(()),
    };
    let Ok(first) = first else { return Ok(()) };
    match first? {
        None => Ok(()),
        // HTTP methods are upper-case words; no JSON text begins with one.
        Some(byte) if byte.is_ascii_uppercase() => {
            let stop = Stop::of(&served.service);
            http::serve(stream, http::Door::Socket, client, connected, served, stop).await
        }
        Some(_) => {
            let stop = Stop::of(&served.service);
            lines::serve(stream, client, connected, &served.rpc, bounds, stop).await
        }
    }
}

/// Closes a connection of which something may be unread. What is unread at the
/// close is an error at the other end (ECONNRESET, unix(7)), which could hide the last answer.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = vec![0; 8 * 1024];
    let drained = async {
        while stream.read(&mut unread).await? > 0 {}
        Ok(())
    };
    timeout(LINGER, drained).await.unwrap_or(Ok(()))
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
