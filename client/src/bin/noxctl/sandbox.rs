//! Making, keeping, listing and deleting sandboxes.

use noxrunner_client::Connection;
use noxrunner_protocol::SessionId;
use noxrunner_protocol::ids::TimeoutSeconds;
use noxrunner_protocol::method::{
    SandboxCreate, SandboxDelete, SandboxExec, SandboxGet, SandboxListAll, SandboxTouch,
};
use noxrunner_protocol::types::{
    Cause, CreateParams, ExecParams, NoParams, SandboxInfo, SandboxRef,
};

use crate::backend;
use crate::cli::{CreateArgs, Lease, SandboxArgs};
use crate::context::Context;
use crate::error::CliError;
use crate::render::{bytes, wire_name};

/// `create`.
pub(crate) fn create(context: &Context<'_>, args: CreateArgs) -> Result<u8, CliError> {
    let out = context.out;
    if let Some(backend) = &context.backend {
        return backend::create(context, backend, args);
    }
    let params = CreateParams {
        session_id: args.session_id,
        ttl_seconds: args.ttl,
        cpu_limit: args.cpu,
        memory_limit: args.mem,
        ephemeral_storage_limit: args.storage,
        pids_limit: args.pids,
        image: args.image,
        network: args.network.map(Into::into),
        env: (!args.env.is_empty()).then(|| args.env.into_iter().collect()),
        lease: args.lease.into(),
    };
    let mut connection = context.connect()?;
    let created = connection.call::<SandboxCreate>(&params)?;
    out.result(&created, || {
        created.warnings.iter().for_each(|warning| out.warn(warning));
        if !created.created {
            out.info("It existed; its time to live starts anew");
        }
        out.success(&format!("Sandbox created: {}", created.pod_name))
    })?;
    let mut status = 0;
    if args.wait {
        status = wait_ready(context, &mut connection, params.session_id, args.wait_timeout)?;
    }
    if args.lease == Lease::Connection && status == 0 {
        out.info("The sandbox ends with noxctl: interrupt it to delete the sandbox");
        connection.wait_closed().map_err(noxrunner_client::CallError::Io)?;
        return Err(CliError::LeaseEnded);
    }
    Ok(status)
}

/// Runs a command to see that commands run. A local sandbox is ready when it
/// is made, so that once is enough.
fn wait_ready(
    context: &Context<'_>,
    connection: &mut Connection,
    session_id: SessionId,
    timeout: TimeoutSeconds,
) -> Result<u8, CliError> {
    let out = context.out;
    let mut probe = ExecParams::new(session_id, vec!["echo".to_owned(), "ready".to_owned()]);
    probe.timeout_seconds = timeout;
    out.info("Waiting for pod to be ready...");
    let result = connection.call::<SandboxExec>(&probe)?;
    // A policy that does not let `echo` run was asked by a sandbox that is there.
    if result.exit_code == 0 || result.cause == Cause::Denied {
        if !out.json {
            out.success("Pod is ready")?;
        }
        return Ok(0);
    }
    let why = match result.cause {
        Cause::Timeout => format!("within {} s", timeout.get()),
        Cause::Exited
        | Cause::Signaled
        | Cause::Oom
        | Cause::Denied
        | Cause::NotFound
        | Cause::NotExecutable
        | Cause::Limit => format!("(`echo ready` exited with {})", result.exit_code),
    };
    out.error(&format!("Pod did not become ready {why}\n{}", result.stderr));
    Ok(1)
}

/// `touch`.
pub(crate) fn touch(context: &Context<'_>, args: SandboxArgs) -> Result<u8, CliError> {
    if let Some(backend) = &context.backend {
        return backend::touch(context.out, backend, &args.session_id);
    }
    let touched = context.connect()?.call::<SandboxTouch>(&named(args))?;
    context.out.result(&touched, || context.out.success("TTL extended"))?;
    Ok(0)
}

/// `delete`.
pub(crate) fn delete(context: &Context<'_>, args: SandboxArgs) -> Result<u8, CliError> {
    if let Some(backend) = &context.backend {
        return backend::delete(context.out, backend, &args.session_id);
    }
    let deleted = context.connect()?.call::<SandboxDelete>(&named(args))?;
    context.out.result(&deleted, || context.out.success("Sandbox deleted"))?;
    Ok(0)
}

/// `get`.
pub(crate) fn get(context: &Context<'_>, args: SandboxArgs) -> Result<u8, CliError> {
    let sandbox = context.connect()?.call::<SandboxGet>(&named(args))?;
    context.out.result(&sandbox, || context.out.pairs(&describe(&sandbox)))?;
    Ok(0)
}

/// `list`.
pub(crate) fn list(context: &Context<'_>) -> Result<u8, CliError> {
    let list = context.connect()?.call::<SandboxListAll>(&NoParams {})?;
    context.out.result(&list, || {
        let rows: Vec<_> = list.sandboxes.iter().map(row).collect();
        let head = ["SESSION", "STATE", "ISOLATION", "EXPIRES", "PROCESSES", "DISK", "USER"];
        context.out.table(head, &rows)
    })?;
    Ok(0)
}

fn named(args: SandboxArgs) -> SandboxRef {
    SandboxRef { session_id: args.session_id }
}

fn row(sandbox: &SandboxInfo) -> [String; 7] {
    [
        sandbox.session_id.to_string(),
        wire_name(&sandbox.state),
        sandbox.isolation.tier.to_string(),
        sandbox.expires_at.clone(),
        sandbox.usage.processes.to_string(),
        bytes(sandbox.usage.disk_bytes),
        sandbox.owner_uid.to_string(),
    ]
}

fn describe(sandbox: &SandboxInfo) -> Vec<(&'static str, String)> {
    let usage = &sandbox.usage;
    let mut pairs = vec![
        ("session", sandbox.session_id.to_string()),
        ("user", sandbox.owner_uid.to_string()),
        ("pod", sandbox.pod_name.clone()),
        ("state", wire_name(&sandbox.state)),
        ("created", sandbox.created_at.clone()),
        ("expires", sandbox.expires_at.clone()),
        ("ttl", format!("{} s", sandbox.ttl_seconds.get())),
        ("directory", sandbox.sandbox_dir.clone()),
        ("leased", sandbox.leased.to_string()),
        ("image", sandbox.image.clone().unwrap_or_else(|| "-".to_owned())),
        ("isolation", sandbox.isolation.tier.to_string()),
    ];
    for (name, limit) in &sandbox.limits {
        let value = limit.value.as_deref().unwrap_or("none");
        let by = wire_name(&limit.enforced_by);
        pairs.push(("limits", format!("{}: {value} (enforced by: {by})", wire_name(name))));
    }
    pairs.extend([
        ("disk", format!("{} in {} files and directories", bytes(usage.disk_bytes), usage.inodes)),
        ("memory", bytes(usage.memory_bytes)),
        ("processes", usage.processes.to_string()),
        ("execs", sandbox.execs.to_string()),
    ]);
    pairs
}
