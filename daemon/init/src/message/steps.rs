//! The steps in which sandboxes and commands are made, by which a failure is named.

use serde::{Deserialize, Serialize};

/// What making the ground takes that inits start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrepareStep {
    /// unshare(2) of a user namespace.
    UserNamespace,
    /// Writing its maps, user_namespaces(7).
    IdMaps,
    /// unshare(2) of a mount namespace, or setns(2) into one.
    MountNamespace,
    /// Cutting it off from the host's, mount_namespaces(7).
    Propagation,
    /// Copying or attaching the host's /proc.
    Proc,
    /// Copying or attaching the host's devices.
    Devices,
    /// Copying or attaching a directory of the host's.
    Bind,
    /// mount_setattr(2).
    Attributes,
    /// Mounting the tmpfs that everything stands in.
    Tmpfs,
    /// Making a file, a link or a directory of the template.
    Template,
    /// Hiding a directory of the host's.
    Hidden,
    /// Making the programs that stand in for blocked ones.
    Stubs,
    /// Making the places for the sandbox's own mounts.
    MountPoints,
    /// pivot_root(2).
    PivotRoot,
    /// Compiling the seccomp filters.
    Seccomp,
}

/// What forking an init takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpawnStep {
    /// The request came without its descriptor, or before the zygote was prepared.
    Request,
    /// Copying the mount of the sandbox's `workspace`, `home` or `tmp`, open_tree(2).
    Places,
    /// setns(2) between mount namespaces.
    MountNamespace,
    /// Becoming the sandbox's user for the fork, seteuid(2).
    Identity,
    /// fork(2), or clone(2) with the namespaces.
    Fork,
    /// pidfd_open(2).
    Pidfd,
}

/// What an init does before it takes requests, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetupStep {
    /// unshare(2) of a cgroup namespace.
    ControlGroups,
    /// Writing the maps of its user namespace, user_namespaces(7).
    IdMaps,
    /// Becoming the sandbox's user, setresuid(2) and its like.
    Identity,
    /// Binding the template once more.
    Template,
    /// Putting the sandbox's `workspace`, `home` or `tmp` in place, move_mount(2).
    Places,
    /// Mounting /proc.
    Proc,
    /// Mounting /dev/pts.
    Devpts,
    /// Mounting /dev/shm.
    Shm,
    /// setrlimit(2).
    Rlimits,
    /// Being the first to go where memory runs out, proc_pid_oom_score_adj(5).
    OomScore,
    /// Binding the host's resolv.conf and hosts.
    NetworkFiles,
    /// pivot_root(2).
    PivotRoot,
    /// Bringing up the loopback interface.
    Loopback,
    /// sethostname(2).
    Hostname,
    /// Giving up capabilities, capabilities(7).
    Capabilities,
    /// Hiding from ptrace(2), prctl(2) `PR_SET_DUMPABLE`.
    Dumpable,
    /// prctl(2) `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivs,
    /// landlock(7).
    Landlock,
    /// Becoming the parent of what its commands leave behind, prctl(2) `PR_SET_CHILD_SUBREAPER`.
    Subreaper,
    /// Learning of ended children by descriptor, signalfd(2).
    Signals,
    /// seccomp(2).
    Seccomp,
}

/// What starting a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecStep {
    /// The request came with another number of descriptors.
    Descriptors,
    /// Making the stack, the pipe that tells of failure, and those that read the output.
    Prepare,
    /// clone(2).
    Clone,
    /// Forking a supervisor for it, or giving it to one.
    Supervisor,
    /// setsid(2).
    Session,
    /// chdir(2) to the working directory.
    Workdir,
    /// Putting the three descriptors in place, dup3(2).
    Descriptor,
    /// execve(2).
    Execve,
}
