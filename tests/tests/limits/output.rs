//! Much output.

use noxrunner_protocol::types::Cause;
use noxrunner_tests::life::timed;
use serde_json::json;

use super::arm::Arm;
use super::neighbours::{beside, is, meets_its_limit};

const MUCH: &str = "yes 123456789 | head -c 200000000";

pub(crate) fn much_output_is_counted_and_dropped(arm: Arm) {
    let daemon = arm.sandbox("", json!({}));
    let result = beside(&daemon, || daemon.exec_params(timed("s", MUCH, 150.0)));
    is(&result, Cause::Exited, 0, "");
    assert!(result.stdout_truncated && !result.stderr_truncated);
    assert_eq!((result.stdout_bytes, result.stderr_bytes), (200_000_000, 0));
    assert!(result.stdout.starts_with("123456789\n") && result.stdout.len() < 20_000_000);
    daemon.leaves_nothing();
}

/// Both streams count together.
pub(crate) fn a_policy_ends_it(arm: Arm) {
    let daemon = arm.sandbox("max_output = \"10Mi\"", json!({}));
    for script in [MUCH, "yes >&2 | yes", "yes & yes >&2 & wait"] {
        let result = meets_its_limit(&daemon, script);
        is(&result, Cause::Limit, 137, "max_output");
        let printed = result.stdout_bytes + result.stderr_bytes;
        // No more is read then than the last piece of each stream.
        println!("{printed} bytes");
        assert!((10 << 20..(10 << 20) + (256 << 10)).contains(&printed), "{printed}");
    }
    // As much as is allowed is.
    let result = daemon.sh("s", "yes | head -c 10485760");
    is(&result, Cause::Exited, 0, "");
    assert_eq!(result.stdout_bytes, 10 << 20);
    daemon.leaves_nothing();
}
