//! What the daemon is told when it starts.

mod bounds;
mod tcp;
mod upstream;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use noxrunner_protocol::socket;

use crate::isolation::Wish;
use crate::uids::UidRange;
pub use bounds::WireBounds;
pub use tcp::TcpOptions;
pub use upstream::UpstreamOptions;

/// Owns local sandboxes for NoxRunner clients, or fronts a backend elsewhere.
#[derive(Debug, Clone, Parser)]
#[command(name = "noxrunnerd", version, about, max_term_width = 100)]
pub struct Config {
    /// Serve sandboxes on this machine, for development and tests
    #[arg(long)]
    pub local_test: bool,

    /// The backend that sandboxes live on otherwise.
    #[command(flatten)]
    pub upstream: UpstreamOptions,

    /// Socket to listen on [default: $NOXRUNNER_SOCKET, $XDG_RUNTIME_DIR/noxrunner/noxrunnerd.sock,
    /// for root /run/noxrunner/noxrunnerd.sock, else /tmp/noxrunner-UID/noxrunnerd.sock]; what
    /// systemd hands over goes before all of these
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Group whose members may use this daemon too, each with sandboxes of their own
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,

    /// Listen for HTTP on this address too, as 127.0.0.1:8080
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<SocketAddr>,

    /// Who may use HTTP on TCP.
    #[command(flatten)]
    pub tcp: TcpOptions,

    /// Directory in which the sandboxes' directories are made
    #[arg(long, value_name = "DIR", default_value = "/tmp")]
    pub base_dir: PathBuf,

    /// How strongly sandboxes are isolated: auto takes the best tier that works here
    #[arg(long, value_name = "TIER", default_value = "auto")]
    pub isolation: Wish,

    /// Command policy, a TOML file
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// End after this long without a sandbox and without a client (600, 10m)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub idle_exit: Option<Duration>,

    /// User ids of sandboxes, one each, where the daemon is root's
    #[arg(long, value_name = "FIRST-LAST", default_value = "1879048192-2147352575")]
    pub sandbox_uids: UidRange,

    /// Remove sandbox directories without a manifest that nobody used for this long
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub stale_after: Duration,

    /// How many sandboxes with the default limits are made ahead
    #[arg(long, value_name = "COUNT", default_value = "2")]
    pub pool: usize,

    /// How many commands may be starting at once; further ones wait in line [default: twice the
    /// processors]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub spawns: Option<u32>,

    /// Remove all sandboxes when ending
    #[arg(long)]
    pub ephemeral: bool,

    /// What a connection may take.
    #[command(flatten)]
    pub wire: WireBounds,

    /// How log lines are written on stderr
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub log_format: LogFormat,

    /// Least severe log lines to write
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: tracing::Level,

    /// Leave the session and process group of whoever starts it
    #[arg(long, hide = true)]
    pub detach: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// How many commands may be starting at once.
    pub fn spawns(&self) -> usize {
        let twice = || 2 * std::thread::available_parallelism().map_or(1, usize::from);
        self.spawns.and_then(|count| usize::try_from(count).ok()).unwrap_or_else(twice)
    }

    /// The socket that it was told to listen on.
    pub fn told_socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The socket to listen on.
    pub fn socket(&self, env: impl Fn(&str) -> Option<OsString>, uid: u32) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| socket::default_path(env, uid))
    }
}

/// A length of time, above zero: seconds, or as `90s`, `10m`, `24h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let explain =
        || format!("{text:?} is no length of time: write seconds, or as in 90s, 10m or 24h");
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|d| Duration::try_from(d).ok())
            .ok_or_else(explain)?,
    };
    if duration.is_zero() { Err(explain()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (text, seconds) in [("600", 600), ("90s", 90), ("10m", 600), ("24h", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0", "-1", "-1s", "soon", "0s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
