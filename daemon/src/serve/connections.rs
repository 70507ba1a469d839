//! Who is connected, and who makes room when another comes and there are too many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

/// All connections of a daemon.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    // Counts uses: which came last is all that matters, and a clock costs more.
    uses: AtomicU64,
    open: Mutex<Open>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    all: HashMap<u64, Arc<Shared>>,
}

/// What a connection tells of itself.
#[derive(Debug, Default)]
struct Shared {
    /// What is under way on it.
    busy: AtomicUsize,
    /// Which use of any connection was its last.
    used: AtomicU64,
    /// Told when it is to make room.
    unwanted: Notify,
}

/// A connection that counts for as long as it is open.
#[derive(Debug)]
pub struct Connected {
    connections: Arc<Connections>,
    number: u64,
    shared: Arc<Shared>,
}

/// Something that is under way on a connection, which is not idle meanwhile.
#[derive(Debug)]
pub struct Busy {
    connections: Arc<Connections>,
    shared: Arc<Shared>,
}

impl Connections {
    /// None yet, and never more than so many.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            uses: AtomicU64::new(0),
            open: Mutex::default(),
            count: watch::Sender::new(0),
        })
    }

    /// How many there are, now and from now on.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// How many there may be.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Counts one more. Where there are too many, the one that has been idle longest is told to
    /// make room and counts no longer; `None` where none is idle.
    pub fn admit(self: &Arc<Self>) -> Option<Connected> {
        let mut open = self.open();
        if open.all.len() >= self.most {
            let idle = open.all.iter().filter(|(_, s)| s.busy.load(Ordering::Relaxed) == 0);
            let longest = idle.min_by_key(|(_, s)| s.used.load(Ordering::Relaxed));
            let number = *longest?.0;
            if let Some(unwanted) = open.all.remove(&number) {
                unwanted.unwanted.notify_one();
            }
        }
        let (number, shared) = (open.next, Arc::new(Shared::default()));
        open.next += 1;
        self.note(&shared);
        open.all.insert(number, Arc::clone(&shared));
        self.tell(&open);
        Some(Connected { connections: Arc::clone(self), number, shared })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, open: &Open) {
        self.count.send_replace(open.all.len());
    }

    fn note(&self, shared: &Shared) {
        shared.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Connected {
    /// Says that it was just used.
    pub fn used(&self) {
        self.connections.note(&self.shared);
    }

    /// Says that something is under way until what is given is dropped.
    pub fn busy(&self) -> Busy {
        self.shared.busy.fetch_add(1, Ordering::Relaxed);
        Busy { connections: Arc::clone(&self.connections), shared: Arc::clone(&self.shared) }
    }

    /// Waits until the connection is to make room for another.
    pub async fn unwanted(&self) {
        self.shared.unwanted.notified().await;
        tracing::debug!("closing an idle connection to make room for another");
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.all.remove(&self.number);
        self.connections.tell(&open);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.connections.note(&self.shared);
        self.shared.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn the_one_that_is_idle_longest_makes_room() {
        let connections = Connections::new(3);
        let a = connections.admit().unwrap();
        let b = connections.admit().unwrap();
        let c = connections.admit().unwrap();
        let count = connections.count();
        let unwanted = |one: &Connected| one.unwanted().now_or_never().is_some();
        assert!(![&a, &b, &c].into_iter().any(unwanted));
        // Busy once is idle from its end on.
        drop(a.busy());
        let busy = c.busy();
        let d = connections.admit().unwrap();
        assert!(unwanted(&b) && !unwanted(&a) && !unwanted(&c) && *count.borrow() == 3);
        let others = [a.busy(), d.busy()];
        assert!(connections.admit().is_none(), "none is idle");
        drop(busy);
        let e = connections.admit().unwrap();
        assert!(unwanted(&c) && *count.borrow() == 3);
        drop((a, b, c, d, e, others));
        assert_eq!(*count.borrow(), 0);
    }
}
