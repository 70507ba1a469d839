use super::*;
use crate::limits::{Defaults, Enforcers, Limiting};
use crate::sandbox::Settings;
use crate::sandbox::dir::SandboxDir;
use noxrunner_protocol::types::{CreateParams, Network, Tier};

struct Fixture {
    base: tempfile::TempDir,
    registry: Arc<Registry>,
}

impl Fixture {
    fn new() -> Self {
        Self { base: tempfile::tempdir().unwrap(), registry: Arc::default() }
    }

    async fn add(&self, owner: u32, id: &str, ttl: u64) -> Arc<Sandbox> {
        let key = Key { owner, id: id.parse().unwrap() };
        let Entry::Vacant(place) = self.registry.entry(&key, |_| ()).await else {
            panic!("exists")
        };
        let mut params = CreateParams::new(key.id.clone());
        params.ttl_seconds = ttl.try_into().unwrap();
        let now = Moment::now();
        let dir = SandboxDir::create(self.base.path(), &key.id, None, false).unwrap();
        let sandbox = Arc::new(Sandbox::new(
            key,
            dir,
            now.wall,
            Settings::new(&params, Network::None, now),
            &Limiting {
                defaults: Defaults::built_in(),
                enforcers: Arc::new(Enforcers::new(None, Tier::None, true)),
            },
        ));
        place.fill(Arc::clone(&sandbox));
        sandbox
    }
}

#[tokio::test]
async fn everybody_sees_their_own_and_root_sees_all() {
    let fx = Fixture::new();
    let mine = fx.add(7, "s", 60).await;
    let id = mine.key.id.clone();
    assert_eq!(fx.registry.find(8, &id).await.unwrap_err(), LookupError::NotFound);
    assert!(Arc::ptr_eq(&fx.registry.find(0, &id).await.unwrap(), &mine));
    let theirs = fx.add(8, "s", 60).await;
    assert!(Arc::ptr_eq(&fx.registry.find(8, &id).await.unwrap(), &theirs));
    assert_eq!(fx.registry.find(0, &id).await.unwrap_err(), LookupError::Ambiguous);
    let seen = |uid| {
        let seen = fx.registry.visible(uid).len();
        assert_eq!(fx.registry.visible_count(uid), seen);
        seen
    };
    assert_eq!((seen(7), seen(8), seen(9), seen(0)), (1, 1, 0, 2));
}

#[tokio::test]
async fn a_name_is_free_again_only_when_its_sandbox_has_left() {
    let fx = Fixture::new();
    let sandbox = fx.add(7, "s", 60).await;
    let leaving = fx.registry.remove(&sandbox).unwrap();
    assert!(fx.registry.remove(&sandbox).is_none());
    let id = &sandbox.key.id;
    assert_eq!(fx.registry.find(7, id).await.unwrap_err(), LookupError::NotFound);
    let registry = Arc::clone(&fx.registry);
    let key = sandbox.key.clone();
    let waiting = tokio::spawn(async move { registry.entry(&key, |_| ()).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(leaving);
    assert!(matches!(waiting.await.unwrap(), Entry::Vacant(_)));
}

#[tokio::test]
async fn only_what_is_due_expires_and_the_reaper_hears_of_what_is_due_sooner() {
    let fx = Fixture::new();
    assert_eq!(fx.registry.arm(), None);
    let late = fx.add(7, "late", 60).await;
    fx.registry.earlier().await;
    assert_eq!(fx.registry.arm(), Some(late.deadline()));
    let soon = fx.add(7, "soon", 1).await;
    fx.registry.earlier().await;
    assert_eq!(fx.registry.arm(), Some(soon.deadline()));
    assert!(fx.registry.remove_expired(soon.deadline() - Duration::from_nanos(1)).is_empty());
    let expired = fx.registry.remove_expired(soon.deadline());
    assert_eq!(expired.len(), 1);
    assert!(Arc::ptr_eq(&expired[0].sandbox, &soon));
}
