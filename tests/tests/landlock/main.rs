//! What the tier `landlock` holds and what it says that it does not, and how tiers are chosen. Every
//! denial has its positive control: the same act succeeds where no layer is on.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod calls;
mod choosing;
mod files;
mod life;
mod processes;
mod transfer;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use noxrunner_tests::attack::inside;
use noxrunner_tests::{TestDaemon, Tier};

/// A daemon of this tier with a sandbox `s`. Users of sandboxes come to them by their path.
#[track_caller]
fn of_tier(tier: Tier) -> TestDaemon {
    let daemon = TestDaemon::of_tier(tier);
    open_to(daemon.dir.path(), 0o711);
    assert_eq!(daemon.create("s").isolation.tier, tier);
    daemon
}

#[track_caller]
fn landlock() -> TestDaemon {
    of_tier(Tier::Landlock)
}

fn open_to(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A name, the lines, and what they come to inside.
type Attack<'a> = (&'a str, &'a str, &'a str);

/// Runs attacks in the sandbox `s` of a daemon without layers, where they succeed, and of one of this
/// tier, and names all that come out otherwise. `between` puts right what the first have done.
#[track_caller]
fn denied(walls: &TestDaemon, attacks: &[Attack<'_>], between: impl Fn()) {
    let open = of_tier(Tier::None);
    let mut wrong = Vec::new();
    for (name, code, want) in attacks {
        between();
        // First where it is refused: what it does to the host must not be why.
        let refused = inside(walls, "s", code);
        let allowed = inside(&open, "s", code);
        if allowed != "ok" || refused != *want {
            wrong.push(format!("{name}: without layers {allowed}, with {refused} and not {want}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
