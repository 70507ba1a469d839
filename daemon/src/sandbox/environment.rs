//! The environment that commands begin with: clean, and the same for every caller.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::Sandbox;
use crate::policy::Root;

impl Sandbox {
    /// The environment of its commands, before the caller adds to it.
    pub fn environment(&self, host: &HostEnvironment) -> BTreeMap<OsString, OsString> {
        let path = |root: Root| match host.mount_tree {
            true => root.path().into(),
            false => self.dir.path().join(root.host_name()).into_os_string(),
        };
        let mut env = host.variables.clone();
        env.insert("HOME".into(), path(Root::Home));
        env.insert("TMPDIR".into(), path(Root::Tmp));
        env.insert("NOXRUNNER_SESSION".into(), self.key.id.as_str().into());
        env.extend(host.passthrough.clone());
        env.extend(self.lock().env.iter().map(|(k, v)| (k.into(), v.into())));
        env
    }
}

/// What commands see of the daemon's own environment.
#[derive(Debug, Clone, Default)]
pub struct HostEnvironment {
    variables: BTreeMap<OsString, OsString>,
    passthrough: BTreeMap<OsString, OsString>,
    // Whether commands have a mount tree, in which the sandbox's places have names of their own.
    mount_tree: bool,
}

/// What commands are called that have a mount tree, in its own /etc/passwd.
const SANDBOX_USER: &str = "nox";

/// Where programs are looked for when the daemon has no PATH: what most systems give a login.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl HostEnvironment {
    /// Picks from the daemon's environment what commands may see, and adds what
    /// `passthrough` names. In a mount tree they are a user of their own, and `tools` says where things are.
    pub fn pick(
        get: impl Fn(&str) -> Option<OsString>,
        user: &str,
        passthrough: &[String],
        tools: Option<&BTreeMap<OsString, OsString>>,
    ) -> Self {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let path = set("PATH").map_or_else(|| DEFAULT_PATH.into(), |path| absolute_entries(&path));
        let user = if tools.is_some() { SANDBOX_USER } else { user };
        let mut variables = BTreeMap::from([
            ("PATH".into(), path),
            ("USER".into(), user.into()),
            ("LANG".into(), set("LANG").unwrap_or_else(|| "C.UTF-8".into())),
            // No terminal is there to be drawn on.
            ("TERM".into(), "dumb".into()),
        ]);
        let named = passthrough.iter().filter_map(|name| Some((name.into(), get(name)?)));
        variables.extend(tools.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        Self { variables, passthrough: named.collect(), mount_tree: tools.is_some() }
    }

    /// What commands of every sandbox see.
    pub fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }
}

/// A PATH without the entries that would mean something else in every directory.
fn absolute_entries(path: &std::ffi::OsStr) -> OsString {
    let entries = std::env::split_paths(path).filter(|entry| entry.is_absolute());
    std::env::join_paths(entries).unwrap_or_else(|_| DEFAULT_PATH.into())
}
