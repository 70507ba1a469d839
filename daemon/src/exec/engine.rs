//! The daemon's hold on the zygote.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use noxrunner_init::Zygote;
use noxrunner_init::message::{FromZygote, ToZygote};
use noxrunner_init::transport::{self, TransportError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch as state};

use super::{EngineError, Init, send_error};
use crate::wait::watch;

type Answer = Result<(i32, OwnedFd), EngineError>;

/// Starts inits.
#[derive(Debug)]
pub struct Engine {
    zygote: AsyncFd<OwnedFd>,
    asked: Mutex<Asked>,
    gone: state::Sender<bool>,
}

#[derive(Debug, Default)]
struct Asked {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
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
            gone: state::Sender::new(false),
        });
        tokio::spawn(Arc::clone(&engine).listen());
        Ok(engine)
    }

    /// Starts an init and waits until it is ready.
    ///
    /// # Errors
    /// What failed, and why.
    pub async fn spawn_init(&self) -> Result<Arc<Init>, EngineError> {
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
        // Looked at after the entry is made: who says "gone" empties the list first.
        if *self.gone.borrow() {
            return Err(EngineError::ZygoteGone);
        }
        self.send(&ToZygote::Spawn { ticket }, &theirs).await?;
        drop(theirs);
        let (pid, pidfd) = answered.await.map_err(|_| EngineError::ZygoteGone)??;
        Init::start(ours, pidfd, pid).await
    }

    /// Waits until the zygote is gone, which no sandbox survives.
    pub async fn gone(&self) {
        // The sender lives as long as `self`, so there is always an answer.
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Ends the zygote with everything below it. It does so by itself when the daemon dies.
    pub fn end(&self) {
        let _ = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(self.zygote.get_ref()),
            nix::sys::socket::Shutdown::Both,
        );
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, message: &ToZygote, socket: &OwnedFd) -> Result<(), EngineError> {
        loop {
            let mut ready = self
                .zygote
                .ready(Interest::WRITABLE)
                .await
                .map_err(|e| EngineError::os("wait for the zygote", e))?;
            match transport::send(self.zygote.as_fd(), message, &[socket.as_fd()]) {
                Ok(()) => return Ok(()),
                Err(TransportError::WouldBlock) => ready.clear_ready(),
                Err(error) => return Err(send_error(error, EngineError::ZygoteGone)),
            }
        }
    }

    async fn listen(self: Arc<Self>) {
        while let Ok(mut ready) = self.zygote.ready(Interest::READABLE).await {
            let answer = match transport::recv::<FromZygote>(self.zygote.as_fd()) {
                Ok((message, descriptors)) => answer(message, descriptors),
                Err(TransportError::WouldBlock) => {
                    ready.clear_ready();
                    continue;
                }
                Err(_) => break,
            };
            if let (ticket, outcome) = answer
                && let Some(waiting) = self.lock().waiting.remove(&ticket)
            {
                // Whoever asked may be gone; the init's socket went with it.
                let _ = waiting.send(outcome);
            }
        }
        self.gone.send_replace(true);
        self.lock().waiting.clear();
    }
}

fn answer(message: FromZygote, mut descriptors: Vec<OwnedFd>) -> (u64, Answer) {
    match message {
        FromZygote::Spawned { ticket, pid } => {
            let pidfd = descriptors.pop().ok_or(EngineError::ZygoteGone);
            (ticket, pidfd.map(|pidfd| (pid, pidfd)))
        }
        FromZygote::Failed { ticket, step, errno } => {
            (ticket, Err(EngineError::Spawn { step, errno }))
        }
    }
}
