//! Starting a command and learning whether it started.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2, read};

use crate::message::{Exec, ExecId, ExecStep};
use crate::streams::{Collected, Theirs};
use crate::sys;

/// A command between its clone and its execve.
///
/// It holds what the child reads and the stack the child runs on. Both may go
/// only at the end of file of the failure pipe: the kernel gives a process new
/// memory, or takes it away, before it closes its descriptors.
pub(crate) struct Launched {
    pub(crate) id: ExecId,
    pub(crate) pid: Pid,
    failure: OwnedFd,
    wrote: Option<(ExecStep, i32)>,
    stack: sys::Stack,
    _launch: Box<sys::Launch>,
}

/// Whether a command got as far as its own code.
pub(crate) enum Progress {
    /// Not known yet.
    Launching,
    /// It executes, or ended without a word on the way there.
    Started,
    /// It could not.
    Failed(ExecStep, i32),
}

/// Starts commands, with stacks of earlier launches.
pub(crate) struct Launcher {
    stacks: Vec<sys::Stack>,
    /// The most descriptors that a process of a command may have.
    open_files: u64,
}

/// More than this many launches at once is rare; what is beyond is unmapped.
const STACKS_KEPT: usize = 8;

impl Launcher {
    /// None has been started yet.
    pub(crate) fn new(open_files: u64) -> Self {
        Self { stacks: Vec::new(), open_files }
    }

    /// What it was made with.
    pub(crate) fn open_files(&self) -> u64 {
        self.open_files
    }

    /// Starts a command. It does not wait for the child, not even for its execve.
    pub(crate) fn launch(
        &mut self,
        exec: Exec,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Launched, Option<Collected>), (ExecStep, Errno)> {
        let (theirs, collected) = Theirs::complete(descriptors)?;
        let prepare = |errno| (ExecStep::Prepare, errno);
        let stack = match self.stacks.pop() {
            Some(stack) => stack,
            None => sys::Stack::new().map_err(prepare)?,
        };
        let (failure, child_end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(prepare)?;
        let Exec { id, workdir, programs, argv, env } = exec;
        let numbers = theirs.numbers();
        let failure_end = child_end.as_raw_fd();
        let files = self.open_files;
        let launch = sys::Launch::new(workdir, programs, argv, env, numbers, failure_end, files);
        let pid = sys::clone_and_exec(&launch, &stack).map_err(|e| (ExecStep::Clone, e))?;
        // Dropping this side's copies now is what lets the pipe's end be seen, and the command's too.
        let launched = Launched { id, pid, failure, wrote: None, stack, _launch: launch };
        Ok((launched, collected))
    }

    /// Takes back what a launch held. Only after [`Launched::progress`] said more than `Launching`.
    pub(crate) fn recycle(&mut self, launched: Launched) {
        if self.stacks.len() < STACKS_KEPT {
            self.stacks.push(launched.stack);
        }
    }
}

impl Launched {
    /// What is known by now.
    pub(crate) fn progress(&mut self) -> Progress {
        loop {
            let mut bytes = [0; sys::FAILURE_BYTES];
            match read(&self.failure, &mut bytes) {
                Ok(0) => {
                    return match self.wrote {
                        None => Progress::Started,
                        Some((step, errno)) => Progress::Failed(step, errno),
                    };
                }
                // The child still runs; its end is what frees its stack.
                Ok(_) => self.wrote = Some(sys::decode_failure(bytes)),
                Err(Errno::EINTR) => {}
                Err(_) => return Progress::Launching,
            }
        }
    }
}
