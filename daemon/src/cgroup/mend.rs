//! How health words it that control groups are missing.

use noxrunner_protocol::types::MissingFeature;

use super::Unavailable;
use super::hierarchy::{Lacking, Version};

impl Unavailable {
    /// For `missing[]`. `root`: whether the daemon runs as root.
    pub fn missing(&self, root: bool) -> MissingFeature {
        let (why, mend) = (self.to_string(), self.mend(root).to_owned());
        MissingFeature { feature: "cgroup".to_owned(), why, mend }
    }

    fn mend(&self, root: bool) -> &'static str {
        match (self, root) {
            (Self::NotMounted, _) => {
                "mount cgroup2 on /sys/fs/cgroup, on a kernel with CONFIG_MEMCG, \
                 CONFIG_CFS_BANDWIDTH and CONFIG_CGROUP_PIDS"
            }
            (Self::Hidden, _) => {
                "give the container a cgroup namespace of its own (docker: --cgroupns private)"
            }
            (Self::ReadOnly { .. }, _) => {
                "mount it writable (docker: --privileged, or \
                 --security-opt writable-cgroups=true where it knows that)"
            }
            (Self::NotDelegated { version: Version::V1, .. }, _) => {
                "version 1 gives ordinary users nothing: start the machine with \
                 systemd.unified_cgroup_hierarchy=1 on the kernel's command line, \
                 or run the daemon as root"
            }
            (Self::Shared { .. } | Self::NotDelegated { version: Version::V2, .. }, false) => {
                "run it as its systemd service, or start it with: \
                 systemd-run --user --scope -p Delegate=yes noxrunnerd"
            }
            (Self::Shared { .. } | Self::NotDelegated { version: Version::V2, .. }, true) => {
                "run it as its systemd service, or start it with: \
                 systemd-run --scope -p Delegate=yes noxrunnerd; \
                 in a container, make it the first process and the only one"
            }
            (Self::NoControllers { .. }, true) => {
                "start it with: systemd-run --scope -p Delegate=yes noxrunnerd"
            }
            (Self::NoControllers { .. }, false) => {
                "start it with: systemd-run --user --scope -p Delegate=yes noxrunnerd; if that is \
                 not enough, put Delegate=cpu memory pids under [Service] in \
                 /etc/systemd/system/user@.service.d/delegate.conf and log in again"
            }
            (Self::Leftover(_), _) => {
                "end the processes in that directory, remove it with rmdir and start the daemon again"
            }
            (Self::Failed(_), _) => "the daemon's log may say more; please report it",
        }
    }
}

impl Lacking {
    /// For `missing[]`. `root`: whether the daemon runs as root.
    pub fn missing(&self, root: bool) -> MissingFeature {
        let feature = format!("cgroup {}", self.controller);
        MissingFeature { feature, ..self.why.missing(root) }
    }
}
