//! Log lines on stderr, for people or for machines. Never in them: arguments,
//! environments, what goes in or comes out of commands.

use std::io::IsTerminal;

use crate::config::LogFormat;

/// Whether what goes to stderr is coloured: on a terminal, unless `NO_COLOR` is set.
pub fn in_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

/// Starts logging. Only the first call in a process counts.
pub fn start(format: LogFormat, level: tracing::Level) {
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match format {
        LogFormat::Human => lines.with_ansi(in_colour()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    drop(started);
}
