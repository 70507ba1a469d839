//! An exec as the daemon does it, without a socket: policy, plan, engine and
//! init in this process. What is missing is a connection and its JSON.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use noxrunner_daemon::config::Config;
use noxrunner_daemon::daemon::Daemon;
use noxrunner_daemon::exec::command;
use noxrunner_daemon::policy::Policy;
use noxrunner_daemon::run;
use noxrunner_daemon::serve::service::Service;
use noxrunner_init::Zygote;
use noxrunner_protocol::types::CreateParams;
use noxrunner_tests::exec_params;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// A daemon's inside, with one sandbox in it.
pub(crate) struct InProcess {
    runtime: Runtime,
    daemon: Arc<Daemon>,
    _base: TempDir,
}

impl InProcess {
    /// Takes a zygote that was started before this process had threads.
    pub(crate) fn start(zygote: Zygote, arguments: &[&str]) -> Self {
        let base = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
        let place = base.path().to_str().unwrap();
        let call = [&["noxrunnerd", "--local-test", "--base-dir", place], arguments].concat();
        let runtime = Runtime::new().unwrap();
        let (config, socket) = (Config::parse_from(call), base.path().join("none.sock"));
        let service = Arc::new(Service::new(&config, socket, None, None));
        let daemon = run::assemble(config, Policy::built_in(), service, zygote);
        let daemon = runtime.block_on(daemon).unwrap();
        let id = CreateParams::new("bench".parse().unwrap());
        runtime.block_on(daemon.create(daemon.uid, id)).unwrap();
        Self { runtime, daemon, _base: base }
    }

    /// One exec, its answer checked. Time is taken where a connection's task would wait for the
    /// answer: what it takes to wake this thread is no part of an exec.
    pub(crate) fn exec(&self, nonce: u64) -> Duration {
        let daemon = Arc::clone(&self.daemon);
        let params = exec_params("bench", &["/bin/echo", &nonce.to_string()]);
        let task = self.runtime.spawn(async move {
            let started = Instant::now();
            let result = command::exec(&daemon, daemon.uid, started, params).await.unwrap();
            (started.elapsed(), result)
        });
        let (took, result) = self.runtime.block_on(task).unwrap();
        assert_eq!(result.stdout, format!("{nonce}\n"));
        took
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.runtime.block_on(self.daemon.engine.end());
    }
}
