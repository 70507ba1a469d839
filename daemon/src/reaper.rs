//! Expiry: sleeps until the next sandbox is due, and sweeps up what others left.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Alarm, Moment};
use crate::daemon::Daemon;

/// Ends sandboxes as they become due, until it is dropped.
///
/// # Errors
/// As timerfd_create(2).
pub async fn run(
    daemon: Arc<Daemon>,
    first_sweep: Option<Duration>,
) -> std::io::Result<Infallible> {
    let (expiry, stale) = (Alarm::new()?, Alarm::new()?);
    // What is not there yet cannot be due before it has lain for as long as that.
    let longest = daemon.config.stale_after;
    let mut next_sweep = Moment::now().boot + first_sweep.unwrap_or(longest);
    loop {
        let next = daemon.registry.arm();
        tokio::select! {
            () = expiry.wait_until(next) => {
                for leaving in daemon.registry.remove_expired(Moment::now().boot) {
                    tracing::info!(session = %leaving.sandbox.key.id, "expired");
                    tokio::spawn(daemon.clone().clear(leaving));
                }
            }
            () = daemon.registry.earlier() => {}
            () = stale.wait_until(Some(next_sweep)) => {
                let due = daemon.sweep(false).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "cannot look for stale directories");
                    None
                });
                next_sweep = Moment::now().boot + due.unwrap_or(longest).min(longest);
            }
        }
    }
}
