//! What can be typed of the verb that makes sandboxes.

use clap::{Args, ValueEnum};
use noxrunner_protocol::SessionId;
use noxrunner_protocol::ids::{TimeoutSeconds, TtlSeconds};
use noxrunner_protocol::quantity::Quantity;
use noxrunner_protocol::types;

use super::{timeout, ttl, variable};

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The name the sandbox is to have
    pub(crate) session_id: SessionId,
    /// How long it lives unless it is touched
    #[arg(long, value_name = "SECONDS", default_value = "900", value_parser = ttl)]
    pub(crate) ttl: TtlSeconds,
    /// A container image; recorded only, local sandboxes use this machine's tools
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// Most processor time, in cores, as in 500m or 2
    #[arg(long, value_name = "CORES")]
    pub(crate) cpu: Option<Quantity>,
    /// Most memory, as in 512Mi
    #[arg(long, value_name = "BYTES")]
    pub(crate) mem: Option<Quantity>,
    /// Most storage, as in 1Gi
    #[arg(long, value_name = "BYTES")]
    pub(crate) storage: Option<Quantity>,
    /// Most processes at once
    #[arg(long, value_name = "COUNT")]
    pub(crate) pids: Option<u32>,
    /// The network it gets [default: the daemon's]
    #[arg(long)]
    pub(crate) network: Option<Network>,
    /// A variable of every command in it (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// With `connection`, stay and delete the sandbox when noxctl ends
    #[arg(long, default_value = "none")]
    pub(crate) lease: Lease,
    /// Wait until a command runs in it
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = timeout)]
    pub(crate) wait_timeout: TimeoutSeconds,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Network {
    /// Only its own loopback
    None,
    /// The machine's
    Host,
}

impl From<Network> for types::Network {
    fn from(network: Network) -> Self {
        match network {
            Network::None => Self::None,
            Network::Host => Self::Host,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lease {
    /// It lives until it expires or is deleted
    None,
    /// It ends with noxctl
    Connection,
}

impl From<Lease> for types::Lease {
    fn from(lease: Lease) -> Self {
        match lease {
            Lease::None => Self::None,
            Lease::Connection => Self::Connection,
        }
    }
}
