//! Arms that take turns, call by call.

use std::iter::zip;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::options::Options;
use crate::report::{Row, absent, head, percentile};
use crate::spawn::floor;

/// What every other arm of most tables is held against.
pub(crate) const FLOOR: &str = "floor: posix_spawn and wait";

/// Does a thing once, with a number of its own to tell answers apart, and says how long it took.
type Once<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

/// Arms that take turns.
pub(crate) struct Table<'a> {
    title: String,
    options: &'a Options,
    /// Whether each call that is measured follows one of the same arm that is not.
    twice: bool,
    /// Whether there is an arm that is not only held against.
    wanted: bool,
    arms: Vec<Arm<'a>>,
}

struct Arm<'a> {
    name: String,
    /// The arm that its ratio is to.
    against: &'static str,
    /// Or why it cannot run here.
    once: Result<Once<'a>, String>,
    /// One list of samples a round.
    rounds: Vec<Vec<Duration>>,
}

impl<'a> Table<'a> {
    /// One that has the floor and nothing else yet.
    pub(crate) fn new(title: &str, options: &'a Options) -> Self {
        let title = title.to_owned();
        let mut table = Self { title, options, twice: false, wanted: false, arms: Vec::new() };
        table.push(FLOOR, "", Ok(Box::new(timed(floor))));
        table
    }

    /// For arms that leave the kernel something to clear away, which it does beside whatever comes
    /// next: only the second of two calls in a row is measured.
    pub(crate) fn twice(mut self) -> Self {
        self.twice = true;
        self
    }

    /// Adds an arm, where it is wanted.
    pub(crate) fn arm(
        &mut self,
        name: &str,
        against: &'static str,
        once: impl FnMut(u64) + 'a,
    ) -> &mut Self {
        self.perhaps(name, against, || Ok(timed(once)))
    }

    /// Adds one that takes its time itself, and may be unable to run here. It is looked for only
    /// where it is wanted.
    pub(crate) fn perhaps<F: FnMut(u64) -> Duration + 'a>(
        &mut self,
        name: &str,
        against: &'static str,
        make: impl FnOnce() -> Result<F, String>,
    ) -> &mut Self {
        if self.options.wants(name) {
            self.wanted = true;
            self.push(name, against, make().map(|once| Box::new(once) as Once<'a>));
        }
        self
    }

    /// Adds what others are held against, wanted or not.
    pub(crate) fn base(&mut self, name: &str, once: impl FnMut(u64) + 'a) -> &mut Self {
        self.timed_base(name, timed(once))
    }

    /// The same for what takes its time itself.
    pub(crate) fn timed_base(
        &mut self,
        name: &str,
        once: impl FnMut(u64) -> Duration + 'a,
    ) -> &mut Self {
        self.wanted |= self.options.wants(name);
        self.push(name, FLOOR, Ok(Box::new(once)));
        self
    }

    fn push(&mut self, name: &str, against: &'static str, once: Result<Once<'a>, String>) {
        self.arms.push(Arm { name: name.to_owned(), against, once, rounds: Vec::new() });
    }

    /// Measures, so many calls a round, and prints. Nothing is measured where no arm is wanted.
    pub(crate) fn run(&mut self, samples: usize) -> Vec<Value> {
        if !self.wanted {
            return Vec::new();
        }
        let mut nonce = 0;
        // The first round warms everything up and is not counted.
        for round in 0..=self.options.scale.rounds {
            self.arms.iter_mut().for_each(|arm| arm.rounds.push(Vec::new()));
            for _ in 0..samples {
                for arm in &mut self.arms {
                    let Ok(once) = &mut arm.once else { continue };
                    if self.twice {
                        nonce += 1;
                        once(nonce);
                    }
                    nonce += 1;
                    arm.rounds[round].push(once(nonce));
                }
            }
        }
        head(&self.title);
        self.arms.iter().map(|arm| self.report(arm)).collect()
    }

    fn report(&self, arm: &Arm<'_>) -> Value {
        if let Err(why) = &arm.once {
            return absent(&arm.name, why);
        }
        let base = self.arms.iter().find(|other| other.name == arm.against);
        let ratios = base.map_or_else(Vec::new, |base| {
            let rounds = zip(&arm.rounds[1..], &base.rounds[1..]);
            rounds.map(|(own, base)| percentile(own, 50) / percentile(base, 50)).collect()
        });
        let samples = arm.rounds[1..].concat();
        Row { name: &arm.name, samples: &samples, per_second: None, ratios, to: arm.against }.show()
    }
}

/// Measures a thing from outside.
fn timed(mut once: impl FnMut(u64)) -> impl FnMut(u64) -> Duration {
    move |nonce| {
        let started = Instant::now();
        once(nonce);
        started.elapsed()
    }
}
