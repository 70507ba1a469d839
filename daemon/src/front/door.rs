//! The REST API's operations, passed on.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use noxrunner_protocol::http::ArchiveFormat;
use noxrunner_protocol::types::{
    CreateParams, CreateResult, Deleted, ExecParams, ExecResult, SandboxRef, Touched,
};
use noxrunner_protocol::{ErrorKind, RpcError};

use super::error::FrontError;
use super::{Front, calls, exec, stream};
use crate::serve::rpc::Caller;
use crate::serve::service::{Done, Packed, Place, Sandboxes, Unpacked};

impl Sandboxes for Arc<Front> {
    fn create(&self, caller: Caller, params: CreateParams) -> Done<CreateResult> {
        done(calls::create(Self::clone(self), caller, params))
    }

    fn touch(&self, caller: Caller, params: SandboxRef) -> Done<Touched> {
        done(calls::touch(Self::clone(self), caller, params))
    }

    fn exec(&self, caller: Caller, params: ExecParams) -> Done<ExecResult> {
        done(exec::exec(Self::clone(self), caller, params))
    }

    fn delete(&self, caller: Caller, params: SandboxRef) -> Done<Deleted> {
        done(calls::delete(Self::clone(self), caller, params))
    }

    fn upload(
        &self,
        caller: Caller,
        to: Place,
        mut body: Incoming,
    ) -> BoxFuture<'static, Unpacked> {
        let front = Self::clone(self);
        async move {
            let uploaded = stream::upload(&front, caller, &to, &mut body).await;
            (uploaded.map_err(RpcError::from), body)
        }
        .boxed()
    }

    fn download(&self, caller: Caller, from: Place, format: ArchiveFormat) -> Done<Packed> {
        let front = Self::clone(self);
        done(async move { stream::download(&front, caller, &from, format).await })
    }

    fn healthy(&self) -> Done<()> {
        let front = Self::clone(self);
        async move {
            if *front.service.stop.borrow() {
                return Err(FrontError::Stopping.into());
            }
            match front.ails().await {
                Some(wrong) => Err(RpcError::new(ErrorKind::NotReady, wrong)),
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn share_user_and_network(&self) -> bool {
        // They are not on this machine.
        false
    }
}

fn done<T>(work: impl Future<Output = Result<T, FrontError>> + Send + 'static) -> Done<T> {
    work.map(|outcome| outcome.map_err(RpcError::from)).boxed()
}
