//! The wire from outside: what any client in any language sees.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use noxrunner_tests::TestDaemon;
use serde_json::json;

#[test]
fn a_sandbox_is_created_used_and_deleted() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let result = daemon.sh("s", "echo hello; echo world >&2");
    assert_eq!((result.exit_code, result.stdout.as_str()), (0, "hello\n"));
    assert_eq!(result.stderr, "world\n");
    daemon.delete("s");
    assert_eq!(daemon.directories(), [""; 0]);
    let error = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap_err();
    assert_eq!(error.kind.name(), "sandboxNotFound");
}
