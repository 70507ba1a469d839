//! The daemon as a process of its own: which program, with what, and what its
//! log says where it does not come up.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use noxrunner_client::{ConnectError, trust};

const PROGRAM: &str = "noxrunnerd";
const LOG_NAME: &str = "noxrunnerd.log";

/// How long to wait for the socket after the daemon started here has ended:
/// if it ended because another one was faster, that one answers soon.
const GRACE: Duration = Duration::from_secs(2);

/// Most of the log that an error shows, in bytes and in lines.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;

/// Why no daemon came up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("{PROGRAM} is neither beside noxctl nor on PATH")]
    NoProgram,
    #[error("cannot make the socket's directory {}: {source}", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Untrusted(ConnectError),
    #[error("cannot write the daemon's log {}: {source}", .path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("the daemon's log {} is no file of this user's", .path.display())]
    ForeignLog { path: PathBuf },
    #[error("cannot start {}: {source}", .path.display())]
    Exec { path: PathBuf, source: io::Error },
    #[error("{PROGRAM} ended ({status}) and no daemon answers on {}; the end of {}:\n{tail}",
        .socket.display(), .log.display())]
    Ended { status: std::process::ExitStatus, socket: PathBuf, log: PathBuf, tail: String },
    #[error("{PROGRAM} (process {pid}) was started and does not answer on {}; the end of {}:\n{tail}",
        .socket.display(), .log.display())]
    Silent { pid: u32, socket: PathBuf, log: PathBuf, tail: String },
}

impl SpawnError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoProgram => {
                "install noxrunnerd beside noxctl or put its directory on PATH".to_owned()
            }
            Self::Directory { .. } => {
                "name a socket with --socket where you may write, or set XDG_RUNTIME_DIR".to_owned()
            }
            Self::Untrusted(error) => error.hint(),
            Self::Log { path, .. } | Self::ForeignLog { path } => {
                format!("remove {}, or name another socket with --socket", path.display())
            }
            Self::Exec { path, .. } => {
                format!("does `{} --version` work? Otherwise install it anew", path.display())
            }
            Self::Ended { .. } | Self::Silent { .. } => {
                "mend what the log says, or run `noxrunnerd --local-test` to watch it".to_owned()
            }
        }
    }
}

/// A daemon that was started, and may be up or not.
#[derive(Debug)]
pub(crate) struct Started {
    child: Child,
    ended: Option<Instant>,
    socket: PathBuf,
    log: PathBuf,
    /// Length of the log before this daemon wrote to it, in bytes.
    log_start: u64,
}

impl Started {
    /// Starts a daemon that will listen on `socket`, make its own session, and end by itself
    /// after `idle_exit` seconds without sandboxes and clients.
    pub(crate) fn spawn(socket: &Path, idle_exit: u64) -> Result<Self, SpawnError> {
        // The daemon's current directory is another one.
        let socket = std::path::absolute(socket)
            .map_err(|source| SpawnError::Directory { path: socket.to_owned(), source })?;
        let program = program(std::env::current_exe().ok(), std::env::var_os("PATH"))
            .ok_or(SpawnError::NoProgram)?;
        let directory = trust::directory(&socket);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| SpawnError::Directory { path: directory.to_owned(), source })?;
        trust::check_directory(&socket).map_err(SpawnError::Untrusted)?;
        let log = directory.join(LOG_NAME);
        let failed = |source| SpawnError::Log { path: log.clone(), source };
        let (file, log_start) = open_log(&log).map_err(failed)?;
        let file = file.ok_or_else(|| SpawnError::ForeignLog { path: log.clone() })?;
        let child = Command::new(&program)
            .arg("--local-test")
            .arg("--socket")
            .arg(&socket)
            .arg("--idle-exit")
            .arg(idle_exit.to_string())
            .arg("--detach")
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_passed(name)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .spawn()
            .map_err(|source| SpawnError::Exec { path: program, source })?;
        Ok(Self { child, ended: None, socket, log, log_start })
    }

    /// The process id of the daemon started here.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is worth waiting longer.
    ///
    /// # Errors
    /// Where it is not, with the end of the log.
    pub(crate) fn still_hopeful(&mut self, deadline: Instant) -> Result<(), SpawnError> {
        let now = Instant::now();
        if let Ok(Some(status)) = self.child.try_wait() {
            let ended = *self.ended.get_or_insert(now);
            if now >= deadline.min(ended + GRACE) {
                let (socket, log, tail) = self.report();
                return Err(SpawnError::Ended { status, socket, log, tail });
            }
        } else if now >= deadline {
            let (socket, log, tail) = self.report();
            return Err(SpawnError::Silent { pid: self.pid(), socket, log, tail });
        }
        Ok(())
    }

    fn report(&self) -> (PathBuf, PathBuf, String) {
        let tail = tail(&self.log, self.log_start).unwrap_or_else(|e| format!("(unreadable: {e})"));
        (self.socket.clone(), self.log.clone(), tail)
    }
}

/// The daemon's program: what stands beside this one belongs to it, so it comes first.
/// Directories of PATH that are not absolute would depend on where the user stands.
fn program(own: Option<PathBuf>, path: Option<OsString>) -> Option<PathBuf> {
    let beside = own.and_then(|own| own.parent().map(Path::to_owned));
    let path = path.unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    beside.into_iter().chain(on_path).map(|dir| dir.join(PROGRAM)).find(|file| {
        file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

/// Whether a variable goes to the daemon, which outlives whoever starts it.
fn is_passed(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let prefixes: [&[u8]; 2] = [b"XDG_", b"NOXRUNNER_"];
    name == "PATH" || name == "HOME" || prefixes.iter().any(|prefix| bytes.starts_with(prefix))
}

/// The log and its length, or none where it is not the user's own plain file.
fn open_log(path: &Path) -> io::Result<(Option<File>, u64)> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        // Neither follow a link nor wait for who reads a pipe.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Ok((None, 0));
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok((Some(file), metadata.len()))
}

/// The last lines that were written to the log since it was `start` bytes long.
fn tail(log: &Path, start: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES).max(start);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    Ok(if last.is_empty() { "(nothing)".to_owned() } else { last.join("\n") })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_a_daemon_needs_is_passed_on() {
        for name in ["PATH", "HOME", "XDG_RUNTIME_DIR", "NOXRUNNER_POLICY"] {
            assert!(is_passed(OsStr::new(name)), "{name}");
        }
        for name in ["PATHS", "LD_PRELOAD", "AWS_SECRET_ACCESS_KEY", "xdg_x", "XDG", ""] {
            assert!(!is_passed(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_program_beside_ones_own_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, mode| {
            let sub = dir.path().join(name);
            std::fs::create_dir(&sub).unwrap();
            std::fs::write(sub.join(PROGRAM), "").unwrap();
            std::fs::set_permissions(sub.join(PROGRAM), Permissions::from_mode(mode)).unwrap();
            sub
        };
        let (beside, plain, on_path) =
            (make("beside", 0o755), make("plain", 0o644), make("path", 0o755));
        let path = || Some(std::env::join_paths([Path::new(""), &plain, &on_path]).unwrap());
        assert_eq!(program(Some(beside.join("noxctl")), path()), Some(beside.join(PROGRAM)));
        assert_eq!(program(Some(plain.join("noxctl")), path()), Some(on_path.join(PROGRAM)));
        assert_eq!(program(None, None), None);
    }

    #[test]
    fn the_log_is_the_users_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(LOG_NAME);
        let (file, length) = open_log(&log).unwrap();
        assert!(file.is_some() && length == 0);
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let link = dir.path().join("link");
        symlink(&log, &link).unwrap();
        assert!(open_log(&link).is_err());
        assert!(open_log(dir.path()).is_err());
    }

    #[test]
    fn an_error_shows_what_was_written_since_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(LOG_NAME);
        std::fs::write(&log, "old\nnew\nnewer\n").unwrap();
        assert_eq!(tail(&log, 4).unwrap(), "new\nnewer");
        assert_eq!(tail(&log, 14).unwrap(), "(nothing)");
        std::fs::write(&log, "x\n".repeat(10_000)).unwrap();
        assert_eq!(tail(&log, 0).unwrap().lines().count(), TAIL_LINES);
    }
}
