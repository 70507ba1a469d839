//! The init of a sandbox: it starts the sandbox's commands, reaps what they
//! leave, and ends with everything below it when the daemon's side closes.

use std::ffi::c_int;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::commands::{Commands, Outbox};
use crate::descendants::{self, Kin};
use crate::message::{ExecId, ExecStep, FromInit, SetupStep, ToInit};
use crate::supervisor::Supervisors;
use crate::sys;
use crate::transport::{self, TransportError};
use crate::walls::Walls;

/// Number of the control socket in an init, a supervisor and the zygote.
pub(crate) const CONTROL: i32 = 3;

struct Init {
    control: OwnedFd,
    commands: Commands,
    supervisors: Supervisors,
    /// Whether nothing but this process and what is below it can be seen from here.
    has_pid_namespace: bool,
    /// Whether the daemon is to hear when nothing runs any more.
    busy: bool,
    // What the daemon has not taken yet. At most two messages an exec.
    outbox: Outbox,
}

/// Runs an init until its daemon is gone; the result is its exit status.
pub(crate) fn run(control: &OwnedFd, walls: &Walls<'_>) -> c_int {
    // The number is taken by the zygote's own end, so nothing that the walls need has it.
    let Ok(control) = sys::move_to(control, CONTROL) else { return 1 };
    let _ = prctl::set_name(c"nox-init");
    if wait_to_begin(&control).is_err() {
        return 1;
    }
    let ended = match set_up(walls) {
        Ok(ended) => ended,
        Err((step, errno)) => {
            let failed = FromInit::SetupFailed { step, errno: errno as i32 };
            let _ = transport::send(control.as_fd(), &failed, &[]);
            return 1;
        }
    };
    let has_pid_namespace = walls.has_pid_namespace();
    let mut init = Init {
        control,
        commands: Commands::new(ended, walls.open_files()),
        supervisors: Supervisors::default(),
        has_pid_namespace,
        busy: false,
        outbox: Outbox::from([(FromInit::Ready, Vec::new())]),
    };
    while init.turn().is_ok() {}
    // The end of process 1 is that of its namespace: the kernel kills the rest (pid_namespaces(7)).
    c_int::from(!has_pid_namespace && !descendants::kill_all(&init.commands.into_ended()))
}

/// Waits until the daemon has put this process where it belongs.
fn wait_to_begin(control: &OwnedFd) -> Result<(), Over> {
    loop {
        match transport::recv::<ToInit>(control.as_fd()) {
            Ok((ToInit::Begin, _)) => return Ok(()),
            Err(TransportError::WouldBlock) => {
                let _ =
                    poll(&mut [PollFd::new(control.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            }
            Ok((ToInit::Exec(_) | ToInit::Signal { .. }, _)) | Err(_) => return Err(Over),
        }
    }
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

/// The other side is gone, or does not speak as it should.
pub(crate) struct Over;

/// Tells the other side what it takes of it now; the rest stays.
pub(crate) fn flush(
    outbox: &mut Outbox,
    send: impl Fn(&FromInit, &[BorrowedFd<'_>]) -> Result<(), TransportError>,
) -> Result<(), Over> {
    while let Some((message, descriptors)) = outbox.front() {
        match send(message, &transport::borrow(descriptors)) {
            Ok(()) => drop(outbox.pop_front()),
            Err(TransportError::WouldBlock) => return Ok(()),
            Err(_) => return Err(Over),
        }
    }
    Ok(())
}

/// What to wait for on a socket with so much to tell.
pub(crate) fn interest(outbox: &Outbox) -> PollFlags {
    match outbox.is_empty() {
        true => PollFlags::POLLIN,
        false => PollFlags::POLLIN | PollFlags::POLLOUT,
    }
}

impl Init {
    /// Waits for the next thing to happen and does what it asks for.
    fn turn(&mut self) -> Result<(), Over> {
        let control = self.control.as_fd();
        flush(&mut self.outbox, |message, beside| transport::send(control, message, beside))?;
        // Launches are not waited for: one that fails ends, and is reaped. Waking up for each
        // that succeeds would cost every command a turn on its processor.
        let mut fds = vec![
            PollFd::new(self.control.as_fd(), interest(&self.outbox)),
            PollFd::new(self.commands.ended(), PollFlags::POLLIN),
        ];
        fds.extend(self.supervisors.poll_fds());
        match poll(&mut fds, self.commands.patience()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Err(Over),
        }
        let mut happened = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let control = happened.next().unwrap_or(true);
        let ended = happened.next().unwrap_or(true);
        let supervised = happened.any(|happened| happened);
        if ended {
            self.reap()?;
        } else {
            self.commands.look_at_launches(&mut self.outbox);
        }
        self.commands.hand_on(&mut self.outbox);
        if supervised {
            self.supervisors.listen(&mut self.outbox)?;
        }
        self.tell_when_quiet();
        if control { self.take_requests() } else { Ok(()) }
    }

    /// Says that nothing runs any more, to a daemon that was told that something goes on.
    fn tell_when_quiet(&mut self) {
        self.busy |= self.outbox.iter().any(|(message, _)| match message {
            FromInit::Slow { .. } | FromInit::Ended { left: true, .. } => true,
            FromInit::Ended { left: false, .. }
            | FromInit::Ready
            | FromInit::SetupFailed { .. }
            | FromInit::Failed { .. }
            | FromInit::Quiet => false,
        });
        if self.busy
            && self.commands.is_empty()
            && self.supervisors.are_idle()
            && self.supervisors.nobody_else()
        {
            self.busy = false;
            self.outbox.push_back((FromInit::Quiet, Vec::new()));
        }
    }

    fn reap(&mut self) -> Result<(), Over> {
        let (mut killed, supervisors) = (false, &self.supervisors);
        let note = |pid| killed |= supervisors.is_one(pid);
        self.commands.reap(&mut self.outbox, note, || supervisors.nobody_else());
        // One does not end by itself, and whose its processes were nobody can say any more.
        if killed { Err(Over) } else { Ok(()) }
    }

    fn take_requests(&mut self) -> Result<(), Over> {
        loop {
            let Self { control, commands, supervisors, outbox, .. } = self;
            let received = transport::receive(control.as_fd(), |packet, descriptors| {
                match transport::peek(packet, &descriptors)? {
                    ToInit::Exec(exec) if commands.is_empty() && supervisors.nobody_else() => {
                        let descriptors = transport::beside(packet, descriptors);
                        commands.start(exec, descriptors, outbox);
                    }
                    ToInit::Exec(exec) => {
                        match supervisors.launch(&exec, packet, &descriptors, commands.open_files())
                        {
                            Ok(()) => {}
                            Err(TransportError::Os(errno)) => {
                                let (step, errno) = (ExecStep::Supervisor, errno as i32);
                                let failed = FromInit::Failed { id: exec.id, step, errno };
                                outbox.push_back((failed, Vec::new()));
                            }
                            // It reads whatever it is sent, so it has been killed.
                            Err(gone) => return Err(gone),
                        }
                    }
                    ToInit::Signal { id, signal } => return Ok(Some((id, signal))),
                    ToInit::Begin => return Err(TransportError::Malformed),
                }
                Ok(None)
            });
            match received.and_then(|taken| taken) {
                Ok(None) => {}
                Ok(Some((id, signal))) => {
                    if let Ok(signal) = Signal::try_from(signal) {
                        self.signal(id, signal);
                    }
                }
                Err(TransportError::WouldBlock) => return Ok(()),
                Err(_) => return Err(Over),
            }
        }
    }

    /// Sends a signal to everything that a command has started, where it still runs.
    fn signal(&self, id: ExecId, signal: Signal) {
        let below = match (self.supervisors.of(id), self.commands.leader(id)) {
            (Some(supervisor), _) => Kin::below(supervisor),
            // All that is not somebody else's.
            (None, Some(_)) => Kin::below_this(self.supervisors.pids()),
            (None, None) => return,
        };
        if signal != Signal::SIGKILL {
            below.signal(signal);
        } else if self.has_pid_namespace {
            below.kill_in_namespace();
        } else {
            below.kill();
        }
    }
}
