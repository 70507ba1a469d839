//! What a zygote has ready for the inits it forks.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid, setegid, seteuid};

use crate::init;
use crate::message::{
    FromInit, InitSpec, Layers, Places, Preparation, PrepareFailure, PrepareStep, Rlimits,
    SpawnStep, ToInitRef,
};
use crate::rootfs::{Ground, PLACES};
use crate::seccomp::Filter;
use crate::sys::{self, Attributes};
use crate::template::{Node, Template, Unstubbed};
use crate::transport::{self, TransportError};
use crate::walls::Walls;

/// What it takes to fork inits of one kind.
pub(crate) enum Kit {
    None,
    Landlock {
        readable: Vec<CString>,
        filter: Filter,
        rules: Places,
    },
    /// With what can be executed, where that is not everything that is seen.
    Full {
        ground: Ground,
        filter: Filter,
        rules: Places,
        executable: Vec<CString>,
    },
}

/// A forked init.
pub(crate) type Forked = (Pid, OwnedFd);

type Failed = (SpawnStep, Errno);

/// How long the first init may take to get ready.
const REHEARSAL: Duration = Duration::from_secs(10);

impl Kit {
    /// Gets ready, or takes in what has changed, and shows that it works.
    /// What there was before stays where that fails.
    pub(crate) fn prepare(
        ready: &mut Option<Self>,
        wish: Preparation,
    ) -> Result<Vec<Unstubbed>, PrepareFailure> {
        let failed =
            |(step, errno): (PrepareStep, Errno)| PrepareFailure::Ground(step, errno as i32);
        if let (Layers::Full, Some(Self::Full { ground, executable, .. })) =
            (wish.layers, &mut *ready)
        {
            let unstubbed = ground.lay_again(&wish.template).map_err(failed)?;
            *executable = trees(&wish.template);
            return Ok(unstubbed);
        }
        let rules = wish.places;
        let filter = || {
            Filter::compile(wish.layers, rules, wish.no_memfd)
                .map_err(|errno| failed((PrepareStep::Seccomp, errno)))
        };
        let mut unstubbed = Vec::new();
        let kit = match wish.layers {
            Layers::None => Self::None,
            Layers::Landlock => {
                Self::Landlock { filter: filter()?, readable: wish.readable, rules }
            }
            Layers::Full => {
                let (ground, without) = Ground::lay(&wish.template).map_err(failed)?;
                unstubbed = without;
                let executable = trees(&wish.template);
                Self::Full { ground, filter: filter()?, rules, executable }
            }
        };
        if wish.layers == Layers::Full {
            kit.rehearse(wish.host_id)?;
        }
        *ready = Some(kit);
        Ok(unstubbed)
    }

    /// Forks an init without a sandbox, waits until it is ready, and lets it go.
    fn rehearse(&self, host_id: Option<u32>) -> Result<(), PrepareFailure> {
        let spawn = |(step, errno): Failed| PrepareFailure::Spawn(step, errno as i32);
        let pair = transport::pair().map_err(|errno| spawn((SpawnStep::Request, errno)))?;
        let (ours, theirs) = pair;
        let spec = InitSpec {
            directory: CString::default(),
            host_id,
            host_network: false,
            rlimits: Rlimits::IDLE,
        };
        let (pid, _) = self.fork_full(Vec::new(), &spec, &theirs).map_err(spawn)?;
        drop(theirs);
        transport::send(ours.as_fd(), &ToInitRef::Begin, &[])
            .map_err(|_| PrepareFailure::Silent)?;
        let deadline = Instant::now() + REHEARSAL;
        let word = loop {
            match transport::recv::<FromInit>(ours.as_fd()) {
                Ok((FromInit::Ready, _)) => break Ok(()),
                Ok((FromInit::SetupFailed { step, errno }, _)) => {
                    break Err(PrepareFailure::Setup(step, errno));
                }
                Err(TransportError::WouldBlock) if Instant::now() < deadline => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                    let _ = poll(&mut [PollFd::new(ours.as_fd(), PollFlags::POLLIN)], left);
                }
                Ok(_) | Err(_) => break Err(PrepareFailure::Silent),
            }
        };
        drop(ours);
        if word.is_err() {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = nix::sys::wait::waitpid(pid, None);
        word
    }

    /// Forks the init of a sandbox, which talks over `socket`.
    pub(crate) fn fork(&self, spec: &InitSpec, socket: &OwnedFd) -> Result<Forked, Failed> {
        let walls = match self {
            Self::Full { rules, .. } => {
                let places = PLACES.iter().map(|(name, _)| place(spec, name, *rules));
                let places =
                    places.collect::<Result<_, _>>().map_err(|e| (SpawnStep::Places, e))?;
                return self.fork_full(places, spec, socket);
            }
            Self::None => Walls::None { host_id: spec.host_id, rlimits: spec.rlimits },
            Self::Landlock { readable, filter, rules } => Walls::Landlock {
                host_id: spec.host_id,
                rlimits: spec.rlimits,
                directory: &spec.directory,
                readable,
                filter,
                rules: *rules,
            },
        };
        let pid = sys::fork(|| init::run(socket, &walls)).map_err(|e| (SpawnStep::Fork, e))?;
        // Only this process reaps it, so the number is still its own.
        let pidfd = sys::pidfd_open(pid).map_err(|e| (SpawnStep::Pidfd, e))?;
        Ok((pid, pidfd))
    }

    fn fork_full(
        &self,
        places: Vec<OwnedFd>,
        spec: &InitSpec,
        socket: &OwnedFd,
    ) -> Result<Forked, Failed> {
        let InitSpec { host_id, host_network, rlimits, .. } = *spec;
        let Self::Full { ground, filter, rules, executable } = self else {
            return Err((SpawnStep::Request, Errno::EPROTO));
        };
        let outside = host_id.map_or((geteuid().as_raw(), getegid().as_raw()), |id| (id, id));
        let walls = Walls::Full {
            outside,
            places,
            host_network,
            rlimits,
            filter,
            rules: *rules,
            executable,
        };
        let mut namespaces = CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        if !host_network {
            namespaces |= CloneFlags::CLONE_NEWNET;
        }
        ground.enter().map_err(|e| (SpawnStep::MountNamespace, e))?;
        let forked = as_user(host_id, || {
            sys::fork_into(namespaces, || init::run(socket, &walls))
                .map_err(|e| (SpawnStep::Fork, e))
        });
        // A zygote that cannot go back would look for sandboxes where there are none.
        ground.leave().map_err(|e| (SpawnStep::MountNamespace, e))?;
        forked
    }
}

/// Does something as another user. The user namespace that is made meanwhile is that user's own.
fn as_user<T>(id: Option<u32>, act: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    let Some(id) = id else { return act() };
    let failed = |errno| (SpawnStep::Identity, errno);
    let (uid, gid) = (geteuid(), getegid());
    setegid(Gid::from_raw(id)).map_err(failed)?;
    let done = match seteuid(Uid::from_raw(id)) {
        Ok(()) => {
            let done = act();
            seteuid(uid).map_err(failed)?;
            done
        }
        Err(errno) => Err(failed(errno)),
    };
    setegid(gid).map_err(failed)?;
    done
}

/// What of the host can be seen, and so executed: all that a template binds.
fn trees(template: &Template) -> Vec<CString> {
    let bound = template.entries.iter().filter(|entry| matches!(entry.node, Node::Bind(_)));
    bound.map(|entry| entry.path.clone()).collect()
}

/// A detached copy of the mount that a sandbox's directory is on, from that directory down.
fn place(spec: &InitSpec, name: &str, rules: Places) -> Result<OwnedFd, Errno> {
    let path = Path::new(OsStr::from_bytes(spec.directory.to_bytes())).join(name);
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let tree = sys::copy_of(&path)?;
    debug_assert!(
        tree.as_raw_fd() > init::CONTROL,
        "the init's own number is taken by the zygote's"
    );
    let mut set = Attributes::NOSUID.and(Attributes::NODEV);
    if rules.no_exec {
        set = set.and(Attributes::NOEXEC);
    }
    sys::seal(tree.as_fd(), c"", set, true)?;
    Ok(tree)
}
