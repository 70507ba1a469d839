//! How strongly sandboxes are isolated here: what the probe found, which tier
//! that makes, and what a stronger one would take.
//!
//! | file | what it holds |
//! |---|---|
//! | [`mod@choose`] | from findings to a tier: pure |
//! | [`words`] | why a feature is missing and what would mend it |
//! | [`host`] | the settings of this machine that explain it |

pub mod choose;
pub mod host;
pub mod words;

use clap::ValueEnum;
use noxrunner_init::message::{Findings, Layers, Preparation};
use noxrunner_init::template::Unstubbed;
use noxrunner_protocol::types::{Isolation, Tier};

use crate::engine::{Engine, EngineError};
use choose::{Candidates, candidates};
use host::HostFacts;

/// What the user asks for with `--isolation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Wish {
    /// The strongest tier that works, and none that does not isolate.
    #[default]
    Auto,
    /// The tier `full` or nothing.
    Full,
    /// The tier `landlock` or nothing.
    Landlock,
    /// No isolation.
    None,
}

/// Why there is no tier to run sandboxes in.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// What was asked for does not work here.
    #[error("sandboxes cannot be isolated as asked ({wish}):\n{reasons}{way_out}")]
    Unavailable {
        /// What was asked for.
        wish: &'static str,
        /// A line for each thing that is missing.
        reasons: String,
        /// What to do instead.
        way_out: &'static str,
    },
    /// The zygote cannot be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Chooses a tier by trying it, and gets the zygote ready for it. `prepare`
/// says what a tier's inits need to know. The answer also says where stubs do not hold.
///
/// # Errors
/// Where nothing that the wish allows works here; the reasons are in it.
pub async fn establish(
    engine: &Engine,
    wish: Wish,
    host_id: Option<u32>,
    prepare: impl Fn(Layers) -> Preparation,
) -> Result<(Isolation, Vec<Unstubbed>), IsolationError> {
    let findings = engine.probe(host_id).await?;
    let facts = HostFacts::read();
    let Candidates { tiers, mut missing } = candidates(wish, &findings, &facts);
    for tier in tiers {
        match engine.prepare(prepare(layers(tier))).await {
            Ok(unstubbed) => return Ok((isolation(tier, &findings, missing), unstubbed)),
            Err(EngineError::Prepare(failure)) => {
                missing.push(words::not_prepared(tier, &failure, &facts));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let line = |m: &noxrunner_protocol::types::MissingFeature| {
        format!("  {}: {}\n    to mend it: {}\n", m.feature, m.why, m.mend)
    };
    Err(IsolationError::Unavailable {
        wish: match wish {
            Wish::Auto => "auto",
            Wish::Full => "full",
            Wish::Landlock => "landlock",
            Wish::None => "none",
        },
        reasons: missing.iter().map(line).collect(),
        way_out: match wish {
            Wish::None => "run the daemon as an ordinary user",
            Wish::Auto | Wish::Full | Wish::Landlock => {
                "or run commands unprotected, if that is what you want: --isolation none"
            }
        },
    })
}

/// The layers that make a tier.
pub fn layers(tier: Tier) -> Layers {
    match tier {
        Tier::Full => Layers::Full,
        Tier::Landlock => Layers::Landlock,
        Tier::None => Layers::None,
    }
}

fn isolation(
    tier: Tier,
    findings: &Findings,
    missing: Vec<noxrunner_protocol::types::MissingFeature>,
) -> Isolation {
    let missing = missing.into_iter().chain(words::not_held(tier, findings)).collect();
    Isolation { tier, features: words::in_use(tier, findings), missing }
}
