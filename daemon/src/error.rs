//! What can go wrong with a call, and the one place that says it to clients.

mod files;

use std::io;

use noxrunner_protocol::types::Network;
use noxrunner_protocol::{ErrorKind, RpcError, SessionId};

use crate::cgroup::CgroupError;
use crate::engine::EngineError;
use crate::files::FileError;
use crate::policy::HostDirError;
use crate::sandbox::plan::PlanError;
use crate::sandbox::registry::LookupError;
use crate::tree::TreeError;
use crate::uids::UidError;

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The name leads to no sandbox.
    #[error("no sandbox {0:?}: {1}")]
    Lookup(String, LookupError),
    /// The sandbox was deleted while the call was under way.
    #[error("the sandbox {0:?} was deleted meanwhile")]
    Deleted(String),
    /// A param does not make sense.
    #[error("{0}")]
    Invalid(String),
    /// A param that this version does not know how to honour.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
    /// A sandbox keeps the network it was made with.
    #[error("the sandbox {0:?} has the network {1} already")]
    OtherNetwork(String, Network),
    /// The policy does not allow that network.
    #[error("the policy does not allow the network {0}")]
    NetworkDenied(Network),
    /// The caller may not do this.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// The command's directory cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A file operation was not carried out.
    #[error(transparent)]
    File(#[from] FileError),
    /// Init or zygote failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The limits could not be set.
    #[error("cannot limit the sandbox: {0}")]
    Limits(#[from] CgroupError),
    /// The sandbox's directory could not be made or written.
    #[error("cannot write the sandbox's directory: {0}")]
    Directory(#[from] io::Error),
    /// There is no user id for the sandbox.
    #[error(transparent)]
    Uids(#[from] UidError),
    /// The sandbox's directory could not be removed.
    #[error("cannot remove the sandbox's directory: {0}")]
    Removal(#[from] TreeError),
    /// The daemon is ending.
    #[error("the daemon is stopping")]
    Stopping,
}

impl CallError {
    pub(crate) fn lookup(id: &SessionId) -> impl Fn(LookupError) -> Self {
        move |why| Self::Lookup(id.to_string(), why)
    }

    pub(crate) fn names(why: HostDirError) -> Self {
        Self::Invalid(why.to_string())
    }
}

impl From<CallError> for RpcError {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        let (kind, hint) = match error {
            CallError::Lookup(_, LookupError::NotFound) | CallError::Deleted(_) => {
                (ErrorKind::SandboxNotFound, "create it with sandbox.create; it may have expired")
            }
            CallError::Lookup(_, LookupError::Ambiguous) => {
                (ErrorKind::Conflict, "call as the user who owns the one you mean")
            }
            CallError::Invalid(_) => (ErrorKind::InvalidArgument, ""),
            CallError::Limits(CgroupError::MemoryInUse { .. }) => {
                (ErrorKind::Conflict, "end what runs in the sandbox first")
            }
            CallError::Limits(
                CgroupError::Io { .. }
                | CgroupError::Garbled { .. }
                | CgroupError::NoController(_)
                | CgroupError::StillAlive { .. },
            ) => (ErrorKind::Internal, "the daemon's log may say more"),
            CallError::File(error) => files::kind_and_hint(&error),
            CallError::Unsupported(_) => {
                (ErrorKind::Unsupported, "health lists what this daemon cannot do")
            }
            CallError::OtherNetwork(..) => {
                (ErrorKind::Conflict, "delete it first, or leave the network out")
            }
            CallError::NetworkDenied(_) => (
                ErrorKind::Unauthorized,
                "network_allowed in the daemon's policy file (--policy FILE) allows it; policy.get shows it",
            ),
            CallError::Unauthorized(_) => {
                (ErrorKind::Unauthorized, "ask the user who runs the daemon, or root")
            }
            CallError::Plan(PlanError::Workdir(error)) => files::kind_and_hint(&error),
            CallError::Plan(PlanError::Name(_)) => {
                (ErrorKind::Internal, "the daemon's log says more")
            }
            CallError::Engine(
                EngineError::Spawn { .. } | EngineError::Setup { .. } | EngineError::Prepare(_),
            ) => (
                ErrorKind::Internal,
                "noxctl doctor says what works on this machine and what would mend the rest; \
                 something may have changed since the daemon started: start it again",
            ),
            CallError::Engine(EngineError::SandboxEnded) => {
                (ErrorKind::SandboxNotFound, "it was deleted meanwhile; create it again")
            }
            CallError::Engine(EngineError::TooLarge) => {
                (ErrorKind::InvalidArgument, "pass large data on standard input or in a file")
            }
            CallError::Engine(EngineError::ZygoteGone) | CallError::Stopping => (
                ErrorKind::NotReady,
                "start the daemon again; unexpired sandboxes keep their files",
            ),
            CallError::Engine(
                EngineError::InitGone
                | EngineError::NotReady(_)
                | EngineError::Exec { .. }
                | EngineError::Os(..),
            ) => (ErrorKind::Internal, "try again; the daemon's log says more"),
            CallError::Directory(ref e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                (ErrorKind::StorageFull, "make room, or start the daemon with another --base-dir")
            }
            // Says itself what to do, where that is known.
            CallError::Uids(UidError::Exhausted(_) | UidError::Replaced(_)) => {
                (ErrorKind::Internal, "")
            }
            CallError::Directory(_) | CallError::Uids(_) | CallError::Removal(_) => {
                (ErrorKind::Internal, "the daemon's log says more")
            }
        };
        if kind == ErrorKind::Internal {
            tracing::error!(error = %message, "a call failed");
        }
        let error = Self::new(kind, message);
        if hint.is_empty() { error } else { error.hint(hint) }
    }
}
