//! The init of a sandbox: it starts the sandbox's commands, reaps what they
//! leave, and ends with everything below it when the daemon's side closes.

use std::collections::{HashMap, VecDeque};
use std::ffi::c_int;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::descendants;
use crate::launch::{Launched, Launcher, Progress};
use crate::message::{ExecId, FromInit, SetupStep, Status, ToInit, Usage};
use crate::sys;
use crate::transport::{self, TransportError};
use crate::walls::Walls;

/// Number of the control socket in an init and in the zygote.
pub(crate) const CONTROL: i32 = 3;

struct Init {
    control: OwnedFd,
    ended: SignalFd,
    launcher: Launcher,
    launching: Vec<Launched>,
    running: HashMap<Pid, ExecId>,
    // What the daemon has not taken yet. At most two messages an exec.
    outbox: VecDeque<FromInit>,
}

/// Runs an init until its daemon is gone; the result is its exit status.
pub(crate) fn run(control: &OwnedFd, walls: &Walls<'_>) -> c_int {
    // The number is taken by the zygote's own end, so nothing that the walls need has it.
    let Ok(control) = sys::move_to(control, CONTROL) else { return 1 };
    let _ = prctl::set_name(c"nox-init");
    let ended = match set_up(walls) {
        Ok(ended) => ended,
        Err((step, errno)) => {
            let failed = FromInit::SetupFailed { step, errno: errno as i32 };
            let _ = transport::send(control.as_fd(), &failed, &[]);
            return 1;
        }
    };
    let mut init = Init {
        control,
        ended,
        launcher: Launcher::default(),
        launching: Vec::new(),
        running: HashMap::new(),
        outbox: VecDeque::from([FromInit::Ready]),
    };
    while init.turn().is_ok() {}
    // The end of process 1 is that of its namespace: the kernel kills the rest (pid_namespaces(7)).
    c_int::from(!walls.has_pid_namespace() && !descendants::kill_all(&init.ended))
}

/// Puts up the walls that hold every command of this sandbox.
fn set_up(walls: &Walls<'_>) -> Result<SignalFd, (SetupStep, Errno)> {
    walls.raise()?;
    sys::close_from(CONTROL.unsigned_abs() + 1);
    prctl::set_child_subreaper(true).map_err(|e| (SetupStep::Subreaper, e))?;
    let ended = watch_children().map_err(|e| (SetupStep::Signals, e))?;
    walls.close()?;
    Ok(ended)
}

/// Blocks every signal and gives a descriptor that tells of ended children.
pub(crate) fn watch_children() -> Result<SignalFd, Errno> {
    SigSet::all().thread_block()?;
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    SignalFd::with_flags(&child, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The daemon is gone, or does not speak as it should.
struct Over;

impl Init {
    /// Waits for the next thing to happen and does what it asks for.
    fn turn(&mut self) -> Result<(), Over> {
        self.flush()?;
        let interest = match self.outbox.is_empty() {
            true => PollFlags::POLLIN,
            false => PollFlags::POLLIN | PollFlags::POLLOUT,
        };
        // Launches are not waited for: one that fails ends, and is reaped. Waking up for each
        // that succeeds would cost every command a turn on its processor.
        let mut fds = [
            PollFd::new(self.control.as_fd(), interest),
            PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Err(Over),
        }
        let [control, ended] = fds.map(|fd| fd.any().unwrap_or(true));
        if ended {
            while let Ok(Some(_)) = self.ended.read_signal() {}
            self.reap();
        } else {
            self.look_at_launches();
        }
        if control { self.take_requests() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Over> {
        while let Some(message) = self.outbox.front() {
            match transport::send(self.control.as_fd(), message, &[]) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(TransportError::WouldBlock) => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
        Ok(())
    }

    fn take_requests(&mut self) -> Result<(), Over> {
        loop {
            match transport::recv::<ToInit>(self.control.as_fd()) {
                Ok((ToInit::Exec(exec), descriptors)) => {
                    let id = exec.id;
                    match self.launcher.launch(exec, descriptors) {
                        Ok(launched) => {
                            self.running.insert(launched.pid, id);
                            self.launching.push(launched);
                        }
                        Err((step, errno)) => {
                            self.outbox.push_back(FromInit::Failed {
                                id,
                                step,
                                errno: errno as i32,
                            });
                        }
                    }
                }
                Ok((ToInit::Signal { id, signal }, _)) => {
                    let leader = self.running.iter().find(|(_, running)| **running == id);
                    if let (Some((&leader, _)), Ok(signal)) = (leader, Signal::try_from(signal)) {
                        descendants::signal_command(leader, signal);
                    }
                }
                Err(TransportError::WouldBlock) => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
    }

    /// Settles the launches whose outcome is known by now.
    fn look_at_launches(&mut self) {
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
                self.outbox.push_back(FromInit::Failed { id: launched.id, step, errno });
            }
            self.launcher.recycle(launched);
        }
    }

    fn reap(&mut self) {
        // A child that has ended is past its launch: settle that first, so that
        // one that could not execute is not taken for one that exited.
        let mut ended: Vec<(Pid, Status, Usage)> = Vec::new();
        ended.extend(std::iter::from_fn(sys::reap));
        self.look_at_launches();
        for (pid, status, usage) in ended {
            if let Some(id) = self.running.remove(&pid) {
                self.outbox.push_back(FromInit::Ended { id, status, usage });
            }
        }
    }
}
