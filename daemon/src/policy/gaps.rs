//! What of the policy is not enforced in full, in words.

use std::path::PathBuf;

use noxrunner_protocol::types::{CommandScope, DeleteScope, ExecScope, SettingGap, Tier};

use super::{CommandList, Policy};

/// What a daemon's sandboxes have to enforce a policy with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Means {
    /// Their tier.
    pub tier: Tier,
    /// Whether the kernel has Landlock.
    pub landlock: bool,
    /// Directories whose blocked programs an upgrade on the host brings back, and why.
    pub unstubbed: Vec<(PathBuf, String)>,
    /// Programs that are blocked under some of their names only.
    pub kept: Vec<PathBuf>,
}

impl Means {
    /// A tier on a machine that lacks nothing.
    pub fn of(tier: Tier) -> Self {
        Self { tier, landlock: true, unstubbed: Vec::new(), kept: Vec::new() }
    }
}

/// What is not enforced with these means.
pub(super) fn of(policy: &Policy, means: &Means) -> Vec<SettingGap> {
    let mut gaps = commands(policy, means);
    let tier = means.tier;
    let exec = match (policy.exec, tier) {
        (ExecScope::Anywhere, _) => None,
        (ExecScope::SystemOnly, Tier::Full) => None,
        (ExecScope::SystemOnly, Tier::Landlock) => Some(
            "in the isolation tier landlock the loader can still be told to run a program of the \
             sandbox's own (ld.so ./program)"
                .to_owned(),
        ),
        (ExecScope::SystemOnly, Tier::None) => {
            Some(format!("the isolation tier {tier} holds nothing"))
        }
    };
    gaps.extend(exec.map(|why| gap("exec", why)));
    let delete = match (policy.delete, tier) {
        (DeleteScope::Allowed, _) => None,
        (DeleteScope::Never, Tier::None) => {
            Some(format!("the isolation tier {tier} holds nothing"))
        }
        (DeleteScope::Never, Tier::Full | Tier::Landlock) => {
            (!means.landlock).then(|| "the kernel has no Landlock".to_owned())
        }
    };
    gaps.extend(delete.map(|why| gap("delete", why)));
    gaps
}

fn commands(policy: &Policy, means: &Means) -> Vec<SettingGap> {
    if policy.commands == CommandScope::Direct {
        return Vec::new();
    }
    let mut gaps = Vec::new();
    match (&policy.list, means.tier) {
        (CommandList::Block { rules, .. }, _) if rules.is_empty() => {}
        (CommandList::Block { .. }, Tier::Full) => {
            gaps.extend(means.unstubbed.iter().map(|(directory, why)| {
                format!(
                    "nothing can be put before {} for good ({why}): when the host replaces a blocked \
                     program there, it runs in the sandboxes that see it by then",
                    directory.display()
                )
            }));
            gaps.extend(means.kept.iter().map(|program| {
                format!(
                    "{} is many programs, and the system needs it: under the blocked names it does not \
                     run, but a script can still ask it to be one of them by its first argument",
                    program.display()
                )
            }));
        }
        (CommandList::Block { .. }, tier @ (Tier::Landlock | Tier::None)) => gaps.push(format!(
            "in the isolation tier {tier} only the command that the caller names is checked; what it \
             starts is not"
        )),
        (CommandList::Allow(_), _) => gaps.push(
            "an allow list is held against the command that the caller names; what it starts is not \
             checked"
                .to_owned(),
        ),
    }
    gaps.into_iter().map(|why| gap("commands", why)).collect()
}

fn gap(setting: &str, why: String) -> SettingGap {
    SettingGap { setting: setting.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::file::parse;

    fn settings(text: &str, means: &Means) -> Vec<String> {
        let gaps = of(&parse(text, false).unwrap(), means);
        gaps.into_iter().map(|gap| gap.setting).collect()
    }

    #[test]
    fn what_each_tier_leaves_open() {
        let strict = "exec = 'system-only'\ndelete = 'never'";
        for (text, tier, want) in [
            ("", Tier::Full, &[][..]),
            ("", Tier::Landlock, &["commands"]),
            ("", Tier::None, &["commands"]),
            ("block = []", Tier::None, &[]),
            ("commands = 'direct'", Tier::None, &[]),
            ("allow = ['ls']", Tier::Full, &["commands"]),
            (strict, Tier::Full, &[]),
            (strict, Tier::Landlock, &["commands", "exec"]),
            (strict, Tier::None, &["commands", "exec", "delete"]),
        ] {
            assert_eq!(settings(text, &Means::of(tier)), want, "{text} {tier}");
        }
        let old = Means { landlock: false, ..Means::of(Tier::Full) };
        assert_eq!(settings(strict, &old), ["delete"]);
    }

    #[test]
    fn what_this_machine_leaves_open_is_named() {
        let means = Means {
            unstubbed: vec![("/opt/x/bin".into(), "Invalid argument".into())],
            kept: vec!["/bin/busybox".into()],
            ..Means::of(Tier::Full)
        };
        let gaps = of(&Policy::built_in(), &means);
        assert!(gaps[0].why.contains("/opt/x/bin for good (Invalid argument)"), "{gaps:?}");
        assert!(gaps[1].why.contains("/bin/busybox"), "{gaps:?}");
        assert_eq!(settings("commands = 'direct'", &means), [""; 0]);
    }
}
