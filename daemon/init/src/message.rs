//! What the daemon, the zygote and the inits say to each other.

mod steps;

use std::ffi::CString;

use serde::{Deserialize, Serialize};

pub use steps::{ExecStep, PrepareStep, SetupStep, SpawnStep};

use crate::template::{Template, Unstubbed};

/// Names an exec within its sandbox. The daemon counts them up and never uses one twice.
pub type ExecId = u64;

/// From the daemon to the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToZygote {
    /// Find out what works here, by doing it. With a host id, as that user.
    Probe {
        /// As [`InitSpec::host_id`].
        host_id: Option<u32>,
    },
    /// Get ready to fork inits that are held so. Where that was done before, what they see is made anew.
    Prepare(Preparation),
    /// Fork an init that talks over the one descriptor that comes with this message.
    Spawn {
        /// Repeated in the answer.
        ticket: u64,
        /// What kind of init.
        spec: InitSpec,
    },
}

/// Which layers hold a sandbox's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layers {
    /// Namespaces, a mount tree of its own, no capabilities, Landlock and seccomp.
    Full,
    /// Landlock and seccomp.
    Landlock,
    /// None.
    None,
}

/// What the zygote needs to know before it forks inits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Preparation {
    /// What will hold them.
    pub layers: Layers,
    /// What they see, where they have a mount tree.
    pub template: Template,
    /// Paths of the host that they may read, where they have none. What is missing is passed over.
    pub readable: Vec<CString>,
    /// As [`InitSpec::host_id`], for a first init that shows whether all of it works.
    pub host_id: Option<u32>,
    /// What else is refused in a sandbox's own places. What is said first holds for good.
    pub places: Places,
    /// Whether files that are in memory alone are refused, memfd_create(2): one that is not mapped counts
    /// for no process, so that nobody but a control group can limit it.
    pub no_memfd: bool,
}

/// What is refused in the places that a sandbox can write to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Executing what lies there, and in memory alone (memfd_create(2)).
    pub no_exec: bool,
    /// Unlinking and renaming.
    pub no_delete: bool,
}

/// One init.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InitSpec {
    /// The sandbox's directory on the host, with `workspace`, `home` and `tmp` in it.
    pub directory: CString,
    /// The user and group on the host that its commands are; its daemon's own where there is none.
    pub host_id: Option<u32>,
    /// Whether it has the host's network rather than one of its own.
    pub host_network: bool,
    /// What its processes are limited to.
    pub rlimits: Rlimits,
}

/// Limits of each process, getrlimit(2), and of what an init mounts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Rlimits {
    /// Processes and threads of the sandbox's user, `RLIMIT_NPROC`, where it is counted for this sandbox alone.
    pub processes: Option<u64>,
    /// Descriptors of a command's process, `RLIMIT_NOFILE`.
    pub open_files: u64,
    /// Bytes of a file, `RLIMIT_FSIZE`.
    pub file_bytes: u64,
    /// Bytes in `/dev/shm`, where it has one of its own.
    pub shm_bytes: u64,
}

impl Rlimits {
    /// Those of an init that runs nothing.
    pub(crate) const IDLE: Self =
        Self { processes: None, open_files: 64, file_bytes: 0, shm_bytes: 1 << 20 };
}

/// From the zygote to the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromZygote {
    /// What works here.
    Probed(Findings),
    /// Whether the inits to come will be as asked, and in which directories not quite.
    Prepared(Result<Vec<Unstubbed>, PrepareFailure>),
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

/// What a probe found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Each feature that was tried, and why it does not work, as errno(3) numbers it; 0 where it does.
    pub tried: Vec<(Feature, i32)>,
    /// The kernel's version of Landlock, landlock(7); 0 where it has none.
    pub landlock: u32,
}

/// What of the kernel holds sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Feature {
    /// Becoming another user of the host.
    HostIds,
    /// A user namespace with a user in it.
    UserNamespace,
    /// A mount namespace, and a mount in it.
    MountNamespace,
    /// An overlay of two directories, mounted.
    Overlay,
    /// A process id namespace.
    PidNamespace,
    /// A /proc of that namespace.
    Proc,
    /// Pseudoterminals apart from the host's.
    Devpts,
    /// A network namespace with its loopback up.
    NetworkNamespace,
    /// System V and POSIX IPC apart from the host's.
    IpcNamespace,
    /// A host name apart from the host's.
    UtsNamespace,
    /// Control groups seen from their own root.
    CgroupNamespace,
    /// Landlock of any version.
    Landlock,
    /// A seccomp filter.
    Seccomp,
}

/// Why the inits to come cannot be as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrepareFailure {
    /// What they start from cannot be made.
    Ground(PrepareStep, i32),
    /// The first one was not forked.
    Spawn(SpawnStep, i32),
    /// The first one did not get ready.
    Setup(SetupStep, i32),
    /// The first one ended without a word, or said nothing for long.
    Silent,
}

/// From the daemon to an init, as the init reads it.
#[derive(Debug, Deserialize)]
pub enum ToInit {
    /// Begin, in the control groups that the init is in by now. Comes first and once.
    Begin,
    /// Run a command. Its standard input, output and error come with this message, or
    /// its input alone, or nothing. The init makes the others: an empty input, and pipes that it reads.
    Exec(Exec),
    /// Send a signal to everything that an exec has started. One that has ended is left alone.
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
    /// As [`ToInit::Begin`].
    Begin,
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
    /// A command goes on for longer. The reading ends of its output and error come with this
    /// message; nothing was read from them.
    Slow {
        /// Which exec.
        id: ExecId,
    },
    /// A command ended. What it started may go on.
    Ended {
        /// Which exec.
        id: ExecId,
        /// How it ended.
        status: Status,
        /// What it and the children it waited for used.
        usage: Usage,
        /// What it wrote, where no [`FromInit::Slow`] came before. Where that is not all, or
        /// somebody still holds the pipes, their reading ends come with this message.
        output: Output,
        /// Whether anything that it started may be left.
        left: bool,
    },
    /// Nothing runs any more, after a [`FromInit::Slow`] or an end with something left.
    Quiet,
}

/// What a command wrote, or the beginning of it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// On its standard output.
    pub stdout: Vec<u8>,
    /// On its standard error.
    pub stderr: Vec<u8>,
}

/// From a supervisor to its init, which is of the same program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromSupervisor<T> {
    /// For the daemon.
    Told(T),
    /// Nothing is left of the command that it was given.
    Quiet,
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
            other @ (ToInit::Begin | ToInit::Signal { .. }) => panic!("{other:?} was read"),
        }
        let bytes = postcard::to_stdvec(&ToInitRef::Signal { id: 7, signal: 9 }).unwrap();
        let read = postcard::from_bytes(&bytes).unwrap();
        assert!(matches!(read, ToInit::Signal { id: 7, signal: 9 }));
    }
}
