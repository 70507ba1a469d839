//! What the front has seen of sandboxes. The backend's API neither lists nor describes them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use noxrunner_protocol::SessionId;
use noxrunner_protocol::ids::TtlSeconds;
use noxrunner_protocol::types::{
    CreateResult, Isolation, Limits, SandboxInfo, SandboxState, Usage,
};
use tokio::sync::watch;

use crate::clock::{Moment, rfc3339};

/// How many are remembered; of more, those that expire first are forgotten.
const MOST: usize = 10_000;

/// All sandboxes seen, by the ids that the backend knows them by.
#[derive(Debug)]
pub(super) struct Known {
    sandboxes: Mutex<BTreeMap<SessionId, Seen>>,
    count: watch::Sender<usize>,
}

/// A sandbox, as it was when it was last made or touched.
#[derive(Debug, Clone)]
struct Seen {
    owner: u32,
    /// The id that its owner knows it by.
    id: SessionId,
    pod_name: String,
    image: Option<String>,
    ttl: TtlSeconds,
    since: SystemTime,
    /// As the backend writes it.
    expires_at: String,
    expires: Moment,
    sandbox_dir: String,
    isolation: Isolation,
    limits: Limits,
    execs: Arc<()>,
}

/// A command that is running. It counts until this is dropped.
#[derive(Debug)]
pub(super) struct Running(#[expect(dead_code, reason = "it is counted")] Option<Arc<()>>);

impl Default for Known {
    fn default() -> Self {
        Self { sandboxes: Mutex::default(), count: watch::Sender::new(0) }
    }
}

impl Known {
    /// How many there are, now and from now on.
    pub(super) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// One was made or renewed.
    pub(super) fn created(
        &self,
        upstream: &SessionId,
        owner: u32,
        id: &SessionId,
        ttl: TtlSeconds,
        image: Option<String>,
        result: &CreateResult,
    ) {
        let mut all = self.lock();
        let before = all.get(upstream).filter(|_| !result.created);
        let seen = Seen {
            owner,
            id: id.clone(),
            pod_name: result.pod_name.clone(),
            image: image.or_else(|| before.and_then(|seen| seen.image.clone())),
            ttl,
            since: before.map_or_else(SystemTime::now, |seen| seen.since),
            expires_at: result.expires_at.clone(),
            expires: expiry(&result.expires_at, ttl.duration()),
            sandbox_dir: result.sandbox_dir.clone(),
            isolation: result.isolation.clone(),
            limits: result.limits.clone(),
            execs: before.map_or_else(Arc::default, |seen| Arc::clone(&seen.execs)),
        };
        all.insert(upstream.clone(), seen);
        if all.len() > MOST
            && let Some(first) = all.iter().min_by_key(|(_, seen)| seen.expires.boot)
        {
            let first = first.0.clone();
            all.remove(&first);
        }
        self.tell(&all);
    }

    /// Whether one of that name was seen and has not expired.
    pub(super) fn has(&self, upstream: &SessionId) -> bool {
        self.lock().contains_key(upstream)
    }

    /// One was touched. The answer is when it expires, as far as that is known: the backend need
    /// not say.
    pub(super) fn touched(&self, upstream: &SessionId, said: Option<String>) -> String {
        let mut all = self.lock();
        let Some(seen) = all.get_mut(upstream) else { return said.unwrap_or_default() };
        let ttl = seen.ttl.duration();
        seen.expires_at = said.unwrap_or_else(|| rfc3339(SystemTime::now() + ttl));
        seen.expires = expiry(&seen.expires_at, ttl);
        seen.expires_at.clone()
    }

    /// The backend has none of that name any more.
    pub(super) fn forget(&self, upstream: &SessionId) {
        let mut all = self.lock();
        if all.remove(upstream).is_some() {
            self.tell(&all);
        }
    }

    /// A command begins to run in one.
    pub(super) fn running(&self, upstream: &SessionId) -> Running {
        Running(self.lock().get(upstream).map(|seen| Arc::clone(&seen.execs)))
    }

    /// What is known of one.
    pub(super) fn get(&self, upstream: &SessionId) -> Option<SandboxInfo> {
        self.lock().get(upstream).map(|seen| seen.describe(&seen.id))
    }

    /// A user's sandboxes; everybody's, by the backend's names, where no user is given.
    pub(super) fn list(&self, owner: Option<u32>) -> Vec<SandboxInfo> {
        let all = self.lock();
        let visible = all.iter().filter(|(_, seen)| owner.is_none_or(|uid| uid == seen.owner));
        visible
            .map(|(name, seen)| seen.describe(if owner.is_some() { &seen.id } else { name }))
            .collect()
    }

    /// How many sandboxes [`Known::list`] has.
    pub(super) fn len(&self, owner: Option<u32>) -> usize {
        let all = self.lock();
        all.values().filter(|seen| owner.is_none_or(|uid| uid == seen.owner)).count()
    }

    /// Those that have not expired.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Seen>> {
        let mut all = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, now) = (all.len(), Moment::boot_now());
        all.retain(|_, seen| seen.expires.boot > now);
        if all.len() != before {
            self.tell(&all);
        }
        all
    }

    fn tell(&self, all: &BTreeMap<SessionId, Seen>) {
        self.count.send_if_modified(|count| std::mem::replace(count, all.len()) != all.len());
    }
}

impl Seen {
    fn describe(&self, id: &SessionId) -> SandboxInfo {
        SandboxInfo {
            session_id: id.clone(),
            owner_uid: self.owner,
            pod_name: self.pod_name.clone(),
            state: SandboxState::Ready,
            created_at: rfc3339(self.since),
            expires_at: self.expires_at.clone(),
            ttl_seconds: self.ttl,
            sandbox_dir: self.sandbox_dir.clone(),
            leased: false,
            image: self.image.clone(),
            isolation: self.isolation.clone(),
            limits: self.limits.clone(),
            usage: Usage::default(),
            execs: Arc::strong_count(&self.execs) as u64 - 1,
        }
    }
}

/// When a sandbox expires, by what the backend says, or by its time to live where that is no time.
fn expiry(said: &str, ttl: Duration) -> Moment {
    let Moment { boot, wall } = Moment::now();
    let said = said.parse::<jiff::Timestamp>().ok().map(SystemTime::from);
    let left = said.map_or(ttl, |at| at.duration_since(wall).unwrap_or_default());
    Moment { boot: boot + left, wall: wall + left }
}

#[cfg(test)]
mod tests {
    use noxrunner_protocol::types::Tier;

    use super::*;

    fn made(expires_at: &str, created: bool) -> CreateResult {
        CreateResult {
            pod_name: "pod".to_owned(),
            expires_at: expires_at.to_owned(),
            created,
            sandbox_dir: String::new(),
            isolation: Isolation { tier: Tier::None, features: vec![], missing: vec![] },
            limits: Limits::new(),
            warnings: vec![],
        }
    }

    #[test]
    fn each_user_sees_its_own_and_root_all() {
        let known = Known::default();
        let [s, other]: [SessionId; 2] = ["s", "u7.s"].map(|id| id.parse().unwrap());
        let ttl = TtlSeconds::default();
        known.created(&s, 1, &s, ttl, Some("img".to_owned()), &made("2999-01-01T00:00:00Z", true));
        known.created(&other, 7, &s, ttl, None, &made("no time", true));
        let names = |owner| {
            let all = known.list(owner);
            all.into_iter().map(|info| info.session_id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!((names(Some(1)), names(Some(7))), (vec!["s".to_owned()], vec!["s".to_owned()]));
        assert_eq!(names(None), ["s", "u7.s"]);
        assert_eq!(names(Some(8)), [""; 0]);
        let running = known.running(&s);
        let info = known.get(&s).unwrap();
        assert_eq!((info.execs, info.image.as_deref()), (1, Some("img")));
        drop(running);
        // A renewal without an image keeps it.
        known.created(&s, 1, &s, ttl, None, &made("2999-01-01T00:00:00Z", false));
        let info = known.get(&s).unwrap();
        assert_eq!((info.execs, info.image.as_deref()), (0, Some("img")));
        assert_eq!(*known.count().borrow(), 2);
        known.forget(&s);
        assert_eq!((known.get(&s), *known.count().borrow()), (None, 1));
    }

    #[test]
    fn what_has_expired_is_gone_and_a_touch_without_words_counts_anew() {
        let known = Known::default();
        let s: SessionId = "s".parse().unwrap();
        known.created(&s, 1, &s, TtlSeconds::default(), None, &made("2001-01-01T00:00:00Z", true));
        assert!(!known.has(&s) && *known.count().borrow() == 0);
        assert_eq!(known.touched(&s, None), "");
        assert_eq!(known.touched(&s, Some("then".to_owned())), "then");
        known.created(&s, 1, &s, TtlSeconds::default(), None, &made("2999-01-01T00:00:00Z", true));
        let until: jiff::Timestamp = known.touched(&s, None).parse().unwrap();
        let left = until.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((890..=901).contains(&left), "{left}");
    }
}
