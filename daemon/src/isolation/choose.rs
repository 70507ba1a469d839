//! From what a probe found to the tiers worth trying: pure.

use noxrunner_init::message::{Feature, Findings};
use noxrunner_protocol::types::{MissingFeature, Tier};

use super::Wish;
use super::host::HostFacts;
use super::words;

/// The oldest Landlock that the tier `landlock` can do with: older ones let truncate(2) empty any file.
pub const LANDLOCK_NEEDED: u32 = 3;

/// The Landlock that also keeps signals and abstract sockets in.
pub const LANDLOCK_SCOPES: u32 = 6;

/// What the tier `full` cannot do without, where the feature was tried at all.
const FULL: [Feature; 11] = [
    Feature::HostIds,
    Feature::UserNamespace,
    Feature::MountNamespace,
    Feature::PidNamespace,
    Feature::Proc,
    Feature::Devpts,
    Feature::NetworkNamespace,
    Feature::IpcNamespace,
    Feature::UtsNamespace,
    Feature::CgroupNamespace,
    Feature::Seccomp,
];

/// Tiers to try, the best first, and what stands in the way of better ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Candidates {
    /// Tiers that should work.
    pub tiers: Vec<Tier>,
    /// Features that do not work, with what would mend each.
    pub missing: Vec<MissingFeature>,
}

/// Whether a feature is known not to work.
pub fn fails(findings: &Findings, feature: Feature) -> Option<i32> {
    let tried = findings.tried.iter().find(|(tried, _)| *tried == feature);
    tried.map(|(_, errno)| *errno).filter(|errno| *errno != 0)
}

/// The tiers that a wish allows and that findings promise.
pub fn candidates(wish: Wish, findings: &Findings, facts: &HostFacts) -> Candidates {
    // A probe that did not come back has found nothing, which promises nothing.
    let probed = !findings.tried.is_empty();
    let works = |feature: Feature| fails(findings, feature).is_none();
    let promises = |tier: Tier| match tier {
        Tier::Full => probed && FULL.into_iter().all(works),
        Tier::Landlock => {
            probed
                && findings.landlock >= LANDLOCK_NEEDED
                && works(Feature::Seccomp)
                && works(Feature::HostIds)
        }
        // Sandboxed code is never the host's root.
        Tier::None => works(Feature::HostIds),
    };
    let wished: &[Tier] = match wish {
        Wish::Auto => &[Tier::Full, Tier::Landlock],
        Wish::Full => &[Tier::Full],
        Wish::Landlock => &[Tier::Landlock],
        Wish::None => &[Tier::None],
    };
    let tiers = wished.iter().copied().filter(|tier| promises(*tier)).collect();
    let mut missing: Vec<MissingFeature> = findings
        .tried
        .iter()
        .filter(|(_, errno)| *errno != 0)
        .filter(|(feature, _)| *feature != Feature::Landlock)
        .map(|(feature, errno)| words::missing(*feature, *errno, facts))
        .collect();
    missing.extend(words::old_landlock(findings.landlock));
    if !probed {
        missing.push(words::not_probed());
    }
    Candidates { tiers, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPERM: i32 = nix::libc::EPERM;

    fn findings(broken: &[Feature], landlock: u32) -> Findings {
        let all = FULL.into_iter().chain([Feature::Overlay]);
        let tried = all.map(|f| (f, if broken.contains(&f) { EPERM } else { 0 })).collect();
        Findings { tried, landlock }
    }

    fn tiers(wish: Wish, found: &Findings) -> Vec<Tier> {
        candidates(wish, found, &HostFacts::default()).tiers
    }

    #[test]
    fn auto_takes_the_best_and_never_none() {
        assert_eq!(tiers(Wish::Auto, &findings(&[], 7)), [Tier::Full, Tier::Landlock]);
        assert_eq!(tiers(Wish::Auto, &findings(&[], 0)), [Tier::Full]);
        for feature in FULL {
            let needed_by_all = matches!(feature, Feature::Seccomp | Feature::HostIds);
            let want: &[Tier] = if needed_by_all { &[] } else { &[Tier::Landlock] };
            assert_eq!(tiers(Wish::Auto, &findings(&[feature], 3)), want, "{feature:?}");
            assert_eq!(tiers(Wish::Auto, &findings(&[feature], 2)), [], "{feature:?}");
        }
        assert_eq!(tiers(Wish::Auto, &findings(&[Feature::Overlay], 0)), [Tier::Full]);
    }

    #[test]
    fn who_asks_for_a_tier_gets_that_one_or_nothing() {
        let found = findings(&[Feature::UserNamespace], 7);
        assert_eq!(tiers(Wish::Full, &found), []);
        assert_eq!(tiers(Wish::Landlock, &found), [Tier::Landlock]);
        assert_eq!(tiers(Wish::None, &found), [Tier::None]);
        assert_eq!(tiers(Wish::None, &findings(&[Feature::HostIds], 7)), []);
    }

    #[test]
    fn a_probe_that_died_promises_nothing() {
        let found = Findings { tried: Vec::new(), landlock: 7 };
        assert_eq!(tiers(Wish::Auto, &found), []);
        assert_eq!(candidates(Wish::Auto, &found, &HostFacts::default()).missing.len(), 1);
    }

    #[test]
    fn everything_that_fails_is_named_with_a_mend() {
        let found = findings(&[Feature::UserNamespace, Feature::Overlay], 2);
        let missing = candidates(Wish::Auto, &found, &HostFacts::default()).missing;
        let names: Vec<&str> = missing.iter().map(|m| m.feature.as_str()).collect();
        assert_eq!(names, ["user namespace", "overlay", "landlock"]);
        assert!(missing.iter().all(|m| !m.why.is_empty() && !m.mend.is_empty()));
    }
}
