//! What every door needs to know, whatever the sandboxes live on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use nix::unistd::{Group, geteuid};
use noxrunner_protocol::http::ArchiveFormat;
use noxrunner_protocol::limits::DEFAULT_TIMEOUT_SECONDS;
use noxrunner_protocol::types::{
    CreateParams, CreateResult, Deleted, ExecParams, ExecResult, SandboxRef, Touched, UploadResult,
};
use noxrunner_protocol::{RpcError, SessionId};
use tokio::sync::watch;

use super::connections::Connections;
use super::rpc::Caller;
use crate::clock::Moment;
use crate::config::{Config, WireBounds};

/// Seconds that a command gets whose REST request names no timeout, or the default one: the published
/// client waits so long for an answer, which would come just when it gives up.
pub const REST_DEFAULT_TIMEOUT: f64 = DEFAULT_TIMEOUT_SECONDS - 0.5;

/// The daemon, as its clients' side sees it.
#[derive(Debug)]
pub struct Service {
    /// What a connection may take.
    pub wire: WireBounds,
    /// Where it listens.
    pub socket: PathBuf,
    /// Where it listens for HTTP over TCP, if it does.
    pub http: Option<SocketAddr>,
    /// The user it runs as.
    pub uid: u32,
    /// The group whose members may use it too.
    pub socket_group: Option<Group>,
    /// When it started.
    pub started: Moment,
    /// Who is connected to the socket.
    pub connections: Arc<Connections>,
    /// Who is connected by TCP.
    pub tcp_connections: Arc<Connections>,
    /// True once it is to end.
    pub stop: watch::Sender<bool>,
}

impl Service {
    /// A service that starts now.
    pub fn new(
        config: &Config,
        socket: PathBuf,
        socket_group: Option<Group>,
        http: Option<SocketAddr>,
    ) -> Self {
        let wire = config.wire.clone();
        Self {
            socket,
            http,
            uid: geteuid().as_raw(),
            socket_group,
            started: Moment::now(),
            connections: Connections::new(wire.max_connections),
            tcp_connections: Connections::new(wire.max_http_connections),
            stop: watch::Sender::new(false),
            wire,
        }
    }

    /// How many clients are connected to the socket, and how many by TCP, now and from now on.
    pub fn counts(&self) -> (watch::Receiver<usize>, watch::Receiver<usize>) {
        (self.connections.count(), self.tcp_connections.count())
    }

    /// Whole seconds since it started.
    pub fn uptime(&self) -> u64 {
        Moment::boot_now().saturating_sub(self.started.boot).as_secs()
    }

    /// How many clients are connected, through whatever door.
    pub fn clients(&self) -> usize {
        let (socket, tcp) = self.counts();
        *socket.borrow() + *tcp.borrow()
    }
}

/// The operations of the REST API, as JSON-RPC's methods of the same names do them.
pub trait Sandboxes: Send + Sync {
    /// `sandbox.create`.
    fn create(&self, caller: Caller, params: CreateParams) -> Done<CreateResult>;
    /// `sandbox.touch`.
    fn touch(&self, caller: Caller, params: SandboxRef) -> Done<Touched>;
    /// `sandbox.exec`. Dropped, it ends the command.
    fn exec(&self, caller: Caller, params: ExecParams) -> Done<ExecResult>;
    /// `sandbox.delete`.
    fn delete(&self, caller: Caller, params: SandboxRef) -> Done<Deleted>;
    /// Unpacks an archive into a directory. The body is given back, read as far as it was needed.
    fn upload(&self, caller: Caller, to: Place, body: Incoming) -> BoxFuture<'static, Unpacked>;
    /// Packs a directory or a file.
    fn download(&self, caller: Caller, from: Place, format: ArchiveFormat) -> Done<Packed>;
    /// Whether there can be sandboxes; an error says why not.
    fn healthy(&self) -> Done<()>;
    /// Whether some sandbox could pass for a process of the daemon's user on the machine's network.
    fn share_user_and_network(&self) -> bool;
}

/// What an operation comes to.
pub type Done<T> = BoxFuture<'static, Result<T, RpcError>>;

/// A path in a sandbox.
#[derive(Debug)]
pub struct Place {
    /// The sandbox.
    pub id: SessionId,
    /// The path, UTF-8 or not.
    pub path: Vec<u8>,
}

/// What an upload came to, and the rest of its body.
pub type Unpacked = (Result<UploadResult, RpcError>, Incoming);

/// An archive on its way.
#[derive(Debug)]
pub struct Packed {
    /// Whether the path was outside and replaced by the workspace.
    pub redirected: bool,
    /// The archive. An error in it says that it is not complete.
    pub body: BoxBody<Bytes, std::io::Error>,
}
