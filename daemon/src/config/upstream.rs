//! Which backend sandboxes live on, where that is not this machine.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use noxrunner_protocol::http::BaseUrl;

use super::duration;

/// The backend behind this daemon, and how long to wait for it.
// `requires` alone lets `--local-test` through: clap does not miss what conflicts with what is given.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "A backend elsewhere")]
pub struct UpstreamOptions {
    /// Be the local front of the NoxRunner backend at this http:// or https:// address: commands
    /// run there, not on this machine. Proxies of the environment are ignored
    #[arg(long, value_name = "URL", conflicts_with_all = [
        "local_test", "base_dir", "isolation", "policy", "sandbox_uids", "stale_after", "pool",
        "spawns", "ephemeral",
    ])]
    pub base_url: Option<BaseUrl>,

    /// Send the backend the bearer token in this file, which only its owner may read
    #[arg(long, value_name = "FILE", requires = "base_url", conflicts_with = "local_test")]
    pub base_url_token_file: Option<PathBuf>,

    /// How long it may take to a connection with the backend
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, requires = "base_url", conflicts_with = "local_test")]
    pub upstream_connect_timeout: Duration,

    /// How long the backend may take to make, touch or delete a sandbox, to begin a download, and to
    /// answer an upload that it has all of
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration, requires = "base_url", conflicts_with = "local_test")]
    pub upstream_timeout: Duration,

    /// How long the backend may take to answer an exec beyond the time that its command has
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration, requires = "base_url", conflicts_with = "local_test")]
    pub upstream_exec_grace: Duration,
}
