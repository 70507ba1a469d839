//! Reading what a command writes, without ever keeping more than was asked for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;

/// The beginning of a stream, and how much there was.
#[derive(Debug, Default)]
pub struct Captured {
    /// The first bytes, no more than were asked for.
    pub kept: Vec<u8>,
    /// How many bytes there were in all.
    pub total: u64,
    limit: usize,
    chunk: Vec<u8>,
    budget: Option<Arc<Budget>>,
}

/// How much a command may print on both of its streams.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
    is_spent: AtomicBool,
    exceeded: Notify,
}

impl Budget {
    /// So many bytes.
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU64::new(bytes),
            is_spent: AtomicBool::new(false),
            exceeded: Notify::new(),
        })
    }

    /// Waits until more was printed.
    pub(super) async fn exceeded(&self) {
        self.exceeded.notified().await;
    }

    fn take(&self, bytes: u64) {
        if self.left.fetch_sub(bytes.min(self.left.load(Ordering::Relaxed)), Ordering::Relaxed)
            < bytes
        {
            self.is_spent.store(true, Ordering::Relaxed);
            self.exceeded.notify_one();
        }
    }
}

/// Read at once, in bytes: what a pipe holds by default (pipe(7)).
const CHUNK_BYTES: usize = 64 * 1024;

impl Captured {
    /// Keeps at most `limit` bytes, of a command that may print so many.
    pub(super) fn new(limit: usize, budget: Option<&Arc<Budget>>) -> Self {
        Self { limit, budget: budget.cloned(), ..Self::default() }
    }

    /// Whether what is kept is not all there was.
    pub fn truncated(&self) -> bool {
        self.total > self.kept.len() as u64
    }

    /// Reads to the end of file, or to the end of its budget. What was read stays in `self` however often
    /// this is dropped and called again.
    pub(super) async fn fill(&mut self, pipe: &mut pipe::Receiver) {
        // Allocated when there is something to read: most commands are quiet on one stream.
        while pipe.readable().await.is_ok() {
            self.chunk.resize(CHUNK_BYTES, 0);
            match pipe.try_read(&mut self.chunk) {
                Ok(0) => return,
                Ok(n) => {
                    let chunk = std::mem::take(&mut self.chunk);
                    self.add(chunk.get(..n).unwrap_or_default());
                    self.chunk = chunk;
                    if self.budget.as_ref().is_some_and(|b| b.is_spent.load(Ordering::Relaxed)) {
                        // It is about to be killed, and until then it waits for its pipe.
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Takes in what somebody else has read.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = self.limit - self.kept.len();
        self.kept.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
        self.total += bytes.len() as u64;
        if let Some(budget) = &self.budget {
            budget.take(bytes.len() as u64);
        }
    }

    /// Gives back the room that reading took; what was kept stays.
    pub(super) fn finish(&mut self) {
        self.chunk = Vec::new();
    }
}

/// Writes a command's standard input and closes it. A command that does not
/// read all of it is no error.
pub(super) async fn feed(mut stdin: pipe::Sender, bytes: Vec<u8>) {
    let _ = stdin.write_all(&bytes).await;
}

/// Reads a stream to its end and keeps nothing.
pub(super) async fn discard(mut pipe: pipe::Receiver) {
    Captured::new(0, None).fill(&mut pipe).await;
}
