//! The verbs that a backend elsewhere has, too, by the NoxRunner v1 REST API.

use std::time::{Duration, Instant};

use noxrunner_client::v1::{Client, RemoteError};
use noxrunner_protocol::http::{CreateBody, ExecBody, Executed, LOCAL_MODE};
use noxrunner_protocol::ids::{TimeoutSeconds, TtlSeconds};
use noxrunner_protocol::types::{Cause, Deleted};
use noxrunner_protocol::{ErrorKind, SessionId};
use serde_json::json;

use crate::cli::{CreateArgs, Lease};
use crate::context::Context;
use crate::error::CliError;
use crate::render::Out;

/// Pauses between looks at whether a sandbox is ready: short at first.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// How long one look may take a backend, and the answer to it longer than that.
const LOOK_SECONDS: f64 = 5.0;
const LOOK_GRACE: Duration = Duration::from_secs(1);

/// `health`.
pub(crate) fn health(out: &Out, backend: &Client) -> Result<u8, CliError> {
    backend.health()?;
    out.result(&json!({"status": "ok"}), || out.success("Manager is healthy"))?;
    Ok(0)
}

/// `create`.
pub(crate) fn create(
    context: &Context<'_>,
    backend: &Client,
    args: CreateArgs,
) -> Result<u8, CliError> {
    for (given, flag) in [
        (args.pids.is_some(), "create --pids"),
        (args.network.is_some(), "create --network"),
        (!args.env.is_empty(), "create --env"),
        (args.lease != Lease::None, "create --lease"),
    ] {
        if given {
            context.not_of_a_backend(flag)?;
        }
    }
    let out = context.out;
    let body = CreateBody {
        ttl_seconds: Some(args.ttl),
        image: args.image,
        cpu_limit: args.cpu,
        memory_limit: args.mem,
        ephemeral_storage_limit: args.storage,
    };
    let created = backend.create(&args.session_id, &body)?;
    out.result(&created, || {
        remarks(out, created.warnings.as_deref());
        if created.created == Some(false) {
            out.info("It existed; its time to live starts anew");
        }
        out.success(&format!("Sandbox created: {}", created.pod_name))
    })?;
    match args.wait {
        true => wait_ready(out, backend, &args.session_id, args.wait_timeout),
        false => Ok(0),
    }
}

/// Runs a command again and again to see whether commands run.
fn wait_ready(
    out: &Out,
    backend: &Client,
    id: &SessionId,
    timeout: TimeoutSeconds,
) -> Result<u8, CliError> {
    out.info("Waiting for pod to be ready...");
    let deadline = Instant::now() + timeout.duration();
    let [mut pause, longest] = PAUSES;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let seconds = left.as_secs_f64().clamp(0.1, LOOK_SECONDS);
        let probe = ExecBody {
            cmd: vec!["echo".to_owned(), "ready".to_owned()],
            timeout_seconds: TimeoutSeconds::try_from(seconds.ceil()).ok(),
            ..ExecBody::default()
        };
        let client = backend.clone().patience(Duration::from_secs_f64(seconds) + LOOK_GRACE);
        let why = match client.exec(id, &probe) {
            // A policy that does not let `echo` run was asked by a sandbox that is there.
            Ok(ran) if ran.stdout.trim() == "ready" || ran.cause == Some(Cause::Denied) => {
                if !out.json {
                    out.success("Pod is ready")?;
                }
                return Ok(0);
            }
            Ok(ran) => format!("`echo ready` exited with {}\n{}", ran.exit_code, ran.stderr),
            Err(error) if is_final(&error) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        if Instant::now() + pause >= deadline {
            let timeout = timeout.get();
            out.error(&format!("Pod did not become ready within {timeout} s: {why}"));
            return Ok(1);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(longest);
    }
}

/// Whether waiting mends nothing.
fn is_final(error: &RemoteError) -> bool {
    let kind = error.problem.kind();
    matches!(kind, ErrorKind::Unauthorized | ErrorKind::InvalidArgument | ErrorKind::PathDenied)
}

/// `touch`.
pub(crate) fn touch(out: &Out, backend: &Client, id: &SessionId) -> Result<u8, CliError> {
    backend.touch(id)?;
    // The API says nothing of when it expires now.
    out.result(&json!({}), || out.success("TTL extended"))?;
    Ok(0)
}

/// `delete`.
pub(crate) fn delete(out: &Out, backend: &Client, id: &SessionId) -> Result<u8, CliError> {
    backend.delete(id)?;
    out.result(&Deleted { deleted: true }, || out.success("Sandbox deleted"))?;
    Ok(0)
}

/// Runs a command, in a sandbox that is made if there is none: only where the backend says so,
/// and therefore nothing has run.
pub(crate) fn exec(
    backend: &Client,
    id: &SessionId,
    body: &ExecBody,
) -> Result<Executed, CliError> {
    match backend.exec(id, body) {
        Err(error) if error.problem.kind() == ErrorKind::SandboxNotFound => {
            let ttl_seconds = Some(TtlSeconds::default());
            backend.create(id, &CreateBody { ttl_seconds, ..CreateBody::default() })?;
            Ok(backend.exec(id, body)?)
        }
        other => Ok(other?),
    }
}

/// Says what a backend says a person should know.
pub(crate) fn remarks(out: &Out, warnings: Option<&[String]>) {
    let warnings = warnings.unwrap_or_default().iter();
    warnings.filter(|text| !text.starts_with(LOCAL_MODE)).for_each(|text| out.warn(text));
}
