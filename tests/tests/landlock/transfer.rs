//! Files and archives in a tier without a mount tree: callers name places as everywhere, commands by
//! the host's names.

use noxrunner_tests::archive::{Door, built};
use serde_json::json;

use super::landlock;

#[test]
fn files_and_archives_go_in_and_out_for_the_sandboxs_own_user() {
    let daemon = landlock();
    let write = json!({"sessionId": "s", "path": "/workspace/run.sh", "mode": 0o755,
        "data": "#!/bin/sh\necho ran\n"});
    daemon.call("file.write", write).unwrap();
    assert_eq!(daemon.sh("s", "./run.sh; echo more >> run.sh && mkdir own").stdout, "ran\n");
    let dir = daemon.workspace("s");
    let own = format!("add('d/f', b'1')\nadd('own', type=SYM, link='{}/d/f')", dir.display());
    let archive = built("w", &format!("{own}\nadd('tmp', type=SYM, link='/tmp/x')"));
    for door in Door::BOTH {
        let result = door.upload(&daemon, "s", ".", &archive);
        // `own` is a directory: nothing of the archive comes in.
        assert_eq!(result.unwrap_err().0, "conflict");
    }
    assert_eq!(daemon.sh("s", "mv own away; ls").stdout, "away\nrun.sh\n");
    let result = Door::Http.upload(&daemon, "s", ".", &archive).unwrap();
    // By this machine's name it stays; what commands call /tmp is the host's here.
    assert_eq!((&result["written"], &result["skipped"]), (&json!(2), &json!(1)), "{result}");
    assert_eq!(daemon.sh("s", "cat own; echo 2 > d/f; ls").stdout, "1away\nd\nown\nrun.sh\n");
    let read = json!({"sessionId": "s", "path": "own"});
    assert_eq!(daemon.call("file.read", read).unwrap()["data"], "2\n");
    let removed = json!({"sessionId": "s", "path": "d", "recursive": true});
    daemon.call("file.remove", removed).unwrap();
    assert_eq!(daemon.sh("s", "ls").stdout, "away\nown\nrun.sh\n");
}
