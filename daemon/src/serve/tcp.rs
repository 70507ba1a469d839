//! HTTP on TCP. Every process of a machine can connect to it, other users' among them, so each
//! connection's user is looked up, or each request has to bring a token.

mod owner;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use noxrunner_protocol::http::{Token, TokenError};
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::connections::Connected;
use super::http::{self, Door};
use super::peer::Peer;
use super::refusal::{Refusal, tell_http};
use super::room::Room;
use super::rpc::Client;
use super::{BREATHER, FAREWELL, REFUSALS, Served, Stop};
use crate::config::TcpOptions;

/// Why the daemon does not listen for HTTP.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// Others could connect from elsewhere.
    #[error(
        "{0} can be reached from other machines: use a loopback address as in --http 127.0.0.1:8080, \
         or give --http-allow-remote with --http-token-file"
    )]
    Remote(SocketAddr),
    /// There is no token to ask for.
    #[error("{0}: {hint}", hint = .0.hint())]
    Token(#[from] TokenError),
    /// The token is too easy to guess.
    #[error(
        "the token in {0} has fewer than {SHORTEST} characters: head -c 32 /dev/urandom | base64 makes one"
    )]
    Short(PathBuf),
    /// The kernel refused the address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// Nobody could be let in.
    #[error(
        "cannot tell whose process connects by TCP ({0}): give --http-token-file, or leave --http out"
    )]
    NoOwners(#[source] io::Error),
}

/// A TCP socket, and for whom it is there.
#[derive(Debug)]
pub struct TcpDoor {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
    rules: Arc<Rules>,
}

/// Who may use HTTP on TCP.
#[derive(Debug)]
pub struct Rules {
    /// What clients have to send, if anything.
    token: Option<Token>,
    /// Names that the daemon answers to.
    pub hosts: Vec<String>,
    /// Users who may connect, beside the daemon's own and root.
    users: Vec<u32>,
}

impl Rules {
    /// Whether a client may not ask for anything without a token.
    pub fn wants_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether this is the token. How long that takes says nothing of how much of it is right.
    pub fn is_token(&self, given: &[u8]) -> bool {
        self.token.as_ref().is_some_and(|token| token.reveal().as_bytes().ct_eq(given).into())
    }
}

/// A token that is not guessed.
fn token(path: &Path) -> Result<Token, TcpError> {
    let token = Token::read(path)?;
    if token.reveal().len() < SHORTEST { Err(TcpError::Short(path.to_owned())) } else { Ok(token) }
}

/// The least that a token may have, in bytes.
const SHORTEST: usize = 16;

/// Listens.
///
/// # Errors
/// Why it cannot, or should not.
pub fn bind(address: SocketAddr, options: &TcpOptions) -> Result<TcpDoor, TcpError> {
    if !address.ip().to_canonical().is_loopback() && !options.http_allow_remote {
        return Err(TcpError::Remote(address));
    }
    let token = options.http_token_file.as_deref().map(token).transpose()?;
    let listen = |e| TcpError::Listen(address, e);
    let listener = std::net::TcpListener::bind(address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    if token.is_none() {
        // There is no such connection; what counts is that the kernel says so.
        owner::of(address, address).map_err(TcpError::NoOwners)?;
    }
    let listener = TcpListener::from_std(listener).map_err(listen)?;
    let rules =
        Rules { token, hosts: options.http_host.clone(), users: options.http_allow_uid.clone() };
    Ok(TcpDoor { listener, address, rules: Arc::new(rules) })
}

/// Serves every client that connects until the daemon is to end, and sees them off.
pub(super) async fn serve(door: TcpDoor, served: Served) {
    let TcpDoor { listener, rules, .. } = door;
    let mut clients = JoinSet::new();
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let mut stop = Stop::of(&served.service);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.wait() => break,
            // Forgotten as they end, so that the set does not grow.
            Some(_) = clients.join_next() => continue,
        };
        match accepted {
            Ok((stream, from)) => {
                let (served, rules) = (served.clone(), Arc::clone(&rules));
                let refusals = Arc::clone(&refusals);
                clients.spawn(async move {
                    if let Err(error) = meet(stream, from, &served, rules, &refusals).await {
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

async fn meet(
    stream: TcpStream,
    from: SocketAddr,
    served: &Served,
    rules: Arc<Rules>,
    refusals: &Semaphore,
) -> io::Result<()> {
    // Answers are small and each is waited for.
    stream.set_nodelay(true)?;
    match admit(&stream, from, served, &rules).await? {
        Ok((client, connected)) => {
            let stop = Stop::of(&served.service);
            http::serve(stream, Door::Tcp(rules), &client, &connected, served, stop).await
        }
        Err(refusal) => match refusals.try_acquire() {
            Ok(_one_of_few) => tell_http(stream, refusal.error()).await,
            Err(_) => Ok(()),
        },
    }
}

/// Looks at who connects, and whether there is room for it.
async fn admit<'a>(
    stream: &TcpStream,
    from: SocketAddr,
    served: &'a Served,
    rules: &Rules,
) -> io::Result<Result<(Client, Connected), Refusal<'a>>> {
    let service = &served.service;
    let uid = match rules.token {
        // Whoever knows it acts for the daemon's user.
        Some(_) => service.uid,
        None => match user(from, stream.local_addr()?, served, rules).await {
            Ok(uid) => uid,
            Err(why) => {
                tracing::warn!(%from, %why, "refused a client on TCP");
                return Ok(Err(Refusal::Unknown(why)));
            }
        },
    };
    let peer = Peer { uid, member: uid != service.uid };
    Ok(match service.tcp_connections.admit() {
        Some(connected) => {
            Ok((Client { peer, room: Room::new(service.wire.max_answer) }, connected))
        }
        None => Err(Refusal::Full {
            most: service.tcp_connections.most(),
            by: "--max-http-connections",
        }),
    })
}

/// The user whose process connected, if it may.
async fn user(
    from: SocketAddr,
    to: SocketAddr,
    served: &Served,
    rules: &Rules,
) -> Result<u32, String> {
    let owner = match owner::of(from, to) {
        Ok(Some(owner)) => owner,
        Ok(None) => return Err(format!("{from} is no socket of a process on this machine")),
        Err(error) => return Err(format!("cannot tell whose process connects: {error}")),
    };
    let own = served.service.uid;
    if owner.uid != own && owner.uid != 0 && !rules.users.contains(&owner.uid) {
        return Err(format!("this daemon does not serve the user with id {}", owner.uid));
    }
    if owner.uid == own && served.sandboxes.share_user_and_network() {
        let outside = spawn_blocking(move || owner.is_outside_of_sandboxes()).await;
        if !outside.unwrap_or(false) {
            return Err("sandboxes are not served".to_owned());
        }
    }
    Ok(owner.uid)
}
