//! Two clocks: one to count by, one to show.
//!
//! Lifetimes are counted by CLOCK_BOOTTIME (clock_gettime(2)), which goes on
//! while the machine sleeps and never jumps. What outlives the daemon or is
//! shown to people is wall-clock time.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::wait::watch;

/// One moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the machine started, sleep included.
    pub boot: Duration,
    /// Wall-clock time.
    pub wall: SystemTime,
}

impl Moment {
    /// The present.
    pub fn now() -> Self {
        Self { boot: Self::boot_now(), wall: SystemTime::now() }
    }

    /// The present by the first clock alone.
    pub fn boot_now() -> Duration {
        // Every kernel of ours has the clock (Linux 2.6.39); without it nothing would ever expire.
        let boot = clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from);
        boot.unwrap_or_default()
    }
}

/// A wall-clock time as the wire shows it: RFC 3339 in UTC, to the second, with one `Z`.
pub fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(
        |_| "9999-12-31T23:59:59Z".to_owned(),
        |t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// The same to the nanosecond, as file systems count.
pub fn rfc3339_nanos(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(
        |_| "9999-12-31T23:59:59.999999999Z".to_owned(),
        |t| t.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
    )
}

/// Milliseconds since 1970; 0 before.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

/// The time that many milliseconds after 1970.
pub fn from_unix_ms(ms: u64) -> SystemTime {
    // What no clock can show is as good as never: a thousand years.
    UNIX_EPOCH + Duration::from_millis(ms.min(32_503_680_000_000))
}

/// Wakes at a moment of the boot clock, also after the machine has slept past it.
#[derive(Debug)]
pub struct Alarm {
    timer: TimerFd,
    // The same timer, for waiting.
    rung: AsyncFd<OwnedFd>,
}

impl Alarm {
    /// # Errors
    /// As timerfd_create(2).
    pub fn new() -> std::io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let rung = watch(timer.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        Ok(Self { timer, rung })
    }

    /// Waits until the boot clock shows `at`; for ever where there is no time to wait for.
    pub async fn wait_until(&self, at: Option<Duration>) {
        let Some(at) = at else { return std::future::pending().await };
        // A time of zero would disarm the timer.
        let expiration = Expiration::OneShot(at.max(Duration::from_nanos(1)).into());
        if self.timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME).is_ok()
            && let Ok(mut ready) = self.rung.readable().await
        {
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_with_one_z_and_survive_the_manifest() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_294_800_123);
        assert_eq!(rfc3339(time), "2026-11-21T21:00:00Z");
        assert_eq!(from_unix_ms(unix_ms(time)), time);
        assert_eq!(unix_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
        let _ = rfc3339(from_unix_ms(u64::MAX));
    }

    #[tokio::test]
    async fn an_alarm_rings_for_the_past_and_for_the_future() {
        let alarm = Alarm::new().unwrap();
        alarm.wait_until(Some(Duration::ZERO)).await;
        let at = Moment::now().boot + Duration::from_millis(30);
        alarm.wait_until(Some(at)).await;
        assert!(Moment::now().boot >= at);
    }
}
