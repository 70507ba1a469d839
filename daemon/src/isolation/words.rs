//! What a feature is called, why it is missing, and what would mend that.

use noxrunner_init::message::{Feature, Findings, PrepareFailure};
use noxrunner_protocol::types::{MissingFeature, Tier};

use super::choose::{LANDLOCK_NEEDED, LANDLOCK_SCOPES, fails};
use super::host::HostFacts;
use crate::engine::{EngineError, errno_text};

/// The name of a feature.
pub fn name(feature: Feature) -> &'static str {
    match feature {
        Feature::HostIds => "host uid per sandbox",
        Feature::UserNamespace => "user namespace",
        Feature::MountNamespace => "mount namespace",
        Feature::Overlay => "overlay",
        Feature::PidNamespace => "pid namespace",
        Feature::Proc => "proc",
        Feature::Devpts => "devpts",
        Feature::NetworkNamespace => "network namespace",
        Feature::IpcNamespace => "ipc namespace",
        Feature::UtsNamespace => "uts namespace",
        Feature::CgroupNamespace => "cgroup namespace",
        Feature::Landlock => "landlock",
        Feature::Seccomp => "seccomp",
    }
}

/// The features that a tier uses, by name.
pub fn in_use(tier: Tier, findings: &Findings) -> Vec<String> {
    let used = |feature: Feature| match (tier, feature) {
        (_, Feature::HostIds) | (Tier::Full, _) => true,
        (Tier::Landlock, Feature::Landlock | Feature::Seccomp) => true,
        (Tier::Landlock | Tier::None, _) => false,
    };
    let works = |feature: Feature| fails(findings, feature).is_none();
    let tried = findings.tried.iter().map(|(feature, _)| *feature);
    tried
        .filter(|feature| used(*feature) && works(*feature))
        .map(|feature| {
            if feature == Feature::Landlock {
                return format!("landlock (ABI {})", findings.landlock);
            }
            name(feature).to_owned()
        })
        .collect()
}

fn entry(feature: &str, why: impl Into<String>, mend: impl Into<String>) -> MissingFeature {
    MissingFeature { feature: feature.to_owned(), why: why.into(), mend: mend.into() }
}

/// A feature that does not work.
pub fn missing(feature: Feature, errno: i32, facts: &HostFacts) -> MissingFeature {
    let why = format!("the kernel refuses it: {}", errno_text(errno));
    let mend = match feature {
        Feature::HostIds => "choose user ids that this user namespace maps with --sandbox-uids, \
                             and give the daemon CAP_SETUID and CAP_SETGID; or run it as an ordinary user"
            .to_owned(),
        Feature::Proc => "the /proc that the daemon sees has parts masked, as in containers: give the \
                          container an unmasked one (docker: --security-opt systempaths=unconfined)"
            .to_owned(),
        Feature::Seccomp => "use a kernel with CONFIG_SECCOMP_FILTER".to_owned(),
        Feature::Landlock => "start the kernel with lsm=landlock,… and CONFIG_SECURITY_LANDLOCK".to_owned(),
        Feature::Overlay => "use Linux 5.11 or later with the module overlay loaded (modprobe overlay)".to_owned(),
        Feature::UserNamespace
        | Feature::MountNamespace
        | Feature::PidNamespace
        | Feature::Devpts
        | Feature::NetworkNamespace
        | Feature::IpcNamespace
        | Feature::UtsNamespace
        | Feature::CgroupNamespace => namespaces(facts).to_owned(),
    };
    entry(name(feature), why, mend)
}

fn namespaces(facts: &HostFacts) -> &'static str {
    if facts.userns_forbidden {
        "sysctl user.max_user_namespaces=10000"
    } else if facts.userns_for_root_only {
        "sysctl kernel.unprivileged_userns_clone=1"
    } else if facts.apparmor_restricts {
        "install the AppArmor profile systemd/apparmor/noxrunnerd as /etc/apparmor.d/noxrunnerd \
         and load it with apparmor_parser -r"
    } else if facts.in_container {
        "give the container what it takes to make namespaces (docker: --security-opt seccomp=unconfined \
         --security-opt apparmor=unconfined, for a root daemon --cap-add SYS_ADMIN too)"
    } else {
        "allow user namespaces to the daemon's user, on a kernel with CONFIG_USER_NS"
    }
}

/// Landlock that is missing, or too old for part of its work.
pub fn old_landlock(version: u32) -> Option<MissingFeature> {
    let mend = "use a newer kernel: Linux 6.12 has ABI 6";
    let why = match version {
        0 => "the kernel has none, or was started without it (lsm=landlock,…)".to_owned(),
        n if n < LANDLOCK_NEEDED => {
            format!(
                "ABI {n} lets truncate empty any file; the tier landlock needs ABI {LANDLOCK_NEEDED}"
            )
        }
        n if n < LANDLOCK_SCOPES => {
            format!(
                "ABI {n} does not keep signals and abstract sockets in, as ABI {LANDLOCK_SCOPES} does"
            )
        }
        _ => return None,
    };
    Some(entry("landlock", why, mend))
}

/// The probe itself died.
pub fn not_probed() -> MissingFeature {
    entry(
        "probe",
        "the process that tries the kernel's features ended without an answer",
        "the daemon's log may say more; please report it",
    )
}

/// A tier that the probe promised and that could not be had all the same.
pub fn not_prepared(tier: Tier, failure: &PrepareFailure, facts: &HostFacts) -> MissingFeature {
    let why = EngineError::Prepare(*failure).to_string();
    let mend = match failure {
        PrepareFailure::Silent => "the machine may be too busy: start the daemon again",
        PrepareFailure::Ground(..) | PrepareFailure::Spawn(..) | PrepareFailure::Setup(..) => {
            namespaces(facts)
        }
    };
    entry(&format!("tier {tier}"), why, mend)
}

/// What a tier does not hold by its nature.
pub fn not_held(tier: Tier, findings: &Findings) -> Vec<MissingFeature> {
    let stronger = "the tier full holds it";
    let mut entries = match tier {
        Tier::Full => Vec::new(),
        Tier::Landlock => vec![
            entry(
                "file metadata",
                "names, sizes and owners of the host's files can be read",
                stronger,
            ),
            entry(
                "process list",
                "processes of the host are listed where /proc is readable",
                stronger,
            ),
            entry("tracking", "code that attacks its own init can outlive its sandbox", stronger),
            entry(
                "terminals",
                "there are no pseudo terminals: those of the daemon's user would be in reach",
                "the tier full has its own",
            ),
            entry(
                "file modes",
                "nobody can change modes, owners or times of files, so git init and others fail",
                "the tier full lets them",
            ),
            entry("network", "there is none: network \"host\" cannot be had", stronger),
        ],
        Tier::None => {
            let mend = "--isolation full, or run only what you would run without a sandbox";
            vec![
                entry("file system", "commands see and change whatever their user can", mend),
                entry("network", "commands use this machine's network", mend),
                entry(
                    "processes",
                    "commands see and signal other processes of their user; code that attacks its \
                     own init or daemon can outlive its sandbox",
                    mend,
                ),
            ]
        }
    };
    if tier == Tier::Landlock && findings.landlock < LANDLOCK_SCOPES {
        entries.push(entry(
            "signals",
            "commands can signal other processes of their user",
            "use Linux 6.12 or later, or the tier full",
        ));
    }
    entries
}
