//! Whether the daemon is well, and what its isolation is worth.

use noxrunner_protocol::method::HealthCheck;
use noxrunner_protocol::types::{Health, NoParams};

use crate::backend;
use crate::context::Context;
use crate::error::CliError;
use crate::render::list;
use crate::start::VERSION;

/// `health`: one line, for scripts.
pub(crate) fn health(context: &Context<'_>) -> Result<u8, CliError> {
    if let Some(backend) = &context.backend {
        return backend::health(context.out, backend);
    }
    let health = context.connect()?.call::<HealthCheck>(&NoParams {})?;
    context.out.result(&health, || match is_well(&health) {
        true => context.out.success("Manager is healthy"),
        false => {
            context.out.error(&format!("Manager is not healthy: {}", health.status));
            Ok(())
        }
    })?;
    Ok(u8::from(!is_well(&health)))
}

/// `doctor`: everything that is known, for people.
pub(crate) fn doctor(context: &Context<'_>) -> Result<u8, CliError> {
    let mut connection = context.connect()?;
    let socket = connection.socket().display().to_string();
    let health = connection.call::<HealthCheck>(&NoParams {})?;
    context.out.result(&health, || {
        context.out.pairs(&report(&health, socket))?;
        match is_well(&health) {
            true => context.out.done("The daemon is healthy"),
            false => context.out.error(&format!("The daemon is not healthy: {}", health.status)),
        }
        Ok(())
    })?;
    Ok(u8::from(!is_well(&health)))
}

fn is_well(health: &Health) -> bool {
    health.status == "ok"
}

fn report(health: &Health, socket: String) -> Vec<(&'static str, String)> {
    let mut version = health.version.clone();
    if version != VERSION {
        version += &format!(" (noxctl is {VERSION}: install the same version of both)");
    }
    let mut pairs = vec![
        ("socket", socket),
        ("daemon", format!("answers, up {} s", health.uptime_seconds)),
        ("version", version),
        ("backend", health.backend.clone()),
        ("sandboxes", health.sandboxes.to_string()),
        ("isolation", health.isolation.tier.to_string()),
        ("in use", list(&health.isolation.features)),
    ];
    for missing in &health.isolation.missing {
        pairs.push(("missing", format!("{}: {}", missing.feature, missing.why)));
        pairs.push(("missing", format!("  to mend it: {}", missing.mend)));
    }
    pairs.push(("unsupported", list(&health.unsupported)));
    pairs
}
