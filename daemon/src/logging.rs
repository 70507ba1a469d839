//! Log lines on stderr, for people or for machines. Never in them: arguments,
//! environments, what goes in or comes out of commands.

use std::io::IsTerminal;

use crate::config::LogFormat;

/// Starts logging. Only the first call in a process counts.
pub fn start(format: LogFormat, level: tracing::Level) {
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    drop(started);
}
