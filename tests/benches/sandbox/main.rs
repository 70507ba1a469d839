//! What a sandbox costs beside a bare spawn, with the real binaries:
//!
//! ```sh
//! cargo build --release && cargo bench -p noxrunner-tests
//! ```
//!
//! `-- --short` takes seconds and says little; `-- --json FILE` writes every figure into a file too.
//!
//! Every ratio is to work without a sandbox in the same run, since absolute times say more about the
//! machine than about the program. Arms take turns call by call, and a ratio is the median of the rounds' ratios.
//! The environment is pinned: a longer one alone makes a spawn slower. Every answer is checked. Nothing is judged here.
#![allow(clippy::unwrap_used)] // A benchmark that cannot run has no result.

mod arms;
mod load;

use std::time::Duration;

use noxrunner_tests::{TestDaemon, run, text};
use serde_json::{Value, json};

/// How much of everything.
struct Scale {
    rounds: usize,
    samples: usize,
    spawns: u64,
    sandboxes: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `--test` is what `cargo test --benches` passes, where nothing is to be measured.
    let short = arguments.iter().any(|a| a == "--test" || a == "--short");
    let scale = if short {
        Scale { rounds: 2, samples: 5, spawns: 32, sandboxes: 20 }
    } else {
        Scale { rounds: 10, samples: 200, spawns: 2000, sandboxes: 1000 }
    };
    let kernel = text(&run(std::process::Command::new("uname").arg("-r")).stdout);
    let processors = std::thread::available_parallelism().unwrap();
    println!("Linux {}, {processors} processors", kernel.trim());

    let daemon = TestDaemon::start();
    daemon.create("bench");
    let one_by_one = arms::measure(&daemon, &scale);
    let at_once = load::concurrency(&daemon, &scale);
    let many = load::many_sandboxes(&daemon, &scale);

    let figures = json!({
        "kernel": kernel.trim(),
        "processors": processors.get(),
        "oneByOne": one_by_one,
        "atOnce": at_once,
        "many": many,
    });
    if let Some(at) = arguments.iter().position(|a| a == "--json") {
        std::fs::write(&arguments[at + 1], format!("{figures:#}\n")).unwrap();
    }
}

/// In microseconds.
fn percentile(samples: &[Duration], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e6
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[ratios.len() / 2]
}

/// Prints a row of a table and keeps it.
fn row(name: &str, p50: f64, p99: f64, ratio: Option<f64>, to: &str) -> Value {
    let shown = ratio.map_or_else(String::new, |r| format!("{r:.2}"));
    println!("{name:40} {p50:>9.0} {p99:>9.0} {shown:>8}  {to}");
    json!({"name": name, "p50us": p50, "p99us": p99, "ratio": ratio, "to": to})
}

fn head(title: &str) {
    println!("\n{title:40} {:>9} {:>9} {:>8}  to", "p50 µs", "p99 µs", "ratio");
}
