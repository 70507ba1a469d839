//! The daemon's life: lock, socket, adoption, service, end.

mod doors;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{User, geteuid};
use noxrunner_init::Zygote;
use noxrunner_protocol::types::Tier;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use crate::cgroup::{Controller, Hierarchy, Version};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::engine::Engine;
use crate::files::work::Workers;
use crate::front::run::FrontStartError;
use crate::isolation::IsolationError;
use crate::limits::{Enforcers, Limiting};
use crate::lock::{BaseLock, LockError};
use crate::policy::{Policy, PolicyFileError};
use crate::rootfs::{Inputs, RootfsError};
use crate::sandbox::environment::{DEFAULT_PATH, HostEnvironment};
use crate::sandbox::pool::{self, Pool};
use crate::sandbox::registry::Registry;
use crate::scene::{Scene, means, preparation};
use crate::serve::activation::ActivationError;
use crate::serve::listen::ListenError;
use crate::serve::service::Service;
use crate::serve::tcp::TcpError;
use crate::serve::{self, Served, handlers};
use crate::uids::{STATE_DIR, UidError, Uids};
use crate::{isolation, manager, reaper, warning};
pub(crate) use doors::{Doors, socket_path};

/// Why the daemon could not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another daemon has the base directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The socket cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The socket that was handed over cannot be used.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// There cannot be HTTP on TCP.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// There is no way to the backend.
    #[error(transparent)]
    Front(#[from] FrontStartError),
    /// Sandboxes cannot be isolated as they should be.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// What sandboxes are to see cannot be shown.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The policy file is no policy.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    /// The base directory cannot be used.
    #[error("cannot use the base directory {0}: {1}")]
    Base(PathBuf, #[source] io::Error),
    /// There are no user ids for sandboxes.
    #[error(transparent)]
    Uids(#[from] UidError),
    /// There is no group of that name, or it cannot be looked up.
    #[error("cannot let the group {0} use the socket: {1}")]
    SocketGroup(String, String),
    /// The kernel refused something the daemon needs.
    #[error("cannot {0}: {1}")]
    Os(&'static str, #[source] io::Error),
    /// The process that starts the sandboxes' inits died, and every command with it.
    #[error("the zygote died: start the daemon again; unexpired sandboxes keep their files")]
    ZygoteDied,
}

/// Runs the daemon until it is told to end, or is idle for long enough. `handed` is the socket that
/// a service manager gave it.
///
/// # Errors
/// Why it could not start, or ended early. Nothing of it runs any more then.
pub async fn run(
    mut config: Config,
    handed: Option<UnixListener>,
    zygote: Zygote,
) -> Result<(), RunError> {
    let os = |what| move |e| RunError::Os(what, e);
    // From here on they wait to be heard, so that whenever they come the end is in order.
    let signals = Signals::listen().map_err(os("wait for signals"))?;
    let uid = geteuid().as_raw();
    let policy = config.policy.as_deref().map_or_else(|| Ok(Policy::built_in()), Policy::load)?;
    let base = config.base_dir.canonicalize();
    config.base_dir = base.map_err(|e| RunError::Base(config.base_dir.clone(), e))?;
    let socket = socket_path(&config, handed.as_ref(), uid)?;
    // Each sandbox takes a few descriptors of the daemon's.
    raise_descriptor_limit();

    let is_handed = handed.is_some();
    let _lock = BaseLock::take(&config.base_dir, uid, &socket, is_handed, LOCK_PATIENCE)?;
    // Who connects from here on waits until there is something to answer.
    let Doors { listener, bound, tcp, group } = Doors::open(&config, handed, &socket, uid)?;
    let http = tcp.as_ref().map(|door| door.address);
    let service = Arc::new(Service::new(&config, socket, group, http));
    let daemon = assemble(config, policy, service, zygote).await?;
    let base = || daemon.config.base_dir.clone();
    let swept = daemon.sweep(true).await;
    let first_sweep = swept.map_err(|e| RunError::Base(base(), io::Error::other(e.to_string())))?;
    let (socket, base) = (daemon.service.socket.display(), daemon.config.base_dir.display());
    let http = http.map(tracing::field::display);
    tracing::info!(%socket, http, %base, uid, version = handlers::VERSION, is_handed, "listening");

    // Not before the sweep, which takes a directory without a manifest for a dead daemon's.
    let pool = tokio::spawn(pool::keep(Arc::clone(&daemon)));
    let served = Served {
        service: Arc::clone(&daemon.service),
        rpc: handlers::methods(&daemon),
        sandboxes: Arc::new(Arc::clone(&daemon)),
    };
    let outcome = tokio::select! {
        () = serve::serve(listener, tcp, served) => Ok(()),
        Err(failed) = oversee(&daemon, signals, first_sweep) => Err(failed),
        never = manager::report(
            &daemon.service,
            daemon.registry.count(),
            daemon.isolation.tier.name(),
        ) => match never {},
    };

    drop(bound);
    daemon.service.stop.send_replace(true);
    manager::ending("ending its sandboxes").await;
    daemon.end().await;
    // One that was being made is cleared there.
    let _ = pool.await;
    // Everything below the zygote is gone when it is.
    daemon.engine.end().await;
    tracing::info!("ended");
    outcome
}

/// Puts a daemon together that only lacks clients: looks at the machine, chooses the tier, gets the zygote ready.
///
/// # Errors
/// Why sandboxes could not be had.
pub async fn assemble(
    config: Config,
    policy: Policy,
    service: Arc<Service>,
    zygote: Zygote,
) -> Result<Arc<Daemon>, RunError> {
    let uid = geteuid().as_raw();
    let user = User::from_uid(geteuid()).ok().flatten().map_or_else(|| uid.to_string(), |u| u.name);
    let engine = Engine::start(zygote).map_err(|e| RunError::Os("listen to the zygote", e))?;
    let directory = service.socket.parent().unwrap_or(Path::new("/")).to_owned();
    let scene = Arc::new(Scene::new(Inputs {
        path: var("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
        rustup_home: var("RUSTUP_HOME").map(PathBuf::from),
        home: var("HOME").map(PathBuf::from),
        blocked: policy.blocked_everywhere().to_vec(),
        expose: policy.expose().to_vec(),
        protected: vec![directory, config.base_dir.clone()],
    })?);
    let rootfs = scene.rootfs();
    let zygote = engine.pid();
    let base = config.base_dir.clone();
    let groups = spawn_blocking(move || Hierarchy::establish(&base, uid, &[zygote])).await;
    let groups = groups.map_err(|e| RunError::Os("look at control groups", io::Error::other(e)))?;
    let no_memfd = !groups.as_ref().is_ok_and(|groups| groups.has(Controller::Memory));
    let uids = if uid == 0 { Some(uids(&config)?) } else { None };
    let host_id = uids.as_ref().map(|uids| uids.range().first());
    let prepare = |layers| preparation(layers, &rootfs, host_id, policy.places(), no_memfd);
    let (mut isolation, unstubbed) =
        isolation::establish(&engine, config.isolation, host_id, prepare).await?;
    let has_mount_tree = isolation.tier == Tier::Full;
    match &groups {
        Ok(groups) => {
            let version = match groups.version() {
                Version::V1 => "cgroup v1",
                Version::V2 => "cgroup v2",
            };
            isolation.features.push(version.to_owned());
            isolation.missing.extend(groups.lacking().iter().map(|lack| lack.missing(uid == 0)));
        }
        Err(unavailable) => isolation.missing.push(unavailable.missing(uid == 0)),
    }
    let enforcers = Enforcers::new(groups.ok(), isolation.tier, uids.is_none());
    let limits = Limiting { defaults: policy.defaults(), enforcers: Arc::new(enforcers) };
    let tools = has_mount_tree.then(|| rootfs.env());
    warning::at_start(&user, &isolation, config.log_format);
    if has_mount_tree {
        rootfs.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    } else if uids.is_some()
        && let Some(shut) = shut_to_others(&config.base_dir)
    {
        tracing::warn!(
            "sandboxes have users of their own and cannot reach their directories through {}: \
             chmod o+x it, or choose another --base-dir",
            shut.display()
        );
    }
    let scene = has_mount_tree.then_some(scene);
    for gap in policy.not_enforced(&means(&isolation, scene.as_deref(), &unstubbed)) {
        tracing::warn!("the policy's `{}` is not enforced in full: {}", gap.setting, gap.why);
    }
    Ok(Arc::new(Daemon {
        host: HostEnvironment::pick(var, &user, policy.env_passthrough(), tools),
        scene,
        service,
        uid,
        uids,
        registry: Arc::new(Registry::default()),
        engine,
        isolation,
        policy,
        unstubbed: Mutex::new(unstubbed),
        limits,
        pool: Pool::new(config.pool),
        spawns: Arc::new(Semaphore::new(config.spawns())),
        workers: Workers::default(),
        config,
    }))
}

/// The directory on the way, if any, that only its owner and group may pass through.
fn shut_to_others(path: &Path) -> Option<&Path> {
    let passes = |dir: &Path| dir.metadata().is_ok_and(|meta| meta.mode() & 0o001 != 0);
    path.ancestors().find(|dir| !passes(dir))
}

/// Watches over everything that is no client: time, signals, the zygote. Ends
/// only by failing; it tells the clients' side when to end.
async fn oversee(
    daemon: &Arc<Daemon>,
    mut signals: Signals,
    first_sweep: Option<Duration>,
) -> Result<Infallible, RunError> {
    let os = |what| move |e| RunError::Os(what, e);
    let reaper =
        async { reaper::run(Arc::clone(daemon), first_sweep).await.map_err(os("make a timer")) };
    let end = async {
        let why = tokio::select! {
            signal = signals.next() => signal,
            () = idle(&daemon.service, daemon.registry.count(), daemon.config.idle_exit) => "idle for long enough",
        };
        tracing::info!(why, "ending");
        daemon.service.stop.send_replace(true);
        std::future::pending::<Result<Infallible, RunError>>().await
    };
    let zygote = async {
        daemon.engine.gone().await;
        Err(RunError::ZygoteDied)
    };
    let (never, ..): (Infallible, Infallible, Infallible) = tokio::try_join!(reaper, end, zygote)?;
    Ok(never)
}

/// The signals that end the daemon.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

/// How long a predecessor that no longer answers may take to end its sandboxes.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);

/// Returns when there was neither a sandbox nor a client for as long as the
/// configuration says; never, where it says nothing.
pub(crate) async fn idle(
    service: &Service,
    mut sandboxes: watch::Receiver<usize>,
    idle_exit: Option<Duration>,
) {
    let Some(patience) = idle_exit else { return std::future::pending().await };
    let (mut clients, mut by_tcp) = service.counts();
    loop {
        let clients_now = *clients.borrow_and_update() + *by_tcp.borrow_and_update();
        let busy = *sandboxes.borrow_and_update() + clients_now > 0;
        let rest = async {
            if busy {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(patience).await;
        };
        tokio::select! {
            () = rest => return,
            _ = sandboxes.changed() => {}
            _ = clients.changed() => {}
            _ = by_tcp.changed() => {}
        }
    }
}

fn uids(config: &Config) -> Result<Uids, UidError> {
    config.sandbox_uids.check_mapped()?;
    Uids::open(Path::new(STATE_DIR), config.sandbox_uids, &config.base_dir)
}

/// What of the environment is anybody's but the service manager's, whatever a policy lets through.
fn var(name: &str) -> Option<OsString> {
    if name == manager::NOTIFY_SOCKET { None } else { std::env::var_os(name) }
}

pub(crate) fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files: fewer sandboxes fit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_others_may_not_take_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
                .unwrap();
        };
        mode(&inner, 0o711);
        mode(dir.path(), 0o700);
        assert_eq!(shut_to_others(&inner), Some(dir.path()));
        mode(dir.path(), 0o711);
        assert_ne!(shut_to_others(&inner), Some(dir.path()));
        mode(&inner, 0o700);
        assert_eq!(shut_to_others(&inner), Some(inner.as_path()));
    }
}
