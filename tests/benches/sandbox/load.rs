//! Many at once, and many that only wait.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use noxrunner_tests::TestDaemon;
use serde_json::{Value, json};

use crate::arms::{exec, floor};
use crate::{Scale, head, percentile, row};

/// Spawns by so many clients at once, each in a sandbox of its own, beside bare spawns by as many threads.
pub(crate) fn concurrency(daemon: &TestDaemon, scale: &Scale) -> Vec<Value> {
    head("at once (ratio: spawns a second)");
    let mut rows = Vec::new();
    for clients in [1, 8, 64] {
        for client in 0..clients {
            daemon.create(&format!("c{client}"));
        }
        let bare = crowd(clients, scale.spawns, |_| floor);
        let boxed = crowd(clients, scale.spawns, |client| {
            let (mut connection, session) = (daemon.connect(), format!("c{client}"));
            move |nonce| exec(&mut connection, &session, nonce)
        });
        let name = format!("{clients} threads, bare spawns");
        rows.push(row(&name, percentile(&bare.0, 50), percentile(&bare.0, 99), None, ""));
        let ratio = bare.1.as_secs_f64() / boxed.1.as_secs_f64();
        let own = format!("{clients} clients, exec");
        let (p50, p99) = (percentile(&boxed.0, 50), percentile(&boxed.0, 99));
        rows.push(row(&own, p50, p99, Some(ratio), &name));
        for client in 0..clients {
            daemon.delete(&format!("c{client}"));
        }
    }
    rows
}

/// Does `spawns` things in as many threads as there are clients: each one's time, and all of it.
fn crowd<F: FnMut(u64) + Send>(
    clients: usize,
    spawns: u64,
    client: impl Fn(usize) -> F,
) -> (Vec<Duration>, Duration) {
    let next = AtomicU64::new(0);
    let work: Vec<F> = (0..clients).map(client).collect();
    let started = Instant::now();
    let samples = thread::scope(|scope| {
        let threads: Vec<_> = work
            .into_iter()
            .map(|mut once| {
                let next = &next;
                scope.spawn(move || {
                    let mut samples = Vec::new();
                    loop {
                        let nonce = next.fetch_add(1, Ordering::Relaxed);
                        if nonce >= spawns {
                            return samples;
                        }
                        let started = Instant::now();
                        once(nonce);
                        samples.push(started.elapsed());
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    (samples, started.elapsed())
}

/// An exec among so many live sandboxes, and what each of them takes.
pub(crate) fn many_sandboxes(daemon: &TestDaemon, scale: &Scale) -> Value {
    head("among many");
    let mut connection = daemon.connect();
    let mut pair = |name: &str| {
        let (mut bare, mut boxed) = (Vec::new(), Vec::new());
        for nonce in 0..scale.spawns / 4 {
            for (samples, sandboxed) in [(&mut bare, false), (&mut boxed, true)] {
                let started = Instant::now();
                if sandboxed {
                    exec(&mut connection, "bench", nonce)
                } else {
                    floor(nonce)
                }
                samples.push(started.elapsed());
            }
        }
        let ratio = percentile(&boxed, 50) / percentile(&bare, 50);
        row(name, percentile(&boxed, 50), percentile(&boxed, 99), Some(ratio), "a bare spawn")
    };
    let alone = pair("exec with one live sandbox");
    let before = available_kib();
    for n in 0..scale.sandboxes {
        daemon.create(&format!("m{n}"));
    }
    let each = before.saturating_sub(available_kib()) as f64 / scale.sandboxes as f64;
    let among = pair(&format!("exec with {} live sandboxes", scale.sandboxes));
    println!("{:40} {each:>9.0} KiB of MemAvailable", "an idle sandbox");
    for n in 0..scale.sandboxes {
        daemon.delete(&format!("m{n}"));
    }
    json!({"alone": alone, "among": among, "sandboxes": scale.sandboxes, "idleKib": each})
}

/// MemAvailable, in KiB (proc_meminfo(5)).
fn available_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
