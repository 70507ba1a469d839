//! What may run, and where paths lead.
//!
//! | file | what it holds |
//! |---|---|
//! | [`path`] | where a path leads: pure |
//! | [`rules`] | names and the rules they match: pure |
//! | [`resolve`] | which program a command names; looks at the file system |
//! | [`mod@file`] | the policy file |
//! | [`mod@check`] | `policy.check` |
//! | [`multicall`] | programs that are many: pure |
//! | [`stub`] | what stands in for a blocked program: pure |
//! | `gaps` | what of it is not enforced |
//! | [`approve`] | a request, judged: the only maker of [`Approved`] |
//!
//! Only an [`Approved`] can be planned and run, so nothing reaches a process
//! around the policy. It checks the command that the caller names; what that
//! command starts is the kernel's to refuse, and no shell is parsed here.
//! The policy is a guard rail for the caller; what protects the host is the
//! sandbox.

pub mod approve;
pub mod check;
pub mod file;
mod gaps;
pub mod multicall;
pub mod path;
pub mod resolve;
pub mod rules;
pub mod stub;

use std::path::PathBuf;

use noxrunner_init::message::Places;
use noxrunner_protocol::ids::TimeoutSeconds;
use noxrunner_protocol::types::{
    CommandScope, DefaultLimits, DeleteScope, Denial, ExecScope, ListMode, Network, PolicyInfo,
    SettingGap,
};

use crate::files::archive::Limits;
use crate::limits::Defaults;

pub use approve::{Approved, CommandRequest, Refusal, check_env, check_path, check_words};
pub use check::check;
pub use file::{PolicyFileError, PolicyFileProblem};
pub use gaps::Means;
pub use path::{HostDirError, Inside, PathError, PathUse, Root, RootNames, decide};
pub use resolve::{Shown, View};
use rules::{DEFAULT_BLOCK, Rule};

/// Bytes that an archive may unpack to where the file says nothing: 8 GiB.
const MAX_UPLOAD: u64 = 8 << 30;

/// Bytes that an upload leaves free where the file says nothing: 512 MiB.
const KEEP_FREE: u64 = 512 << 20;

/// Most members of an archive: more than any tree of sources, and few enough to be counted in minutes.
const MAX_MEMBERS: u64 = 1_000_000;

/// What may run in the sandboxes of this daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    file: Option<PathBuf>,
    commands: CommandScope,
    list: CommandList,
    exec: ExecScope,
    delete: DeleteScope,
    env_passthrough: Vec<String>,
    expose: Vec<PathBuf>,
    /// Where the file says it; otherwise it depends on who the daemon is.
    network_allowed: Option<Vec<Network>>,
    network_default: Network,
    /// In bytes.
    max_upload: u64,
    /// In bytes.
    keep_free: u64,
    /// The limits of sandboxes that ask for none.
    defaults: Defaults,
    /// Bytes that a command may print before it is stopped.
    max_output: Option<u64>,
    /// The longest time that a command may be given.
    max_timeout: TimeoutSeconds,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum CommandList {
    Block {
        rules: Vec<Rule>,
        /// The first rule that the setting `also_block` added.
        also_from: usize,
    },
    Allow(Vec<Rule>),
}

impl Policy {
    /// The policy of a daemon that was given no file.
    pub fn built_in() -> Self {
        Self {
            file: None,
            commands: CommandScope::default(),
            list: CommandList::Block { rules: default_block(), also_from: usize::MAX },
            exec: ExecScope::default(),
            delete: DeleteScope::default(),
            env_passthrough: Vec::new(),
            expose: Vec::new(),
            network_allowed: None,
            network_default: Network::None,
            max_upload: MAX_UPLOAD,
            keep_free: KEEP_FREE,
            defaults: Defaults::built_in(),
            max_output: None,
            max_timeout: TimeoutSeconds::LONGEST,
        }
    }

    /// Names of the variables of the daemon's own environment that commands see.
    pub fn env_passthrough(&self) -> &[String] {
        &self.env_passthrough
    }

    /// What sandboxes see read-only beside the system: absolute paths, or ones that
    /// start with `~/`, as the file has them.
    pub fn expose(&self) -> &[PathBuf] {
        &self.expose
    }

    /// The networks that a sandbox may ask for. Who did not say otherwise allows the host's
    /// network to the sandboxes of an ordinary user's daemon only.
    pub fn network_allowed(&self, is_root: bool) -> &[Network] {
        self.network_allowed.as_deref().unwrap_or_else(|| default_networks(is_root))
    }

    /// The network of a sandbox that does not ask for one.
    pub fn network_default(&self) -> Network {
        self.network_default
    }

    /// What an uploaded archive may bring.
    pub fn upload_limits(&self) -> Limits {
        Limits { bytes: self.max_upload, members: MAX_MEMBERS, keep_free: self.keep_free }
    }

    /// Bytes to leave free on the file system of the sandboxes.
    pub fn keep_free(&self) -> u64 {
        self.keep_free
    }

    /// The limits of sandboxes that ask for none.
    pub fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// Bytes that a command may print before it is stopped, where that is limited.
    pub fn max_output(&self) -> Option<u64> {
        self.max_output
    }

    /// The longest time that a command may be given.
    pub fn max_timeout(&self) -> TimeoutSeconds {
        self.max_timeout
    }

    /// What no command may run however it is reached, where the policy reaches so far.
    pub fn blocked_everywhere(&self) -> &[Rule] {
        match (self.commands, &self.list) {
            (CommandScope::Everywhere, CommandList::Block { rules, .. }) => rules,
            // Scripts could not do without their helpers.
            (CommandScope::Everywhere, CommandList::Allow(_)) | (CommandScope::Direct, _) => &[],
        }
    }

    /// Denies where something else stands for a program because of this rule.
    pub fn denial(&self, rule: &str) -> Denial {
        let added = match &self.list {
            CommandList::Block { rules, also_from } => {
                rules.iter().skip(*also_from).any(|known| known.to_string() == rule)
            }
            CommandList::Allow(_) => false,
        };
        let setting = if added { "also_block" } else { "block" };
        Denial { rule: rule.to_owned(), setting: setting.to_owned() }
    }

    /// What is refused in the places that sandboxes can write to.
    pub fn places(&self) -> Places {
        Places {
            no_exec: self.exec == ExecScope::SystemOnly,
            no_delete: self.delete == DeleteScope::Never,
        }
    }

    /// What of it is not enforced with these means.
    pub fn not_enforced(&self, means: &Means) -> Vec<SettingGap> {
        gaps::of(self, means)
    }

    /// The policy as `policy.get` tells it, of a daemon that runs as root or not.
    pub fn info(&self, is_root: bool, means: &Means) -> PolicyInfo {
        let spell = |rules: &[Rule]| rules.iter().map(Rule::to_string).collect();
        let (mode, block, allow) = match &self.list {
            CommandList::Block { rules, .. } => (ListMode::Block, spell(rules), Vec::new()),
            CommandList::Allow(rules) => (ListMode::Allow, Vec::new(), spell(rules)),
        };
        PolicyInfo {
            file: self.file.as_ref().map(|file| file.to_string_lossy().into_owned()),
            commands: self.commands,
            mode,
            block,
            allow,
            exec: self.exec,
            delete: self.delete,
            env_passthrough: self.env_passthrough.clone(),
            expose: self.expose.iter().map(|p| p.to_string_lossy().into_owned()).collect(),
            network_allowed: self.network_allowed(is_root).to_vec(),
            network_default: self.network_default,
            max_upload_bytes: self.max_upload,
            keep_free_bytes: self.keep_free,
            default_limits: DefaultLimits {
                memory_bytes: self.defaults.memory,
                cpu_millis: self.defaults.cpu_millis,
                pids: self.defaults.pids,
                storage_bytes: self.defaults.storage,
                inodes: self.defaults.inodes,
                open_files: self.defaults.open_files,
            },
            max_output_bytes: self.max_output,
            max_timeout_seconds: self.max_timeout,
            not_enforced: self.not_enforced(means),
        }
    }
}

fn default_networks(is_root: bool) -> &'static [Network] {
    if is_root { &[Network::None] } else { &[Network::None, Network::Host] }
}

fn default_block() -> Vec<Rule> {
    DEFAULT_BLOCK.iter().filter_map(|rule| Rule::parse(rule).ok()).collect()
}

#[cfg(test)]
mod tests {
    use noxrunner_protocol::types::Tier;

    use super::*;

    #[test]
    fn the_built_in_policy_says_what_it_is_and_what_it_does_not_hold() {
        let info = Policy::built_in().info(false, &Means::of(Tier::None));
        assert_eq!(info.block, DEFAULT_BLOCK);
        assert_eq!((info.file, info.mode, info.allow.len()), (None, ListMode::Block, 0));
        assert_eq!(info.commands, CommandScope::Everywhere);
        assert_eq!(info.not_enforced.len(), 1);
        assert_eq!(info.not_enforced[0].setting, "commands");
    }
}
