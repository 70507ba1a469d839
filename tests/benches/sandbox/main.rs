//! What a sandbox costs beside a bare spawn, with the real binaries:
//!
//! ```sh
//! cargo build --release && cargo bench -p noxrunner-tests
//! ```
//!
//! `-- --short` takes seconds and says little, `-- --help` tells the rest. `.ci/run` does that with
//! the debug build that its tests have made: `cargo test --workspace --bench sandbox -- --short`.
//!
//! Every ratio is to work without a sandbox in the same run, since absolute times say more about the
//! machine than about the program. Arms take turns call by call, and a ratio is the median of the
//! rounds' ratios; a p99 is over the samples of all rounds. The environment is pinned. Every answer is
//! checked. Nothing is judged here.
//!
//! | file | what it measures |
//! |---|---|
//! | `spawn` | bare spawns: the floor, tokio, the standard library |
//! | `engine` | an exec in the daemon, without a socket |
//! | `sandbox` | a daemon's exec, create, delete and health; noxctl |
//! | `rest` | its exec by the REST API, on its socket and on TCP |
//! | `beside` | what others offer, where it is installed |
//! | `transfer` | trees in and out |
//! | `stress` | sandboxes made ahead, much output, a neighbour that spins |
//! | `load` | many clients at once |
//! | `lines` | `health` beside a bare echo, and beside clients that misbehave |
//! | `many` | many sandboxes that wait |
#![allow(clippy::unwrap_used)] // A benchmark that cannot run has no result.

mod beside;
mod engine;
mod lines;
mod load;
mod many;
mod options;
mod pinned;
mod report;
mod rest;
mod sandbox;
mod spawn;
mod stress;
mod table;
mod transfer;

use std::cell::RefCell;
use std::process::Command;

use noxrunner_protocol::method::HealthCheck;
use noxrunner_protocol::types::NoParams;
use noxrunner_tests::{ON_TCP, TestDaemon};
use serde_json::{Value, json};

use engine::InProcess;
use options::Options;
use rest::Rest;
use sandbox::{Life, exec, health, noxctl};
use spawn::{Tokio, process};
use table::{FLOOR, Table};
use transfer::{By, Kind, Trees};

const UPLOAD: &str = "noxctl upload, whole process";
const DOWNLOAD: &str = "noxctl download, whole process";
const REST_UPLOAD: &str = "noxctl upload over TCP, gzip";
const REST_DOWNLOAD: &str = "noxctl download over TCP, gzip";
const TAR: &str = "tar through a pipe to tar";
const PROCESS: &str = "/bin/echo as a process, by std";

fn main() {
    lines::echo();
    let options = Options::parse();
    pinned::pin();
    // Before anything starts a thread.
    let zygote = noxrunner_init::start().unwrap();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let processors = std::thread::available_parallelism().unwrap();
    let daemon = TestDaemon::start_with(&[&options.daemon_arguments()[..], &ON_TCP].concat());
    daemon.create("bench");
    let about = daemon.connect().call::<HealthCheck>(&NoParams {}).unwrap();
    let tier = about.isolation.tier.name();
    println!("Linux {}, {processors} processors, tier {tier}", kernel.trim());

    let inside = InProcess::start(zygote, &options.daemon_arguments());
    let one_at_a_time = one_at_a_time(&daemon, &inside, &options);
    // Its threads are none of what follows.
    drop(inside);
    let figures = json!({
        "kernel": kernel.trim(),
        "processors": processors.get(),
        "version": about.version,
        "tier": tier,
        "rounds": options.scale.rounds,
        "samples": options.scale.samples,
        "oneAtATime": one_at_a_time,
        "life": life(&daemon, &options),
        "ahead": stress::from_the_pool(&options),
        "output": stress::much_output(&daemon, &options),
        "neighbour": stress::neighbour(&daemon, &options),
        "large": transfer(&daemon, By::Socket, Kind::Large(options.scale.large), &options),
        "small": transfer(&daemon, By::Socket, Kind::Small(options.scale.small), &options),
        // Compressed, what is random takes a while.
        "largeByRest": transfer(&daemon, By::Rest, Kind::Large(options.scale.large / 16), &options),
        "smallByRest": transfer(&daemon, By::Rest, Kind::Small(options.scale.small), &options),
        "beside": beside(&daemon, &options),
        "atOnce": load::concurrency(&daemon, &options),
        "lines": lines::lines(&options),
        "amongMany": many::among_many(&daemon, &options),
    });
    if let Some(file) = options.json {
        std::fs::write(file, format!("{figures:#}\n")).unwrap();
    }
}

fn one_at_a_time(daemon: &TestDaemon, inside: &InProcess, options: &Options) -> Vec<Value> {
    let (tokio, mut lines, mut other) = (Tokio::new(), daemon.connect(), daemon.connect());
    let (mut rest, mut tcp) = (Rest::on_socket(daemon), Rest::on_tcp(daemon));
    Table::new("one at a time", options)
        .arm("tokio::process::Command", FLOOR, |nonce| tokio.echo(nonce))
        .perhaps("exec in the daemon", FLOOR, || Ok(|nonce| inside.exec(nonce)))
        .arm("exec over the socket", FLOOR, |nonce| exec(&mut lines, "bench", nonce))
        .arm("exec by REST over the socket", FLOOR, |nonce| rest.exec("bench", nonce))
        .arm("exec by REST over TCP", FLOOR, |nonce| tcp.exec("bench", nonce))
        .base(PROCESS, |nonce| process(&mut Command::new("/bin/echo"), nonce))
        .arm("noxctl exec, whole process", PROCESS, |nonce| noxctl(daemon, nonce))
        .arm("health over the socket", FLOOR, |_| health(&mut other))
        .run(options.scale.samples)
}

fn life(daemon: &TestDaemon, options: &Options) -> Vec<Value> {
    let life = RefCell::new(Life::new(daemon));
    Table::new("a sandbox's life", options)
        .twice()
        .perhaps("create, cold", FLOOR, || Ok(|nonce| life.borrow_mut().create(nonce)))
        .perhaps("delete", FLOOR, || Ok(|nonce| life.borrow_mut().delete(nonce)))
        .run(options.scale.samples)
}

fn beside(daemon: &TestDaemon, options: &Options) -> Vec<Value> {
    let mut lines = daemon.connect();
    Table::new("beside others", options)
        .twice()
        .arm("exec over the socket", FLOOR, |nonce| exec(&mut lines, "bench", nonce))
        .perhaps("bwrap, each command", FLOOR, beside::bwrap)
        .perhaps("bash kept alive in bwrap", FLOOR, beside::kept_bash)
        .perhaps("unshare, each command", FLOOR, beside::unshare)
        .perhaps("Python subprocess.run", FLOOR, beside::python)
        .perhaps("Python noxrunner, local mode", FLOOR, beside::local_mode)
        .run(options.scale.beside)
}

fn transfer(daemon: &TestDaemon, by: By, kind: Kind, options: &Options) -> Vec<Value> {
    let [up, down] = match by {
        By::Socket => [UPLOAD, DOWNLOAD],
        By::Rest => [REST_UPLOAD, REST_DOWNLOAD],
    };
    if ![TAR, up, down].iter().any(|name| options.wants(name)) {
        return Vec::new();
    }
    let trees = Trees::new(daemon, by, kind);
    let figures = Table::new(&kind.name(), options)
        .timed_base(TAR, |nonce| trees.tar(nonce))
        .perhaps(up, TAR, || Ok(|nonce| trees.upload(nonce)))
        .perhaps(down, TAR, || Ok(|nonce| trees.download(nonce)))
        .run(1);
    trees.remove();
    figures
}
