//! The commands that a process has started itself, from their start to their end.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::poll::PollTimeout;
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use crate::launch::{Launched, Launcher, Progress};
use crate::message::{Exec, ExecId, FromInit, Status, Usage};
use crate::streams::Collected;
use crate::sys::{self, Reaped};

/// What an init, or a supervisor, has running.
pub(crate) struct Commands {
    ended: SignalFd,
    launcher: Launcher,
    launching: Vec<Launched>,
    running: HashMap<Pid, Running>,
}

struct Running {
    id: ExecId,
    /// What it writes, until that is handed on.
    collected: Option<Collected>,
}

/// What is to be told, in order, and the descriptors that go with it.
pub(crate) type Outbox = VecDeque<(FromInit, Vec<OwnedFd>)>;

impl Commands {
    /// None yet; the descriptor tells of ended children. Each process may have so many descriptors.
    pub(crate) fn new(ended: SignalFd, open_files: u64) -> Self {
        Self {
            ended,
            launcher: Launcher::new(open_files),
            launching: Vec::new(),
            running: HashMap::new(),
        }
    }

    /// Readable when a child has ended.
    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// The same, for whoever waits for the last ones.
    pub(crate) fn into_ended(self) -> SignalFd {
        self.ended
    }

    /// How many descriptors each process may have.
    pub(crate) fn open_files(&self) -> u64 {
        self.launcher.open_files()
    }

    /// Whether none runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The process that leads a command.
    pub(crate) fn leader(&self, id: ExecId) -> Option<Pid> {
        self.running.iter().find(|(_, running)| running.id == id).map(|(leader, _)| *leader)
    }

    /// Starts one. That it could not be started goes to `out`.
    pub(crate) fn start(&mut self, exec: Exec, descriptors: Vec<OwnedFd>, out: &mut Outbox) {
        let id = exec.id;
        match self.launcher.launch(exec, descriptors) {
            Ok((launched, collected)) => {
                self.running.insert(launched.pid, Running { id, collected });
                self.launching.push(launched);
            }
            Err((step, errno)) => {
                let errno = errno as i32;
                out.push_back((FromInit::Failed { id, step, errno }, Vec::new()));
            }
        }
    }

    /// How long to wait at most before [`Commands::hand_on`].
    pub(crate) fn patience(&self) -> PollTimeout {
        let due = self.running.values().filter_map(|running| running.collected.as_ref());
        let Some(due) = due.map(Collected::until).min() else { return PollTimeout::NONE };
        let left = due.saturating_duration_since(Instant::now());
        // Rounded up, or it would be asked again and again in the last millisecond.
        PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::ZERO)
    }

    /// Hands on the pipes of the commands that take longer.
    pub(crate) fn hand_on(&mut self, out: &mut Outbox) {
        for running in self.running.values_mut() {
            let is_due = |collected: &mut Collected| collected.until() <= Instant::now();
            if let Some(slow) = running.collected.take_if(is_due) {
                out.push_back((FromInit::Slow { id: running.id }, slow.hand_on()));
            }
        }
    }

    /// Settles the launches whose outcome is known by now.
    pub(crate) fn look_at_launches(&mut self, out: &mut Outbox) {
        let mut at = 0;
        while let Some(launched) = self.launching.get_mut(at) {
            let failed = match launched.progress() {
                Progress::Launching => {
                    at += 1;
                    continue;
                }
                Progress::Started => None,
                Progress::Failed(step, errno) => Some((step, errno)),
            };
            let launched = self.launching.swap_remove(at);
            if let Some((step, errno)) = failed {
                self.running.remove(&launched.pid);
                let failed = FromInit::Failed { id: launched.id, step, errno };
                out.push_back((failed, Vec::new()));
            }
            self.launcher.recycle(launched);
        }
    }

    /// Reaps every child that has ended. Those that led no command go to `others`. Where children
    /// are left, `are_known` says whether all of them are no command's.
    pub(crate) fn reap(
        &mut self,
        out: &mut Outbox,
        mut others: impl FnMut(Pid),
        are_known: impl FnOnce() -> bool,
    ) {
        while let Ok(Some(_)) = self.ended.read_signal() {}
        let mut ended: Vec<(Pid, Status, Usage)> = Vec::new();
        let left = loop {
            match sys::reap() {
                Reaped::Child(pid, status, usage) => ended.push((pid, status, usage)),
                Reaped::NoneYet => break !are_known(),
                Reaped::NoChild => break false,
            }
        };
        // A child that has ended is past its launch: settle that first, so that
        // one that could not execute is not taken for one that exited.
        self.look_at_launches(out);
        for (pid, status, usage) in ended {
            match self.running.remove(&pid) {
                Some(Running { id, collected }) => {
                    let (output, rest) = collected.map(Collected::read).unwrap_or_default();
                    out.push_back((FromInit::Ended { id, status, usage, output, left }, rest));
                }
                None => others(pid),
            }
        }
    }
}
