//! What tests of life and death share: processes told apart by more than their
//! number, commands whose answer is awaited later, and a zoo of processes that are hard to kill.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use noxrunner_protocol::RpcError;
use noxrunner_protocol::types::{CreateResult, ExecParams, ExecResult};
use serde_json::{Value, json};

use crate::processes::{Numbers, with_variable};
pub use crate::processes::{Process, alive, children, is_stopped, parent};
use crate::{SOON, TestDaemon, eventually, exec_params};

/// A process's open descriptors.
#[track_caller]
pub fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The same once it has settled: a connection that a client has closed takes the daemon a moment.
#[track_caller]
pub fn settled_descriptors(pid: Pid) -> usize {
    let (mut last, mut same) = (0, 0);
    eventually("the number of descriptors settles", SOON, || {
        let now = descriptors(pid);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same == 20
    });
    last
}

/// A number in kB from /proc/PID/status or /proc/meminfo, in KiB.
#[track_caller]
pub fn kib(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A call that was sent and whose answer nobody has read yet. Dropping it hangs up.
pub struct Pending(UnixStream);

impl Pending {
    /// Sends any call.
    #[track_caller]
    pub fn call(daemon: &TestDaemon, method: &str, params: &Value) -> Self {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        Self(stream)
    }

    /// Starts a command.
    #[track_caller]
    pub fn exec(daemon: &TestDaemon, params: &ExecParams) -> Self {
        Self::call(daemon, "sandbox.exec", &serde_json::to_value(params).unwrap())
    }

    /// Starts a shell script that may take as long as it likes.
    #[track_caller]
    pub fn sh(daemon: &TestDaemon, id: &str, script: &str) -> Self {
        Self::exec(daemon, &timed(id, script, 3600.0))
    }

    /// The answer, whatever it is; fails the test where none comes in time.
    #[track_caller]
    pub fn answer_within(self, within: Duration) -> Result<Value, RpcError> {
        self.0.set_read_timeout(Some(within)).unwrap();
        let mut line = String::new();
        let read = BufReader::new(self.0).read_line(&mut line);
        assert!(read.is_ok_and(|n| n > 0), "no answer within {within:?}");
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        match answer.get_mut("error") {
            Some(error) => Err(serde_json::from_value(error.take()).unwrap()),
            None => Ok(answer["result"].take()),
        }
    }

    /// The result of an exec.
    #[track_caller]
    pub fn result_within(self, within: Duration) -> ExecResult {
        serde_json::from_value(self.answer_within(within).unwrap()).unwrap()
    }
}

/// A shell script that may run for so many seconds.
#[track_caller]
pub fn timed(id: &str, script: &str, seconds: f64) -> ExecParams {
    let mut params = exec_params(id, &["sh", "-c", script]);
    params.timeout_seconds = seconds.try_into().unwrap();
    params
}

/// What a sandbox calls `/workspace`, on this machine.
pub fn workspace(sandbox: &CreateResult) -> PathBuf {
    Path::new(&sandbox.sandbox_dir).join("workspace")
}

/// What processes that noted their number have noted so far: `echo $$ > pids/NAME`.
/// It is the number that they have in their sandbox.
pub fn noted(workspace: &Path) -> BTreeMap<String, i32> {
    let Ok(notes) = fs::read_dir(workspace.join("pids")) else { return BTreeMap::new() };
    notes
        .filter_map(|note| {
            let note = note.ok()?;
            let text = fs::read_to_string(note.path()).ok()?;
            // Without its newline it is still being written.
            let pid = text.strip_suffix('\n')?.parse().ok()?;
            Some((note.file_name().into_string().ok()?, pid))
        })
        .collect()
}

/// Waits until so many processes have noted their number, and gives them; all are alive.
#[track_caller]
pub fn wait_for_noted(workspace: &Path, count: usize) -> BTreeMap<String, Process> {
    wait_for_noted_in(workspace, "", count)
}

/// The same of processes that were started in a directory of the workspace.
#[track_caller]
pub fn wait_for_noted_in(
    workspace: &Path,
    directory: &str,
    count: usize,
) -> BTreeMap<String, Process> {
    let mut found = BTreeMap::new();
    eventually(&format!("{count} processes note their numbers"), 3 * SOON, || {
        found = noted(&workspace.join(directory));
        found.len() >= count
    });
    let numbers = Numbers::now();
    let process = |(name, number): (String, i32)| {
        let process = numbers.find(workspace, number);
        (name.clone(), process.unwrap_or_else(|| panic!("{name} ({number}) does not live")))
    };
    found.into_iter().map(process).collect()
}

/// Starts one of each kind of process that is hard to find or to kill, in the
/// background, each of which notes its number under the name of its kind.
///
/// Those of the first group stay in the session of the command that starts
/// them; those of the second leave it. `wait` at the end keeps the leader.
pub const ZOO: &str = r#"
mkdir -p pids
sh -c 'echo $$ > pids/child; exec sleep 1000' &
(sh -c 'echo $$ > pids/grandchild; exec sleep 1000'; true) &
(sh -c 'echo $$ > pids/orphan; exec sleep 1000' &)
sh -c 'trap "" HUP INT QUIT TERM USR1 USR2 ALRM PIPE TSTP; echo $$ > pids/deaf; while :; do sleep 1000; done' &
sh -c 'echo $$ > pids/stopped; kill -STOP $$; exec sleep 1000' &
sh -c 'echo $$ > pids/silent; exec sleep 1000' <&- >&- 2>&- &
setsid sh -c 'echo $$ > pids/child-of-another-session; exec sleep 1000' &
"#;

/// How many [`ZOO`] starts.
pub const ZOO_SIZE: usize = 7;

/// More of them: they are in sessions of their own and nobody's children, some without anything that
/// would tell where they come from.
pub const STRAYS: &str = r#"
mkdir -p pids
(setsid sh -c 'echo $$ > pids/daemon; exec sleep 1000' &)
(setsid sh -c '(setsid sh -c "echo \$\$ > pids/twice; exec sleep 1000" &)' &)
(env -i PATH="$PATH" setsid sh -c 'echo $$ > pids/bare; cd /; exec sleep 1000' <&- >&- 2>&- &)
(setsid sh -c 'trap "" HUP INT QUIT TERM USR1 USR2 ALRM PIPE TSTP; echo $$ > pids/deaf-daemon; while :; do sleep 1000; done' &)
(setsid sh -c 'echo $$ > pids/stopped-daemon; kill -STOP $$; exec sleep 1000' &)
"#;

/// How many [`STRAYS`] starts.
pub const STRAYS_SIZE: usize = 5;

/// The daemon's zygote.
#[track_caller]
pub fn zygote(daemon: &TestDaemon) -> Process {
    let children = children(daemon.pid().as_raw());
    assert_eq!(children.len(), 1, "a daemon has one child, its zygote: {children:?}");
    children[0]
}

/// The init of a sandbox: the parent of a command that runs in it, or of its supervisor.
#[track_caller]
pub fn init_of(daemon: &TestDaemon, id: &str) -> Process {
    let mut params = timed(id, "exec sleep 1000", 3600.0);
    let mark = daemon.dir.path().join(id);
    params.env.insert("NOXRUNNER_TEST_CHILD".into(), mark.to_str().unwrap().into());
    let pending = Pending::exec(daemon, &params);
    let variable = format!("NOXRUNNER_TEST_CHILD={}", mark.display());
    let mut child = None;
    eventually("a command runs", SOON, || {
        child = with_variable(&variable);
        child.is_some()
    });
    let child = child.unwrap();
    let mut init = parent(child);
    if init.is_supervisor() {
        init = parent(init);
    }
    child.signal(Signal::SIGKILL);
    assert_eq!(pending.result_within(SOON).exit_code, 137);
    init
}

/// Checks that the daemon runs nothing but itself and its zygote.
#[track_caller]
pub fn nothing_runs(daemon: &TestDaemon) {
    let kept = [Process::find(daemon.pid().as_raw()).unwrap(), zygote(daemon)];
    eventually("nothing is left but daemon and zygote", SOON, || {
        daemon.processes().iter().all(|process| kept.contains(process))
    });
}
