//! What holds the commands of a sandbox, put on its init once and inherited by
//! all that it starts. A straight script: each step has a name, and the first
//! that fails ends it.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setgroups, sethostname, setresgid, setresuid};

use crate::landlock::{self, Rules};
use crate::message::{Places, Rlimits, SetupStep};
use crate::rootfs::{HOST_FILES, PLACES, ROOT, map_ids};
use crate::seccomp::Filter;
use crate::sys;

/// The user and the group that sandboxed code is in its own user namespace.
pub(crate) const INSIDE: u32 = 1000;

/// The walls of one init.
pub(crate) enum Walls<'a> {
    /// None, but perhaps another user.
    None {
        /// The user and group to become.
        host_id: Option<u32>,
        rlimits: Rlimits,
    },
    /// Landlock and seccomp.
    Landlock {
        /// The user and group to become.
        host_id: Option<u32>,
        rlimits: Rlimits,
        /// The sandbox's directory.
        directory: &'a CStr,
        /// What else may be read.
        readable: &'a [CString],
        filter: &'a Filter,
        rules: Places,
    },
    /// Everything. The process is in its new namespaces already.
    Full {
        /// User and group outside, as the parent namespace numbers them.
        outside: (u32, u32),
        /// What goes to [`PLACES`]; nothing for an init that only shows that it can be.
        places: Vec<OwnedFd>,
        host_network: bool,
        rlimits: Rlimits,
        filter: &'a Filter,
        rules: Places,
        /// What can be executed, where that is not everything.
        executable: &'a [CString],
    },
}

type Failed = (SetupStep, Errno);

fn at(step: SetupStep) -> impl Fn(Errno) -> Failed {
    move |errno| (step, errno)
}

impl Walls<'_> {
    /// Whether the init is process 1 of its own namespace: its end is everybody's, by the kernel's hand.
    pub(crate) fn has_pid_namespace(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// The most descriptors that a command's process may have.
    pub(crate) fn open_files(&self) -> u64 {
        match self {
            Self::None { rlimits, .. }
            | Self::Landlock { rlimits, .. }
            | Self::Full { rlimits, .. } => rlimits.open_files,
        }
    }

    /// Everything but the last step.
    pub(crate) fn raise(&self) -> Result<(), Failed> {
        match self {
            Self::None { host_id, rlimits } => {
                go_first()?;
                become_host_user(*host_id)?;
                limit(rlimits)
            }
            Self::Landlock { host_id, rlimits, directory, readable, rules, .. } => {
                go_first()?;
                become_host_user(*host_id)?;
                limit(rlimits)?;
                prctl::set_dumpable(false).map_err(at(SetupStep::Dumpable))?;
                prctl::set_no_new_privs().map_err(at(SetupStep::NoNewPrivs))?;
                restrict_on_host(directory, readable, *rules).map_err(at(SetupStep::Landlock))
            }
            Self::Full { outside, places, host_network, rlimits, rules, executable, .. } => {
                // Not before the daemon has put this process into its group: that is the root it sees.
                unshare(CloneFlags::CLONE_NEWCGROUP).map_err(at(SetupStep::ControlGroups))?;
                become_sandbox_user(*outside)?;
                go_first()?;
                move_into_root(places, *host_network, rlimits.shm_bytes, *rules)?;
                if !host_network {
                    sys::loopback_up().map_err(at(SetupStep::Loopback))?;
                }
                sethostname("sandbox").map_err(at(SetupStep::Hostname))?;
                limit(rlimits)?;
                sys::drop_bounding_set().map_err(at(SetupStep::Capabilities))?;
                sys::lock_securebits().map_err(at(SetupStep::Capabilities))?;
                sys::drop_capabilities().map_err(at(SetupStep::Capabilities))?;
                // Commands are the same user: they must not read or trace what starts them.
                prctl::set_dumpable(false).map_err(at(SetupStep::Dumpable))?;
                prctl::set_no_new_privs().map_err(at(SetupStep::NoNewPrivs))?;
                restrict_in_root(*rules, executable).map_err(at(SetupStep::Landlock))
            }
        }
    }

    /// The last step: from here on the process has no way to most of what it did before.
    pub(crate) fn close(&self) -> Result<(), Failed> {
        match self {
            Self::None { .. } => Ok(()),
            Self::Landlock { filter, .. } | Self::Full { filter, .. } => {
                filter.install().map_err(at(SetupStep::Seccomp))
            }
        }
    }
}

fn become_host_user(host_id: Option<u32>) -> Result<(), Failed> {
    let Some(id) = host_id else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    // While it still may. With the last user id of 0 every capability goes by itself.
    sys::drop_bounding_set().map_err(at(SetupStep::Capabilities))?;
    setgroups(&[])
        .and_then(|()| setresgid(gid, gid, gid))
        .and_then(|()| setresuid(uid, uid, uid))
        .map_err(at(SetupStep::Identity))
}

/// Makes the outer user known inside under [`INSIDE`]. A process may map its own user without help;
/// to open its own maps it has to be dumpable (proc(5)), which it is not after a change of user.
fn become_sandbox_user(outside: (u32, u32)) -> Result<(), Failed> {
    prctl::set_dumpable(true).map_err(at(SetupStep::IdMaps))?;
    map_ids((INSIDE, outside.0), (INSIDE, outside.1)).map_err(at(SetupStep::IdMaps))?;
    let (uid, gid) = (Uid::from_raw(INSIDE), Gid::from_raw(INSIDE));
    setresgid(gid, gid, gid)
        .and_then(|()| setresuid(uid, uid, uid))
        .map_err(at(SetupStep::Identity))
}

/// Where memory runs out, whatever runs in a sandbox goes before anything else of this machine. A
/// process may make itself worse by itself, while its own /proc files are its own.
fn go_first() -> Result<(), Failed> {
    fs::write("/proc/self/oom_score_adj", "1000")
        .map_err(|e| (SetupStep::OomScore, e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))
}

/// Limits of this process that what it starts inherits. The number of descriptors is a command's
/// alone: what an init passes on is refused where its own limit is below what its user has queued.
fn limit(rlimits: &Rlimits) -> Result<(), Failed> {
    let set = |resource, value: u64| {
        // What this process itself was limited to is not its to raise.
        let (_, hard) = getrlimit(resource).map_err(at(SetupStep::Rlimits))?;
        let value = value.min(hard);
        setrlimit(resource, value, value).map_err(at(SetupStep::Rlimits))
    };
    // Not 0, which does not stop a core_pattern that is a pipe (core(5)).
    set(Resource::RLIMIT_CORE, 1)?;
    set(Resource::RLIMIT_FSIZE, rlimits.file_bytes)?;
    match rlimits.processes {
        Some(processes) => set(Resource::RLIMIT_NPROC, processes),
        None => Ok(()),
    }
}

fn move_into_root(
    places: &[OwnedFd],
    host_network: bool,
    shm_bytes: u64,
    rules: Places,
) -> Result<(), Failed> {
    let none = None::<&CStr>;
    mount(Some(ROOT), ROOT, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .and_then(|()| chdir(ROOT))
        .map_err(at(SetupStep::Template))?;
    for ((_, target), tree) in std::iter::zip(PLACES, places) {
        sys::attach(tree, target).map_err(at(SetupStep::Places))?;
    }
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let inert = safe | MsFlags::MS_NOEXEC;
    mount(Some(c"proc"), c"proc", Some(c"proc"), inert, none).map_err(at(SetupStep::Proc))?;
    // Keys are known by user and not by namespace, and /proc lists their names (keyrings(7)).
    for list in [c"proc/keys", c"proc/key-users"] {
        match mount(Some(c"dev/null"), list, none, MsFlags::MS_BIND, none) {
            // A kernel without keys.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err((SetupStep::Proc, errno)),
        }
    }
    let terminals = Some(c"newinstance,ptmxmode=0666,mode=0620");
    mount(
        Some(c"devpts"),
        c"dev/pts",
        Some(c"devpts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        terminals,
    )
    .map_err(at(SetupStep::Devpts))?;
    let shm = if rules.no_exec { inert } else { safe };
    let options = format!("mode=1777,size={shm_bytes}");
    mount(Some("shm"), "dev/shm", Some("tmpfs"), shm, Some(options.as_str()))
        .map_err(at(SetupStep::Shm))?;
    if host_network {
        for (file, target) in HOST_FILES {
            mount(Some(file), target, none, MsFlags::MS_BIND, none)
                .map_err(at(SetupStep::NetworkFiles))?;
        }
    }
    pivot_root(".", ".")
        .and_then(|()| umount2(".", MntFlags::MNT_DETACH))
        .and_then(|()| chdir("/"))
        .map_err(at(SetupStep::PivotRoot))
}

fn restrict_in_root(places: Places, executable: &[CString]) -> Result<(), Errno> {
    let mut rules = Rules::new()?;
    if places.no_exec {
        // What is granted above a place holds in it, too.
        rules = rules.look(c"/")?;
        for path in executable {
            rules = rules.read_if_there(path)?;
        }
    } else {
        rules = rules.read(c"/")?;
    }
    rules = rules.write(c"/proc", places)?.write(c"/dev", places)?;
    for path in landlock::OPEN {
        rules = rules.open(path, places)?;
    }
    rules.enforce()
}

fn restrict_on_host(directory: &CStr, readable: &[CString], places: Places) -> Result<(), Errno> {
    // Not to be written: other processes of the user are in it.
    let mut rules = Rules::new()?.read(c"/proc")?;
    for path in readable {
        rules = rules.read_if_there(path)?;
    }
    for path in landlock::DEVICES {
        rules = rules.write_if_there(path, places)?;
    }
    for (name, _) in PLACES {
        let place = [directory.to_bytes(), b"/", name.as_bytes()].concat();
        rules = rules.open(&CString::new(place).map_err(|_| Errno::EINVAL)?, places)?;
    }
    rules.enforce()
}
