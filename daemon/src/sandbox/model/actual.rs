//! What there is: the daemon's own parts in a directory for the test, told what to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use noxrunner_protocol::types::{CreateParams, Network, Tier};

use super::expected::{Dir, Expected, Paper, State};
use super::{Step, Who};
use crate::clock::Moment;
use crate::limits::{Defaults, Enforcers, Limiting};
use crate::sandbox::adopt::{Rule, Sweep, sweep};
use crate::sandbox::dir::SandboxDir;
use crate::sandbox::registry::{Entry, Leaving, Place, Registry};
use crate::sandbox::{Base, Key, Sandbox, Settings, manifest};

/// More than the steps of a run set the clock by.
pub(super) const STALE_AFTER: Duration = Duration::from_secs(86_400);

const NANOSECOND: Duration = Duration::from_nanos(1);

pub(super) const SINGS: &str = "sings";

pub(super) struct Actual {
    pub(super) base: tempfile::TempDir,
    /// A file that nothing is to write to.
    pub(super) canary: PathBuf,
    limits: Limiting,
    pub(super) dirs: BTreeMap<PathBuf, Dir>,
    /// From here on it is the daemon's, and gone when it is killed.
    registry: Arc<Registry>,
    begun: HashMap<Key, (Place, Arc<Sandbox>)>,
    leaving: HashMap<Key, Leaving>,
    /// What the reaper sleeps to.
    alarm: Option<Duration>,
}

fn params(key: &Key, ttl: Option<u32>) -> CreateParams {
    let mut params = CreateParams::new(key.id.clone());
    if let Some(ttl) = ttl {
        params.ttl_seconds = u64::from(ttl).try_into().unwrap();
    }
    params
}

pub(super) fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

impl Actual {
    pub(super) fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let canary = base.path().join("canary");
        fs::write(&canary, SINGS).unwrap();
        let limits = Limiting {
            defaults: Defaults::built_in(),
            enforcers: Arc::new(Enforcers::new(None, Tier::None, true)),
        };
        let registry: Arc<Registry> = Arc::default();
        let alarm = registry.arm();
        Self {
            base,
            canary,
            limits,
            dirs: BTreeMap::new(),
            registry,
            begun: HashMap::new(),
            leaving: HashMap::new(),
            alarm,
        }
    }

    /// Takes a step, and has the model take it.
    pub(super) fn take(&mut self, step: &Step, expected: &mut Expected) {
        match *step {
            Step::Pass(ms) => expected.pass(Duration::from_millis(ms.into())),
            Step::PassTo(who, by) => {
                if let Some(slot) = expected.slot(who)
                    && let at = slot.deadline + Duration::from_nanos(by)
                    && let Some(time) = at.checked_sub(expected.now.boot + NANOSECOND)
                {
                    expected.pass(time);
                }
            }
            Step::SetWall(by) => expected.set_wall(by),
            Step::Create(who, ttl) => {
                self.create(expected, who, ttl);
                if self.begun.contains_key(&expected.key(who)) {
                    self.finish_create(expected, who, true);
                }
            }
            Step::BeginCreate(who, ttl) => self.create(expected, who, ttl),
            Step::FinishCreate(who, well) => self.finish_create(expected, who, well),
            Step::Touch(who, saved) => self.touch(expected, who, saved),
            Step::Save(who) => self.save(expected, who),
            Step::Remove(who) => self.remove(expected, who),
            Step::Mark(who) => self.mark(expected, &expected.key(who)),
            Step::Half(who) => self.half(expected, who),
            Step::Finish(who) => self.finish(expected, &expected.key(who)),
            Step::Wake(clear) => self.wake(expected, clear),
            Step::Sweep => self.sweep(expected, false),
            Step::Intruder => self.intrude(expected),
            Step::Python(old) => self.python(expected, old),
            Step::First(ttl) => self.first_version(expected, ttl),
            Step::Copy(who) => self.copy(expected, who),
            Step::Crash { litter, dead, wall, cut } => {
                self.crash(expected);
                self.litter(litter);
                expected.pass(Duration::from_millis(dead.into()));
                expected.set_wall(wall);
                if cut {
                    drop(self.look(expected.now, true));
                    expected.sweep(true);
                    // Whatever the clock says to the next.
                    expected.set_wall(-wall - 500);
                }
                self.start(expected);
            }
        }
    }

    /// Puts something to keep into a directory.
    pub(super) fn name(&mut self, path: &Path, dir: Dir) {
        fs::create_dir_all(path.join("workspace")).unwrap();
        fs::write(path.join("workspace/kept"), dir.to_string()).unwrap();
        self.dirs.insert(path.to_owned(), dir);
    }

    pub(super) fn path(&self, dir: Dir) -> PathBuf {
        let (path, _) = self.dirs.iter().find(|(_, other)| **other == dir).unwrap();
        path.clone()
    }

    fn create(&mut self, expected: &mut Expected, who: Who, ttl: u32) {
        let (key, now) = (expected.key(who), expected.now);
        let mut params = params(&key, Some(ttl));
        let renew = |sandbox: &Sandbox| drop(sandbox.change(|all| all.renew(&params, now)));
        let entry = self.registry.entry(&key, renew).now_or_never();
        match expected.slots.get(&key).map(|slot| slot.state) {
            None => {
                let Some(Entry::Vacant(place)) = entry else { panic!("{key:?} is not vacant") };
                let dir = SandboxDir::create(self.base.path(), &key.id, None, false).unwrap();
                let number = expected.begin(key.clone(), seconds(ttl));
                self.name(dir.path(), number);
                params.env = Some([("DIR".to_owned(), number.to_string())].into());
                let settings = Settings::new(&params, Network::None, now);
                let sandbox = Sandbox::new(key.clone(), dir, now.wall, settings, &self.limits);
                self.begun.insert(key, (place, Arc::new(sandbox)));
            }
            Some(State::Ready) => {
                let Some(Entry::Exists(sandbox)) = entry else { panic!("{key:?} is not there") };
                sandbox.save().unwrap();
                expected.renew(&key, Some(seconds(ttl)));
                expected.save(&key);
            }
            Some(State::Creating | State::Deleting { .. }) => assert!(entry.is_none(), "{key:?}"),
        }
    }

    fn finish_create(&mut self, expected: &mut Expected, who: Who, well: bool) {
        let key = expected.key(who);
        let Some((place, sandbox)) = self.begun.remove(&key) else { return };
        if well {
            sandbox.save().unwrap();
            place.fill(sandbox);
            expected.save(&key);
            expected.slot(who).unwrap().state = State::Ready;
        } else {
            sandbox.dir.remove().unwrap();
            drop(place);
            let slot = expected.slots.remove(&key).unwrap();
            expected.disk.remove(&slot.dir);
        }
    }

    fn touch(&mut self, expected: &mut Expected, who: Who, saved: bool) {
        let key = expected.key(who);
        let touched = self.registry.touch(key.owner, &key.id, || expected.now).now_or_never();
        let there = expected.find(key.owner, &key);
        let touched =
            touched.map(|touched| touched.map(|sandbox| (self.number(&sandbox), sandbox)));
        let number = |touched: &Result<(Dir, Arc<Sandbox>), _>| {
            touched.as_ref().map(|(dir, _)| *dir).map_err(|error| *error)
        };
        assert_eq!(touched.as_ref().map(number), there, "{key:?}");
        if let Some(Ok((_, sandbox))) = touched {
            expected.renew(&key, None);
            if saved {
                sandbox.save().unwrap();
                expected.save(&key);
            }
        }
    }

    /// A sandbox that is there or on its way out.
    fn held(&self, key: &Key) -> Option<Arc<Sandbox>> {
        let leaving = self.leaving.get(key).map(|leaving| Arc::clone(&leaving.sandbox));
        let found = || self.registry.find(key.owner, &key.id).now_or_never()?.ok();
        leaving.or_else(found)
    }

    fn save(&mut self, expected: &mut Expected, who: Who) {
        let key = expected.key(who);
        if let Some(sandbox) = self.held(&key) {
            sandbox.save().unwrap();
            expected.save(&key);
        }
    }

    fn remove(&mut self, expected: &mut Expected, who: Who) {
        let key = expected.key(who);
        let Some(Ok(sandbox)) = self.registry.find(key.owner, &key.id).now_or_never() else {
            return;
        };
        let leaving = self.registry.remove(&sandbox).unwrap();
        assert!(self.registry.remove(&sandbox).is_none(), "{key:?} leaves twice");
        self.leaving.insert(key, leaving);
        expected.slot(who).unwrap().state = State::Deleting { marked: false };
    }

    fn mark(&mut self, expected: &mut Expected, key: &Key) {
        if let Some(leaving) = self.leaving.get(key) {
            leaving.sandbox.save_deleting().unwrap();
            expected.mark(key);
        }
    }

    fn half(&mut self, expected: &mut Expected, who: Who) {
        let key = expected.key(who);
        if expected.slot(who).is_some_and(|slot| slot.state == State::Deleting { marked: true }) {
            let workspace = self.leaving[&key].sandbox.dir.path().join("workspace");
            let _ = fs::remove_dir_all(workspace);
        }
    }

    fn finish(&mut self, expected: &mut Expected, key: &Key) {
        self.mark(expected, key);
        if let Some(leaving) = self.leaving.remove(key) {
            leaving.sandbox.dir.remove().unwrap();
            drop(leaving);
            let slot = expected.slots.remove(key).unwrap();
            expected.disk.remove(&slot.dir);
        }
    }

    /// What wakes the reaper beside its alarm.
    fn hear(&mut self) {
        while self.registry.earlier().now_or_never().is_some() {
            self.alarm = self.registry.arm();
        }
    }

    fn wake(&mut self, expected: &mut Expected, clear: bool) {
        self.hear();
        if self.alarm.is_none_or(|alarm| alarm > expected.now.boot) {
            return;
        }
        let leaving = self.registry.remove_expired(expected.now.boot);
        let mut keys: Vec<Key> = leaving.iter().map(|it| it.sandbox.key.clone()).collect();
        keys.sort();
        assert_eq!(keys, expected.expired());
        for (key, leaving) in leaving.into_iter().map(|it| (it.sandbox.key.clone(), it)) {
            expected.slots.get_mut(&key).unwrap().state = State::Deleting { marked: false };
            self.leaving.insert(key.clone(), leaving);
            if clear {
                self.finish(expected, &key);
            }
        }
        self.alarm = self.registry.arm();
        assert_eq!(self.alarm, expected.next_deadline());
    }

    fn look(&self, now: Moment, first: bool) -> Sweep {
        let base = Base {
            path: self.base.path(),
            uid: nix::unistd::geteuid().as_raw(),
            uids: None,
            reachable: false,
            limits: &self.limits,
        };
        sweep(&base, now, Rule { stale_after: STALE_AFTER, nobody_creates: first }).unwrap()
    }

    fn number(&self, sandbox: &Sandbox) -> Dir {
        self.dirs[sandbox.dir.path()]
    }

    fn sweep(&mut self, expected: &mut Expected, first: bool) {
        let swept = self.look(expected.now, first);
        let mut to_be = expected.sweep(first);
        let mut adopted: Vec<Dir> = swept.adopted.iter().map(|it| self.number(it)).collect();
        let mut doomed: Vec<Dir> =
            swept.doomed.iter().map(|(dir, _)| self.dirs[dir.path()]).collect();
        adopted.sort_unstable();
        doomed.sort_unstable();
        to_be.doomed.sort_unstable();
        let to_adopt: Vec<Dir> = to_be.adopted.keys().copied().collect();
        assert_eq!((adopted, doomed), (to_adopt, to_be.doomed));
        let young = |paper: &Paper| matches!(paper, Paper::Python { old: false });
        assert_eq!(swept.next_due.is_some(), expected.disk.values().any(young));
        for sandbox in swept.adopted {
            let entry = self.registry.entry(&sandbox.key, |_| ()).now_or_never();
            let adopted = to_be.adopted.remove(&self.number(&sandbox)).unwrap();
            match (entry, expected.adopt(adopted)) {
                (Some(Entry::Vacant(place)), true) => place.fill(Arc::new(sandbox)),
                // It is let go.
                (Some(Entry::Exists(_)), false) => {}
                other => panic!("{:?}: {other:?}", sandbox.key),
            }
        }
        for (dir, _) in swept.doomed {
            expected.disk.remove(&self.dirs[dir.path()]);
            dir.remove().unwrap();
        }
    }

    /// What is held is not even looked at. The other's decisions are never carried out, but
    /// what it found to be over stays so.
    fn intrude(&self, expected: &mut Expected) {
        let swept = self.look(expected.now, true);
        let live: Vec<Dir> = expected.slots.values().map(|slot| slot.dir).collect();
        let taken = swept.adopted.iter().map(|it| self.number(it));
        let doomed = swept.doomed.iter().map(|(dir, _)| self.dirs[dir.path()]);
        assert!(taken.chain(doomed).all(|dir| !live.contains(&dir)), "{live:?}");
        expected.sweep(true);
    }

    fn crash(&mut self, expected: &mut Expected) {
        // A process that is killed does nothing more, but its locks go.
        let leaving = std::mem::take(&mut self.leaving);
        self.begun.clear();
        drop(leaving);
        self.registry = Arc::default();
        expected.slots.clear();
    }

    fn start(&mut self, expected: &mut Expected) {
        self.registry = Arc::default();
        self.sweep(expected, true);
        self.alarm = self.registry.arm();
    }

    /// Whether everything is as the model has it.
    pub(super) fn check(&mut self, expected: &Expected, when: &str) {
        let ready = expected.slots.iter().filter(|(_, slot)| slot.state == State::Ready);
        let ready: BTreeMap<&Key, _> = ready.collect();
        let visible = self.registry.visible(0);
        let keys: BTreeSet<&Key> = visible.iter().map(|sandbox| &sandbox.key).collect();
        assert_eq!(keys, ready.keys().copied().collect(), "{when}");
        for sandbox in &visible {
            let (slot, settings) = (ready[&sandbox.key], sandbox.settings());
            assert_eq!(self.number(sandbox), slot.dir, "{when}");
            assert_eq!(settings.ttl.duration(), slot.ttl, "{when}");
            assert_eq!(settings.deadline, slot.deadline, "{when}");
            assert_eq!(settings.expires_at, slot.expires, "{when}");
            assert!(settings.deadline <= expected.now.boot + slot.ttl, "{when}");
            assert_eq!(settings.env["DIR"], slot.dir.to_string(), "{when}");
            let path = sandbox.dir.path();
            let kept = fs::read_to_string(path.join("workspace/kept")).unwrap();
            assert_eq!(kept, slot.dir.to_string(), "{when}");
            assert!(!path.join("staging").exists(), "{when}");
        }
        for (caller, key) in
            [0, 7, 8, 9].iter().flat_map(|uid| expected.keys.iter().map(|key| (*uid, key)))
        {
            let found = self.registry.find(caller, &key.id).now_or_never();
            let found = found.map(|found| found.map(|sandbox| self.number(&sandbox)));
            assert_eq!(found, expected.find(caller, key), "{when}: {key:?} for {caller}");
        }
        assert_eq!(*self.registry.count().borrow(), expected.slots.len(), "{when}");
        let settled = self.registry.settled().now_or_never().is_some();
        assert_eq!(settled, ready.len() == expected.slots.len(), "{when}");

        for (dir, paper) in &expected.disk {
            let Paper::Says { key, ttl, expires_ms, deleting, .. } = paper else { continue };
            let text = fs::read(self.path(*dir).join(manifest::NAME)).unwrap();
            let says: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(says["sessionId"], key.id.as_str(), "{when}");
            assert_eq!(says["ttlSeconds"], ttl.as_secs(), "{when}");
            assert_eq!(says["expiresAtMs"].as_u64().map(u128::from), Some(*expires_ms), "{when}");
            assert_eq!(says["deleting"], *deleting, "{when}");
        }

        self.hear();
        if let Some(next) = expected.next_deadline() {
            assert!(self.alarm.is_some_and(|alarm| alarm <= next), "the reaper oversleeps {when}");
        }
        let entries = fs::read_dir(self.base.path()).unwrap().map(|entry| entry.unwrap().path());
        let there: BTreeSet<Dir> =
            entries.filter(|path| *path != self.canary).map(|path| self.dirs[&path]).collect();
        assert_eq!(there, expected.disk.keys().copied().collect(), "{when}");
        assert_eq!(fs::read_to_string(&self.canary).unwrap(), SINGS, "{when}");
    }
}
