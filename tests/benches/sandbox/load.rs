//! Many at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use noxrunner_tests::TestDaemon;
use serde_json::Value;

use crate::options::Options;
use crate::report::{Row, head, median};
use crate::sandbox::exec;
use crate::spawn::floor;

/// Does it with a number of its own.
type Once<'a> = Box<dyn FnMut(u64) + Send + 'a>;

/// Execs by so many clients at once, each in a sandbox of its own. What they do a second is held
/// against bare spawns by as many threads, or by two a processor where there are fewer of those and
/// they do more.
pub(crate) fn concurrency(daemon: &TestDaemon, options: &Options) -> Vec<Value> {
    let few = 2 * thread::available_parallelism().unwrap().get();
    let mut rows = Vec::new();
    for clients in [1, 8, 64] {
        let name = format!("exec, {clients} at once");
        if !options.wants(&name) {
            continue;
        }
        if rows.is_empty() {
            head("at once (ratio of those a second)");
        }
        let sessions: Vec<String> = (0..clients).map(|n| format!("c{n}")).collect();
        sessions.iter().for_each(|session| drop(daemon.create(session)));
        let mut bare: Vec<Crowd<'_>> = [clients, few]
            .into_iter()
            .filter(|size| *size <= clients)
            .map(|size| Crowd::new((0..size).map(|_| Box::new(floor) as Once<'_>)))
            .collect();
        let mut boxed = Crowd::new(sessions.iter().map(|session| {
            let mut connection = daemon.connect();
            Box::new(move |nonce| exec(&mut connection, session, nonce)) as Once<'_>
        }));
        // The first round warms everything up and is not counted.
        for round in 0..=options.scale.rounds {
            for crowd in bare.iter_mut().chain([&mut boxed]) {
                crowd.work(options.scale.spawns, round > 0);
            }
        }
        for crowd in &bare {
            let name = format!("bare spawns, {} at once", crowd.members.len());
            rows.push(crowd.report(&name, Vec::new(), ""));
        }
        let best = |round: usize| bare.iter().map(|crowd| crowd.rates[round]).fold(0.0, f64::max);
        let ratios = boxed.rates.iter().enumerate().map(|(n, rate)| rate / best(n)).collect();
        rows.push(boxed.report(&name, ratios, "the most bare spawns"));
        sessions.iter().for_each(|session| daemon.delete(session));
    }
    rows
}

/// Threads that share work.
struct Crowd<'a> {
    members: Vec<Once<'a>>,
    samples: Vec<Duration>,
    /// What was done a second, a round.
    rates: Vec<f64>,
}

impl<'a> Crowd<'a> {
    fn new(members: impl Iterator<Item = Once<'a>>) -> Self {
        Self { members: members.collect(), samples: Vec::new(), rates: Vec::new() }
    }

    /// Does the thing so many times. Time runs from when the first begins to when the last is done.
    fn work(&mut self, times: u64, counted: bool) {
        let (next, begin) = (AtomicU64::new(0), Barrier::new(self.members.len()));
        let worked: Vec<(Instant, Vec<Duration>, Instant)> = thread::scope(|scope| {
            let start = |member| scope.spawn(|| one_of_many(member, times, &next, &begin));
            let threads: Vec<_> = self.members.iter_mut().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        if !counted {
            return;
        }
        let first = worked.iter().map(|(started, ..)| *started).min().unwrap();
        let last = worked.iter().map(|(.., ended)| *ended).max().unwrap();
        self.rates.push(times as f64 / (last - first).as_secs_f64());
        self.samples.extend(worked.into_iter().flat_map(|(_, samples, _)| samples));
    }

    fn report(&self, name: &str, ratios: Vec<f64>, to: &str) -> Value {
        let per_second = Some(median(&self.rates));
        Row { name, samples: &self.samples, per_second, ratios, to }.show()
    }
}

fn one_of_many(
    once: &mut Once<'_>,
    times: u64,
    next: &AtomicU64,
    begin: &Barrier,
) -> (Instant, Vec<Duration>, Instant) {
    begin.wait();
    let (started, mut samples) = (Instant::now(), Vec::new());
    loop {
        let nonce = next.fetch_add(1, Ordering::Relaxed);
        if nonce >= times {
            return (started, samples, Instant::now());
        }
        let began = Instant::now();
        once(nonce);
        samples.push(began.elapsed());
    }
}
