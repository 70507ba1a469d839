//! A client that has nothing to do with what a test does, and must not notice it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::wire::Wire;
use crate::{SOON, TestDaemon};

/// What nobody may be kept waiting for by others.
const PROMISE: Duration = Duration::from_secs(1);

/// A machine that does something else for a moment makes one answer late, and may do so again after
/// this. (A share of the answers would say little: hundreds come while one is late.)
const LATE_EACH: Duration = Duration::from_secs(10);

/// But none as late as this.
const LATEST: Duration = Duration::from_secs(SOON.as_secs() / 4);

/// It asks for `health` again and again, each time on a connection of its own.
pub struct Meanwhile {
    enough: Arc<AtomicBool>,
    begun: Instant,
    asking: Option<JoinHandle<Vec<Duration>>>,
}

impl Meanwhile {
    /// Begins.
    pub fn of(daemon: &TestDaemon) -> Self {
        let (enough, socket) = (Arc::new(AtomicBool::new(false)), daemon.socket.clone());
        let until = Arc::clone(&enough);
        let asking = std::thread::spawn(move || ask(&socket, &until));
        Self { enough, begun: Instant::now(), asking: Some(asking) }
    }

    /// Ends, and checks that every answer came within a second, but for what the machine does.
    #[track_caller]
    pub fn noticed_nothing(mut self) {
        self.enough.store(true, Ordering::Relaxed);
        let answers = self.asking.take().unwrap().join().unwrap();
        assert!(!answers.is_empty(), "it was never asked");
        let late: Vec<&Duration> = answers.iter().filter(|took| **took >= PROMISE).collect();
        let most = 1 + self.begun.elapsed().as_secs() / LATE_EACH.as_secs();
        let few = late.len() as u64 <= most;
        let in_the_end = late.iter().all(|took| **took < LATEST);
        assert!(few && in_the_end, "of {} answers: {late:?}", answers.len());
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        // Where the test failed.
        self.enough.store(true, Ordering::Relaxed);
    }
}

/// How long each answer took.
fn ask(socket: &Path, enough: &AtomicBool) -> Vec<Duration> {
    let mut answers = Vec::new();
    while answers.is_empty() || !enough.load(Ordering::Relaxed) {
        let start = Instant::now();
        let answer = Wire::open(socket).call(1, "health", json!({}));
        answers.push(start.elapsed());
        assert_eq!(answer["result"]["status"], "ok", "{answer}");
        // Not to be a load itself.
        std::thread::sleep(Duration::from_millis(5));
    }
    answers
}
