//! `health`, as clients ask for it by the hundred thousand a second.

use std::sync::{Mutex, PoisonError};

use noxrunner_protocol::types::{Health, NoParams};
use serde_json::value::{RawValue, to_raw_value};

use super::handlers::{UNSUPPORTED, VERSION};
use super::rpc::{Caller, Reply};
use crate::daemon::Daemon;

/// What of a `Health` changes while the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Now {
    stopping: bool,
    uptime: u64,
    sandboxes: usize,
}

impl Now {
    fn of(daemon: &Daemon, caller: u32) -> Self {
        Self {
            stopping: *daemon.service.stop.borrow(),
            uptime: daemon.service.uptime(),
            sandboxes: daemon.registry.visible_count(caller),
        }
    }

    /// The whole of it as text.
    fn written(self, daemon: &Daemon) -> Box<RawValue> {
        let health = Health {
            status: if self.stopping { "stopping" } else { "ok" }.to_owned(),
            version: VERSION.to_owned(),
            uptime_seconds: self.uptime,
            sandboxes: self.sandboxes,
            isolation: daemon.isolation.clone(),
            backend: "local".to_owned(),
            unsupported: UNSUPPORTED.iter().map(|name| (*name).to_owned()).collect(),
        };
        // None of the protocol's types fails to be written.
        to_raw_value(&health).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

/// The method. What it wrote last is given again until something in it changes.
pub(super) fn health(
    daemon: &Daemon,
) -> impl Fn(&Daemon, Caller, NoParams, Reply<'_>) -> String + Send + Sync + 'static {
    let now = Now::of(daemon, daemon.service.uid);
    let last = Mutex::new((now, now.written(daemon)));
    move |daemon, caller, _, reply| {
        let now = Now::of(daemon, caller.peer.uid);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != now {
            *last = (now, now.written(daemon));
        }
        reply.with(Ok(&*last.1))
    }
}
