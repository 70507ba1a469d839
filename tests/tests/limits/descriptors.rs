//! Open files of a process, and those that lie in sockets.

use nix::unistd::geteuid;
use noxrunner_protocol::types::Cause;
use noxrunner_tests::attack;
use noxrunner_tests::life::{Pending, timed};
use noxrunner_tests::{SOON, eventually};
use serde_json::json;

use super::arm::Arm;
use super::neighbours::beside;

/// Opens files until that fails, and prints how and how many are open.
const OPEN: &str = r#"exec python3 -c '
import errno, os
files = []
try:
    while True:
        files.append(os.open("/dev/null", os.O_RDONLY))
except OSError as e:
    print(errno.errorcode[e.errno], files[-1] + 1)
'"#;

pub(crate) fn a_process_has_so_many_and_no_more(arm: Arm) {
    // Where sandboxes share the daemon's user, what they queue in sockets must leave it some.
    let (default, asked) = if geteuid().is_root() { (4096, 1000) } else { (700, 700) };
    for (policy, most) in [("", default), ("default_open_files = \"1000\"", asked)] {
        let daemon = arm.sandbox(policy, json!({}));
        let made = daemon.limit("s", json!({})).unwrap();
        let status = json!({"value": most.to_string(), "enforcedBy": "rlimit"});
        assert_eq!(made["limits"]["openFiles"], status);
        // One hoards while another tries.
        let hoard = OPEN.replace("as e:", "as e:\n    os.mkdir(\"full\")\n    input()");
        let pending = Pending::exec(&daemon, &timed("s", &format!("(sleep 3 | {hoard})"), 20.0));
        let full = daemon.workspace("s").join("full");
        eventually("it has them all", SOON, || full.exists());
        let result = beside(&daemon, || daemon.sh("s", OPEN));
        assert_eq!((result.cause, result.stdout), (Cause::Exited, format!("EMFILE {most}\n")));
        let soft = daemon.sh("s", "ulimit -Sn; ulimit -Hn; ulimit -n unlimited || echo no");
        assert_eq!(soft.stdout, format!("{most}\n{most}\nno\n"), "{soft:?}");
        drop(pending);
        daemon.leaves_nothing();
    }
}

/// Puts descriptors into sockets that nobody reads, as many as it takes. unix(7): they count for the
/// user, and a sender's own limit is what bounds them.
const QUEUE: &str = r#"
null = os.open("/dev/null", os.O_RDONLY)
kept, queued = [], 0
def queue(count):
    pair = socket.socketpair()
    kept.append(pair)
    message = array.array("i", [null] * count)
    pair[0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, message)])
try:
    while queued < 20000:
        queue(100)
        queued += 100
    print("never full")
except OSError as e:
    print(errno.errorcode[e.errno], queued)
    sys.stdout.flush()
"#;

/// One descriptor, sent and received.
const PASS: &str = "a, b = socket.socketpair()\n\
    socket.send_fds(a, [b'x'], [0])\n\
    os.close(socket.recv_fds(b, 1, 1)[1][0])";

pub(crate) fn what_is_queued_in_sockets_leaves_others_theirs(arm: Arm) {
    let daemon = arm.sandbox("", json!({}));
    let hold = format!("{QUEUE}\nopen('queued', 'w').close()\ntime.sleep(100)");
    let code = format!("import time\n{hold}");
    let params = attack::params("s", &code);
    let pending = Pending::exec(&daemon, &params);
    let queued = daemon.workspace("s").join("queued");
    eventually("the queue is full", SOON, || queued.exists());
    // Everybody else goes on: inside, outside, and the daemon, which passes descriptors to every init.
    beside(&daemon, || {
        assert_eq!(attack::outside(PASS), "ok");
        assert_eq!(daemon.noxctl(&["exec", "s", "--", "true"]).status().unwrap().code(), Some(0));
    });
    if !geteuid().is_root() {
        // It is the same count: who has a smaller limit than what is queued is refused.
        let small = format!(
            "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))\n{PASS}"
        );
        assert_eq!(attack::outside(&small), "ETOOMANYREFS");
    }
    drop(pending);
    // What kept the commands apart may stay for the next ones.
    eventually("it is gone", SOON, || daemon.usage("s", "processes") <= 1);
    let full = daemon.exec_params(attack::params("s", QUEUE));
    let most = if geteuid().is_root() { 4100 } else { 700 };
    let words: Vec<&str> = full.stdout.split_whitespace().collect();
    assert_eq!(words[0], "ETOOMANYREFS", "{full:?}");
    let count: u64 = words[1].parse().unwrap();
    println!("{count} were queued");
    assert!((most - 200..=most + 200).contains(&count), "{count}");
    daemon.leaves_nothing();
}
