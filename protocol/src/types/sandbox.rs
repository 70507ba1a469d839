//! Sandboxes: making, looking at, keeping and deleting them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::isolation::Isolation;
use crate::ids::{SessionId, TtlSeconds};
use crate::quantity::Quantity;

/// Params that name a sandbox and nothing more.
///
#[doc = concat!("```json\n", include_str!("../../golden/sandbox_ref.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct SandboxRef {
    /// The sandbox's session id.
    pub session_id: SessionId,
}

/// What network a sandbox gets.
///
/// ```json
/// "none"
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum Network {
    /// Only its own loopback.
    #[default]
    None,
    /// The machine's.
    Host,
}

impl Network {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a sandbox ends with the connection that holds it.
///
/// ```json
/// "none"
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum Lease {
    /// It lives until it expires or is deleted.
    #[default]
    None,
    /// It is deleted when the last connection that holds it closes.
    Connection,
}

/// Params of `sandbox.create`.
///
#[doc = concat!("```json\n", include_str!("../../golden/create_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct CreateParams {
    /// The name the sandbox is to have; one of that name is kept and given the new time to live.
    pub session_id: SessionId,
    /// How long it lives unless it is touched, in seconds.
    #[serde(default)]
    pub ttl_seconds: TtlSeconds,
    /// Most processor time, in cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<Quantity>,
    /// Most memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Quantity>,
    /// Most storage, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_limit: Option<Quantity>,
    /// Most processes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u32>,
    /// A container image: recorded, and answered with a warning, since local sandboxes use this machine's tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The network it gets; null is the daemon's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Environment variables of every command in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Whether it ends with this connection.
    #[serde(default)]
    pub lease: Lease,
}

impl CreateParams {
    /// A sandbox with every other param at its default.
    pub fn new(session_id: SessionId) -> Self {
        Self {
            session_id,
            ttl_seconds: TtlSeconds::default(),
            cpu_limit: None,
            memory_limit: None,
            ephemeral_storage_limit: None,
            pids_limit: None,
            image: None,
            network: None,
            env: None,
            lease: Lease::None,
        }
    }
}

/// A thing that can be limited.
///
/// ```json
/// "memory"
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum LimitName {
    /// Processor time, in cores.
    Cpu,
    /// Memory, in bytes.
    Memory,
    /// Storage in every writable place, in bytes.
    EphemeralStorage,
    /// Files and directories in every writable place.
    Inodes,
    /// Processes at once.
    Pids,
    /// Descriptors of one process.
    OpenFiles,
}

impl LimitName {
    /// The name as it travels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::EphemeralStorage => "ephemeralStorage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
            Self::OpenFiles => "openFiles",
        }
    }
}

/// What keeps a sandbox to a limit.
///
/// ```json
/// "none"
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum EnforcedBy {
    /// A control group.
    Cgroup,
    /// A resource limit of its processes.
    Rlimit,
    /// The daemon looks now and then and stops the sandbox, so there is an overshoot.
    Watch,
    /// Nothing.
    None,
}

/// A limit and what keeps the sandbox to it.
///
#[doc = concat!("```json\n", include_str!("../../golden/limit_status.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct LimitStatus {
    /// The limit: bytes, cores or a number. Null where there is none.
    pub value: Option<String>,
    /// What enforces it.
    pub enforced_by: EnforcedBy,
    /// How far it may be passed before that is noticed, in words, where it is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overshoot: Option<String>,
}

/// Every limit of a sandbox by name.
pub type Limits = BTreeMap<LimitName, LimitStatus>;

/// Result of `sandbox.create`.
///
#[doc = concat!("```json\n", include_str!("../../golden/create_result.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct CreateResult {
    /// Name of the sandbox on its backend.
    pub pod_name: String,
    /// When it expires, RFC 3339 in UTC.
    pub expires_at: String,
    /// Whether it was made now; false where it existed.
    pub created: bool,
    /// Its directory on this machine.
    pub sandbox_dir: String,
    /// What isolates it.
    pub isolation: Isolation,
    /// Its limits.
    pub limits: Limits,
    /// What a person should know about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Where a sandbox is in its life.
///
/// ```json
/// "ready"
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum SandboxState {
    /// It is being made.
    Creating,
    /// It can be used.
    Ready,
    /// It is being removed.
    Deleting,
}

/// What a sandbox takes up.
///
#[doc = concat!("```json\n", include_str!("../../golden/usage.json"), "```")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct Usage {
    /// Bytes allocated on disk in its writable places.
    pub disk_bytes: u64,
    /// Files and directories there.
    pub inodes: u64,
    /// Resident memory of its processes, in bytes; what they share counts for each.
    pub memory_bytes: u64,
    /// Processes running in it.
    pub processes: u64,
}

/// A sandbox: the result of `sandbox.get`.
///
#[doc = concat!("```json\n", include_str!("../../golden/sandbox_info.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct SandboxInfo {
    /// Its session id.
    pub session_id: SessionId,
    /// The user it belongs to.
    pub owner_uid: u32,
    /// Name of the sandbox on its backend.
    pub pod_name: String,
    /// Where it is in its life.
    pub state: SandboxState,
    /// When it was made, RFC 3339 in UTC.
    pub created_at: String,
    /// When it expires, RFC 3339 in UTC.
    pub expires_at: String,
    /// How long it lives after a touch, in seconds.
    pub ttl_seconds: TtlSeconds,
    /// Its directory on this machine.
    pub sandbox_dir: String,
    /// Whether it ends with a connection.
    pub leased: bool,
    /// The image it was asked for with, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What isolates it.
    pub isolation: Isolation,
    /// Its limits.
    pub limits: Limits,
    /// What it takes up now.
    pub usage: Usage,
    /// Commands running in it now that a client waits for.
    pub execs: u64,
}

/// Result of `sandbox.list`: the caller's sandboxes, everybody's for root.
///
#[doc = concat!("```json\n", include_str!("../../golden/sandbox_list.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct SandboxList {
    /// The sandboxes, by session id.
    pub sandboxes: Vec<SandboxInfo>,
}

/// Result of `sandbox.touch`.
///
#[doc = concat!("```json\n", include_str!("../../golden/touched.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct Touched {
    /// When the sandbox expires now, RFC 3339 in UTC.
    pub expires_at: String,
}

/// Result of `sandbox.delete`: nothing of the sandbox is left.
///
#[doc = concat!("```json\n", include_str!("../../golden/deleted.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct Deleted {
    /// Always true.
    pub deleted: bool,
}
