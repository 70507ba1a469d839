//! The methods, each verified, converted and handed off.

use std::path::Path;
use std::sync::Arc;

use noxrunner_protocol::method::{
    DaemonInfoGet, DaemonShutdown, HealthCheck, PolicyCheckOne, PolicyGet, RpcDiscover,
    SandboxCreate, SandboxDelete, SandboxExec, SandboxGet, SandboxListAll, SandboxTouch,
};
use noxrunner_protocol::openrpc;
use noxrunner_protocol::types::{
    CreateParams, CreateResult, DaemonInfo, Deleted, EnforcedBy, ExecParams, ExecResult, Isolation,
    LimitName, NoParams, PolicyCheck, PolicyCheckParams, PolicyInfo, SandboxInfo, SandboxList,
    SandboxRef, SandboxState, Shutdown, Touched,
};
use tokio::task::spawn_blocking;

use super::files;
use super::health::health;
use super::rpc::{Builder, Caller, Rpc};
use crate::clock::rfc3339;
use crate::daemon::{Daemon, joined};
use crate::error::CallError;
use crate::exec::command;
use crate::policy;
use crate::sandbox::{Sandbox, dir};

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the wire page has and this version has not.
pub(super) const UNSUPPORTED: &[&str] = &[
    "sandbox.create:lease",
    "sandbox.exec:fds",
    "sandbox.exec:tag",
    "sandbox.hold",
    "sandbox.forward",
    "process.*",
    "file.watch",
    "events.*",
];

/// All methods.
pub fn methods(daemon: &Arc<Daemon>) -> Rpc {
    let bounds = &daemon.config.wire;
    files::add(Builder::new(Arc::clone(daemon)))
        .quick_method::<HealthCheck, _>(health(daemon))
        .heavy_method::<RpcDiscover, _, _, _>(|_| DOCUMENT, |_| DOCUMENT, discover)
        .method::<SandboxCreate, _, _, _>(create)
        .method::<SandboxGet, _, _, _>(get)
        .heavy_method::<SandboxListAll, _, _, _>(|_| usize::MAX, listed, list)
        .method::<SandboxTouch, _, _, _>(touch)
        .method::<SandboxDelete, _, _, _>(delete)
        .heavy_method::<SandboxExec, _, _, _>(|_| 0, output, exec)
        .method::<PolicyGet, _, _, _>(policy_get)
        .method::<PolicyCheckOne, _, _, _>(policy_check)
        .method::<DaemonInfoGet, _, _, _>(info)
        .method::<DaemonShutdown, _, _, _>(shutdown)
        .build(bounds.max_calls, bounds.max_answer)
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

type Outcome<T> = Result<T, CallError>;

async fn discover(_: Arc<Daemon>, _: Caller, _: NoParams) -> Outcome<serde_json::Value> {
    Ok(openrpc::document(VERSION))
}

pub(super) async fn create(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: CreateParams,
) -> Outcome<CreateResult> {
    let mut warnings = Vec::new();
    if params.image.is_some() {
        warnings.push(
            "image is recorded but not used: local sandboxes use this machine's tools".to_owned(),
        );
    }
    let (sandbox, created) = daemon.create(caller.peer.uid, params).await?;
    let settings = sandbox.settings();
    let limits = daemon.limits.enforcers.status(&sandbox.confines.bounds(), &settings.limits);
    let nothing = |name: &&LimitName| {
        limits.get(name).is_some_and(|limit| limit.enforced_by == EnforcedBy::None)
    };
    let loose: Vec<&str> = settings.limits.keys().filter(nothing).map(|name| name.name()).collect();
    if !loose.is_empty() {
        warnings.push(format!("nothing enforces these limits here: {}", loose.join(", ")));
    }
    Ok(CreateResult {
        pod_name: pod_name(&sandbox),
        expires_at: rfc3339(settings.expires_at),
        created,
        sandbox_dir: sandbox.dir.path().to_string_lossy().into_owned(),
        isolation: daemon.isolation.clone(),
        limits,
        warnings,
    })
}

async fn get(daemon: Arc<Daemon>, caller: Caller, params: SandboxRef) -> Outcome<SandboxInfo> {
    let found = daemon.registry.find(caller.peer.uid, &params.session_id).await;
    let sandbox = found.map_err(CallError::lookup(&params.session_id))?;
    joined(spawn_blocking(move || describe(&sandbox, &daemon.isolation)).await)
}

async fn list(daemon: Arc<Daemon>, caller: Caller, _: NoParams) -> Outcome<SandboxList> {
    let visible = daemon.registry.visible(caller.peer.uid);
    let described = spawn_blocking(move || {
        visible.iter().map(|sandbox| describe(sandbox, &daemon.isolation)).collect()
    });
    Ok(SandboxList { sandboxes: joined(described.await)? })
}

pub(super) async fn touch(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: SandboxRef,
) -> Outcome<Touched> {
    let sandbox = daemon.touch(caller.peer.uid, &params.session_id).await?;
    Ok(Touched { expires_at: rfc3339(sandbox.settings().expires_at) })
}

pub(super) async fn delete(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: SandboxRef,
) -> Outcome<Deleted> {
    daemon.delete(caller.peer.uid, &params.session_id).await?;
    Ok(Deleted { deleted: true })
}

pub(super) async fn exec(
    daemon: Arc<Daemon>,
    caller: Caller,
    params: ExecParams,
) -> Outcome<ExecResult> {
    command::exec(&daemon, caller.peer.uid, caller.arrived, params).await
}

async fn policy_get(daemon: Arc<Daemon>, _: Caller, _: NoParams) -> Outcome<PolicyInfo> {
    Ok(daemon.policy.info(daemon.uid == 0, &daemon.means()))
}

async fn policy_check(
    daemon: Arc<Daemon>,
    _: Caller,
    params: PolicyCheckParams,
) -> Outcome<PolicyCheck> {
    let checked = spawn_blocking(move || {
        let dir = daemon.config.base_dir.join(dir::PREFIX);
        let names = daemon.names(&dir).map_err(|e| e.to_string())?;
        let shown = |path: &Path| daemon.scene.as_ref().and_then(|scene| scene.host_path(path));
        let shown = daemon.scene.is_some().then_some(&shown as &policy::Shown<'_>);
        let mut answer =
            policy::check(&daemon.policy, daemon.host.variables(), &names, shown, &params)?;
        let program = answer.resolved.as_deref().filter(|_| answer.allowed && params.cmd.is_some());
        if let Some(denial) = program.and_then(|program| daemon.stands_in(Path::new(program))) {
            answer.allowed = false;
            (answer.rule, answer.setting) = (Some(denial.rule), Some(denial.setting));
        }
        Ok::<_, String>(answer)
    });
    joined(checked.await)?.map_err(CallError::Invalid)
}

async fn info(daemon: Arc<Daemon>, _: Caller, _: NoParams) -> Outcome<DaemonInfo> {
    Ok(DaemonInfo {
        version: VERSION.to_owned(),
        pid: std::process::id(),
        uid: daemon.uid,
        socket: daemon.service.socket.to_string_lossy().into_owned(),
        http: daemon.service.http.map(|address| address.to_string()),
        base_dir: daemon.config.base_dir.to_string_lossy().into_owned(),
        started_at: rfc3339(daemon.service.started.wall),
        uptime_seconds: daemon.service.uptime(),
        sandboxes: *daemon.registry.count().borrow(),
        connections: daemon.service.clients(),
        tier: daemon.isolation.tier,
        ephemeral: daemon.config.ephemeral,
        idle_exit_seconds: daemon.config.idle_exit.map(|time| time.as_secs()),
    })
}

async fn shutdown(daemon: Arc<Daemon>, caller: Caller, _: NoParams) -> Outcome<Shutdown> {
    if !caller.peer.may_stop(daemon.uid) {
        return Err(CallError::Unauthorized("only the daemon's own user and root may end it"));
    }
    tracing::info!(uid = caller.peer.uid, "asked to end");
    daemon.service.stop.send_replace(true);
    Ok(Shutdown { stopping: true })
}

fn pod_name(sandbox: &Sandbox) -> String {
    sandbox.dir.name().to_string_lossy().into_owned()
}

fn describe(sandbox: &Arc<Sandbox>, isolation: &Isolation) -> SandboxInfo {
    let settings = sandbox.settings();
    SandboxInfo {
        session_id: sandbox.key.id.clone(),
        owner_uid: sandbox.key.owner,
        pod_name: pod_name(sandbox),
        state: SandboxState::Ready,
        created_at: rfc3339(sandbox.created_at),
        expires_at: rfc3339(settings.expires_at),
        ttl_seconds: settings.ttl,
        sandbox_dir: sandbox.dir.path().to_string_lossy().into_owned(),
        leased: false,
        isolation: isolation.clone(),
        limits: sandbox.confines.enforcers().status(&sandbox.confines.bounds(), &settings.limits),
        image: settings.image,
        usage: sandbox.usage(),
        execs: sandbox.execs(),
    }
}
