//! The daemon's side of zygote and inits: it knows how commands are started,
//! and nothing of sandboxes.
//!
//! | room | what it does |
//! |---|---|
//! | [`zygote`] | asks the zygote for inits |
//! | [`init`] | talks to one init: starts commands, learns how they end |

pub mod init;
pub mod zygote;

pub use init::Init;
pub use zygote::Engine;

use noxrunner_init::message::{ExecStep, PrepareFailure, SetupStep, SpawnStep};
use noxrunner_init::transport::TransportError;

/// Why an init or a command could not be started or spoken to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The zygote is gone, and with it every sandbox's processes.
    #[error("the zygote is gone")]
    ZygoteGone,
    /// The init is gone, and with it the sandbox's processes.
    #[error("the sandbox's init is gone")]
    InitGone,
    /// The sandbox was deleted or expired.
    #[error("the sandbox has ended")]
    SandboxEnded,
    /// The zygote could not fork an init.
    #[error("cannot start the sandbox's init ({step:?}): {}", errno_text(*errno))]
    Spawn {
        /// What failed.
        step: SpawnStep,
        /// Why, as errno(3) numbers it.
        errno: i32,
    },
    /// The zygote could not get ready for inits.
    #[error("cannot isolate sandboxes: {}", prepare_text(.0))]
    Prepare(PrepareFailure),
    /// An init could not get ready.
    #[error("the sandbox's init cannot work ({step:?}): {}", errno_text(*errno))]
    Setup {
        /// What failed.
        step: SetupStep,
        /// Why, as errno(3) numbers it.
        errno: i32,
    },
    /// An init did not get ready in time.
    #[error("the sandbox's init did not get ready within {0} s")]
    NotReady(u64),
    /// A command could not be started, for a reason that is not the command's own.
    #[error("cannot start the command ({step:?}): {}", errno_text(*errno))]
    Exec {
        /// What failed.
        step: ExecStep,
        /// Why, as errno(3) numbers it.
        errno: i32,
    },
    /// The command and its environment are too large to pass on.
    #[error("the command and its environment are larger than the kernel takes")]
    TooLarge,
    /// The kernel refused something the daemon needs.
    #[error("cannot {0}: {1}")]
    Os(&'static str, String),
}

impl EngineError {
    pub(crate) fn os(what: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Os(what, error.to_string())
    }
}

fn prepare_text(failure: &PrepareFailure) -> String {
    match failure {
        PrepareFailure::Ground(step, errno) => format!("{step:?}: {}", errno_text(*errno)),
        PrepareFailure::Spawn(step, errno) => format!("{step:?}: {}", errno_text(*errno)),
        PrepareFailure::Setup(step, errno) => format!("{step:?}: {}", errno_text(*errno)),
        PrepareFailure::Silent => "a first init did not get ready".to_owned(),
    }
}

/// What an error number means, in words.
pub fn errno_text(errno: i32) -> &'static str {
    nix::errno::Errno::from_raw(errno).desc()
}

fn send_error(error: TransportError, gone: EngineError) -> EngineError {
    match error {
        TransportError::TooLarge => EngineError::TooLarge,
        TransportError::Closed | TransportError::WouldBlock | TransportError::Malformed => gone,
        TransportError::Os(errno) => EngineError::os("talk to a sandbox's init", errno),
    }
}
