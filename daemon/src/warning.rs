//! What the local mode says of itself: at start here, at every exec in the answer.

use std::io::Write;

use noxrunner_protocol::http::LOCAL_MODE;
use noxrunner_protocol::types::{Isolation, Tier};

use crate::config::LogFormat;
use crate::logging;

/// The line that goes with every exec.
pub fn at_exec(tier: Tier) -> String {
    format!("{LOCAL_MODE}commands run on this machine (isolation: {tier})")
}

/// Says at start what the daemon does to this machine, on stderr.
pub fn at_start(user: &str, isolation: &Isolation, format: LogFormat) {
    let tier = isolation.tier;
    let as_whom = if tier == Tier::None { format!(" as {user}") } else { String::new() };
    let mut lines = vec![format!(
        "{LOCAL_MODE}commands run on this machine{as_whom} (isolation: {tier}): use it for testing only"
    )];
    if tier == Tier::None {
        lines.push(
            "nothing keeps them from your files, your network or your other processes".to_owned(),
        );
    }
    // One for each thing that a better tier would have; doctor says it again.
    lines.extend(
        isolation.missing.iter().map(|m| format!("not held: {}: {}; {}", m.feature, m.why, m.mend)),
    );
    if format == LogFormat::Json {
        for line in lines {
            tracing::warn!("{line}");
        }
        return;
    }
    let (on, off) = if logging::in_colour() { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let mut stderr = std::io::stderr().lock();
    for line in lines {
        // Without a stderr there is nobody to warn.
        let _ = writeln!(stderr, "{on}⚠ WARNING: {line}{off}");
    }
}
