//! What lies in the base directory when a daemon starts: sandboxes of its
//! predecessor, and directories of the Python tool, which takes no lock and writes no manifest.
//!
//! Deciding is pure; looking and acting are apart.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::dir::{self, SandboxDir};
use super::manifest::{Manifest, ManifestError};
use super::{Base, Sandbox};
use crate::clock::Moment;
use crate::files::staging;
use crate::policy::Root;
use crate::tree;
use crate::uids::{HostUid, Uids};

/// A directory as it was found.
#[derive(Debug)]
pub enum Found {
    /// It has a manifest of ours.
    Manifest(Box<Manifest>),
    /// An earlier version made it, as root and without a user of its own.
    Older(Box<Manifest>),
    /// It has none.
    Bare {
        /// The newest change anywhere in it.
        newest: SystemTime,
        /// Whether a process works in it or has a file of it open.
        in_use: bool,
        /// Whether its name is one that [`SandboxDir::create`] gives, which the Python tool's never is.
        ours: bool,
    },
    /// It is not to be trusted or understood.
    Odd(String),
    /// Another daemon has it.
    Locked,
}

/// What to do with it.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it over as it is.
    Adopt,
    /// Remove it with everything in it.
    Remove(&'static str),
    /// Leave it; look again when it may have become stale, if it ever does.
    Leave {
        /// Why, where a person should know.
        report: Option<String>,
        /// How long until it may be removed.
        due_in: Option<Duration>,
    },
}

/// By what directories without a manifest are judged.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// How long nobody must have used one.
    pub stale_after: Duration,
    /// Nothing is being created in this base directory: what looks like the
    /// beginning of a sandbox is what a daemon that was killed left of one.
    pub nobody_creates: bool,
}

/// What to do with a directory that was found.
pub fn decide(found: &Found, now: Moment, rule: Rule) -> Verdict {
    let Rule { stale_after, nobody_creates } = rule;
    match found {
        Found::Manifest(manifest) | Found::Older(manifest) if manifest.is_over(now) => {
            Verdict::Remove("its time is over")
        }
        // What lies in it is root's: a sandbox's own user could not use it, and giving it all
        // away might give away what root has put there. Its files stay for as long as they would have.
        Found::Older(manifest) => Verdict::Leave {
            report: Some(
                "an earlier version made it, without a user id of its own: \
                 it cannot be used, and goes when its time is over"
                    .to_owned(),
            ),
            due_in: Some(manifest.settings(now).deadline.saturating_sub(now.boot)),
        },
        Found::Manifest(_) if nobody_creates => Verdict::Adopt,
        // A sandbox of ours that could not be removed, or somebody's copy of one.
        Found::Manifest(_) => Verdict::Leave { report: None, due_in: None },
        Found::Bare { ours: true, .. } if nobody_creates => {
            Verdict::Remove("its creation was never finished")
        }
        Found::Bare { newest, in_use, .. } => {
            let age = now.wall.duration_since(*newest).unwrap_or_default();
            match stale_after.checked_sub(age) {
                None | Some(Duration::ZERO) if !in_use => {
                    Verdict::Remove("nobody has used it for long")
                }
                None | Some(Duration::ZERO) => {
                    Verdict::Leave { report: None, due_in: Some(stale_after) }
                }
                Some(rest) => Verdict::Leave { report: None, due_in: Some(rest) },
            }
        }
        Found::Odd(why) => Verdict::Leave { report: Some(why.clone()), due_in: None },
        Found::Locked => Verdict::Leave { report: None, due_in: None },
    }
}

/// What a sweep through the base directory came to.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Sandboxes that live on, the newest first. Of two for one session only that one does.
    pub adopted: Vec<Sandbox>,
    /// Directories to remove, with the reason.
    pub doomed: Vec<(SandboxDir, &'static str)>,
    /// What was left alone and should be known.
    pub reports: Vec<(PathBuf, String)>,
    /// When the next directory may have become stale, from now.
    pub next_due: Option<Duration>,
}

/// Looks at every sandbox directory in the base directory and takes over what
/// is to be adopted or removed. Reads whole trees: not for the async threads.
///
/// # Errors
/// Where the base directory cannot be read.
pub fn sweep(base: &Base<'_>, now: Moment, rule: Rule) -> io::Result<Sweep> {
    let mut sweep = Sweep::default();
    for entry in fs::read_dir(base.path)? {
        let entry = entry?;
        if !entry.file_name().as_bytes().starts_with(dir::PREFIX.as_bytes()) {
            continue;
        }
        let path = entry.path();
        let (found, dir) = look(base, &path);
        match (decide(&found, now, rule), found, dir) {
            (Verdict::Adopt, Found::Manifest(manifest), Some(dir)) => {
                if let Err(error) = dir.set_mode(base.reachable) {
                    sweep.reports.push((path, format!("its mode cannot be set: {error}")));
                    continue;
                }
                if let Err(error) = staging::clear(dir.fd()) {
                    // What its predecessor was killed over. In nobody's way.
                    sweep.reports.push((path, format!("of an upload, something stays: {error}")));
                }
                let settings = manifest.settings(now);
                let created_at = manifest.created_at();
                let key = manifest.key();
                let sandbox = Sandbox::new(key, dir, created_at, settings, base.limits);
                // Where its time was cut because the wall clock was set back, the next daemon is not to
                // give it as much again; and one of the first version gets the name of its directory.
                if Manifest::of(&sandbox, false) != *manifest
                    && let Err(error) = sandbox.save()
                {
                    tracing::warn!(session = %sandbox.key.id, %error, "cannot write a manifest anew");
                }
                sweep.adopted.push(sandbox);
            }
            (Verdict::Remove(why), found, Some(dir)) => {
                // Else half of it could come back, if this daemon dies and the wall clock is set back.
                if let Found::Manifest(manifest) | Found::Older(manifest) = found
                    && let Err(error) = manifest.mark_deleting(dir.fd())
                {
                    tracing::warn!(path = %path.display(), %error, "cannot note a deletion");
                }
                sweep.doomed.push((dir, why));
            }
            (Verdict::Leave { report, due_in }, ..) => {
                sweep.reports.extend(report.map(|why| (path, why)));
                sweep.next_due = [sweep.next_due, due_in].into_iter().flatten().min();
            }
            // Only what was opened and locked is adopted or removed.
            (Verdict::Adopt | Verdict::Remove(_), ..) => {}
        }
    }
    // Where two are of one session, the older is somebody's leftover.
    sweep.adopted.sort_by_key(|sandbox| Reverse(sandbox.created_at));
    Ok(sweep)
}

/// What a directory is, and the hold on it where nobody else has one.
fn look(base: &Base<'_>, path: &Path) -> (Found, Option<SandboxDir>) {
    let odd = |why: &str| (Found::Odd(why.to_owned()), None);
    let Ok(meta) = fs::symlink_metadata(path) else { return odd("it is gone") };
    if !meta.is_dir() {
        return odd("it is not a directory");
    }
    if meta.uid() != base.uid {
        return odd("it belongs to another user");
    }
    let mut dir = match SandboxDir::open(path.to_owned()) {
        Ok(dir) => dir,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return (Found::Locked, None),
        Err(e) => return odd(&format!("it cannot be opened: {e}")),
    };
    match Manifest::read(dir.fd(), base.uid) {
        Ok(manifest) if !ours(base, &meta, path, &manifest) => {
            odd("its mode or name is not what its manifest would have it")
        }
        Ok(manifest) => match (base.uids, manifest.host_uid()) {
            (None, None) => (Found::Manifest(Box::new(manifest)), Some(dir)),
            (None, Some(_)) => odd("its manifest names a host uid, which only root's daemon gives"),
            (Some(_), None) => (Found::Older(Box::new(manifest)), Some(dir)),
            (Some(uids), Some(uid)) => match host_uid(uids, uid, &dir) {
                Ok(owner) => {
                    dir.owned_by(owner);
                    (Found::Manifest(Box::new(manifest)), Some(dir))
                }
                Err(why) => odd(&why),
            },
        },
        Err(ManifestError::Missing) => {
            let newest = match tree::newest_mtime(dir.fd()) {
                Ok(newest) => newest,
                Err(error) => return odd(&error.to_string()),
            };
            let ours = dir::is_made_name(&dir.name());
            (Found::Bare { newest, in_use: in_use(path), ours }, Some(dir))
        }
        Err(error) => odd(&error.to_string()),
    }
}

/// Takes the host uid that a manifest names, where it is that of what is in the directory.
fn host_uid(uids: &Uids, uid: u32, dir: &SandboxDir) -> Result<HostUid, String> {
    let range = uids.range();
    if !range.contains(uid) {
        return Err(format!("its host uid {uid} is not among --sandbox-uids {range}"));
    }
    for place in Root::ALL {
        let name = place.host_name();
        match fstatat(dir.fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // A command may have removed it; the next one finds a new one.
            Err(Errno::ENOENT) => {}
            Ok(stat) if (stat.st_uid, stat.st_gid) == (uid, uid) => {}
            Ok(_) => return Err(format!("its {name} is not its host uid's, {uid}")),
            Err(errno) => return Err(format!("its {name} cannot be looked at: {errno}")),
        }
    }
    uids.claim(uid).map_err(|e| e.to_string())
}

/// Whether a directory looks as this program makes them for that session.
fn ours(base: &Base<'_>, meta: &fs::Metadata, path: &Path, manifest: &Manifest) -> bool {
    let prefix = format!("{}{}.", dir::PREFIX, manifest.key().id.readable());
    let name = path.file_name().unwrap_or_default().as_bytes();
    let named = match manifest.directory() {
        Some(directory) => name == directory.as_bytes(),
        // A copy of such a one cannot be told from it, but for a name that is none of ours.
        None => path.file_name().is_some_and(dir::is_made_name),
    };
    let named = named && name.starts_with(prefix.as_bytes());
    let mode = meta.mode() & 0o7777;
    // An earlier daemon of root's may have isolated its sandboxes in another way.
    (mode == dir::PRIVATE || base.uids.is_some() && mode == dir::REACHABLE) && named
}

/// Whether any other process works in this directory or has something in it open, as
/// far as /proc shows this user (proc_pid_cwd(5), proc_pid_fd(5)).
fn in_use(path: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    let inside = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(path));
    // This one has the directory itself open.
    let own = std::process::id();
    let number = |process: &fs::DirEntry| process.file_name().to_str()?.parse::<u32>().ok();
    let others = processes.flatten().filter(|p| number(p).is_some_and(|pid| pid != own));
    others.map(|process| process.path()).any(|process| {
        inside(&process.join("cwd"))
            || inside(&process.join("root"))
            || fs::read_dir(process.join("fd"))
                .is_ok_and(|mut fds| fds.any(|fd| fd.is_ok_and(|fd| inside(&fd.path()))))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use noxrunner_protocol::types::{CreateParams, Network, Tier};

    use super::*;
    use crate::limits::{Defaults, Enforcers, Limiting};
    use crate::sandbox::{Key, Settings};

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn bare_directories_go_only_when_old_and_unused() {
        let now = Moment::now();
        let bare =
            |age: Duration, in_use| Found::Bare { newest: now.wall - age, in_use, ours: false };
        let rule = Rule { stale_after: DAY, nobody_creates: true };
        let verdict = |found: &Found| decide(found, now, rule);
        assert!(matches!(verdict(&bare(DAY, false)), Verdict::Remove(_)));
        let hour = Duration::from_secs(3600);
        let leave = |due| Verdict::Leave { report: None, due_in: Some(due) };
        assert_eq!(verdict(&bare(DAY - hour, false)), leave(hour));
        assert_eq!(verdict(&bare(DAY * 2, true)), leave(DAY));
        let future = Found::Bare { newest: now.wall + DAY, in_use: false, ours: false };
        assert_eq!(verdict(&future), leave(DAY));
    }

    #[test]
    fn the_beginning_of_a_sandbox_goes_at_once_but_not_while_others_are_begun() {
        let now = Moment::now();
        let found = Found::Bare { newest: now.wall, in_use: false, ours: true };
        let verdict =
            |nobody_creates| decide(&found, now, Rule { stale_after: DAY, nobody_creates });
        assert!(matches!(verdict(true), Verdict::Remove(_)));
        assert!(matches!(verdict(false), Verdict::Leave { .. }));
    }

    /// A daemon that dies while it removes what has expired leaves half of it.
    #[test]
    fn what_was_to_be_removed_never_comes_back_though_the_wall_clock_goes_back() {
        let base = tempfile::tempdir().unwrap();
        let limits = Limiting {
            defaults: Defaults::built_in(),
            enforcers: Arc::new(Enforcers::new(None, Tier::None, true)),
        };
        let before = Moment::now();
        let params = CreateParams::new("s".parse().unwrap());
        let dir = SandboxDir::create(base.path(), &params.session_id, None, false).unwrap();
        let key = Key { owner: 7, id: params.session_id.clone() };
        let settings = Settings::new(&params, Network::None, before);
        Sandbox::new(key, dir, before.wall, settings, &limits).save().unwrap();
        let look = |wall| {
            let uid = nix::unistd::geteuid().as_raw();
            let base =
                Base { path: base.path(), uid, uids: None, reachable: false, limits: &limits };
            let rule = Rule { stale_after: DAY, nobody_creates: true };
            let swept = sweep(&base, Moment { wall, ..before }, rule).unwrap();
            (swept.adopted.len(), swept.doomed.len())
        };
        assert_eq!(look(before.wall), (1, 0));
        assert_eq!(look(before.wall + DAY), (0, 1));
        assert_eq!(look(before.wall), (0, 1));
    }

    #[test]
    fn what_is_odd_is_left_alone_and_reported() {
        let rule = Rule { stale_after: DAY, nobody_creates: true };
        let verdict = decide(&Found::Odd("why".into()), Moment::now(), rule);
        assert_eq!(verdict, Verdict::Leave { report: Some("why".into()), due_in: None });
    }
}
