//! What may run, and where paths lead.

use serde::{Deserialize, Serialize};

use super::Network;
use crate::ids::TimeoutSeconds;

/// How far the command policy reaches.
///
/// ```json
/// "everywhere"
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum CommandScope {
    /// A blocked command must not run however it is reached.
    #[default]
    Everywhere,
    /// Only the command that the caller names is checked; what it starts is left alone.
    Direct,
}

/// Where programs may lie that sandboxes execute.
///
/// ```json
/// "anywhere"
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum ExecScope {
    /// Wherever the kernel lets them.
    #[default]
    Anywhere,
    /// Not in the places that sandboxes write to, nor in memory alone. Interpreters go on
    /// reading scripts from anywhere.
    SystemOnly,
}

/// Whether commands may delete.
///
/// ```json
/// "allowed"
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum DeleteScope {
    /// What is their own.
    #[default]
    Allowed,
    /// Nothing, nor rename anything. They can still empty and overwrite files; `file.remove`
    /// and `file.rename` are the caller's own and do as they are told.
    Never,
}

/// Which way round the command list is meant.
///
/// ```json
/// "block"
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum ListMode {
    /// Everything runs but what is listed in `block`.
    Block,
    /// Nothing runs but what is listed in `allow`.
    Allow,
}

/// Result of `policy.get`.
///
#[doc = concat!("```json\n", include_str!("../../golden/policy_info.json"), "```")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct PolicyInfo {
    /// The policy file, or null for the built-in policy.
    pub file: Option<String>,
    /// How far the command policy is meant to reach.
    pub commands: CommandScope,
    /// Which list decides.
    pub mode: ListMode,
    /// Names that must not run; `*` at the end stands for any rest.
    pub block: Vec<String>,
    /// Names that may run, where the mode is `allow`.
    pub allow: Vec<String>,
    /// Where programs may lie that sandboxes execute.
    #[serde(default)]
    pub exec: ExecScope,
    /// Whether commands may delete.
    #[serde(default)]
    pub delete: DeleteScope,
    /// Variables of the daemon's own environment that commands see.
    pub env_passthrough: Vec<String>,
    /// What sandboxes see read-only beside the system; `~/` is the home of the daemon's user.
    pub expose: Vec<String>,
    /// Networks that a sandbox may ask for.
    pub network_allowed: Vec<Network>,
    /// The network of a sandbox that does not ask for one.
    pub network_default: Network,
    /// Bytes that one uploaded archive may unpack to.
    pub max_upload_bytes: u64,
    /// Bytes that an upload leaves free on the file system of the sandboxes.
    pub keep_free_bytes: u64,
    /// The limits of sandboxes that ask for none.
    pub default_limits: DefaultLimits,
    /// Bytes that a command may print before it is stopped with the cause `limit`; null where it may print any.
    pub max_output_bytes: Option<u64>,
    /// The longest time that a command may be given, in seconds.
    #[serde(default = "longest")]
    pub max_timeout_seconds: TimeoutSeconds,
    /// Settings that this daemon does not enforce in full.
    pub not_enforced: Vec<SettingGap>,
}

fn longest() -> TimeoutSeconds {
    TimeoutSeconds::LONGEST
}

/// The limits of sandboxes that ask for none.
///
#[doc = concat!("```json\n", include_str!("../../golden/default_limits.json"), "```")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct DefaultLimits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u64,
    /// Processes and threads at once.
    pub pids: u64,
    /// Storage in every writable place, in bytes.
    pub storage_bytes: u64,
    /// Files and directories in every writable place.
    pub inodes: u64,
    /// Descriptors of one process.
    pub open_files: u64,
}

/// A setting that is enforced only in part.
///
#[doc = concat!("```json\n", include_str!("../../golden/setting_gap.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct SettingGap {
    /// The setting.
    pub setting: String,
    /// What is not enforced.
    pub why: String,
}

/// Params of `policy.check`: exactly one of `cmd`, `path` and `pathBase64`.
///
#[doc = concat!("```json\n", include_str!("../../golden/policy_check_params.json"), "```")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct PolicyCheckParams {
    /// The command and its arguments, as an exec would take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// A file path, as a file method would take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The same in base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
}

/// Result of `policy.check`.
///
#[doc = concat!("```json\n", include_str!("../../golden/policy_check.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct PolicyCheck {
    /// Whether it may be used; a path always may, it is redirected where it leads outside.
    pub allowed: bool,
    /// The rule that decided, if one did.
    pub rule: Option<String>,
    /// The policy setting that the rule stands in.
    pub setting: Option<String>,
    /// The program that would run, or the path in the sandbox that would be used; null where there is none.
    pub resolved: Option<String>,
    /// Whether the path led outside and was redirected into the workspace.
    #[serde(default)]
    pub redirected: bool,
}
