//! What can be wrong with a policy file.

use std::io;
use std::path::PathBuf;

use noxrunner_protocol::quantity::QuantityError;
use noxrunner_protocol::types::Network;

use super::{KEYS, MAX_POLICY_FILE_BYTES};
use crate::policy::rules::RuleError;

/// A policy file that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("policy file {}: {problem}", file.display())]
pub struct PolicyFileError {
    /// The file, as it was given.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub problem: PolicyFileProblem,
}

/// What is wrong with a policy file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileProblem {
    /// It cannot be opened or read.
    #[error("cannot be read: {0}; check the path and that the daemon's user may read it")]
    Read(io::Error),
    /// It is a directory, a device, a FIFO or a socket.
    #[error("is not a regular file; name a TOML file")]
    NotRegular,
    /// It is larger than [`MAX_POLICY_FILE_BYTES`].
    #[error("is larger than {MAX_POLICY_FILE_BYTES} bytes; is it the right file?")]
    TooLarge,
    /// It is not UTF-8.
    #[error("is not UTF-8, as TOML must be; save it as UTF-8")]
    NotUtf8,
    /// It is not TOML.
    #[error("is not TOML: line {line}: {message}")]
    Syntax {
        /// The line, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// It has a key that a policy does not have.
    #[error("unknown key `{key}`; the keys are {}", KEYS.join(", "))]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// A key's value, or an entry of it, is of another type than it must be.
    #[error("`{key}` must have {want}, not {found}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What it must have.
        want: &'static str,
        /// The type of TOML that it is.
        found: &'static str,
    },
    /// A key is neither of its words.
    #[error("`{key}` must be {:?} or {:?}, not {value:?}", words[0], words[1])]
    UnknownWord {
        /// The key.
        key: &'static str,
        /// What it may be.
        words: [&'static str; 2],
        /// What it says.
        value: String,
    },
    /// A limit is too small to start anything with.
    #[error("`{key}` must be at least {least}")]
    TooSmall {
        /// The key.
        key: &'static str,
        /// The least that is taken.
        least: String,
    },
    /// An entry of a list of commands is no rule.
    #[error("`{key}` has {rule:?}: {why}")]
    BadRule {
        /// The key.
        key: &'static str,
        /// The entry.
        rule: String,
        /// Why it is none.
        why: RuleError,
    },
    /// An entry of `env_passthrough` is no variable's name.
    #[error(
        "`env_passthrough` has {name:?}: write the variable's whole name, without `=`, `*` or NUL"
    )]
    BadVariable {
        /// The entry.
        name: String,
    },
    /// An entry of `expose` does not say where in the file system it is.
    #[error(
        "`expose` has {entry:?}: write a path that begins with `/`, or with `~/` for the daemon's user's home directory"
    )]
    BadExpose {
        /// The entry.
        entry: String,
    },
    /// An amount of bytes is none.
    #[error("`{key}`: {why}")]
    BadQuantity {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: QuantityError,
    },
    /// A length of time is none, or not within its bounds.
    #[error("`{key}` has {value:?}: write a time from 30s to 24h")]
    BadTime {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
    },
    /// It names a network that no sandbox can have.
    #[error("`{key}` has {value:?}: the networks are \"none\" and \"host\"")]
    UnknownNetwork {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
    },
    /// Sandboxes would get by default what none may have.
    #[error(
        "`network_default` is {default}{} but `network_allowed` does not have it{}; \
         add it there or set another default",
        if *.default_is_set { "" } else { " (it is not set)" },
        if *.allowed_is_set { "" } else { " (it is not set, and a daemon of root allows only none)" }
    )]
    DefaultNotAllowed {
        /// What `network_default` says, or would say.
        default: Network,
        /// Whether the file says it.
        default_is_set: bool,
        /// Whether the file has `network_allowed`.
        allowed_is_set: bool,
    },
    /// It says both what may run and what may not.
    #[error("`allow` and `{key}` exclude each other; set one of them")]
    AllowAndBlock {
        /// The other key.
        key: &'static str,
    },
}
