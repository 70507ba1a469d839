//! Expiry: sleeps until the next sandbox is due, and sweeps up what others left.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Alarm, Moment};
use crate::daemon::Daemon;

/// Ends sandboxes as they become due and removes stale directories, until it is dropped.
///
/// # Errors
/// As timerfd_create(2).
pub async fn run(
    daemon: Arc<Daemon>,
    first_sweep: Option<Duration>,
) -> std::io::Result<Infallible> {
    // Side by side: a sweep through large trees is no reason for a sandbox to live longer.
    let (never, _) = tokio::try_join!(expire(&daemon), sweep(&daemon, first_sweep))?;
    Ok(never)
}

async fn expire(daemon: &Arc<Daemon>) -> std::io::Result<Infallible> {
    let alarm = Alarm::new()?;
    loop {
        let next = daemon.registry.arm();
        tokio::select! {
            () = alarm.wait_until(next) => {
                for leaving in daemon.registry.remove_expired(Moment::now().boot) {
                    tracing::info!(session = %leaving.sandbox.key.id, "expired");
                    tokio::spawn(Arc::clone(daemon).clear(leaving));
                }
            }
            () = daemon.registry.earlier() => {}
        }
    }
}

async fn sweep(daemon: &Arc<Daemon>, mut due: Option<Duration>) -> std::io::Result<Infallible> {
    let alarm = Alarm::new()?;
    // What is not there yet cannot be due before it has lain for as long as that.
    let longest = daemon.config.stale_after;
    loop {
        alarm.wait_until(Some(Moment::now().boot + due.unwrap_or(longest).min(longest))).await;
        due = daemon.sweep(false).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot look for stale directories");
            None
        });
    }
}
