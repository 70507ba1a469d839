//! What each step costs here: printed, not judged. `--run-ignored only --no-capture`.

use std::time::{Duration, Instant};

use super::super::Caps;
use super::fixture::{Fixture, Program, SOON};

const ROUNDS: u32 = 300;

/// What each step took.
struct Steps {
    names: Vec<(&'static str, Vec<Duration>)>,
    last: Instant,
}

impl Steps {
    fn done(&mut self, name: &'static str) {
        let took = self.last.elapsed();
        match self.names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.push(took),
            None => self.names.push((name, vec![took])),
        }
        self.last = Instant::now();
    }
}

pub(super) fn of_each_step(fx: &Fixture) {
    let since = Instant::now();
    let hierarchy = fx.establish();
    println!("establish {:?}", since.elapsed());
    let caps = Caps { memory_bytes: Some(1 << 30), cpu_millis: Some(1000), pids: Some(100) };
    let mut steps = Steps { names: Vec::new(), last: Instant::now() };
    for _ in 0..ROUNDS {
        let mut program = Program::perl("sleep 100");
        steps.last = Instant::now();
        let group = hierarchy.make().unwrap();
        steps.done("make");
        group.apply(&caps).unwrap();
        steps.done("apply");
        group.add(program.pid()).unwrap();
        steps.done("add");
        group.events().unwrap();
        steps.done("events");
        let counters = group.counters().unwrap();
        steps.done("open counters");
        counters.events().unwrap();
        steps.done("read counters");
        group.usage().unwrap();
        steps.done("usage");
        group.kill(SOON).unwrap();
        steps.done("kill");
        program.end().unwrap_err();
        steps.last = Instant::now();
        group.kill(SOON).unwrap();
        steps.done("kill nobody");
        group.remove(SOON).unwrap();
        steps.done("remove");
    }
    for (name, mut all) in steps.names {
        all.sort();
        let at = |share: usize| all[all.len() * share / 100].as_secs_f64() * 1e6;
        println!("{name}: median {:.1} µs, of a hundred the 90th {:.1}", at(50), at(90));
    }
}
