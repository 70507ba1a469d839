//! What the benchmark is told.

/// How it is called.
const USAGE: &str = "\
cargo bench -p noxrunner-tests -- [--short] [--json FILE] [--only TEXT] [--isolation TIER]

  --short           a run of seconds, to see that everything works
  --json FILE       write every figure into a file too
  --only TEXT       only the arms whose name has this in it, and what they are held against
  --isolation TIER  passed to the daemon";

/// What the benchmark is told.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) json: Option<String>,
    pub(crate) only: Option<String>,
    pub(crate) isolation: Option<String>,
    pub(crate) scale: Scale,
}

/// How much of everything.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Rounds that count. Each gives one ratio.
    pub(crate) rounds: usize,
    /// Calls a round of each main arm.
    pub(crate) samples: usize,
    /// Calls a round of each arm that is only there for comparison.
    pub(crate) beside: usize,
    /// Spawns a round of each crowd.
    pub(crate) spawns: u64,
    /// Calls a round of an answer that takes microseconds.
    pub(crate) lines: usize,
    /// How many sandboxes live while an exec is measured among them.
    pub(crate) live: &'static [usize],
    /// The large file that is sent up and down, in bytes.
    pub(crate) large: u64,
    /// The small files of the tree that is.
    pub(crate) small: u64,
}

const FULL: Scale = Scale {
    rounds: 10,
    samples: 500,
    beside: 50,
    spawns: 1000,
    lines: 10_000,
    live: &[1000, 5000],
    large: 1 << 30,
    small: 4000,
};
const SHORT: Scale = Scale {
    rounds: 2,
    samples: 5,
    beside: 3,
    spawns: 128,
    lines: 500,
    live: &[50],
    large: 16 << 20,
    small: 200,
};

impl Options {
    /// Reads the command line; ends the program where it makes no sense.
    pub(crate) fn parse() -> Self {
        let mut options = Self { json: None, only: None, isolation: None, scale: FULL };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--short" => options.scale = SHORT,
                // cargo bench adds it.
                "--bench" => {}
                "--json" => options.json = Some(value(arguments.next())),
                "--only" => options.only = Some(value(arguments.next())),
                "--isolation" => options.isolation = Some(value(arguments.next())),
                _ => give_up(),
            }
        }
        options
    }

    /// Whether an arm of that name is to run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }

    /// What the daemon is given beside its socket and its directory. It logs as much as a user's does.
    pub(crate) fn daemon_arguments(&self) -> Vec<&str> {
        let tier = self.isolation.iter().flat_map(|tier| ["--isolation", tier]);
        ["--log-level", "info"].into_iter().chain(tier).collect()
    }
}

fn value(argument: Option<String>) -> String {
    argument.unwrap_or_else(|| give_up())
}

fn give_up() -> ! {
    eprintln!("{USAGE}");
    std::process::exit(2);
}
