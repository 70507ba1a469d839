//! What stands between sandboxed code and the machine.

use serde::{Deserialize, Serialize};

/// How strongly a sandbox is isolated.
///
/// ```json
/// "none"
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum Tier {
    /// Namespaces, a mount tree of its own, Landlock and seccomp.
    Full,
    /// Landlock and seccomp alone.
    Landlock,
    /// Nothing: commands run as the daemon's own user.
    None,
}

impl Tier {
    /// The name as it travels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Landlock => "landlock",
            Self::None => "none",
        }
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What isolates a sandbox, and what does not.
///
#[doc = concat!("```json\n", include_str!("../../golden/isolation.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct Isolation {
    /// The tier in force.
    pub tier: Tier,
    /// Names of the kernel features in use.
    pub features: Vec<String>,
    /// What a stronger sandbox would have and this one has not.
    pub missing: Vec<MissingFeature>,
}

/// A protection that is not there.
///
#[doc = concat!("```json\n", include_str!("../../golden/missing_feature.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct MissingFeature {
    /// Name of the feature.
    pub feature: String,
    /// Why it is not there.
    pub why: String,
    /// What would bring it.
    pub mend: String,
}
