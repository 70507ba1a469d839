//! Who may use HTTP on TCP, which every user of a machine can reach.

use std::path::PathBuf;

use clap::Args;

/// The rules of the TCP side.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "HTTP on TCP")]
pub struct TcpOptions {
    /// Let processes of this user connect too, with sandboxes of their own (repeatable)
    #[arg(long, value_name = "UID", requires = "http", conflicts_with = "http_token_file")]
    pub http_allow_uid: Vec<u32>,

    /// Ask everybody for the token in this file, instead of looking at whose process connects
    #[arg(long, value_name = "FILE", requires = "http")]
    pub http_token_file: Option<PathBuf>,

    /// Listen beyond loopback, where only a token keeps others out
    #[arg(long, requires = "http_token_file")]
    pub http_allow_remote: bool,

    /// Answer to this host name too; addresses and localhost are always answered to (repeatable)
    #[arg(long, value_name = "NAME", requires = "http")]
    pub http_host: Vec<String>,
}
