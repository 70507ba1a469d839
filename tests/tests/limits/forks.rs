//! Processes and threads without end.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use nix::unistd::geteuid;
use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::{Pending, timed};
use noxrunner_tests::{SOON, eventually};
use serde_json::{Value, json};

use super::arm::{Arm, Limited};
use super::neighbours::{is, meets_its_limit};

/// The well-known one. The command itself stays: it needs no fork for that. In Bash it waits for room and
/// tries again, where other shells give up.
pub(crate) const PIPES: &str = "exec bash -c ':() { :|:& }; :; exec sleep 100'";

/// One whose processes are all leaders of sessions of their own.
const SESSIONS: &str = r#"
echo 'setsid sh bomb & setsid sh bomb & exec sleep 100' > bomb
exec sh bomb
"#;

/// Threads and processes, whatever fails.
const THREADS: &str = r#"
exec python3 -c '
import os, threading, time
def more():
    while True:
        try:
            threading.Thread(target=more, daemon=True).start()
            os.fork()
        except (RuntimeError, OSError):
            time.sleep(0.01)
more()
'
"#;

/// Runs a bomb in a sandbox with these limits.
#[track_caller]
fn explode(daemon: &Limited, bomb: &str) {
    explode_then(daemon, bomb, || ());
}

#[track_caller]
fn explode_then(daemon: &Limited, bomb: &str, look: impl FnOnce()) {
    let result = meets_its_limit(daemon, bomb);
    is(&result, Cause::Limit, 137, "pidsLimit");
    look();
    daemon.leaves_nothing();
}

fn few() -> Value {
    json!({"pidsLimit": 64})
}

pub(crate) fn pipes_that_fork_with_a_limit(arm: Arm) {
    explode(&arm.sandbox("", few()), PIPES);
}

pub(crate) fn sessions_that_fork_with_a_limit(arm: Arm) {
    explode(&arm.sandbox("", few()), SESSIONS);
}

pub(crate) fn threads_and_forks_with_a_limit(arm: Arm) {
    explode(&arm.sandbox("", few()), THREADS);
}

pub(crate) fn pipes_that_fork_with_defaults(arm: Arm) {
    explode(&arm.sandbox("", json!({})), PIPES);
}

/// Without a user namespace the whole user's processes would count, where it is the daemon's own. Then
/// somebody looks, who stops what does not fork as fast as it can.
pub(crate) fn without_a_namespace(arm: Arm) {
    let daemon = arm.start_with("", &["--isolation", "landlock"]);
    // Users of sandboxes come to them by their path.
    fs::set_permissions(daemon.dir.path(), Permissions::from_mode(0o711)).unwrap();
    let made = daemon.limit("s", few()).unwrap();
    if geteuid().is_root() {
        assert_eq!(made["limits"]["pids"]["enforcedBy"], "rlimit");
        explode(&daemon, PIPES);
        return;
    }
    let overshoot = "what is forked within a tenth of a second";
    let status = json!({"value": "64", "enforcedBy": "watch", "overshoot": overshoot});
    assert_eq!(made["limits"]["pids"], status);
    // A byte for each that was forked: it may be stopped at any moment, and what is written over may be empty.
    let slowly = r#"exec python3 -c '
import os, time
for forked in range(2000):
    if os.fork() == 0:
        time.sleep(100)
    open("forked", "a").write("+")
    time.sleep(0.01)
print("all of them")
'"#;
    explode_then(&daemon, slowly, || {
        let forked = fs::metadata(daemon.workspace("s").join("forked")).unwrap().len();
        println!("with a limit of 64 there were {forked}");
        assert!((60..500).contains(&forked), "{forked}");
    });
}

/// Where what runs already is as much as may run, a command that comes is not started, and says why.
pub(crate) fn a_full_sandbox_starts_nothing_more(arm: Arm) {
    let daemon = arm.sandbox("", json!({"pidsLimit": 8}));
    // With init that makes eight, and nobody has been refused anything.
    let fill = "for i in 1 2 3 4 5 6; do sleep 100 & done; exec sleep 100";
    let told = (0..5).any(|_| {
        let pending = Pending::exec(&daemon, &timed("s", fill, 60.0));
        eventually("it is full", SOON, || daemon.group_file("pids.current") == "8");
        let result = daemon.sh("s", "echo no");
        assert_eq!((result.cause, result.stdout.as_str()), (Cause::Limit, ""), "{result:?}");
        // Who was refused one too many ends everything, as any fork bomb.
        is(&pending.result_within(SOON), Cause::Limit, 137, "pidsLimit");
        assert_eq!(daemon.sh("s", "echo on").stdout, "on\n");
        // That may come before init has said why, and then the command ends as the others.
        let told = result.exit_code == 126;
        is(&result, Cause::Limit, if told { 126 } else { 137 }, "pidsLimit");
        assert!(!told || result.stderr.starts_with("Cannot execute sh: "), "{}", result.stderr);
        told
    });
    assert!(told, "no command was told why it did not start");
    daemon.leaves_nothing();
}
