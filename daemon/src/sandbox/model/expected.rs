//! The model: what there is to be, without files, locks and tasks.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Who;
use crate::clock::Moment;
use crate::sandbox::Key;
use crate::sandbox::registry::LookupError;

/// A directory, by the order in which they came.
pub(super) type Dir = usize;

/// Whose time may be looked at: users with two sessions each, whose directories are named alike.
const OWNERS: [u32; 2] = [7, 8];
const IDS: [&str; 2] = ["s/", "s_"];

/// What a directory's manifest says.
#[derive(Debug, Clone)]
pub(super) enum Paper {
    /// A sandbox.
    Says { key: Key, created: SystemTime, ttl: Duration, expires_ms: u128, deleting: bool },
    /// Nothing yet.
    Blank,
    /// The Python tool has none.
    Python { old: bool },
    /// That it is another directory's.
    Copied,
}

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Creating,
    Ready,
    Deleting { marked: bool },
}

/// A sandbox of the daemon that runs.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) dir: Dir,
    pub(super) created: SystemTime,
    pub(super) ttl: Duration,
    pub(super) deadline: Duration,
    pub(super) expires: SystemTime,
}

/// What a sweep comes to.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) adopted: BTreeMap<Dir, (Key, Slot)>,
    pub(super) doomed: Vec<Dir>,
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) now: Moment,
    pub(super) keys: Vec<Key>,
    pub(super) slots: BTreeMap<Key, Slot>,
    pub(super) disk: BTreeMap<Dir, Paper>,
    next: Dir,
}

impl Expected {
    pub(super) fn new() -> Self {
        let key = |owner, id: &str| Key { owner, id: id.parse().unwrap() };
        let keys = OWNERS.iter().flat_map(|owner| IDS.iter().map(|id| key(*owner, id))).collect();
        // What the kernel dates in the directory is dated now.
        let now = Moment { boot: Duration::new(1000, 5), wall: SystemTime::now() };
        Self { now, keys, slots: BTreeMap::new(), disk: BTreeMap::new(), next: 0 }
    }

    pub(super) fn key(&self, who: Who) -> Key {
        self.keys[who % self.keys.len()].clone()
    }

    pub(super) fn slot(&mut self, who: Who) -> Option<&mut Slot> {
        self.slots.get_mut(&self.key(who))
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.boot += time;
        self.now.wall += time;
    }

    pub(super) fn set_wall(&mut self, seconds: i32) {
        let by = Duration::from_secs(seconds.unsigned_abs().into());
        self.now.wall = if seconds < 0 { self.now.wall - by } else { self.now.wall + by };
    }

    /// A new directory.
    pub(super) fn directory(&mut self, paper: Paper) -> Dir {
        self.next += 1;
        self.disk.insert(self.next, paper);
        self.next
    }

    pub(super) fn begin(&mut self, key: Key, ttl: Duration) -> Dir {
        let dir = self.directory(Paper::Blank);
        let (created, state) = (self.now.wall, State::Creating);
        let (deadline, expires) = (self.now.boot + ttl, self.now.wall + ttl);
        self.slots.insert(key, Slot { state, dir, created, ttl, deadline, expires });
        dir
    }

    /// Starts a time to live anew.
    pub(super) fn renew(&mut self, key: &Key, ttl: Option<Duration>) {
        let now = self.now;
        let slot = self.slots.get_mut(key).unwrap();
        slot.ttl = ttl.unwrap_or(slot.ttl);
        (slot.deadline, slot.expires) = (now.boot + slot.ttl, now.wall + slot.ttl);
    }

    /// Writes a sandbox's manifest; a note of its deletion stays.
    pub(super) fn save(&mut self, key: &Key) {
        let slot = &self.slots[key];
        let deleting = slot.state == State::Deleting { marked: true };
        if deleting && matches!(self.disk[&slot.dir], Paper::Says { deleting: true, .. }) {
            return;
        }
        let expires_ms = slot.expires.duration_since(UNIX_EPOCH).unwrap().as_millis();
        let (key, created, ttl) = (key.clone(), slot.created, slot.ttl);
        let paper = Paper::Says { key, created, ttl, expires_ms, deleting };
        self.disk.insert(slot.dir, paper);
    }

    pub(super) fn mark(&mut self, key: &Key) {
        self.slots.get_mut(key).unwrap().state = State::Deleting { marked: true };
        self.save(key);
    }

    /// Whose time is over by the boot clock, as the reaper sees it.
    pub(super) fn expired(&self) -> Vec<Key> {
        let over = |slot: &Slot| slot.state == State::Ready && slot.deadline <= self.now.boot;
        self.slots.iter().filter(|(_, slot)| over(slot)).map(|(key, _)| key.clone()).collect()
    }

    /// When the reaper is to wake at the latest.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let ready = self.slots.values().filter(|slot| slot.state == State::Ready);
        ready.map(|slot| slot.deadline).min()
    }

    /// A sweep through what no daemon has a hold on. What is to go is noted before it goes.
    pub(super) fn sweep(&mut self, first: bool) -> Swept {
        let mut swept = Swept::default();
        let held: Vec<Dir> = self.slots.values().map(|slot| slot.dir).collect();
        for (dir, paper) in self.disk.iter_mut().filter(|(dir, _)| !held.contains(dir)) {
            match paper {
                Paper::Says { key, created, ttl, expires_ms, deleting } => {
                    let expires =
                        UNIX_EPOCH + Duration::from_millis((*expires_ms).try_into().unwrap());
                    *deleting |= expires <= self.now.wall;
                    if *deleting {
                        swept.doomed.push(*dir);
                        continue;
                    }
                    if !first {
                        continue;
                    }
                    // What is left of its time by the wall clock, never more than its time to
                    // live; and the next daemon is not to give it as much again.
                    let left = expires.duration_since(self.now.wall).unwrap().min(*ttl);
                    let (deadline, expires) = (self.now.boot + left, self.now.wall + left);
                    *expires_ms = expires.duration_since(UNIX_EPOCH).unwrap().as_millis();
                    let (created, ttl, state) = (*created, *ttl, State::Ready);
                    let slot = Slot { state, dir: *dir, created, ttl, deadline, expires };
                    swept.adopted.insert(*dir, (key.clone(), slot));
                }
                Paper::Blank if first => swept.doomed.push(*dir),
                Paper::Python { old: true } => swept.doomed.push(*dir),
                Paper::Blank | Paper::Python { old: false } | Paper::Copied => {}
            }
        }
        swept
    }

    /// Takes over what a sweep found. Whether it did: of two for one session it takes the newer.
    pub(super) fn adopt(&mut self, (key, slot): (Key, Slot)) -> bool {
        if let Some(newer) = self.slots.get(&key) {
            assert!(newer.created > slot.created, "{} is newer than {}", slot.dir, newer.dir);
            return false;
        }
        self.slots.insert(key, slot).is_none()
    }

    /// Whom a caller means; `None` while it is not known yet.
    pub(super) fn find(&self, caller: u32, key: &Key) -> Option<Result<Dir, LookupError>> {
        let own = Key { owner: caller, id: key.id.clone() };
        let mut there: Vec<&Slot> = self.slots.get(&own).into_iter().collect();
        if caller == 0 {
            let named = self.slots.iter().filter(|(other, _)| other.id == key.id);
            there = named.map(|(_, slot)| slot).collect();
        }
        match there[..] {
            [] => Some(Err(LookupError::NotFound)),
            [slot] => match slot.state {
                State::Creating => None,
                State::Ready => Some(Ok(slot.dir)),
                State::Deleting { .. } => Some(Err(LookupError::NotFound)),
            },
            _ => Some(Err(LookupError::Ambiguous)),
        }
    }

    /// Directories that no daemon can know for sandboxes that go on or are over.
    pub(super) fn lasting(&self) -> usize {
        let lasts = |paper: &&Paper| !matches!(paper, Paper::Python { old: false } | Paper::Copied);
        self.disk.values().filter(lasts).count()
    }
}
