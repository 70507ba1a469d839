//! Settings of this machine that explain why namespaces are refused.

use std::fs;
use std::path::Path;

/// What stands in the way, as far as it can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// AppArmor takes from programs without a profile what a user namespace would give
    /// (Ubuntu 23.10 and later, `kernel.apparmor_restrict_unprivileged_userns`).
    pub apparmor_restricts: bool,
    /// Only root may make user namespaces (Debian's `kernel.unprivileged_userns_clone`).
    pub userns_for_root_only: bool,
    /// Nobody may (`user.max_user_namespaces`).
    pub userns_forbidden: bool,
    /// This is a container.
    pub in_container: bool,
}

impl HostFacts {
    /// Reads them.
    pub fn read() -> Self {
        let is = |file: &str, value: &str| {
            fs::read_to_string(file).is_ok_and(|text| text.trim() == value)
        };
        let container = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
        Self {
            apparmor_restricts: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            userns_for_root_only: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            userns_forbidden: is("/proc/sys/user/max_user_namespaces", "0"),
            in_container: container.into_iter().any(|file| Path::new(file).exists()),
        }
    }
}
