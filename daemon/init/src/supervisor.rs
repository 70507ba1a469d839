//! Keeping the processes of one command apart from those of others.
//!
//! An init that has nothing below it starts the next command as its own child: whatever
//! appears there is that command's. Any further one gets a supervisor, a copy of the init that is
//! the subreaper (prctl(2)) of that one command's processes. They stay below it whatever
//! they do: a new session, a parent that ended, another environment, closed descriptors.
//!
//! ```text
//! init ─┬─ command A, and what A left
//!       ├─ supervisor ── command B, and what B left
//!       └─ supervisor    (waits for the next)
//! ```
//!
//! A supervisor stays for as long as its command has left anything. One that somebody inside
//! kills ends the sandbox, since nobody could tell its processes apart any more.

use std::ffi::c_int;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid};

use crate::commands::{Commands, Outbox};
use crate::descendants;
use crate::init::{CONTROL, Over, flush, interest, watch_children};
use crate::message::{Exec, ExecId, FromInit, FromSupervisor, ToInit};
use crate::sys;
use crate::transport::{self, TransportError};

/// The init's side of one.
struct Supervisor {
    pid: Pid,
    socket: OwnedFd,
    /// Whose processes are below it, or were until it says that there are none.
    exec: Option<ExecId>,
}

/// Those of one init.
#[derive(Default)]
pub(crate) struct Supervisors(Vec<Supervisor>);

/// Supervisors kept for later. They cost some 100 KiB each.
const PARKED: usize = 8;

impl Supervisors {
    /// Whether a command that the init started now would be alone below it.
    pub(crate) fn nobody_else(&self) -> bool {
        if self.0.is_empty() {
            return has_no_children();
        }
        descendants::children(getpid()).iter().all(|child| self.is_one(*child))
    }

    /// Whether none has anything below it.
    pub(crate) fn are_idle(&self) -> bool {
        self.0.iter().all(|supervisor| supervisor.exec.is_none())
    }

    /// Whether that process is one of them.
    pub(crate) fn is_one(&self, pid: Pid) -> bool {
        self.0.iter().any(|supervisor| supervisor.pid == pid)
    }

    /// All of them.
    pub(crate) fn pids(&self) -> Vec<Pid> {
        self.0.iter().map(|supervisor| supervisor.pid).collect()
    }

    /// The one that has this command's processes below it.
    pub(crate) fn of(&self, exec: ExecId) -> Option<Pid> {
        self.0.iter().find(|supervisor| supervisor.exec == Some(exec)).map(|found| found.pid)
    }

    /// What to wait for.
    pub(crate) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().map(|supervisor| PollFd::new(supervisor.socket.as_fd(), PollFlags::POLLIN))
    }

    /// Has a command started under one that has nothing else below it. The packet is what it came in.
    pub(crate) fn launch(
        &mut self,
        exec: &Exec,
        packet: &[u8],
        descriptors: &[OwnedFd],
        open_files: u64,
    ) -> Result<(), TransportError> {
        let parked = self.0.iter().position(|supervisor| supervisor.exec.is_none());
        let at = parked.unwrap_or(self.0.len());
        if at == self.0.len() {
            self.0.push(start(open_files)?);
        }
        let Some(supervisor) = self.0.get_mut(at) else { return Err(TransportError::Closed) };
        // As it came: a large one is in a memfd, which cannot be made everywhere.
        transport::forward(supervisor.socket.as_fd(), packet, descriptors)?;
        supervisor.exec = Some(exec.id);
        Ok(())
    }

    /// Takes what they have said. An error where one is gone.
    pub(crate) fn listen(&mut self, out: &mut Outbox) -> Result<(), Over> {
        for supervisor in &mut self.0 {
            loop {
                match transport::recv(supervisor.socket.as_fd()) {
                    Ok((FromSupervisor::Quiet, _)) => supervisor.exec = None,
                    Ok((FromSupervisor::Told(message), descriptors)) => {
                        out.push_back((message, descriptors));
                    }
                    Err(TransportError::WouldBlock) => break,
                    Err(_) => return Err(Over),
                }
            }
        }
        // With its socket closed one ends.
        let mut parked = 0;
        self.0.retain(|supervisor| {
            parked += usize::from(supervisor.exec.is_none());
            supervisor.exec.is_some() || parked <= PARKED
        });
        Ok(())
    }
}

fn has_no_children() -> bool {
    let any = WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    waitid(Id::All, any) == Err(Errno::ECHILD)
}

fn start(open_files: u64) -> Result<Supervisor, Errno> {
    let (socket, theirs) = transport::pair()?;
    let pid = sys::fork(|| run(&theirs, open_files))?;
    Ok(Supervisor { pid, socket, exec: None })
}

/// Runs a supervisor until its init is gone, or lets go of it; the result is its exit status.
fn run(control: &OwnedFd, open_files: u64) -> c_int {
    let Ok(control) = sys::move_to(control, CONTROL) else { return 1 };
    // The init's copies of everything else, its own socket among them.
    sys::close_from(CONTROL.unsigned_abs() + 1);
    let _ = prctl::set_name(c"nox-supervisor");
    if prctl::set_child_subreaper(true).is_err() {
        return 1;
    }
    let Ok(ended) = watch_children() else { return 1 };
    let commands = Commands::new(ended, open_files);
    let mut this = Supervising { control, commands, outbox: Outbox::new(), quiet: true };
    while this.turn().is_ok() {}
    c_int::from(!descendants::kill_all(&this.commands.into_ended()))
}

struct Supervising {
    control: OwnedFd,
    commands: Commands,
    outbox: Outbox,
    /// Whether the init knows that nothing is left of the last command.
    quiet: bool,
}

impl Supervising {
    fn turn(&mut self) -> Result<(), Over> {
        let control = self.control.as_fd();
        flush(&mut self.outbox, |message, beside| {
            transport::send(control, &FromSupervisor::Told(message), beside)
        })?;
        if !self.quiet && self.outbox.is_empty() && has_no_children() {
            let quiet: FromSupervisor<FromInit> = FromSupervisor::Quiet;
            match transport::send(self.control.as_fd(), &quiet, &[]) {
                Ok(()) => self.quiet = true,
                // There is room for more than the few messages of one command.
                Err(_) => return Err(Over),
            }
        }
        let mut fds = [
            PollFd::new(self.control.as_fd(), interest(&self.outbox)),
            PollFd::new(self.commands.ended(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, self.commands.patience()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Err(Over),
        }
        let [control, ended] = fds.map(|fd| fd.any().unwrap_or(true));
        if ended {
            self.commands.reap(&mut self.outbox, |_| {}, || false);
        }
        self.commands.hand_on(&mut self.outbox);
        if !control {
            return Ok(());
        }
        match transport::recv::<ToInit>(self.control.as_fd()) {
            Ok((ToInit::Exec(exec), descriptors)) => {
                self.quiet = false;
                self.commands.start(exec, descriptors, &mut self.outbox);
                Ok(())
            }
            Err(TransportError::WouldBlock) => Ok(()),
            Ok((ToInit::Begin | ToInit::Signal { .. }, _)) | Err(_) => Err(Over),
        }
    }
}
