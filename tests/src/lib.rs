//! What the end-to-end tests share: a daemon of the real binary in a directory
//! of its own, ways to talk to it, and ways to see what it leaves behind.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

pub mod archive;
pub mod attack;
mod calls;
pub mod cgroup;
mod daemon;
pub mod doors;
pub mod life;
pub mod meanwhile;
pub mod processes;
pub mod python;
mod started;
pub mod userns;
pub mod users;
pub mod wire;

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use daemon::{ON_TCP, TestDaemon, front, noxrunnerd, under};
use noxrunner_protocol::types::ExecParams;
pub use noxrunner_protocol::types::Tier;
pub use started::{Started, number_in, run, shell_status, text};

/// How long anything here may take that should happen soon, however busy the machine is.
pub const SOON: Duration = Duration::from_secs(20);

/// A program of this project. `NOXRUNNER_TEST_BIN_DIR` says where, else it is
/// looked for where cargo builds it, beside the tests.
pub fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("NOXRUNNER_TEST_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().to_owned()
    });
    let program = dir.join(name);
    assert!(program.exists(), "{} is missing: cargo build --workspace --bins", program.display());
    program
}

/// Has each of these tests done in the strongest tier and in the one that holds nothing. They
/// are functions of a daemon, which may be started with more arguments.
#[macro_export]
macro_rules! in_both_tiers {
    ($($test:ident),+ $(,)?) => { $crate::in_both_tiers!(with []; $($test),+); };
    (with $arguments:expr; $($test:ident),+ $(,)?) => {
        mod full {
            #[allow(unused_imports)]
            use super::*;
            $(#[test]
            fn $test() {
                super::$test($crate::TestDaemon::of_tier_with($crate::Tier::Full, &$arguments));
            })+
        }
        mod none {
            #[allow(unused_imports)]
            use super::*;
            $(#[test]
            fn $test() {
                super::$test($crate::TestDaemon::of_tier_with($crate::Tier::None, &$arguments));
            })+
        }
    };
}

/// Waits until a condition holds, and fails the test where it does not in time.
#[track_caller]
pub fn eventually(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// The params of an exec with nothing special about it.
#[track_caller]
pub fn exec_params(id: &str, cmd: &[&str]) -> ExecParams {
    ExecParams::new(id.parse().unwrap(), cmd.iter().map(|c| (*c).to_owned()).collect())
}
