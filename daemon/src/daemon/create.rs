//! How sandboxes begin: made, renewed, taken from those that were made ahead.

use std::sync::{Arc, Mutex, PoisonError};

use noxrunner_protocol::SessionId;
use noxrunner_protocol::types::{CreateParams, Lease, Network, Tier};
use tokio::task::spawn_blocking;

use super::{Daemon, joined, look_again, save};
use crate::clock::Moment;
use crate::error::CallError;
use crate::limits::Confines;
use crate::limits::bounds::{Bounds, check};
use crate::sandbox::dir::SandboxDir;
use crate::sandbox::pool::{self, Spare};
use crate::sandbox::registry::{Entry, LookupError, Place};
use crate::sandbox::{Key, Sandbox, Settings, start_init};

impl Daemon {
    /// Makes a sandbox, or renews the one that exists. The flag says which.
    ///
    /// # Errors
    /// Why there is none; then nothing is left of it.
    pub async fn create(
        self: &Arc<Self>,
        owner: u32,
        params: CreateParams,
    ) -> Result<(Arc<Sandbox>, bool), CallError> {
        self.check_create(&params)?;
        let daemon = Arc::clone(self);
        joined(tokio::spawn(async move { daemon.create_or_renew(owner, &params).await }).await)?
    }

    /// The sandbox of that name as it is, or a new one with defaults.
    ///
    /// # Errors
    /// As [`Daemon::create`].
    pub async fn find_or_create(
        self: &Arc<Self>,
        caller: u32,
        id: &SessionId,
    ) -> Result<Arc<Sandbox>, CallError> {
        match self.registry.find(caller, id).await {
            Err(LookupError::NotFound) => {}
            found => return found.map_err(CallError::lookup(id)),
        }
        let (daemon, id) = (Arc::clone(self), id.clone());
        let made = tokio::spawn(async move {
            let params = CreateParams::new(id.clone());
            let key = Key { owner: caller, id };
            // An exec never changes the time to live of what is there already.
            match daemon.registry.entry(&key, |_| ()).await {
                Entry::Exists(sandbox) => Ok(sandbox),
                Entry::Vacant(place) => daemon.make(place, key, &params).await,
            }
        });
        joined(made.await)?
    }

    fn check_create(&self, params: &CreateParams) -> Result<(), CallError> {
        if params.lease == Lease::Connection {
            return Err(CallError::Unsupported("sandbox.create with a lease"));
        }
        check(params).map_err(CallError::Invalid)?;
        if params.network == Some(Network::Host) && self.isolation.tier == Tier::Landlock {
            // Its commands have no sockets at all.
            return Err(CallError::Unsupported("network \"host\" in the tier landlock"));
        }
        if let Some(network) = params.network
            && !self.policy.network_allowed(self.uid == 0).contains(&network)
        {
            return Err(CallError::NetworkDenied(network));
        }
        crate::policy::check_env(params.env.iter().flatten()).map_err(CallError::Invalid)
    }

    async fn create_or_renew(
        &self,
        owner: u32,
        params: &CreateParams,
    ) -> Result<(Arc<Sandbox>, bool), CallError> {
        let key = Key { owner, id: params.session_id.clone() };
        let fits = |sandbox: &Sandbox| {
            params.network.is_none_or(|network| network == sandbox.settings().network)
        };
        let before = Mutex::new(None);
        let renew = |sandbox: &Sandbox| {
            if fits(sandbox) {
                *before.lock().unwrap_or_else(PoisonError::into_inner) = Some(sandbox.settings());
                sandbox.change(|settings| settings.renew(params, Moment::now()));
            }
        };
        match self.registry.entry(&key, renew).await {
            Entry::Vacant(place) => Ok((self.make(place, key, params).await?, true)),
            Entry::Exists(sandbox) if !fits(&sandbox) => {
                Err(CallError::OtherNetwork(key.id.to_string(), sandbox.settings().network))
            }
            Entry::Exists(sandbox) => {
                let bounds = Bounds::of(&sandbox.settings().limits, &self.limits.defaults);
                if bounds != sandbox.confines.bounds() {
                    let confines = Arc::clone(&sandbox.confines);
                    let changed = joined(spawn_blocking(move || confines.change(bounds)).await)?;
                    if let Err(error) = changed {
                        // All of it or nothing.
                        let before = before.into_inner().unwrap_or_else(PoisonError::into_inner);
                        sandbox.change(|now| *now = before.unwrap_or_else(|| now.clone()));
                        return Err(error.into());
                    }
                }
                save(&sandbox).await?;
                Ok((sandbox, false))
            }
        }
    }

    async fn make(
        &self,
        place: Place,
        key: Key,
        params: &CreateParams,
    ) -> Result<Arc<Sandbox>, CallError> {
        if *self.service.stop.borrow() {
            return Err(CallError::Stopping);
        }
        let now = Moment::now();
        let network = match self.isolation.tier {
            // There is no other; who asked for one was told.
            Tier::Landlock => Network::None,
            Tier::Full | Tier::None => params.network.unwrap_or(self.policy.network_default()),
        };
        let settings = Settings::new(params, network, now);
        let (sandbox, ready) = match self.spare(&settings).await {
            Some(mut spare) => {
                if let Err(error) = spare.dir.rename(&key.id) {
                    spare.clear().await;
                    return Err(error.into());
                }
                let sandbox = Arc::new(Sandbox::of_spare(key, spare, now.wall, settings));
                // A file that nobody waits for: sooner written than handed to a thread.
                let saved = sandbox.save().map_err(CallError::from);
                (sandbox, saved)
            }
            None => {
                let dir = self.make_directory(key.id.clone()).await?;
                let sandbox = Sandbox::new(key, dir, now.wall, settings, &self.limits);
                let sandbox = Arc::new(sandbox);
                let (saved, init) = tokio::join!(save(&sandbox), sandbox.init(&self.engine));
                (sandbox, saved.and(init.map(drop).map_err(CallError::from)))
            }
        };
        if let Err(error) = ready {
            sandbox.end().await;
            let left = joined(spawn_blocking(move || sandbox.dir.remove()).await)?;
            if let Err(left) = left {
                tracing::error!(error = %left, "cannot remove what a failed create left");
            }
            return Err(error);
        }
        Ok(self.begin(place, sandbox))
    }

    fn begin(&self, place: Place, sandbox: Arc<Sandbox>) -> Arc<Sandbox> {
        tracing::info!(session = %sandbox.key.id, dir = %sandbox.dir.path().display(), "created");
        place.fill(Arc::clone(&sandbox));
        sandbox
    }

    /// A directory for a sandbox, which will see the host as it is now.
    async fn make_directory(&self, id: SessionId) -> Result<SandboxDir, CallError> {
        let base = self.config.base_dir.clone();
        let uids = self.uids.clone();
        let reachable = self.isolation.tier != Tier::Full;
        let scene = self.scene.clone();
        let making = spawn_blocking(move || {
            let owner = uids.map(|uids| uids.reserve()).transpose()?;
            let dir = SandboxDir::create(&base, &id, owner, reachable)?;
            Ok::<_, CallError>((dir, scene.and_then(|scene| look_again(&scene))))
        });
        let (dir, changed) = joined(making.await)??;
        self.rebuild(changed).await;
        Ok(dir)
    }

    /// One that was made ahead, where there is one for these settings and the host is as it saw it.
    async fn spare(&self, settings: &Settings) -> Option<Spare> {
        if self.pool.size() == 0 {
            return None;
        }
        // Names on this machine's own disks: sooner looked at than handed to a thread.
        if self.scene.as_ref().is_some_and(|scene| scene.is_stale()) {
            self.refresh().await;
        }
        let bounds = Bounds::of(&settings.limits, &self.limits.defaults);
        self.pool.take(settings.network, &bounds)
    }

    /// Makes one ahead.
    ///
    /// # Errors
    /// As [`Daemon::create`]; nothing is left of it then.
    pub(crate) async fn make_spare(&self) -> Result<Spare, CallError> {
        let id = pool::NAME.parse().map_err(|_| CallError::Stopping)?;
        let dir = self.make_directory(id).await?;
        let network = match self.isolation.tier {
            Tier::Landlock => Network::None,
            Tier::Full | Tier::None => self.policy.network_default(),
        };
        let bounds = Bounds::of(&Default::default(), &self.limits.defaults);
        let confines = Arc::new(Confines::new(Arc::clone(&self.limits.enforcers), bounds));
        match start_init(&self.engine, &confines, &dir, network).await {
            Ok(init) => Ok(Spare::new(dir, confines, init, network)),
            Err(error) => {
                let removed = spawn_blocking(move || {
                    confines.give_up();
                    dir.remove()
                });
                joined(removed.await)??;
                Err(error.into())
            }
        }
    }
}
