//! How much the answers of one connection may take together, from when their
//! calls begin until the client has taken them.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted by, in bytes.
const UNIT: usize = 1024;

/// How many of the longest answers a connection may have under way.
const LONGEST: usize = 8;

/// The room of one connection. Clones share it.
#[derive(Debug, Clone)]
pub struct Room {
    units: Arc<Semaphore>,
    all: u32,
}

/// What an answer has of its connection's room, until it is dropped.
#[derive(Debug, Default)]
#[must_use = "the room is free again when this is dropped"]
pub struct Bill(Option<OwnedSemaphorePermit>);

impl Room {
    /// For answers of which the longest has so many bytes.
    pub fn new(longest: usize) -> Self {
        let all = units(longest.saturating_mul(LONGEST));
        Self { units: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// Takes room for an answer, after those who asked earlier. What is larger than all of the
    /// room waits until all of it is free.
    pub async fn take(&self, bytes: usize) -> Bill {
        let units = units(bytes).min(self.all);
        // Nobody closes it.
        Bill(Arc::clone(&self.units).acquire_many_owned(units).await.ok())
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl Bill {
    /// For what is too small to count.
    pub fn none() -> Self {
        Self(None)
    }

    /// Gives back what is more than so many bytes.
    pub fn settle(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let spare = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(spare));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn room_is_given_back_in_part_and_in_full() {
        let room = Room::new(UNIT);
        let mut all = room.take(usize::MAX).await;
        assert!(room.take(1).now_or_never().is_none());
        all.settle((LONGEST - 1) * UNIT);
        let one = room.take(1).now_or_never().unwrap();
        assert!(room.take(1).now_or_never().is_none());
        drop(all);
        assert!(room.take((LONGEST - 1) * UNIT).now_or_never().is_some());
        drop(one);
        assert!(room.take(LONGEST * UNIT).now_or_never().is_some());
    }
}
