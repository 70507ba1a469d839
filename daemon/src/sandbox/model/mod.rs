//! Sandboxes against a model: creates, touches, deletions, expiries, crashes, clocks that are
//! set and adoptions in random order. After each step the registry, the reaper and the base
//! directory are as the model has them.
//!
//! The registry, the manifests, the directories and the sweep are the daemon's own; what its
//! tasks do between them, [`actual`] does here, so that it can stop at every step. Moments
//! are the model's, and nothing waits.

mod actual;
mod expected;
mod left;

use proptest::prelude::*;

use actual::Actual;
use expected::Expected;

/// A sandbox by its number in a list that goes round.
pub(super) type Who = usize;

/// What happens.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Milliseconds go by.
    Pass(u32),
    /// Time goes by until a nanosecond before a deadline, to it, or one beyond.
    PassTo(Who, u64),
    /// The wall clock is set by so many seconds.
    SetWall(i32),
    /// A create that makes or renews.
    Create(Who, u32),
    /// One that is not finished.
    BeginCreate(Who, u32),
    /// The rest of it, and whether it went well.
    FinishCreate(Who, bool),
    /// A touch, and whether it came to be written down.
    Touch(Who, bool),
    /// What was changed is written down, late.
    Save(Who),
    /// Is taken out of reach.
    Remove(Who),
    /// It is noted that it is to go.
    Mark(Who),
    /// Half of it is removed.
    Half(Who),
    /// All of it is removed, whatever of that was done.
    Finish(Who),
    /// The reaper's alarm; the flag says whether what has expired is cleared away, too.
    Wake(bool),
    /// The reaper's look for stale directories.
    Sweep,
    /// Another daemon, which should not be there, starts in the same directory and dies.
    Intruder,
    /// The Python tool leaves a directory; the flag says whether that was long ago.
    Python(bool),
    /// A daemon of the first version left a sandbox with a time to live, in seconds.
    First(u32),
    /// Somebody copies a sandbox's directory.
    Copy(Who),
    /// The daemon is killed, and the next one starts.
    Crash {
        /// What lies in the way of the next manifest.
        litter: u8,
        /// Milliseconds until the next start.
        dead: u32,
        /// Seconds that the wall clock is set by meanwhile.
        wall: i32,
        /// A daemon before the next one is killed when it has looked around.
        cut: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..6_usize;
    let ttl = || prop_oneof![1..5_u32, 100..200_u32];
    let crash = (0..4_u8, 0..3000_u32, prop_oneof![Just(0), -300..300_i32], any::<bool>());
    prop_oneof![
        3 => (0..2500_u32).prop_map(Step::Pass),
        2 => (who(), 0..3_u64).prop_map(|(who, by)| Step::PassTo(who, by)),
        1 => (-300..300_i32).prop_map(Step::SetWall),
        6 => (who(), ttl()).prop_map(|(who, ttl)| Step::Create(who, ttl)),
        2 => (who(), ttl()).prop_map(|(who, ttl)| Step::BeginCreate(who, ttl)),
        2 => (who(), any::<bool>()).prop_map(|(who, well)| Step::FinishCreate(who, well)),
        3 => (who(), any::<bool>()).prop_map(|(who, saved)| Step::Touch(who, saved)),
        2 => who().prop_map(Step::Save),
        2 => who().prop_map(Step::Remove),
        2 => who().prop_map(Step::Mark),
        1 => who().prop_map(Step::Half),
        3 => who().prop_map(Step::Finish),
        4 => any::<bool>().prop_map(Step::Wake),
        1 => Just(Step::Sweep),
        1 => Just(Step::Intruder),
        1 => any::<bool>().prop_map(Step::Python),
        1 => ttl().prop_map(Step::First),
        1 => who().prop_map(Step::Copy),
        3 => crash.prop_map(|(litter, dead, wall, cut)| Step::Crash { litter, dead, wall, cut }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn sandboxes_are_as_the_model_has_them(steps in prop::collection::vec(step(), 1..60)) {
        let mut expected = Expected::new();
        let mut actual = Actual::new();
        for (n, step) in steps.iter().enumerate() {
            actual.take(step, &mut expected);
            actual.check(&expected, &format!("after step {n}, {step:?}"));
        }
        // Whatever happened: once their time is over and nobody comes back, nothing is left.
        for step in [
            Step::Crash { litter: 0, dead: 1_000_000, wall: 0, cut: false },
            Step::Crash { litter: 1, dead: 1_000_000, wall: 0, cut: false },
        ] {
            actual.take(&step, &mut expected);
            actual.check(&expected, "at the end");
        }
        prop_assert_eq!(expected.lasting(), 0);
    }
}
