//! The REST API's operations on sandboxes of this machine: the same handlers that JSON-RPC has.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use noxrunner_protocol::RpcError;
use noxrunner_protocol::http::ArchiveFormat;
use noxrunner_protocol::types::{
    CreateParams, CreateResult, Deleted, ExecParams, ExecResult, Network, SandboxRef, Tier, Touched,
};

use super::handlers;
use super::http::transfer;
use super::rpc::Caller;
use super::service::{Done, Packed, Place, Sandboxes, Unpacked};
use crate::daemon::Daemon;
use crate::error::CallError;

impl Sandboxes for Arc<Daemon> {
    fn create(&self, caller: Caller, params: CreateParams) -> Done<CreateResult> {
        done(handlers::create(Self::clone(self), caller, params))
    }

    fn touch(&self, caller: Caller, params: SandboxRef) -> Done<Touched> {
        done(handlers::touch(Self::clone(self), caller, params))
    }

    fn exec(&self, caller: Caller, params: ExecParams) -> Done<ExecResult> {
        done(handlers::exec(Self::clone(self), caller, params))
    }

    fn delete(&self, caller: Caller, params: SandboxRef) -> Done<Deleted> {
        done(handlers::delete(Self::clone(self), caller, params))
    }

    fn upload(
        &self,
        caller: Caller,
        to: Place,
        mut body: Incoming,
    ) -> BoxFuture<'static, Unpacked> {
        let daemon = Self::clone(self);
        async move {
            let unpacked = transfer::unpack(&daemon, caller.peer.uid, to, &mut body).await;
            (unpacked.map_err(RpcError::from), body)
        }
        .boxed()
    }

    fn download(&self, caller: Caller, from: Place, format: ArchiveFormat) -> Done<Packed> {
        let daemon = Self::clone(self);
        done(async move { transfer::pack(&daemon, caller.peer.uid, from, format).await })
    }

    fn healthy(&self) -> Done<()> {
        let stopping = *self.service.stop.borrow();
        done(async move { if stopping { Err(CallError::Stopping) } else { Ok(()) } })
    }

    fn share_user_and_network(&self) -> bool {
        // Without a mount tree there is either no network, or nothing that tells them apart.
        self.uids.is_none()
            && self.isolation.tier == Tier::Full
            && self.registry.visible(0).iter().any(|s| s.settings().network == Network::Host)
    }
}

fn done<T>(work: impl Future<Output = Result<T, CallError>> + Send + 'static) -> Done<T> {
    work.map(|outcome| outcome.map_err(RpcError::from)).boxed()
}
