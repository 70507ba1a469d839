//! The daemon's hold on one sandbox's init.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use noxrunner_init::kill_by_pidfd;
use noxrunner_init::message::{Exec, ExecId, ExecStep, FromInit, Output, Status, ToInitRef, Usage};
use noxrunner_init::transport::{self, TransportError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch as state};
use tokio::time::timeout;

use super::{EngineError, send_error};
use crate::wait::watch;

/// How long an init may take to do what it is told before it is killed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How long an init may take to get ready, on a machine as busy as it likes.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(10);

/// How long what an init left behind may take to be killed.
const CLEAR_PATIENCE: Duration = Duration::from_secs(10);

/// How an exec ended, as its init tells it.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The command ended. What it wrote that is not in its output is in the pipes.
    Ended(Status, Usage, Output, Option<Pipes>),
    /// The command was not started.
    Failed(ExecStep, i32),
}

/// The reading ends of what a command writes: its output and its error.
pub(crate) type Pipes = [OwnedFd; 2];

/// A command that its init has got.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) id: ExecId,
    /// Its pipes where it takes longer; closed where it ends before.
    pub(crate) slow: oneshot::Receiver<Pipes>,
    /// Its end; closed where its init dies first.
    pub(crate) ended: oneshot::Receiver<Ending>,
}

#[derive(Debug)]
struct Waiting {
    slow: Option<oneshot::Sender<Pipes>>,
    ended: oneshot::Sender<Ending>,
}

/// An init that was just forked.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// True, or closed, once nothing of it and of what it left behind runs.
    pub(super) cleared: state::Receiver<bool>,
}

/// A live init. Dropping the last handle ends it, and everything in its sandbox.
#[derive(Debug)]
pub struct Init {
    link: Arc<Link>,
    pid: i32,
    cleared: state::Receiver<bool>,
}

// What the handle and the task that listens share. The task must not keep the init alive.
#[derive(Debug)]
struct Link {
    socket: AsyncFd<OwnedFd>,
    pidfd: OwnedFd,
    execs: Mutex<Execs>,
    /// Whether nothing runs in the sandbox that takes longer or was left behind.
    quiet: AtomicBool,
    state: state::Sender<State>,
}

#[derive(Debug, Default)]
struct Execs {
    last: ExecId,
    waiting: HashMap<ExecId, Waiting>,
}

#[derive(Debug, Clone)]
enum State {
    Starting,
    Ready,
    Failed(EngineError),
    Gone,
}

impl Init {
    /// Takes over an init that was just forked and waits until it is ready.
    pub(super) async fn start(socket: OwnedFd, spawned: Spawned) -> Result<Arc<Self>, EngineError> {
        let Spawned { pid, pidfd, cleared } = spawned;
        let socket = watch(socket, Interest::READABLE)
            .map_err(|e| EngineError::os("wait for an init", e))?;
        let state = state::Sender::new(State::Starting);
        let mut seen = state.subscribe();
        let link =
            Arc::new(Link { socket, pidfd, execs: Mutex::default(), quiet: true.into(), state });
        tokio::spawn(Arc::clone(&link).listen());
        let init = Arc::new(Self { link, pid, cleared });
        let settled = seen.wait_for(|s| !matches!(s, State::Starting));
        match timeout(START_PATIENCE, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Ready => {}
                State::Failed(error) => return Err(error.clone()),
                State::Starting | State::Gone => return Err(EngineError::InitGone),
            },
            Ok(Err(_)) => return Err(EngineError::InitGone),
            Err(_) => {
                init.kill();
                return Err(EngineError::NotReady(START_PATIENCE.as_secs()));
            }
        }
        Ok(init)
    }

    /// Its process id on this machine.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it can still take commands.
    pub fn is_alive(&self) -> bool {
        matches!(*self.link.state.borrow(), State::Ready)
    }

    /// Whether nothing runs in its sandbox, as far as it has told: a quick command is never told of.
    pub fn is_quiet(&self) -> bool {
        self.link.quiet.load(Ordering::SeqCst)
    }

    /// Starts a command. Its input comes along where it has any. [`EngineError::InitGone`]
    /// means that the init did not get the command.
    pub(crate) async fn exec(
        &self,
        command: &mut Exec,
        stdin: Option<BorrowedFd<'_>>,
    ) -> Result<Course, EngineError> {
        let ((slow, is_slow), (ending, ended)) = (oneshot::channel(), oneshot::channel());
        let id = {
            let mut execs = self.link.lock();
            execs.last += 1;
            let id = execs.last;
            execs.waiting.insert(id, Waiting { slow: Some(slow), ended: ending });
            id
        };
        // Looked at after the entry is made: who says "gone" empties the list afterwards.
        if !self.is_alive() {
            return Err(EngineError::InitGone);
        }
        command.id = id;
        let sent = self.link.send(&ToInitRef::Exec(command), stdin.as_slice()).await;
        if let Err(error) = sent {
            self.link.lock().waiting.remove(&id);
            if matches!(error, EngineError::InitGone) {
                // Its listener is about to notice too; until then it would be taken for alive.
                let _ = timeout(PATIENCE, self.gone()).await;
            }
            return Err(error);
        }
        Ok(Course { id, slow: is_slow, ended })
    }

    /// Sends a signal to everything that an exec has started.
    pub(crate) async fn signal(&self, id: ExecId, signal: i32) -> Result<(), EngineError> {
        self.link.send(&ToInitRef::Signal { id, signal }, &[]).await
    }

    /// Kills the init itself; the zygote then kills what it leaves.
    pub(crate) fn kill(&self) {
        kill_by_pidfd(&self.link.pidfd);
    }

    /// Ends everything in the sandbox and waits until that is done.
    pub async fn end(&self) {
        self.link.hang_up();
        if timeout(PATIENCE, self.gone()).await.is_err() {
            self.kill();
        }
        self.cleared().await;
    }

    /// Waits until the init has ended.
    async fn gone(&self) {
        // The sender lives as long as `self`, so there is always an answer.
        let _ = self.link.state.subscribe().wait_for(|s| matches!(s, State::Gone)).await;
    }

    /// Waits until nothing of it, and of what it left behind, runs any more.
    pub async fn cleared(&self) {
        let mut cleared = self.cleared.clone();
        // Closed where the zygote is gone, and everything with it.
        if timeout(CLEAR_PATIENCE, cleared.wait_for(|cleared| *cleared)).await.is_err() {
            tracing::warn!(pid = self.pid, "what an init left behind does not end");
        }
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        self.link.hang_up();
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Execs> {
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hang_up(&self) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
    }

    async fn send(
        &self,
        message: &ToInitRef<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), EngineError> {
        loop {
            match transport::send(self.socket.as_fd(), message, descriptors) {
                Ok(()) => return Ok(()),
                Err(TransportError::WouldBlock) => {}
                Err(error) => return Err(send_error(error, EngineError::InitGone)),
            }
            let Ok(ready) = timeout(PATIENCE, self.room()).await else {
                tracing::warn!("an init does not take what it is sent: killing it");
                kill_by_pidfd(&self.pidfd);
                return Err(EngineError::InitGone);
            };
            ready.map_err(|e| EngineError::os("wait for an init", e))?;
        }
    }

    /// Waits until the init has taken something. Registered only when it is waited for: each
    /// message that an init takes would wake the daemon up.
    async fn room(&self) -> std::io::Result<()> {
        let own = watch(self.socket.get_ref().try_clone()?, Interest::WRITABLE)?;
        own.writable().await.map(drop)
    }

    async fn listen(self: Arc<Self>) {
        while let Ok(mut ready) = self.socket.ready(Interest::READABLE).await {
            let (message, descriptors) = match transport::recv::<FromInit>(self.socket.as_fd()) {
                Ok(received) => received,
                Err(TransportError::WouldBlock) => {
                    ready.clear_ready();
                    continue;
                }
                Err(_) => break,
            };
            let pipes = Pipes::try_from(descriptors).ok();
            match message {
                FromInit::Ready => {
                    self.state.send_replace(State::Ready);
                }
                FromInit::SetupFailed { step, errno } => {
                    self.state.send_replace(State::Failed(EngineError::Setup { step, errno }));
                }
                FromInit::Failed { id, step, errno } => {
                    self.settle(id, Ending::Failed(step, errno));
                }
                FromInit::Slow { id } => {
                    self.quiet.store(false, Ordering::SeqCst);
                    let slow = self.lock().waiting.get_mut(&id).and_then(|w| w.slow.take());
                    if let (Some(slow), Some(pipes)) = (slow, pipes) {
                        // Whoever waited may have given up; the command's next write then ends it.
                        let _ = slow.send(pipes);
                    }
                }
                FromInit::Quiet => self.quiet.store(true, Ordering::SeqCst),
                FromInit::Ended { id, status, usage, output, left } => {
                    if left {
                        self.quiet.store(false, Ordering::SeqCst);
                    }
                    self.settle(id, Ending::Ended(status, usage, output, pipes));
                }
            }
        }
        self.state.send_if_modified(|state| {
            let first = matches!(state, State::Starting | State::Ready);
            if first {
                *state = State::Gone;
            }
            first
        });
        self.lock().waiting.clear();
    }

    fn settle(&self, id: ExecId, ending: Ending) {
        if let Some(waiting) = self.lock().waiting.remove(&id) {
            // Whoever waited may have given up.
            let _ = waiting.ended.send(ending);
        }
    }
}
