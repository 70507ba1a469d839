//! The daemon itself.

use std::time::{Duration, Instant};

use noxrunner_protocol::method::DaemonInfoGet;
use noxrunner_protocol::types::{NoParams, Shutdown};

use crate::cli::DaemonVerb;
use crate::context::Context;
use crate::error::CliError;
use crate::start;

/// How long a daemon may take to say who it is before it is stopped.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// `daemon start`, `daemon stop` and `daemon status`.
pub(crate) fn daemon(context: &Context<'_>, verb: &DaemonVerb) -> Result<u8, CliError> {
    match verb {
        DaemonVerb::Start => start(context),
        DaemonVerb::Stop => stop(context),
        DaemonVerb::Status => status(context),
    }
}

fn start(context: &Context<'_>) -> Result<u8, CliError> {
    let running = start::ensure(&context.target.socket, context.idle_exit, context.out)?;
    let info = &running.info;
    context.out.result(info, || {
        let what = format!("{} (process {}, version {})", info.socket, info.pid, info.version);
        if running.started {
            context.out.done(&format!("Daemon started on {what}"));
        } else {
            context.out.done(&format!("A daemon is running already on {what}"));
        }
        Ok(())
    })?;
    Ok(0)
}

fn stop(context: &Context<'_>) -> Result<u8, CliError> {
    let socket = &context.target.socket;
    let running = start::answering(socket, Instant::now() + ANSWER_TIME)?;
    let stopping = running.is_some();
    if let Some(running) = running {
        start::stop(running, socket)?;
    }
    context.out.result(&Shutdown { stopping }, || {
        let socket = socket.display();
        if stopping {
            context.out.done(&format!("The daemon on {socket} has ended"));
        } else {
            context.out.info(&format!("No daemon is running on {socket}"));
        }
        Ok(())
    })?;
    Ok(0)
}

fn status(context: &Context<'_>) -> Result<u8, CliError> {
    let info = context.connect()?.call::<DaemonInfoGet>(&NoParams {})?;
    context.out.result(&info, || {
        let idle_exit = info.idle_exit_seconds.map_or("never".to_owned(), |s| format!("{s} s"));
        context.out.pairs(&[
            ("version", info.version.clone()),
            ("process", info.pid.to_string()),
            ("user", info.uid.to_string()),
            ("socket", info.socket.clone()),
            ("HTTP", info.http.clone().unwrap_or_else(|| "only on the socket".to_owned())),
            ("sandboxes in", info.base_dir.clone()),
            ("started", info.started_at.clone()),
            ("up", format!("{} s", info.uptime_seconds)),
            ("sandboxes", info.sandboxes.to_string()),
            ("connections", info.connections.to_string()),
            ("isolation", info.tier.to_string()),
            ("ephemeral", info.ephemeral.to_string()),
            ("idle exit", idle_exit),
        ])
    })?;
    Ok(0)
}
