//! Every sandbox of this daemon, by owner and session id.
//!
//! ```text
//!            create                 delete, expiry
//!   (none) ─────────→ creating ──→ ready ─────────→ deleting ──→ (none)
//!                        │           ↑ create again, touch
//!                        └─ failed: (none)
//! ```
//!
//! Who asks for a sandbox that is being made waits for it. Who creates one
//! that is being deleted waits for that, and then makes a new one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use noxrunner_protocol::SessionId;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, watch};

use super::{Key, Sandbox};
use crate::clock::Moment;

#[derive(Debug)]
enum Slot {
    Creating(Arc<Notify>),
    Ready(Arc<Sandbox>),
    Deleting(Arc<Notify>),
}

/// The sandboxes, and when the next of them expires.
#[derive(Debug)]
pub struct Registry {
    slots: Mutex<HashMap<Key, Slot>>,
    count: watch::Sender<usize>,
    // Nanoseconds of the boot clock that the reaper sleeps to; the maximum while it sleeps for ever.
    armed: AtomicU64,
    earlier: Notify,
}

/// What became of a wish to create.
#[derive(Debug)]
pub enum Entry {
    /// There is one.
    Exists(Arc<Sandbox>),
    /// There is none: make it, and fill the place.
    Vacant(Place),
}

/// A place that is taken for a sandbox in the making. Dropped unfilled, it is free again.
#[derive(Debug)]
pub struct Place {
    registry: Arc<Registry>,
    key: Key,
    filled: bool,
}

/// A sandbox on its way out: nobody finds it any more. Dropping this frees its name.
#[derive(Debug)]
pub struct Leaving {
    registry: Arc<Registry>,
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
}

/// Why a name leads to no sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// There is none.
    #[error("there is none")]
    NotFound,
    /// Several owners have one of that name.
    #[error("several users have one")]
    Ambiguous,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
            count: watch::Sender::new(0),
            armed: AtomicU64::new(u64::MAX),
            earlier: Notify::new(),
        }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sandbox of that name, renewed, or a place to make it in. Renewing
    /// and expiring exclude each other: what was renewed has not expired meanwhile.
    pub async fn entry(self: &Arc<Self>, key: &Key, renew: impl Fn(&Sandbox)) -> Entry {
        loop {
            let settled = {
                let mut slots = self.lock();
                match slots.get(key) {
                    Some(Slot::Ready(sandbox)) => {
                        renew(sandbox);
                        self.deadline_set(sandbox.deadline());
                        return Entry::Exists(Arc::clone(sandbox));
                    }
                    Some(Slot::Creating(settled) | Slot::Deleting(settled)) => wait_for(settled),
                    None => {
                        slots.insert(key.clone(), Slot::Creating(Arc::default()));
                        self.count.send_replace(slots.len());
                        let registry = Arc::clone(self);
                        return Entry::Vacant(Place { registry, key: key.clone(), filled: false });
                    }
                }
            };
            settled.await;
        }
    }

    /// The sandbox that a caller means: its own of that name, or for root the
    /// only one of that name.
    ///
    /// # Errors
    /// Where there is none, or root's choice is not clear.
    pub async fn find(&self, caller: u32, id: &SessionId) -> Result<Arc<Sandbox>, LookupError> {
        loop {
            let settled = {
                let slots = self.lock();
                match slots.get(&key_of(&slots, caller, id)?) {
                    Some(Slot::Ready(sandbox)) => return Ok(Arc::clone(sandbox)),
                    Some(Slot::Creating(settled)) => wait_for(settled),
                    Some(Slot::Deleting(_)) | None => return Err(LookupError::NotFound),
                }
            };
            settled.await;
        }
    }

    /// The sandbox that a caller means, its time to live started anew from `now()`. As with
    /// [`Registry::entry`], it has not expired meanwhile.
    ///
    /// # Errors
    /// As [`Registry::find`].
    pub async fn touch(
        &self,
        caller: u32,
        id: &SessionId,
        now: impl Fn() -> Moment,
    ) -> Result<Arc<Sandbox>, LookupError> {
        loop {
            let sandbox = self.find(caller, id).await?;
            let slots = self.lock();
            if matches!(slots.get(&sandbox.key), Some(Slot::Ready(there)) if Arc::ptr_eq(there, &sandbox))
            {
                let settings = sandbox.change(|settings| settings.touch(now()));
                self.deadline_set(settings.deadline);
                drop(slots);
                return Ok(sandbox);
            }
        }
    }

    /// Every sandbox that a caller may see: its own, or all of them for root.
    pub fn visible(&self, caller: u32) -> Vec<Arc<Sandbox>> {
        let slots = self.lock();
        let ready = slots.iter().filter_map(|(key, slot)| match slot {
            Slot::Ready(sandbox) if caller == 0 || key.owner == caller => Some(Arc::clone(sandbox)),
            Slot::Ready(_) | Slot::Creating(_) | Slot::Deleting(_) => None,
        });
        let mut ready: Vec<Arc<Sandbox>> = ready.collect();
        ready.sort_by(|a, b| (&a.key.id, a.key.owner).cmp(&(&b.key.id, b.key.owner)));
        ready
    }

    /// How many those are.
    pub fn visible_count(&self, caller: u32) -> usize {
        let slots = self.lock();
        let ready = |(key, slot): &(&Key, &Slot)| {
            matches!(slot, Slot::Ready(_)) && (caller == 0 || key.owner == caller)
        };
        slots.iter().filter(ready).count()
    }

    /// Waits until no sandbox is in the making or on its way out.
    pub async fn settled(&self) {
        loop {
            let settled = {
                let slots = self.lock();
                let mut waits = slots.values().filter_map(|slot| match slot {
                    Slot::Creating(settled) | Slot::Deleting(settled) => Some(wait_for(settled)),
                    Slot::Ready(_) => None,
                });
                waits.next()
            };
            match settled {
                Some(settled) => settled.await,
                None => return,
            }
        }
    }

    /// How many sandboxes there are, those in the making and on their way out too.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Takes this very sandbox out of reach, for its deletion. `None` where somebody else did.
    pub fn remove(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Option<Leaving> {
        self.leave(&mut self.lock(), sandbox)
    }

    /// Takes every sandbox out of reach whose time is over.
    pub fn remove_expired(self: &Arc<Self>, boot: Duration) -> Vec<Leaving> {
        let mut slots = self.lock();
        let expired: Vec<Arc<Sandbox>> = ready(&slots).filter(|s| s.deadline() <= boot).collect();
        expired.iter().filter_map(|sandbox| self.leave(&mut slots, sandbox)).collect()
    }

    fn leave(
        self: &Arc<Self>,
        slots: &mut HashMap<Key, Slot>,
        sandbox: &Arc<Sandbox>,
    ) -> Option<Leaving> {
        let slot = slots.get_mut(&sandbox.key)?;
        if !matches!(slot, Slot::Ready(there) if Arc::ptr_eq(there, sandbox)) {
            return None;
        }
        *slot = Slot::Deleting(Arc::default());
        Some(Leaving { registry: Arc::clone(self), sandbox: Arc::clone(sandbox) })
    }

    /// The earliest deadline, by the boot clock, to sleep to until [`Registry::earlier`] says otherwise.
    pub fn arm(&self) -> Option<Duration> {
        // Forgotten first: a deadline set from here on announces itself.
        self.armed.store(u64::MAX, Ordering::SeqCst);
        let next = ready(&self.lock()).map(|sandbox| sandbox.deadline()).min();
        if let Some(next) = next {
            self.armed.fetch_min(nanos(next), Ordering::SeqCst);
        }
        next
    }

    /// Waits until a deadline is set that is earlier than the one last armed.
    pub async fn earlier(&self) {
        self.earlier.notified().await;
    }

    /// Says that a sandbox has a new deadline.
    pub fn deadline_set(&self, deadline: Duration) {
        let at = nanos(deadline);
        if self.armed.fetch_min(at, Ordering::SeqCst) > at {
            self.earlier.notify_one();
        }
    }

    fn free(&self, key: &Key) {
        let mut slots = self.lock();
        if let Some(Slot::Creating(settled) | Slot::Deleting(settled)) = slots.remove(key) {
            settled.notify_waiters();
        }
        self.count.send_replace(slots.len());
    }
}

/// A wait that cannot miss what it waits for: made while the registry is locked.
fn wait_for(settled: &Arc<Notify>) -> OwnedNotified {
    Arc::clone(settled).notified_owned()
}

fn nanos(boot: Duration) -> u64 {
    boot.as_nanos().try_into().unwrap_or(u64::MAX)
}

fn ready(slots: &HashMap<Key, Slot>) -> impl Iterator<Item = Arc<Sandbox>> {
    slots.values().filter_map(|slot| match slot {
        Slot::Ready(sandbox) => Some(Arc::clone(sandbox)),
        Slot::Creating(_) | Slot::Deleting(_) => None,
    })
}

fn key_of(slots: &HashMap<Key, Slot>, caller: u32, id: &SessionId) -> Result<Key, LookupError> {
    let own = Key { owner: caller, id: id.clone() };
    if caller != 0 || slots.contains_key(&own) {
        return Ok(own);
    }
    let mut others = slots.keys().filter(|key| key.id == *id);
    match (others.next(), others.next()) {
        (None, _) => Err(LookupError::NotFound),
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => Err(LookupError::Ambiguous),
    }
}

impl Place {
    /// Puts the sandbox in; from now on it can be found.
    pub fn fill(mut self, sandbox: Arc<Sandbox>) {
        let deadline = sandbox.deadline();
        let before = self.registry.lock().insert(self.key.clone(), Slot::Ready(sandbox));
        self.filled = true;
        if let Some(Slot::Creating(settled)) = before {
            settled.notify_waiters();
        }
        self.registry.deadline_set(deadline);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.filled {
            self.registry.free(&self.key);
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.registry.free(&self.sandbox.key);
    }
}

#[cfg(test)]
mod tests;
