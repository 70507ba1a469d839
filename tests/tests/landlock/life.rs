//! However a command ends, nothing of it goes on. The daemon checks that for all at its own end.

use noxrunner_tests::life::{Pending, nothing_runs, timed, wait_for_noted};
use noxrunner_tests::{SOON, eventually};

use super::landlock;

const FAMILY: &str = "mkdir -p pids
setsid sh -c 'trap \"\" TERM HUP INT; echo $$ > pids/deaf; while :; do sleep 1000; done' &
(setsid sh -c 'echo $$ > pids/orphan; exec sleep 1000' <&- >&- 2>&- &)
echo $$ > pids/leader; sleep 1000";

#[test]
fn a_hang_up_a_deadline_and_a_delete_kill_everything() {
    let daemon = landlock();
    for id in ["hang-up", "deadline", "delete"] {
        daemon.create(id);
        let seconds = if id == "deadline" { 6.0 } else { 3600.0 };
        let pending = Pending::exec(&daemon, &timed(id, FAMILY, seconds));
        let family = wait_for_noted(&daemon.workspace(id), 3);
        match id {
            "hang-up" => drop(pending),
            "deadline" => assert_eq!(pending.result_within(SOON).exit_code, 124),
            _ => {
                daemon.delete(id);
                assert_ne!(pending.result_within(SOON).exit_code, 0);
            }
        }
        // As everywhere in this version, who left the session goes with the sandbox.
        eventually(&format!("{id}: its leader dies"), SOON / 4, || !family["leader"].is_alive());
        if id != "delete" {
            daemon.delete(id);
        }
        eventually(&format!("{id}: all die"), SOON / 4, || {
            family.values().all(|process| !process.is_alive())
        });
    }
    daemon.delete("s");
    nothing_runs(&daemon);
}
