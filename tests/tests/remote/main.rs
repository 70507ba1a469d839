//! `noxctl --base-url`: the real program against servers that say exactly what a test wants them
//! to, against TLS, and against the real daemon's HTTP.
//!
//! | file | what it is about |
//! |---|---|
//! | `fake` | the servers |
//! | `verbs` | what is asked and what is printed |
//! | `files` | archives, whoever sends them |
//! | `misbehaves` | backends that do not do as they should |
//! | `names`, `token`, `tls` | who is spoken to, and how they know each other |
//! | `real` | the daemon itself |
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod fake;
mod files;
mod misbehaves;
mod names;
mod real;
mod tls;
mod token;
mod verbs;

use std::process::{Command, Stdio};

use noxrunner_tests::{program, run, shell_status, text};

/// Status, standard output and standard error.
type Said = (i32, String, String);

/// noxctl with nothing in its environment that could change where it goes, but proxies, which
/// are not used.
fn noxctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("noxctl"));
    command.env_clear().env("PATH", "/usr/bin:/bin").args(arguments).stdin(Stdio::null());
    for proxy in ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(proxy, "http://127.0.0.1:1");
    }
    command
}

#[track_caller]
fn said(command: &mut Command) -> Said {
    let output = run(command);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    (shell_status(output.status), stdout, text(&output.stderr))
}

/// What noxctl says to a backend at this URL.
#[track_caller]
fn ask(url: &str, arguments: &[&str]) -> Said {
    said(noxctl(&["--base-url", url]).args(arguments))
}

/// It fails with 1, says nothing on standard output, and these parts on standard error, in a
/// few short lines that drive no terminal.
#[track_caller]
fn fails(said: Said, parts: &[&str]) {
    let (status, stdout, stderr) = said;
    assert_eq!((status, stdout.as_str()), (1, ""), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
    assert!(stderr.starts_with('✗') && stderr.len() < 6000, "{stderr}");
    assert!(!stderr.chars().any(|c| c.is_control() && c != '\n'), "{stderr:?}");
}
