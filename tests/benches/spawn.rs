//! What a sandbox costs beside a bare spawn, with the real binaries:
//!
//! ```sh
//! cargo build --release && cargo bench -p noxrunner-tests
//! ```
//!
//! Every figure is a ratio to the floor, posix_spawn(3) and wait of the same
//! command in the same round, since absolute times say more about the machine
//! than about the program. The arms of a round take turns call by call. The environment is pinned: a longer
//! one alone makes a spawn slower. Nothing is judged here.
#![allow(clippy::unwrap_used)] // A benchmark that cannot run has no result.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use nix::unistd::pipe;
use noxrunner_client::Connection;
use noxrunner_protocol::method::{HealthCheck, SandboxCreate, SandboxDelete, SandboxExec};
use noxrunner_protocol::types::{CreateParams, NoParams, SandboxRef};
use noxrunner_tests::{TestDaemon, exec_params, program, run, text};

/// What every command of every arm is given.
const ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/bin:/bin"), ("LANG", "C.UTF-8")];

struct Arm<'a> {
    name: &'static str,
    /// What the ratio is to: the arm of that name.
    against: &'static str,
    once: Box<dyn FnMut(u64) + 'a>,
    /// One list of samples a round.
    rounds: Vec<Vec<Duration>>,
}

fn main() {
    // Asked for by `cargo test --benches` and the like, where nothing is to be measured.
    let short = std::env::args().any(|a| a == "--test" || a == "--short");
    let (rounds, samples) = if short { (2, 5) } else { (10, 200) };
    let daemon = TestDaemon::start();
    daemon.create("bench");
    let (mut lines, mut health, mut life) = (daemon.connect(), daemon.connect(), daemon.connect());
    let mut arms = vec![
        arm("floor: posix_spawn and wait", "", floor),
        arm("exec over the socket", "floor: posix_spawn and wait", |n| exec(&mut lines, n)),
        arm("/bin/echo as a process, by std", "floor: posix_spawn and wait", process),
        arm("noxctl exec, whole process", "/bin/echo as a process, by std", |n| noxctl(&daemon, n)),
        arm("create and delete", "floor: posix_spawn and wait", |n| create(&mut life, n)),
        arm("health over the socket", "floor: posix_spawn and wait", |_| {
            assert_eq!(health.call::<HealthCheck>(&NoParams {}).unwrap().status, "ok");
        }),
    ];
    let mut nonce = 0;
    for round in 0..=rounds {
        for arm in &mut arms {
            arm.rounds.push(Vec::with_capacity(samples));
        }
        for _ in 0..samples {
            for arm in &mut arms {
                nonce += 1;
                let started = Instant::now();
                (arm.once)(nonce);
                arm.rounds[round].push(started.elapsed());
            }
        }
    }
    report(&arms);
}

fn arm<'a>(name: &'static str, against: &'static str, once: impl FnMut(u64) + 'a) -> Arm<'a> {
    Arm { name, against, once: Box::new(once), rounds: Vec::new() }
}

fn floor(nonce: u64) {
    let c = |text: &str| CString::new(text).unwrap();
    let environment: Vec<CString> = ENVIRONMENT.map(|(k, v)| c(&format!("{k}={v}"))).to_vec();
    let (reader, writer) = pipe().unwrap();
    let mut actions = PosixSpawnFileActions::init().unwrap();
    actions.add_dup2(std::os::fd::AsRawFd::as_raw_fd(&writer), 1).unwrap();
    let argv = [c("/bin/echo"), c(&nonce.to_string())];
    let attributes = PosixSpawnAttr::init().unwrap();
    let pid = posix_spawn(c"/bin/echo", &actions, &attributes, &argv, &environment).unwrap();
    drop(writer);
    let mut output = String::new();
    File::from(reader).read_to_string(&mut output).unwrap();
    waitpid(pid, None).unwrap();
    assert_eq!(output, format!("{nonce}\n"));
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

fn exec(connection: &mut Connection, nonce: u64) {
    let params = exec_params("bench", &["/bin/echo", &nonce.to_string()]);
    let result = connection.call::<SandboxExec>(&params).unwrap();
    assert_eq!(result.stdout, format!("{nonce}\n"));
}

fn create(connection: &mut Connection, nonce: u64) {
    let id = format!("bench-{nonce}").parse().unwrap();
    assert!(connection.call::<SandboxCreate>(&CreateParams::new(id)).unwrap().created);
    let session_id = format!("bench-{nonce}").parse().unwrap();
    connection.call::<SandboxDelete>(&SandboxRef { session_id }).unwrap();
}

fn report(arms: &[Arm<'_>]) {
    let kernel = text(&run(Command::new("uname").arg("-r")).stdout);
    println!(
        "Linux {}, {} processors",
        kernel.trim(),
        std::thread::available_parallelism().unwrap()
    );
    println!("{:34} {:>9} {:>9} {:>9}  to", "", "p50 µs", "p99 µs", "ratio");
    for arm in arms {
        // The first round warms everything up.
        let rounds = &arm.rounds[1..];
        let mut all: Vec<Duration> = rounds.concat();
        let (p50, p99) = (percentile(&mut all, 50), percentile(&mut all, 99));
        let base = arms.iter().find(|other| other.name == arm.against);
        let ratio = base.map(|base| {
            let mut ratios: Vec<f64> = std::iter::zip(rounds, &base.rounds[1..])
                .map(|(own, base)| {
                    percentile(&mut own.clone(), 50) / percentile(&mut base.clone(), 50)
                })
                .collect();
            ratios.sort_by(f64::total_cmp);
            ratios[ratios.len() / 2]
        });
        let ratio = ratio.map_or_else(String::new, |r| format!("{r:.2}"));
        println!("{:34} {p50:>9.0} {p99:>9.0} {ratio:>9}  {}", arm.name, arm.against);
    }
}

/// In microseconds.
fn percentile(samples: &mut [Duration], percent: usize) -> f64 {
    samples.sort();
    samples[(samples.len() * percent / 100).min(samples.len() - 1)].as_secs_f64() * 1e6
}
