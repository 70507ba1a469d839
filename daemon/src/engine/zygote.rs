//! The daemon's hold on the zygote.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use noxrunner_init::Zygote;
use noxrunner_init::message::{
    Findings, FromZygote, InitSpec, Preparation, PrepareFailure, ToInitRef, ToZygote,
};
use noxrunner_init::template::Unstubbed;
use noxrunner_init::transport::{self, TransportError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch as state};
use tokio::time::timeout;

use super::init::{START_PATIENCE, Spawned};
use super::{EngineError, Init, send_error};
use crate::wait::watch;

type Answer = Result<Spawned, EngineError>;

/// Starts inits.
#[derive(Debug)]
pub struct Engine {
    zygote: AsyncFd<OwnedFd>,
    asked: Mutex<Asked>,
    turn: tokio::sync::Mutex<()>,
    gone: state::Sender<bool>,
    pid: Pid,
    ended: AsyncFd<OwnedFd>,
}

#[derive(Debug, Default)]
struct Asked {
    next: u64,
    // Answered in the order in which they were asked.
    probes: VecDeque<oneshot::Sender<Findings>>,
    preparations: VecDeque<oneshot::Sender<Result<Vec<Unstubbed>, PrepareFailure>>>,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    living: HashMap<i32, state::Sender<bool>>,
}

impl Engine {
    /// Takes over a zygote and listens to it in a task of its own.
    ///
    /// # Errors
    /// Where the descriptor cannot be waited for.
    pub fn start(zygote: Zygote) -> io::Result<Arc<Self>> {
        let engine = Arc::new(Self {
            zygote: watch(zygote.control, Interest::READABLE | Interest::WRITABLE)?,
            asked: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            gone: state::Sender::new(false),
            pid: Pid::from_raw(zygote.pid),
            ended: watch(zygote.pidfd, Interest::READABLE)?,
        });
        tokio::spawn(Arc::clone(&engine).listen());
        Ok(engine)
    }

    /// Finds out what of the kernel works here, as the user of that id where there is one.
    ///
    /// # Errors
    /// Where the zygote does not answer.
    pub async fn probe(&self, host_id: Option<u32>) -> Result<Findings, EngineError> {
        let asked = |asked: &mut Asked, answer| asked.probes.push_back(answer);
        self.ask(&ToZygote::Probe { host_id }, asked).await
    }

    /// Gets ready for inits of one kind, or makes anew what they see. The answer is where
    /// that was not wholly possible.
    ///
    /// # Errors
    /// Which step failed, and why.
    pub async fn prepare(&self, wish: Preparation) -> Result<Vec<Unstubbed>, EngineError> {
        let asked = |asked: &mut Asked, answer| asked.preparations.push_back(answer);
        let prepared = self.ask(&ToZygote::Prepare(wish), asked).await?;
        prepared.map_err(EngineError::Prepare)
    }

    async fn ask<T>(
        &self,
        request: &ToZygote,
        note: impl FnOnce(&mut Asked, oneshot::Sender<T>),
    ) -> Result<T, EngineError> {
        // Requests and answers are paired by their order.
        let _turn = self.turn.lock().await;
        let (answer, answered) = oneshot::channel();
        note(&mut self.lock(), answer);
        // Looked at after the entry is made: who says "gone" empties the list afterwards.
        if *self.gone.borrow() {
            return Err(EngineError::ZygoteGone);
        }
        let asking = async {
            self.send(request, None).await?;
            answered.await.map_err(|_| EngineError::ZygoteGone)
        };
        let patience = START_PATIENCE * 2;
        timeout(patience, asking).await.unwrap_or(Err(EngineError::NotReady(patience.as_secs())))
    }

    /// Starts an init and waits until it is ready. It does nothing before `hold`, which is
    /// given its process id, is done.
    ///
    /// # Errors
    /// What failed, and why.
    pub async fn spawn_init(
        &self,
        spec: InitSpec,
        hold: impl AsyncFnOnce(i32) -> Result<(), EngineError>,
    ) -> Result<Arc<Init>, EngineError> {
        let (ours, theirs) =
            transport::pair().map_err(|e| EngineError::os("make a pair of sockets", e))?;
        let (answer, answered) = oneshot::channel();
        let ticket = {
            let mut asked = self.lock();
            asked.next += 1;
            let ticket = asked.next;
            asked.waiting.insert(ticket, answer);
            ticket
        };
        // Looked at after the entry is made: who says "gone" empties the list afterwards.
        if *self.gone.borrow() {
            return Err(EngineError::ZygoteGone);
        }
        let spawning = async {
            self.send(&ToZygote::Spawn { ticket, spec }, Some(&theirs)).await?;
            drop(theirs);
            answered.await.map_err(|_| EngineError::ZygoteGone)?
        };
        match timeout(START_PATIENCE, spawning).await {
            Ok(spawned) => {
                let spawned = spawned?;
                // Without a word it ends when its socket is closed.
                hold(spawned.pid).await?;
                transport::send(ours.as_fd(), &ToInitRef::Begin, &[])
                    .map_err(|error| send_error(error, EngineError::InitGone))?;
                Init::start(ours, spawned).await
            }
            Err(_) => {
                self.lock().waiting.remove(&ticket);
                Err(EngineError::NotReady(START_PATIENCE.as_secs()))
            }
        }
    }

    /// The zygote's process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the zygote is gone, which no sandbox survives.
    pub async fn gone(&self) {
        // The sender lives as long as `self`, so there is always an answer.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Ends the zygote with everything below it, and waits until that is done.
    /// It does so by itself when the daemon dies.
    pub async fn end(&self) {
        let _ = shutdown(self.zygote.as_raw_fd(), Shutdown::Both);
        // Somebody may have stopped it.
        let _ = kill(self.pid, Signal::SIGCONT);
        if timeout(END_PATIENCE, self.ended.readable()).await.is_err() {
            tracing::warn!("the zygote does not end: killing it");
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = self.ended.readable().await;
        }
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, message: &ToZygote, socket: Option<&OwnedFd>) -> Result<(), EngineError> {
        let socket: Vec<_> = socket.into_iter().map(AsFd::as_fd).collect();
        loop {
            let mut ready = self
                .zygote
                .ready(Interest::WRITABLE)
                .await
                .map_err(|e| EngineError::os("wait for the zygote", e))?;
            match transport::send(self.zygote.as_fd(), message, &socket) {
                Ok(()) => return Ok(()),
                Err(TransportError::WouldBlock) => ready.clear_ready(),
                Err(error) => return Err(send_error(error, EngineError::ZygoteGone)),
            }
        }
    }

    async fn listen(self: Arc<Self>) {
        while let Ok(mut ready) = self.zygote.ready(Interest::READABLE).await {
            match transport::recv::<FromZygote>(self.zygote.as_fd()) {
                Ok((message, descriptors)) => self.take(message, descriptors),
                Err(TransportError::WouldBlock) => ready.clear_ready(),
                Err(_) => break,
            }
        }
        self.gone.send_replace(true);
        *self.lock() = Asked::default();
    }

    fn take(&self, message: FromZygote, mut descriptors: Vec<OwnedFd>) {
        let mut asked = self.lock();
        let (ticket, outcome) = match message {
            FromZygote::Probed(findings) => {
                // Whoever asked may be gone; so in the next one.
                let _ = asked.probes.pop_front().map(|answer| answer.send(findings));
                return;
            }
            FromZygote::Prepared(outcome) => {
                let _ = asked.preparations.pop_front().map(|answer| answer.send(outcome));
                return;
            }
            FromZygote::Cleared { pid } => {
                if let Some(living) = asked.living.remove(&pid) {
                    living.send_replace(true);
                }
                return;
            }
            FromZygote::Failed { ticket, step, errno } => {
                (ticket, Err(EngineError::Spawn { step, errno }))
            }
            FromZygote::Spawned { ticket, pid } => {
                let living = state::Sender::new(false);
                let cleared = living.subscribe();
                asked.living.insert(pid, living);
                let pidfd = descriptors.pop().ok_or(EngineError::ZygoteGone);
                (ticket, pidfd.map(|pidfd| Spawned { pid, pidfd, cleared }))
            }
        };
        if let Some(waiting) = asked.waiting.remove(&ticket) {
            // Whoever asked may be gone; the init's socket went with it.
            let _ = waiting.send(outcome);
        }
    }
}

/// How long a zygote may take to kill everything below it: a little longer than it gives itself.
const END_PATIENCE: Duration = Duration::from_secs(12);
