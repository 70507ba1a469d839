//! The standard streams of a command, as far as they are made here.
//!
//! Most commands are quick and say little: what they wrote is read when they have ended, and
//! goes with the word of their end. The pipes of the others go to the daemon.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{pipe2, read};

use crate::message::{ExecStep, Output};

/// How long a command may take before its pipes are handed on. One that prints more than they
/// hold waits for that.
const QUICK: Duration = Duration::from_millis(2);

/// The most that is read here of each stream, in bytes. Both fit into a packet.
const MOST: usize = 12 * 1024;

/// The command's ends. Dropped when it has its own, or its pipes would never end.
pub(crate) struct Theirs([OwnedFd; 3]);

/// What a command writes, read here until it is handed on.
pub(crate) struct Collected {
    pipes: [OwnedFd; 2],
    until: Instant,
}

impl Theirs {
    /// Completes the descriptors that came with a request.
    pub(crate) fn complete(
        given: Vec<OwnedFd>,
    ) -> Result<(Self, Option<Collected>), (ExecStep, Errno)> {
        let prepare = |errno| (ExecStep::Prepare, errno);
        let mut given = given.into_iter();
        let stdin = match (given.len(), given.next()) {
            (1, Some(stdin)) => stdin,
            (3, Some(stdin)) => {
                let (Some(stdout), Some(stderr)) = (given.next(), given.next()) else {
                    return Err((ExecStep::Descriptors, Errno::EBADMSG));
                };
                return Ok((Self([stdin, stdout, stderr]), None));
            }
            // Each its own: sandboxes that shared an open file could signal each other by its flags.
            (0, None) => File::open("/dev/null")
                .map_err(|e| prepare(e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))?
                .into(),
            _ => return Err((ExecStep::Descriptors, Errno::EBADMSG)),
        };
        let pipe = || -> Result<(OwnedFd, OwnedFd), Errno> {
            let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
            // Ours alone: a command's own ends are to be as it expects them.
            fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            Ok((ours, theirs))
        };
        let (out, stdout) = pipe().map_err(prepare)?;
        let (err, stderr) = pipe().map_err(prepare)?;
        let collected = Collected { pipes: [out, err], until: Instant::now() + QUICK };
        Ok((Self([stdin, stdout, stderr]), Some(collected)))
    }

    /// Their numbers, in order.
    pub(crate) fn numbers(&self) -> [RawFd; 3] {
        let [stdin, stdout, stderr] = &self.0;
        [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()]
    }
}

impl Collected {
    /// When the pipes are to be handed on.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// The pipes, with everything in them.
    pub(crate) fn hand_on(self) -> Vec<OwnedFd> {
        self.pipes.into()
    }

    /// What there is, of a command that has ended, and the pipes where that is not all.
    pub(crate) fn read(self) -> (Output, Vec<OwnedFd>) {
        let [out, err] = self.pipes;
        let ((stdout, all_out), (stderr, all_err)) = (beginning(&out), beginning(&err));
        let rest = if all_out && all_err { Vec::new() } else { vec![out, err] };
        (Output { stdout, stderr }, rest)
    }
}

/// The first bytes of a pipe without waiting for more, and whether those are all.
fn beginning(pipe: &OwnedFd) -> (Vec<u8>, bool) {
    let mut bytes = [0; MOST];
    let mut filled = 0;
    loop {
        let room = bytes.get_mut(filled..).unwrap_or_default();
        if room.is_empty() {
            return (bytes.to_vec(), false);
        }
        match read(pipe, room) {
            Ok(0) => return (bytes.get(..filled).unwrap_or_default().to_vec(), true),
            Ok(more) => filled += more,
            Err(Errno::EINTR) => {}
            Err(_) => return (bytes.get(..filled).unwrap_or_default().to_vec(), false),
        }
    }
}
