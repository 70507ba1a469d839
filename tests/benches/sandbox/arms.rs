//! One call at a time: what each costs beside a bare spawn.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use nix::unistd::pipe2;
use noxrunner_client::Connection;
use noxrunner_protocol::method::{HealthCheck, SandboxCreate, SandboxDelete, SandboxExec};
use noxrunner_protocol::types::{CreateParams, NoParams, SandboxRef};
use noxrunner_tests::{TestDaemon, exec_params, program, text};
use serde_json::Value;

use crate::{Scale, head, median, percentile, row};

/// What every command of every arm is given.
const ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/bin:/bin"), ("LANG", "C.UTF-8")];

const FLOOR: &str = "floor: posix_spawn and wait";
const PROCESS: &str = "/bin/echo as a process, by std";

struct Arm<'a> {
    name: &'static str,
    /// What the ratio is to: the arm of that name.
    against: &'static str,
    once: Box<dyn FnMut(u64) + 'a>,
    /// One list of samples a round.
    rounds: Vec<Vec<Duration>>,
}

/// Measures and prints every arm.
pub(crate) fn measure(daemon: &TestDaemon, scale: &Scale) -> Vec<Value> {
    let (mut lines, mut health, mut life) = (daemon.connect(), daemon.connect(), daemon.connect());
    let mut arms = vec![
        arm(FLOOR, "", floor),
        arm("exec over the socket", FLOOR, |n| exec(&mut lines, "bench", n)),
        arm(PROCESS, FLOOR, process),
        arm("noxctl exec, whole process", PROCESS, |n| noxctl(daemon, n)),
        arm("create and delete", FLOOR, |n| create(&mut life, n)),
        arm("health over the socket", FLOOR, |_| {
            assert_eq!(health.call::<HealthCheck>(&NoParams {}).unwrap().status, "ok");
        }),
    ];
    let mut nonce = 0;
    // The first round warms everything up and is not counted.
    for round in 0..=scale.rounds {
        arms.iter_mut().for_each(|arm| arm.rounds.push(Vec::new()));
        for _ in 0..scale.samples {
            for arm in &mut arms {
                nonce += 1;
                let started = Instant::now();
                (arm.once)(nonce);
                arm.rounds[round].push(started.elapsed());
            }
        }
    }
    head("one at a time");
    arms.iter().map(|arm| report(arm, &arms)).collect()
}

fn report(arm: &Arm<'_>, arms: &[Arm<'_>]) -> Value {
    let all = arm.rounds[1..].concat();
    let ratio = arms.iter().find(|other| other.name == arm.against).map(|base| {
        let rounds = std::iter::zip(&arm.rounds[1..], &base.rounds[1..]);
        median(rounds.map(|(own, base)| percentile(own, 50) / percentile(base, 50)).collect())
    });
    row(arm.name, percentile(&all, 50), percentile(&all, 99), ratio, arm.against)
}

fn arm<'a>(name: &'static str, against: &'static str, once: impl FnMut(u64) + 'a) -> Arm<'a> {
    Arm { name, against, once: Box::new(once), rounds: Vec::new() }
}

/// A bare spawn, its output read and checked.
pub(crate) fn floor(nonce: u64) {
    let c = |text: &str| CString::new(text).unwrap();
    let environment: Vec<CString> = ENVIRONMENT.map(|(k, v)| c(&format!("{k}={v}"))).to_vec();
    // Other threads spawn too: what one of them inherits would keep this pipe from ending.
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut actions = PosixSpawnFileActions::init().unwrap();
    actions.add_dup2(writer.as_raw_fd(), 1).unwrap();
    let argv = [c("/bin/echo"), c(&nonce.to_string())];
    let attributes = PosixSpawnAttr::init().unwrap();
    let pid = posix_spawn(c"/bin/echo", &actions, &attributes, &argv, &environment).unwrap();
    drop(writer);
    let mut output = String::new();
    File::from(reader).read_to_string(&mut output).unwrap();
    waitpid(pid, None).unwrap();
    assert_eq!(output, format!("{nonce}\n"));
}

/// An exec over a connection, its answer checked.
pub(crate) fn exec(connection: &mut Connection, session: &str, nonce: u64) {
    let params = exec_params(session, &["/bin/echo", &nonce.to_string()]);
    let result = connection.call::<SandboxExec>(&params).unwrap();
    assert_eq!(result.stdout, format!("{nonce}\n"));
}

fn process(nonce: u64) {
    let mut command = Command::new("/bin/echo");
    command.arg(nonce.to_string()).env_clear().envs(ENVIRONMENT).stdin(Stdio::null());
    assert_eq!(text(&command.output().unwrap().stdout), format!("{nonce}\n"));
}

fn noxctl(daemon: &TestDaemon, nonce: u64) {
    let mut command = Command::new(program("noxctl"));
    command.arg("--socket").arg(&daemon.socket).args(["exec", "bench", "/bin/echo"]);
    command.arg(nonce.to_string()).env_clear().envs(ENVIRONMENT).stdin(Stdio::null());
    assert_eq!(text(&command.output().unwrap().stdout), format!("{nonce}\n"));
}

fn create(connection: &mut Connection, nonce: u64) {
    let id = format!("bench-{nonce}").parse().unwrap();
    assert!(connection.call::<SandboxCreate>(&CreateParams::new(id)).unwrap().created);
    let session_id = format!("bench-{nonce}").parse().unwrap();
    connection.call::<SandboxDelete>(&SandboxRef { session_id }).unwrap();
}
