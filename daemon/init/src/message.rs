//! What the daemon, the zygote and the inits say to each other.

use std::ffi::CString;

use serde::{Deserialize, Serialize};

/// Names an exec within its sandbox. The daemon counts them up and never uses one twice.
pub type ExecId = u64;

/// From the daemon to the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToZygote {
    /// Fork an init that talks over the one descriptor that comes with this message.
    Spawn {
        /// Repeated in the answer.
        ticket: u64,
    },
}

/// From the zygote to the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromZygote {
    /// An init was forked. A pidfd of it comes with this message.
    Spawned {
        /// The request's ticket.
        ticket: u64,
        /// Its process id, as the zygote sees it.
        pid: i32,
    },
    /// An init ended, and nothing that it left behind runs any more.
    Cleared {
        /// The process id that it had.
        pid: i32,
    },
    /// No init was forked.
    Failed {
        /// The request's ticket.
        ticket: u64,
        /// What could not be done.
        step: SpawnStep,
        /// Why, as errno(3) numbers it.
        errno: i32,
    },
}

/// What forking an init takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpawnStep {
    /// The request came without its descriptor.
    Descriptor,
    /// fork(2).
    Fork,
    /// pidfd_open(2).
    Pidfd,
}

/// From the daemon to an init, as the init reads it.
#[derive(Debug, Deserialize)]
pub enum ToInit {
    /// Run a command. Three descriptors come with this message: its standard
    /// input, output and error.
    Exec(Exec),
    /// Send a signal to everything that is known to belong to an exec. One that has ended is left alone.
    Signal {
        /// Which exec.
        id: ExecId,
        /// The signal's number, as signal(7) gives it.
        signal: i32,
    },
}

/// [`ToInit`] without its own copy of the command; it is written the same.
#[derive(Debug, Serialize)]
pub enum ToInitRef<'a> {
    /// As [`ToInit::Exec`].
    Exec(&'a Exec),
    /// As [`ToInit::Signal`].
    Signal {
        /// Which exec.
        id: ExecId,
        /// The signal's number, as signal(7) gives it.
        signal: i32,
    },
}

/// A command to run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// What to call it in answers.
    pub id: ExecId,
    /// Where it runs: an absolute path, as the init sees the file system.
    pub workdir: CString,
    /// Paths to try in turn, as execvp(3) does with the entries of PATH.
    pub programs: Vec<CString>,
    /// Its arguments, the name it is called by first.
    pub argv: Vec<CString>,
    /// Its environment, each `NAME=value`.
    pub env: Vec<CString>,
}

/// From an init to the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// The init has everything it needs and takes requests.
    Ready,
    /// The init cannot work and ends.
    SetupFailed {
        /// What could not be done.
        step: SetupStep,
        /// Why, as errno(3) numbers it.
        errno: i32,
    },
    /// A command was not started.
    Failed {
        /// Which exec.
        id: ExecId,
        /// What could not be done.
        step: ExecStep,
        /// Why, as errno(3) numbers it.
        errno: i32,
    },
    /// A command ended. What it started may go on.
    Ended {
        /// Which exec.
        id: ExecId,
        /// How it ended.
        status: Status,
        /// What it and the children it waited for used.
        usage: Usage,
    },
}

/// What an init does before it takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetupStep {
    /// Becoming the parent of what its commands leave behind, prctl(2) `PR_SET_CHILD_SUBREAPER`.
    Subreaper,
    /// Learning of ended children by descriptor, signalfd(2).
    Signals,
}

/// What starting a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecStep {
    /// The request came without its three descriptors.
    Descriptors,
    /// Making the stack and the pipe that tells of failure.
    Prepare,
    /// clone(2).
    Clone,
    /// setsid(2).
    Session,
    /// chdir(2) to the working directory.
    Workdir,
    /// Putting the three descriptors in place, dup3(2).
    Descriptor,
    /// execve(2).
    Execve,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

/// What getrusage(2) counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode, in microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, in microseconds.
    pub sys_us: u64,
    /// Largest resident set of any of its processes, in KiB.
    pub max_rss_kib: u64,
    /// Page faults that needed no I/O.
    pub minor_faults: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
    /// Times it waited by its own will.
    pub voluntary_switches: u64,
    /// Times it was made to wait.
    pub involuntary_switches: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_writes_is_what_an_init_reads() {
        let exec = Exec {
            id: 7,
            workdir: c"/w".into(),
            programs: vec![c"/bin/x".into()],
            argv: vec![c"x".into(), c"".into()],
            env: vec![],
        };
        let bytes = postcard::to_stdvec(&ToInitRef::Exec(&exec)).unwrap();
        match postcard::from_bytes(&bytes).unwrap() {
            ToInit::Exec(read) => assert_eq!((read.id, read.argv), (exec.id, exec.argv)),
            ToInit::Signal { .. } => panic!("a signal was read"),
        }
        let bytes = postcard::to_stdvec(&ToInitRef::Signal { id: 7, signal: 9 }).unwrap();
        let read = postcard::from_bytes(&bytes).unwrap();
        assert!(matches!(read, ToInit::Signal { id: 7, signal: 9 }));
    }
}
