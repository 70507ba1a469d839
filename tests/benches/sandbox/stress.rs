//! Sandboxes made ahead, much output, and a neighbour that takes every processor it can get.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::iter::zip;
use std::os::fd::AsRawFd;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use nix::unistd::pipe2;
use noxrunner_client::Connection;
use noxrunner_protocol::method::SandboxExec;
use noxrunner_tests::life::{Pending, timed};
use noxrunner_tests::{TestDaemon, eventually, exec_params};
use serde_json::Value;

use crate::options::Options;
use crate::report::{Row, head, percentile};
use crate::sandbox::{Life, exec};
use crate::spawn::ENVIRONMENT;
use crate::table::{FLOOR, Table};

const PRINTED: u64 = 100_000_000;
const BARE_PRINTED: &str = "100 MB printed by a bare spawn, read";

/// A create that finds a sandbox made ahead.
pub(crate) fn from_the_pool(options: &Options) -> Vec<Value> {
    let name = "create from the pool";
    if !options.wants(name) {
        return Vec::new();
    }
    let arguments = [&["--pool", "2"], options.daemon_arguments().as_slice()].concat();
    let daemon = TestDaemon::start_with(&arguments);
    let (mut first, mut life) = (Life::new(&daemon), Life::new(&daemon));
    let full = || {
        let waits = |name: &String| name.starts_with("noxrunner_sandbox_spare.");
        daemon.directories().iter().filter(|name| waits(name)).count() == 2
    };
    Table::new("a sandbox made ahead", options)
        .perhaps(name, FLOOR, || {
            Ok(|nonce| {
                first.end(nonce);
                life.end(nonce);
                eventually("the pool is full", Duration::from_secs(10), full);
                // The directory is there before the init has got ready.
                std::thread::sleep(Duration::from_millis(10));
                // As in other tables the second of two counts: nobody has slept before it.
                first.create(nonce);
                life.create(nonce + 1_000_000)
            })
        })
        .run(options.scale.beside)
}

/// A lot of output, which is counted and not kept.
pub(crate) fn much_output(daemon: &TestDaemon, options: &Options) -> Vec<Value> {
    let mut lines = daemon.connect();
    Table::new("much output", options)
        .base(BARE_PRINTED, |_| bare_print())
        .arm("100 MB printed, drained and counted", BARE_PRINTED, |_| print(&mut lines))
        .run(options.scale.beside.div_ceil(10))
}

fn print(lines: &mut Connection) {
    let params = exec_params("bench", &["/usr/bin/head", "-c", &PRINTED.to_string(), "/dev/zero"]);
    assert_eq!(lines.call::<SandboxExec>(&params).unwrap().stdout_bytes, PRINTED);
}

fn bare_print() {
    let c = |text: &str| CString::new(text).unwrap();
    let environment: Vec<CString> = ENVIRONMENT.map(|(k, v)| c(&format!("{k}={v}"))).to_vec();
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut actions = PosixSpawnFileActions::init().unwrap();
    actions.add_dup2(writer.as_raw_fd(), 1).unwrap();
    let argv = [c("head"), c("-c"), c(&PRINTED.to_string()), c("/dev/zero")];
    let attributes = PosixSpawnAttr::init().unwrap();
    let program = c("/usr/bin/head");
    let pid = posix_spawn(program.as_c_str(), &actions, &attributes, &argv, &environment).unwrap();
    drop(writer);
    let (mut reader, mut buffer, mut total) = (File::from(reader), vec![0; 64 * 1024], 0);
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => break,
            n => total += n as u64,
        }
    }
    waitpid(pid, None).unwrap();
    assert_eq!(total, PRINTED);
}

/// An exec while another sandbox spins on every processor, to the same exec without that.
pub(crate) fn neighbour(daemon: &TestDaemon, options: &Options) -> Vec<Value> {
    let name = "exec beside a spinning sandbox";
    if !options.wants(name) {
        return Vec::new();
    }
    daemon.create("spins");
    let mut lines = daemon.connect();
    let mut nonce = 0;
    let mut measure = || -> Vec<Duration> {
        let one = |_| {
            nonce += 1;
            let started = Instant::now();
            exec(&mut lines, "bench", nonce);
            started.elapsed()
        };
        (0..options.scale.beside).map(one).collect()
    };
    let spinners = 2 * available_parallelism().unwrap().get();
    let script =
        format!("for n in $(seq {spinners}); do while :; do :; done & done; echo > spins; wait");
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    // The first round warms everything up and is not counted.
    for _ in 0..=options.scale.rounds {
        quiet.push(measure());
        let mark = daemon.workspace("spins").join("spins");
        let _ = std::fs::remove_file(&mark);
        let spinning = Pending::exec(daemon, &timed("spins", &script, 600.0));
        eventually("it spins", Duration::from_secs(10), || mark.exists());
        beside.push(measure());
        drop(spinning);
        eventually("it ends", Duration::from_secs(10), || daemon.processes().len() <= 4);
    }
    daemon.delete("spins");
    head("a neighbour that takes what it can get");
    let ratios: Vec<f64> = zip(&beside[1..], &quiet[1..])
        .map(|(beside, quiet)| percentile(beside, 50) / percentile(quiet, 50))
        .collect();
    let (quiet, beside) = (quiet[1..].concat(), beside[1..].concat());
    let still =
        Row { name: "exec", samples: &quiet, per_second: None, ratios: Vec::new(), to: "" }.show();
    let spun = Row { name, samples: &beside, per_second: None, ratios, to: "exec" }.show();
    vec![still, spun]
}
