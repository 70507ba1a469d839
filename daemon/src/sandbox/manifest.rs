//! What of a sandbox outlives its daemon, as a file in the sandbox's directory.
//!
//! It is written whole and renamed into place, without fsync: it survives a
//! killed daemon, and a machine that lost power has lost its /tmp anyway. What
//! is read is checked like any other input: whoever runs commands as the
//! daemon's user can write it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use noxrunner_protocol::SessionId;
use noxrunner_protocol::ids::TtlSeconds;
use noxrunner_protocol::types::{LimitName, Network};
use serde::{Deserialize, Serialize};

use super::{Key, Sandbox, Settings};
use crate::clock::{self, Moment};

/// Its name in the sandbox's directory.
pub const NAME: &str = "manifest.json";
const NEW_NAME: &str = "manifest.json.new";

/// The version that this daemon writes, and the only one so far.
const VERSION: u32 = 1;

/// Largest manifest that is read, in bytes: a request's environment and as much again.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// A sandbox on paper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    // A copy of the directory under another name is not the sandbox. The first daemons wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<String>,
    session_id: SessionId,
    owner_uid: u32,
    // Whom its places belong to. Older daemons wrote none: everything was the daemon's own user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_uid: Option<u32>,
    created_at_ms: u64,
    expires_at_ms: u64,
    ttl_seconds: TtlSeconds,
    // Set before the first file is removed: a half-deleted sandbox never comes back.
    #[serde(default)]
    deleting: bool,
    #[serde(default)]
    leased: bool,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    network: Network,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    limits: BTreeMap<LimitName, String>,
}

/// Why a directory's manifest is no help.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is none.
    #[error("it has no manifest")]
    Missing,
    /// It is not a file that this daemon's user wrote.
    #[error("its manifest is not a plain file of ours")]
    Foreign,
    /// It does not say what a manifest says.
    #[error("its manifest cannot be read: {0}")]
    Malformed(String),
    /// The kernel refused.
    #[error("its manifest cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Manifest {
    /// What there is to write down of a sandbox.
    pub fn of(sandbox: &Sandbox, deleting: bool) -> Self {
        let settings = sandbox.settings();
        Self {
            version: VERSION,
            directory: Some(sandbox.dir.name().to_string_lossy().into_owned()),
            session_id: sandbox.key.id.clone(),
            owner_uid: sandbox.key.owner,
            host_uid: sandbox.host_uid(),
            created_at_ms: clock::unix_ms(sandbox.created_at),
            expires_at_ms: clock::unix_ms(settings.expires_at),
            ttl_seconds: settings.ttl,
            deleting,
            leased: false,
            image: settings.image,
            network: settings.network,
            env: settings.env,
            limits: settings.limits,
        }
    }

    /// Writes it into its directory, all of it or nothing.
    ///
    /// # Errors
    /// As the file system's.
    pub fn write(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        // A new file each time: what lies there may be a link that code inside has put.
        match unlinkat(dir, NEW_NAME, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(dir, NEW_NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        File::from(file).write_all(&text)?;
        Ok(renameat(dir, NEW_NAME, dir, NAME)?)
    }

    /// Reads the manifest in a directory.
    ///
    /// # Errors
    /// Why it is no help.
    pub fn read(dir: BorrowedFd<'_>, uid: u32) -> Result<Self, ManifestError> {
        // Nothing at this name can hold the daemon up: no link is followed, no FIFO waited for.
        let flags = OFlag::O_RDONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_CLOEXEC
            | OFlag::O_NOCTTY;
        let file = match openat(dir, NAME, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(nix::errno::Errno::ENOENT) => return Err(ManifestError::Missing),
            Err(nix::errno::Errno::ELOOP | nix::errno::Errno::ENXIO) => {
                return Err(ManifestError::Foreign);
            }
            Err(errno) => return Err(ManifestError::Io(errno.into())),
        };
        let stat = fstat(file.as_fd()).map_err(io::Error::from)?;
        let plain = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        if !plain || stat.st_uid != uid {
            return Err(ManifestError::Foreign);
        }
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text)?;
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|e| ManifestError::Malformed(e.to_string()))?;
        if manifest.version != VERSION {
            let version = manifest.version;
            return Err(ManifestError::Malformed(format!("version {version} is not known here")));
        }
        crate::policy::check_env(&manifest.env).map_err(ManifestError::Malformed)?;
        Ok(manifest)
    }

    /// Writes down in its directory that the deletion has begun, where that is not said yet.
    ///
    /// # Errors
    /// As the file system's.
    pub fn mark_deleting(self, dir: BorrowedFd<'_>) -> io::Result<()> {
        if self.deleting { Ok(()) } else { Self { deleting: true, ..self }.write(dir) }
    }

    /// The name of the directory that it was written for, which the first daemons did not write.
    pub fn directory(&self) -> Option<&str> {
        self.directory.as_deref()
    }

    /// Whose sandbox, and which.
    pub fn key(&self) -> Key {
        Key { owner: self.owner_uid, id: self.session_id.clone() }
    }

    /// The user that its places belong to, where that is not the daemon's own.
    pub fn host_uid(&self) -> Option<u32> {
        self.host_uid
    }

    /// The settings it comes back with. What is left of its time is never more
    /// than its time to live, however the wall clock was set meanwhile.
    pub fn settings(&self, now: Moment) -> Settings {
        let expires_at = clock::from_unix_ms(self.expires_at_ms);
        let left = expires_at.duration_since(now.wall).unwrap_or_default();
        let left = left.min(self.ttl_seconds.duration());
        Settings {
            ttl: self.ttl_seconds,
            deadline: now.boot + left,
            expires_at: now.wall + left,
            image: self.image.clone(),
            network: self.network,
            env: self.env.clone(),
            limits: self.limits.clone(),
        }
    }

    /// When it was made.
    pub fn created_at(&self) -> std::time::SystemTime {
        clock::from_unix_ms(self.created_at_ms)
    }

    /// Why it must not come back, if so: it expired, its deletion had begun, or
    /// the connection that held it is gone.
    pub fn is_over(&self, now: Moment) -> bool {
        self.deleting || self.leased || clock::from_unix_ms(self.expires_at_ms) <= now.wall
    }
}

#[cfg(test)]
mod tests;
