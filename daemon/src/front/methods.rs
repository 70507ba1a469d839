//! The methods of JSON-RPC, where sandboxes live elsewhere.

use std::sync::Arc;

use noxrunner_protocol::Method;
use noxrunner_protocol::method::{
    DaemonInfoGet, DaemonShutdown, FileDownload, FileListAll, FileMkdir, FileRead, FileRemove,
    FileRename, FileStatOne, FileUpload, FileWrite, HealthCheck, PolicyCheckOne, PolicyGet,
    RpcDiscover, SandboxCreate, SandboxDelete, SandboxExec, SandboxGet, SandboxListAll,
    SandboxTouch,
};
use noxrunner_protocol::openrpc;
use noxrunner_protocol::types::{DaemonInfo, ExecResult, NoParams, SandboxList, Shutdown, Tier};

use super::error::FrontError;
use super::{Front, archives, calls, exec, files, health};
use crate::clock::rfc3339;
use crate::serve::handlers::VERSION;
use crate::serve::rpc::{Builder, Caller, Rpc};

/// What the wire page has and the backend's API has not.
pub(super) const UNSUPPORTED: &[&str] = &[
    "sandbox.create:env",
    "sandbox.create:lease",
    "sandbox.create:network",
    "sandbox.create:pidsLimit",
    "sandbox.exec:fds",
    "sandbox.exec:stdin",
    "sandbox.exec:tag",
    "sandbox.hold",
    "sandbox.forward",
    "process.*",
    "file.list",
    "file.remove",
    "file.rename",
    "file.watch",
    "file.write:append",
    "policy.*",
    "events.*",
];

/// All methods.
pub fn methods(front: &Arc<Front>) -> Rpc {
    let bounds = &front.service.wire;
    let builder = Builder::new(Arc::clone(front))
        .method::<HealthCheck, _, _, _>(|front, caller, _| health::health(front, caller))
        .heavy_method::<RpcDiscover, _, _, _>(|_| DOCUMENT, |_| DOCUMENT, discover)
        .method::<SandboxCreate, _, _, _>(calls::create)
        .method::<SandboxGet, _, _, _>(calls::get)
        .heavy_method::<SandboxListAll, _, _, _>(|_| usize::MAX, listed, calls::list)
        .method::<SandboxTouch, _, _, _>(calls::touch)
        .method::<SandboxDelete, _, _, _>(calls::delete)
        .heavy_method::<SandboxExec, _, _, _>(|_| 0, output, exec::exec)
        .heavy_method::<FileRead, _, _, _>(|_| 0, |read| read.data.len(), files::read)
        .method::<FileWrite, _, _, _>(files::write)
        .method::<FileStatOne, _, _, _>(files::stat)
        .method::<FileMkdir, _, _, _>(files::mkdir)
        .method::<FileUpload, _, _, _>(archives::upload)
        .heavy_method::<FileDownload, _, _, _>(
            |_| usize::MAX,
            |sent| sent.archive.len(),
            archives::download,
        )
        .method::<DaemonInfoGet, _, _, _>(info)
        .method::<DaemonShutdown, _, _, _>(shutdown);
    let builder = without::<FileListAll>(builder);
    let builder = without::<FileRemove>(builder);
    let builder = without::<FileRename>(builder);
    let builder = without::<PolicyGet>(builder);
    let builder = without::<PolicyCheckOne>(builder);
    builder.build(bounds.max_calls, bounds.max_answer)
}

/// A method that the backend's API has nothing for.
fn without<M>(builder: Builder<Front>) -> Builder<Front>
where
    M: Method,
    M::Result: Sync,
{
    builder.method::<M, _, _, _>(|_, _, _| async {
        Err::<M::Result, _>(FrontError::Unsupported(M::NAME))
    })
}

/// What the OpenRPC document takes, about, in bytes.
const DOCUMENT: usize = 128 * 1024;

/// What a list of sandboxes takes, about, in bytes.
fn listed(list: &SandboxList) -> usize {
    list.sandboxes.len() * 1024
}

/// What both streams of a command have.
fn output(result: &ExecResult) -> usize {
    result.stdout.len() + result.stderr.len()
}

async fn discover(_: Arc<Front>, _: Caller, _: NoParams) -> Result<serde_json::Value, FrontError> {
    Ok(openrpc::document(VERSION))
}

async fn info(front: Arc<Front>, _: Caller, _: NoParams) -> Result<DaemonInfo, FrontError> {
    let service = &front.service;
    Ok(DaemonInfo {
        version: VERSION.to_owned(),
        pid: std::process::id(),
        uid: service.uid,
        socket: service.socket.to_string_lossy().into_owned(),
        http: service.http.map(|address| address.to_string()),
        // It keeps none.
        base_dir: String::new(),
        started_at: rfc3339(service.started.wall),
        uptime_seconds: service.uptime(),
        sandboxes: front.known.len(None),
        connections: service.clients(),
        tier: Tier::None,
        ephemeral: false,
        idle_exit_seconds: front.config.idle_exit.map(|time| time.as_secs()),
    })
}

async fn shutdown(front: Arc<Front>, caller: Caller, _: NoParams) -> Result<Shutdown, FrontError> {
    if !caller.peer.may_stop(front.service.uid) {
        return Err(FrontError::Unauthorized("only the daemon's own user and root may end it"));
    }
    tracing::info!(uid = caller.peer.uid, "asked to end");
    front.service.stop.send_replace(true);
    Ok(Shutdown { stopping: true })
}
