//! The daemon itself.

use serde::{Deserialize, Serialize};

use super::isolation::{Isolation, Tier};

/// Result of `health`.
///
#[doc = concat!("```json\n", include_str!("../../golden/health.json"), "```")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct Health {
    /// `ok` while the daemon can make sandboxes and run commands, otherwise what keeps it from that.
    pub status: String,
    /// Version of the daemon.
    pub version: String,
    /// Whole seconds since the daemon started.
    pub uptime_seconds: u64,
    /// How many sandboxes the caller has (all of them for root).
    pub sandboxes: usize,
    /// What isolates the sandboxes this daemon makes.
    pub isolation: Isolation,
    /// What the sandboxes live on: `local`, or `remote` where the daemon is the front of a backend elsewhere.
    pub backend: String,
    /// What this daemon cannot do: methods, and params as `method:param`.
    pub unsupported: Vec<String>,
}

/// Result of `daemon.info`.
///
#[doc = concat!("```json\n", include_str!("../../golden/daemon_info.json"), "```")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct DaemonInfo {
    /// Version of the daemon.
    pub version: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The user id it runs as.
    pub uid: u32,
    /// Path of its socket.
    pub socket: String,
    /// Address at which it listens for HTTP, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// Directory in which it keeps its sandboxes.
    pub base_dir: String,
    /// When it started, RFC 3339 in UTC.
    pub started_at: String,
    /// Whole seconds since then.
    pub uptime_seconds: u64,
    /// How many sandboxes it owns, whoever's they are.
    pub sandboxes: usize,
    /// How many clients are connected, the asking one among them.
    pub connections: usize,
    /// The tier of the sandboxes it makes.
    pub tier: Tier,
    /// Whether it removes its sandboxes when it ends.
    pub ephemeral: bool,
    /// Seconds without a sandbox and a client after which it ends by itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_exit_seconds: Option<u64>,
}

/// Result of `daemon.shutdown`: the daemon has begun to end, as on SIGTERM.
///
#[doc = concat!("```json\n", include_str!("../../golden/shutdown.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct Shutdown {
    /// Always true.
    pub stopping: bool,
}
