//! What the sandboxes of a daemon see beside their own places: looks at the host and says so.
//!
//! | file | what it holds |
//! |---|---|
//! | [`error`] | why there is none |
//! | `system` | the system's programs and as much of `/etc` as they need: a table |
//! | `toolchains` | the toolchains in homes: a table |
//! | `builder` | adds one thing after another |
//! | `guard`, `mounts` | keeps the daemon's own directories out, whatever they are called |
//! | `secrets` | names under which tools keep credentials |
//! | `stubs` | which programs are blocked, and what stands in for them |
//! | `view` | where something that sandboxes see is on the host |
//! | `watch` | whether the host is still as it was |
//!
//! Everything here is read-only to sandboxes. Only names are looked at and a few files
//! copied; the zygote does the mounting.

mod builder;
pub mod error;
mod guard;
mod mounts;
mod secrets;
mod stubs;
mod system;
mod toolchains;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use noxrunner_init::template::Template;

use builder::Builder;
pub use error::{Conflict, ExposeProblem, RootfsError};
use guard::{Guard, Overlap};
use mounts::Mounts;
use stubs::Stubs;
use view::View;
use watch::{Watch, read};

use crate::policy::Root;
use crate::policy::rules::Rule;

/// The most of the host's `resolv.conf` and `hosts` that a sandbox with its network gets.
const MAX_NETWORK_FILE_BYTES: u64 = 64 * 1024;

/// What decides, beside the file system, what sandboxes see.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The daemon's `PATH`: only toolchains on it are shown.
    pub path: OsString,
    /// The daemon's `RUSTUP_HOME`.
    pub rustup_home: Option<PathBuf>,
    /// The daemon's `HOME`.
    pub home: Option<PathBuf>,
    /// Names of programs that no sandbox may run.
    pub blocked: Vec<Rule>,
    /// The policy's `expose`.
    pub expose: Vec<PathBuf>,
    /// The daemon's own directories, which no sandbox may see: the socket's and the base directory.
    pub protected: Vec<PathBuf>,
}

/// What sandboxes see.
#[derive(Debug)]
pub struct Rootfs {
    template: Template,
    env: BTreeMap<OsString, OsString>,
    warnings: Vec<String>,
    view: View,
    watches: Vec<Watch>,
    stubs: Stubs,
    protected: Vec<PathBuf>,
    reserved: Vec<PathBuf>,
}

/// Files of the host that replace the sandboxes' own where there is no mount tree.
const HOST_ETC: [&str; 7] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
];

/// The machine, or what a test takes for it.
#[derive(Debug)]
struct Host {
    /// Where the system is.
    root: PathBuf,
    /// What inits bring to every sandbox.
    reserved: Vec<PathBuf>,
    /// The text of `/proc/self/mountinfo`.
    mountinfo: Vec<u8>,
    /// Whether the daemon runs as root.
    is_root: bool,
}

impl Host {
    fn this() -> Result<Self, RootfsError> {
        let mountinfo =
            fs::read(mounts::MOUNTINFO).map_err(|error| RootfsError::Mounts { error })?;
        let places = Root::ALL.map(Root::path).into_iter().chain(["/proc", "/dev"]);
        let reserved = places.map(PathBuf::from).collect();
        let is_root = nix::unistd::geteuid().is_root();
        Ok(Self { root: "/".into(), reserved, mountinfo, is_root })
    }
}

impl Rootfs {
    /// Looks at the host. Touches the disk: not for the async threads.
    ///
    /// # Errors
    /// If `expose` names what cannot be shown, or what is protected is not there.
    pub fn plan(inputs: &Inputs) -> Result<Self, RootfsError> {
        Self::plan_on(&Host::this()?, inputs)
    }

    fn plan_on(host: &Host, inputs: &Inputs) -> Result<Self, RootfsError> {
        let guard = Guard::new(&inputs.protected, Mounts::parse(&host.mountinfo))?;
        let mut builder = Builder::new(host, guard);
        system::programs(&mut builder);
        system::etc(&mut builder);
        let mut exposed: Vec<_> = inputs.expose.iter().collect();
        // What one brings need not be brought again by one below it.
        exposed.sort_by_key(|entry| entry.components().count());
        for entry in exposed {
            let path = absolute(entry, inputs.home.as_deref());
            path.and_then(|path| builder.expose(&path))
                .map_err(|problem| RootfsError::Expose { entry: entry.clone(), problem })?;
        }
        let rustup = toolchains::add(&mut builder, inputs);
        let mut env = BTreeMap::from([("CARGO_HOME".into(), private_cargo())]);
        env.extend(rustup.map(|home| ("RUSTUP_HOME".into(), home.into_os_string())));

        let etc = host.root.join("etc");
        let (resolv_conf, hosts) = (etc.join("resolv.conf"), etc.join("hosts"));
        let networks = [&resolv_conf, &hosts].map(|file| Watch::copied(file));
        builder.watches.extend(networks);
        let (mut view, mut warnings, mut watches) = builder.finish();
        let mut stubs = Stubs::plan(&mut view, &inputs.blocked, &inputs.path);
        let mut entries = view.entries();
        entries.extend(stubs.entries(&view, &Mounts::parse(&host.mountinfo)));
        warnings.append(&mut stubs.warnings);
        watches.append(&mut stubs.watches);
        let template = Template {
            entries,
            host_resolv_conf: whole_lines(&resolv_conf),
            host_hosts: whole_lines(&hosts),
        };
        let (protected, reserved) = (inputs.protected.clone(), host.reserved.clone());
        Ok(Self { template, env, warnings, view, watches, stubs, protected, reserved })
    }

    /// What the zygote builds.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Programs that are blocked under some of their names only, because the system needs them.
    pub fn kept(&self) -> &[PathBuf] {
        &self.stubs.kept
    }

    /// The rule because of which a program does not run in sandboxes by any way. The path is
    /// as they name it, free of links.
    pub fn blocks(&self, program: &Path) -> Option<&str> {
        self.stubs.rule_at(program)
    }

    /// Paths of the host that are behind it, for sandboxes without a mount tree. A directory
    /// of which a part is hidden is not among them: without mounts nothing can be hidden.
    pub fn readable(&self) -> Vec<CString> {
        let own = HOST_ETC.iter().map(PathBuf::from);
        let paths = self.view.sources().chain(own);
        paths.filter_map(|path| CString::new(path.into_os_string().into_vec()).ok()).collect()
    }

    /// Variables that commands need to make use of it.
    pub fn env(&self) -> &BTreeMap<OsString, OsString> {
        &self.env
    }

    /// What sandboxes do not see though one would expect it, and why, in words.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Where on the host a path lies that sandboxes see outside their own places: an absolute
    /// path without `..`. `None` where they see nothing, and for files of `/etc` that are not
    /// the host's. Of a link it is the link itself; no link before the last name is followed
    /// but those that the template has.
    pub fn host_path(&self, inside: &Path) -> Option<PathBuf> {
        self.view.host_path(inside)
    }

    /// Whether the host has changed so that a new plan could be another one. A few dozen
    /// calls of stat(2). New mounts below what is shown are not noticed.
    pub fn is_stale(&self) -> bool {
        self.watches.iter().any(Watch::is_stale)
    }

    /// Which directory in `expose` would show a program that the host has in the search
    /// path and sandboxes do not see. `None` where there is none that may be exposed.
    pub fn suggest(&self, program: &OsStr, path: &OsStr) -> Option<PathBuf> {
        let mounts = fs::read(mounts::MOUNTINFO).ok()?;
        let guard = Guard::new(&self.protected, Mounts::parse(&mounts)).ok()?;
        self.view.suggest(program, path, |dir| {
            let is_clear = |dir: &Path| {
                self.reserved.iter().all(|own| !dir.starts_with(own) && !own.starts_with(dir))
            };
            let held = fs::canonicalize(dir).ok().map(|dir| (is_clear(&dir), guard.overlap(&dir)));
            is_clear(dir) && held.is_some_and(|held| held == (true, Overlap::Holds(Vec::new())))
        })
    }
}

/// Cargo writes to its own directory, so each sandbox has one.
fn private_cargo() -> OsString {
    Path::new(Root::Home.path()).join(".cargo").into_os_string()
}

/// An entry of `expose` as an absolute path.
fn absolute(entry: &Path, home: Option<&Path>) -> Result<PathBuf, ExposeProblem> {
    let path = match entry.strip_prefix("~") {
        Ok(rest) => {
            let home = home.filter(|home| home.is_absolute()).ok_or(ExposeProblem::NoHome)?;
            home.join(rest)
        }
        Err(_) => entry.to_owned(),
    };
    if path.is_absolute() {
        Ok(path.components().collect())
    } else {
        Err(ExposeProblem::NotAbsolute)
    }
}

/// The lines of a file, as many as fit; nothing where it cannot be read.
fn whole_lines(file: &Path) -> Vec<u8> {
    let Ok(mut content) = read(file, MAX_NETWORK_FILE_BYTES) else { return Vec::new() };
    if content.cut {
        let end = content.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        content.bytes.truncate(end);
    }
    content.bytes
}

#[cfg(test)]
mod tests;
