//! Making, looking at, keeping and deleting sandboxes.

use std::sync::Arc;

use hyper::Method;
use noxrunner_protocol::http::{self, CreateBody, Created};
use noxrunner_protocol::types::{
    CreateParams, CreateResult, Deleted, Lease, NoParams, SandboxInfo, SandboxList, SandboxRef,
    Touched,
};
use noxrunner_protocol::{ErrorKind, SessionId};
use serde::Deserialize;

use super::Front;
use super::error::FrontError;
use super::upstream::Ask;
use crate::serve::rpc::Caller;

type Outcome<T> = Result<T, FrontError>;

/// `sandbox.create`.
pub(super) async fn create(
    front: Arc<Front>,
    caller: Caller,
    params: CreateParams,
) -> Outcome<CreateResult> {
    let unsupported = [
        (params.network.is_some(), "sandbox.create with a network"),
        (params.env.is_some(), "sandbox.create with env"),
        (params.pids_limit.is_some(), "sandbox.create with pidsLimit"),
        (params.lease != Lease::None, "sandbox.create with a lease"),
    ];
    if let Some((_, what)) = unsupported.into_iter().find(|(asked, _)| *asked) {
        return Err(FrontError::Unsupported(what));
    }
    let name = front.name(caller, &params.session_id)?;
    let body = CreateBody {
        ttl_seconds: Some(params.ttl_seconds),
        image: params.image.clone(),
        cpu_limit: params.cpu_limit,
        memory_limit: params.memory_limit,
        ephemeral_storage_limit: params.ephemeral_storage_limit,
    };
    let ask = Ask::new(Method::PUT, http::sandbox(&name), "making a sandbox").json(&body);
    let answered = front.upstream.again(ask, front.config.upstream.upstream_timeout).await?;
    let created: Created = front.upstream.read(answered).await?;
    let result = CreateResult {
        pod_name: created.pod_name,
        expires_at: created.expires_at,
        // Not every backend tells; one that was seen before is not new.
        created: created.created.unwrap_or_else(|| !front.known.has(&name)),
        sandbox_dir: created.sandbox_dir.unwrap_or_default(),
        isolation: created.isolation.unwrap_or_else(|| front.isolation()),
        limits: created.limits.unwrap_or_default(),
        warnings: created.warnings.unwrap_or_default(),
    };
    let owner = front.owner(caller);
    let CreateParams { session_id: id, ttl_seconds: ttl, image, .. } = params;
    front.known.created(&name, owner, &id, ttl, image, &result);
    Ok(result)
}

/// `sandbox.touch`.
pub(super) async fn touch(
    front: Arc<Front>,
    caller: Caller,
    params: SandboxRef,
) -> Outcome<Touched> {
    /// Other backends say nothing, or something else.
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Said {
        #[serde(default)]
        expires_at: Option<String>,
    }
    let name = front.name(caller, &params.session_id)?;
    let ask = Ask::new(Method::POST, http::touch(&name), "touching a sandbox");
    let answered = front.upstream.again(ask, front.config.upstream.upstream_timeout).await;
    let answered = answered.inspect_err(|error| front.notice(&name, error))?;
    let said: Said = serde_json::from_slice(&answered).unwrap_or_default();
    Ok(Touched { expires_at: front.known.touched(&name, said.expires_at) })
}

/// `sandbox.delete`.
pub(super) async fn delete(
    front: Arc<Front>,
    caller: Caller,
    params: SandboxRef,
) -> Outcome<Deleted> {
    let name = front.name(caller, &params.session_id)?;
    let ask = Ask::new(Method::DELETE, http::sandbox(&name), "deleting a sandbox");
    let deleted = front.upstream.delete(ask, front.config.upstream.upstream_timeout).await;
    deleted.inspect_err(|error| front.notice(&name, error))?;
    front.known.forget(&name);
    Ok(Deleted { deleted: true })
}

/// `sandbox.get`: what this daemon has seen of it.
pub(super) async fn get(
    front: Arc<Front>,
    caller: Caller,
    params: SandboxRef,
) -> Outcome<SandboxInfo> {
    let name = front.name(caller, &params.session_id)?;
    let mut info =
        front.known.get(&name).ok_or_else(|| FrontError::NotSeen(params.session_id.to_string()))?;
    info.session_id = params.session_id;
    Ok(info)
}

/// `sandbox.list`: what this daemon has seen.
pub(super) async fn list(front: Arc<Front>, caller: Caller, _: NoParams) -> Outcome<SandboxList> {
    Ok(SandboxList { sandboxes: front.known.list(Front::sees(caller)) })
}

impl Front {
    /// Forgets a sandbox that the backend does not have.
    pub(super) fn notice(&self, name: &SessionId, error: &FrontError) {
        if is_missing(error) {
            self.known.forget(name);
        }
    }
}

/// Whether the backend says that it has no such sandbox.
pub(super) const fn is_missing(error: &FrontError) -> bool {
    matches!(error, FrontError::Refused { kind: ErrorKind::SandboxNotFound, .. })
}
