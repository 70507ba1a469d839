//! The zygote: a small single-threaded process that forks inits.

use std::collections::HashSet;
use std::ffi::c_int;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, geteuid, getpid, setgroups, setsid};

use crate::descendants;
use crate::ground::{Forked, Kit};
use crate::init::{self, CONTROL};
use crate::message::{FromZygote, InitSpec, SpawnStep, Status, ToZygote};
use crate::probe;
use crate::sys::{self, Reaped};
use crate::transport::{self, TransportError};

/// The daemon's hold on its zygote.
#[derive(Debug)]
pub struct Zygote {
    /// Where requests go and answers come from. Closing it ends the zygote and every sandbox.
    pub control: OwnedFd,
    /// Its process id.
    pub pid: i32,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

/// Why there is no zygote.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This process has more than one thread, so what it forks might wait for ever on a lock.
    #[error("the zygote must be started before any thread ({0} are running)")]
    Threads(usize),
    /// The kernel does not list the children of a process.
    #[error(
        "cannot read /proc/self/task/*/children: mount /proc, on a kernel with CONFIG_PROC_CHILDREN ({0})"
    )]
    Children(#[source] std::io::Error),
    /// The kernel refused.
    #[error("cannot {0}: {1}")]
    Os(&'static str, #[source] Errno),
}

/// Forks the zygote. Call it before anything starts a thread.
///
/// # Errors
/// Where the kernel lacks what sandboxes need, or there is more than one thread.
pub fn start() -> Result<Zygote, StartError> {
    let tasks: Vec<_> =
        fs::read_dir("/proc/self/task").map_err(StartError::Children)?.flatten().collect();
    if tasks.len() != 1 {
        return Err(StartError::Threads(tasks.len()));
    }
    for task in &tasks {
        fs::read(task.path().join("children")).map_err(StartError::Children)?;
    }
    let (control, theirs) =
        transport::pair().map_err(|e| StartError::Os("make a pair of sockets", e))?;
    let pid = sys::fork(|| run(&theirs)).map_err(|e| StartError::Os("fork", e))?;
    let pidfd = sys::pidfd_open(pid).map_err(|e| StartError::Os("open a pidfd", e))?;
    Ok(Zygote { control, pid: pid.as_raw(), pidfd })
}

struct State {
    control: OwnedFd,
    ended: SignalFd,
    /// None until the daemon has said what holds its sandboxes.
    kit: Option<Kit>,
    inits: HashSet<Pid>,
    /// Inits that ended while what they left behind still has to be killed.
    uncleared: Vec<Pid>,
}

/// How long the inits may take to end when the daemon is gone, before the zygote does it for them.
const INITS_PATIENCE: Duration = Duration::from_millis(200);

fn run(control: &OwnedFd) -> c_int {
    sys::forget_service_manager();
    let Ok(mut state) = set_up(control) else { return 1 };
    while state.turn().is_ok() {}
    // The inits end by themselves, all at once. What is left then was stopped, or killed its init.
    let ended = descendants::all_end_within(&state.ended, INITS_PATIENCE)
        || descendants::kill_all(&state.ended);
    c_int::from(!ended)
}

/// Cuts the zygote off from whatever its daemon was started with: terminal and
/// session, descriptors, directory, ignored signals.
fn set_up(control: &OwnedFd) -> Result<State, Errno> {
    let control = sys::move_to(control, CONTROL)?;
    sys::close_from(CONTROL.unsigned_abs() + 1);
    sys::null_standard_descriptors()?;
    setsid()?;
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o022));
    if geteuid().is_root() {
        // Root's groups are nobody's business. Who may not drop them may not become another user either.
        let _ = setgroups(&[]);
    }
    sys::reset_signal_dispositions();
    let _ = prctl::set_name(c"nox-zygote");
    // Shown to nobody who could not read it before; without it a sandbox could.
    let _ = sys::blank_command_line();
    prctl::set_child_subreaper(true)?;
    Ok(State {
        control,
        ended: init::watch_children()?,
        kit: None,
        inits: HashSet::new(),
        uncleared: Vec::new(),
    })
}

/// The daemon is gone, or does not speak as it should.
struct Over;

impl State {
    fn turn(&mut self) -> Result<(), Over> {
        let mut fds = [
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Err(Over),
        }
        let [control, ended] = fds.map(|fd| fd.any().unwrap_or(true));
        if ended {
            while let Ok(Some(_)) = self.ended.read_signal() {}
            self.reap()?;
        }
        if control { self.take_requests() } else { Ok(()) }
    }

    fn take_requests(&mut self) -> Result<(), Over> {
        loop {
            let (request, mut descriptors) = match transport::recv(self.control.as_fd()) {
                Ok(received) => received,
                Err(TransportError::WouldBlock) => return Ok(()),
                Err(_) => return Err(Over),
            };
            match request {
                ToZygote::Probe { host_id } => {
                    self.answer(&FromZygote::Probed(probe::run(host_id)), &[])?;
                }
                ToZygote::Prepare(wish) => {
                    let outcome = Kit::prepare(&mut self.kit, wish);
                    self.answer(&FromZygote::Prepared(outcome), &[])?;
                }
                ToZygote::Spawn { ticket, spec } => match self.spawn(&spec, descriptors.pop()) {
                    Ok((pid, pidfd)) => {
                        self.answer(&FromZygote::Spawned { ticket, pid: pid.as_raw() }, &[pidfd])?;
                    }
                    Err((step, errno)) => {
                        let errno = errno as i32;
                        self.answer(&FromZygote::Failed { ticket, step, errno }, &[])?;
                    }
                },
            }
        }
    }

    fn spawn(
        &mut self,
        spec: &InitSpec,
        socket: Option<OwnedFd>,
    ) -> Result<Forked, (SpawnStep, Errno)> {
        let (Some(kit), Some(socket)) = (&self.kit, socket) else {
            return Err((SpawnStep::Request, Errno::EPROTO));
        };
        let forked = kit.fork(spec, &socket)?;
        self.inits.insert(forked.0);
        Ok(forked)
    }

    /// Waits while the daemon is behind: it owns both sides of this conversation and reads always.
    fn answer(&self, message: &FromZygote, descriptors: &[OwnedFd]) -> Result<(), Over> {
        loop {
            let sent =
                transport::send(self.control.as_fd(), message, &transport::borrow(descriptors));
            match sent {
                Ok(()) => return Ok(()),
                Err(TransportError::WouldBlock) => {
                    let mut fds = [PollFd::new(self.control.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut fds, PollTimeout::NONE);
                }
                Err(_) => return Err(Over),
            }
        }
    }

    /// An init that was killed leaves its commands to the zygote: they end with their sandbox.
    fn reap(&mut self) -> Result<(), Over> {
        let mut orphans = !self.uncleared.is_empty();
        while let Reaped::Child(pid, status, _) = sys::reap() {
            if self.inits.remove(&pid) {
                // One that ends by itself leaves nothing.
                orphans |= status != Status::Exited(0);
                self.uncleared.push(pid);
            }
        }
        if orphans {
            let strays: Vec<Pid> = descendants::children(getpid())
                .into_iter()
                .filter(|pid| !self.inits.contains(pid))
                .collect();
            if !strays.is_empty() {
                // Each of their ends, and their own orphans', brings another SIGCHLD.
                descendants::kill_trees(&strays);
                return Ok(());
            }
        }
        for pid in std::mem::take(&mut self.uncleared) {
            self.answer(&FromZygote::Cleared { pid: pid.as_raw() }, &[])?;
        }
        Ok(())
    }
}
