//! The same world for every run: the benchmark starts itself again with an environment that does not
//! depend on its caller's, because the daemon passes parts of its own on to its sandboxes.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::spawn::ENVIRONMENT;

/// The caller's PATH, by which other programs are found.
pub(crate) static WHERE_PROGRAMS_ARE: OnceLock<OsString> = OnceLock::new();

const CALLERS_PATH: &str = "NOXRUNNER_BENCH_PATH";

/// What is kept of the caller's.
const KEPT: [&str; 3] = ["HOME", "TMPDIR", "NOXRUNNER_TEST_BIN_DIR"];

/// Descriptors for thousands of sandboxes, a handful each.
const DESCRIPTORS: u64 = 65_536;

/// Returns in a process that has the pinned environment and its descriptors.
pub(crate) fn pin() {
    raise_descriptor_limit();
    if let Some(path) = std::env::var_os(CALLERS_PATH) {
        WHERE_PROGRAMS_ARE.get_or_init(|| path);
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(std::env::args_os().skip(1)).env_clear().envs(ENVIRONMENT);
    command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env(CALLERS_PATH, std::env::var_os("PATH").unwrap_or_default());
    panic!("cannot start again: {}", command.exec());
}

/// What the daemon inherits, and raises to the hard limit by itself.
fn raise_descriptor_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < DESCRIPTORS {
        // Only root may; others measure with fewer sandboxes, or see a create fail.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS);
    }
}
