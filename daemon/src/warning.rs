//! What the local mode says of itself: at start here, at every exec in the answer.

use std::io::Write;

use noxrunner_protocol::types::{Isolation, MissingFeature, Tier};

use crate::config::LogFormat;
use crate::logging;

/// What isolates the sandboxes of this version: nothing.
pub fn isolation() -> Isolation {
    let missing = |feature: &str, why: &str| MissingFeature {
        feature: feature.to_owned(),
        why: why.to_owned(),
        mend: "nothing in this version: run only what you would run without a sandbox".to_owned(),
    };
    Isolation {
        tier: Tier::None,
        features: Vec::new(),
        missing: vec![
            missing("file system", "commands see and change whatever the daemon's user can"),
            missing("network", "commands use this machine's network"),
            missing(
                "processes",
                "commands see and signal other processes of the daemon's user; code that attacks \
                 its own init or daemon can outlive its sandbox",
            ),
            missing(
                "limits",
                "nothing limits the memory, processors, processes or storage of commands",
            ),
        ],
    }
}

/// The line that goes with every exec.
pub fn at_exec() -> String {
    format!("local mode: commands run on this machine (isolation: {})", isolation().tier)
}

/// Says at start what the daemon does to this machine, on stderr.
pub fn at_start(user: &str, format: LogFormat) {
    let tier = isolation().tier;
    let lines = [
        format!("local mode: commands run on this machine as {user} (isolation: {tier})"),
        "nothing keeps them from your files, your network or your other processes: use it for testing only"
            .to_owned(),
    ];
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
