//! Calls to a daemon of the real binary.

use std::process::Command;
use std::time::{Duration, Instant};

use noxrunner_client::Connection;
use noxrunner_protocol::SessionId;
use noxrunner_protocol::method::{HealthCheck, SandboxCreate, SandboxDelete, SandboxExec};
use noxrunner_protocol::types::{CreateParams, NoParams, SandboxRef};
use noxrunner_tests::{TestDaemon, exec_params, program};

use crate::spawn::process;

/// An exec over a connection, its answer checked.
pub(crate) fn exec(connection: &mut Connection, session: &str, nonce: u64) {
    let params = exec_params(session, &["/bin/echo", &nonce.to_string()]);
    let result = connection.call::<SandboxExec>(&params).unwrap();
    assert_eq!(result.stdout, format!("{nonce}\n"));
}

/// `noxctl exec` from its start to its end.
pub(crate) fn noxctl(daemon: &TestDaemon, nonce: u64) {
    let mut command = Command::new(program("noxctl"));
    command.arg("--socket").arg(&daemon.socket).args(["exec", "bench", "/bin/echo"]);
    process(&mut command, nonce);
}

/// A call that asks for little.
pub(crate) fn health(connection: &mut Connection) {
    assert_eq!(connection.call::<HealthCheck>(&NoParams {}).unwrap().status, "ok");
}

/// Sandboxes that are made and deleted, one after the other.
pub(crate) struct Life {
    connection: Connection,
    live: Option<SessionId>,
}

impl Life {
    /// With a connection of its own.
    pub(crate) fn new(daemon: &TestDaemon) -> Self {
        Self { connection: daemon.connect(), live: None }
    }

    /// Makes a sandbox, when the one before is gone.
    pub(crate) fn create(&mut self, nonce: u64) -> Duration {
        self.end(nonce);
        let id: SessionId = format!("life-{nonce}").parse().unwrap();
        let params = CreateParams::new(id.clone());
        let started = Instant::now();
        let created = self.connection.call::<SandboxCreate>(&params).unwrap().created;
        let took = started.elapsed();
        assert!(created);
        self.live = Some(id);
        took
    }

    /// Deletes the one that lives, if one does.
    pub(crate) fn end(&mut self, nonce: u64) {
        if self.live.is_some() {
            self.delete(nonce);
        }
    }

    /// Deletes the one that lives, or one made for it.
    pub(crate) fn delete(&mut self, nonce: u64) -> Duration {
        if self.live.is_none() {
            self.create(nonce);
        }
        let params = SandboxRef { session_id: self.live.take().unwrap() };
        let started = Instant::now();
        self.connection.call::<SandboxDelete>(&params).unwrap();
        started.elapsed()
    }
}
