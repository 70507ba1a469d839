//! Paths in a sandbox, and what is there.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use noxrunner_client::{CallError, Connection};
use noxrunner_protocol::http::ExecBody;
use noxrunner_protocol::ids::TimeoutSeconds;
use noxrunner_protocol::method::FileStatOne;
use noxrunner_protocol::types::{FilePathParams, FileStat, FileType};
use noxrunner_protocol::{ErrorKind, SessionId};

use super::FileError;
use super::send::wire_path;
use crate::context::Context;
use crate::error::CliError;

/// How many links are followed on the way to what they lead to, as many as Linux does.
const MAX_LINKS: usize = 40;

/// A path in a sandbox, absolute and without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemotePath(Vec<Vec<u8>>);

impl RemotePath {
    /// The workspace, where relative paths start.
    pub(super) fn workspace() -> Self {
        Self(vec![b"workspace".to_vec()])
    }

    /// What a path means in this directory.
    pub(super) fn join(&self, path: &[u8]) -> Self {
        let mut parts = if path.starts_with(b"/") { Vec::new() } else { self.0.clone() };
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                name => parts.push(name.to_vec()),
            }
        }
        Self(parts)
    }

    /// Its last name, but for the root's.
    pub(super) fn name(&self) -> Option<&[u8]> {
        self.0.last().map(Vec::as_slice)
    }

    /// The directory it is in; the root is in itself.
    pub(super) fn parent(&self) -> Self {
        self.join(b"..")
    }

    /// As it is written.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [b"/".as_slice(), &self.0.join(&b'/')].concat()
    }

    /// For people.
    pub(super) fn show(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// What is at a path.
#[derive(Debug)]
pub(super) struct Found {
    /// The path, in the workspace where it was outside.
    pub(super) path: RemotePath,
    /// Whether it was.
    pub(super) redirected: bool,
    /// What is there, if anything is.
    pub(super) entry: Option<Entry>,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where it is, after links; where they lead nowhere the link itself.
    pub(super) path: RemotePath,
    /// What it is.
    pub(super) kind: FileType,
    /// Its permission bits.
    pub(super) mode: u32,
}

/// Whom to ask.
#[derive(Debug)]
pub(super) enum There<'a> {
    /// A daemon of this machine.
    Daemon(Connection),
    /// A backend, by commands that run in the sandbox.
    Backend(&'a Context<'a>),
}

impl<'a> There<'a> {
    /// Whoever is meant.
    ///
    /// # Errors
    /// Where no daemon answers.
    pub(super) fn of(context: &'a Context<'a>) -> Result<Self, CliError> {
        Ok(match context.backend {
            Some(_) => Self::Backend(context),
            None => Self::Daemon(context.connect()?),
        })
    }
}

/// Looks what a path in a sandbox leads to.
///
/// # Errors
/// Whatever the other side answers but that nothing is there.
pub(super) fn look(
    there: &mut There<'_>,
    session_id: &SessionId,
    path: &[u8],
) -> Result<Found, CliError> {
    let daemon = match there {
        There::Daemon(daemon) => daemon,
        There::Backend(context) => {
            let path = RemotePath::workspace().join(path);
            let entry = ask_shell(context, session_id, &path)?;
            return Ok(Found { path, redirected: false, entry });
        }
    };
    let mut path = RemotePath::workspace().join(path);
    let stat = stat(daemon, session_id, &path)?;
    let redirected = stat.as_ref().is_some_and(|stat| stat.redirected);
    if redirected {
        // As the daemon does with the path of a file that is outside.
        path = RemotePath::workspace().join(path.name().unwrap_or_default());
    }
    let Some(stat) = stat else { return Ok(Found { path, redirected, entry: None }) };
    let link = Entry { path: path.clone(), kind: stat.entry.kind, mode: stat.entry.mode };
    let entry = follow(daemon, session_id, &path, stat)?.unwrap_or(link);
    Ok(Found { path, redirected, entry: Some(entry) })
}

/// The writable directories of a sandbox that commands can start in. Their names may be others to
/// commands, so what is in them is named from there.
const ROOTS: [&str; 2] = ["/workspace", "/tmp"];

/// Says what the path in `$1` leads to, its permission bits, and where a link ends, from here.
const LOOK: &str = r#"if [ -d "$1" ]; then echo directory; elif [ -f "$1" ]; then echo file
elif [ -h "$1" ]; then echo link; elif [ -e "$1" ]; then echo special; else echo none; fi
stat -L -c %a -- "$1" 2>/dev/null || echo 755
here=$(pwd -P)
[ ! -h "$1" ] || case $(readlink -f -- "$1") in
    "$here") echo . ;;
    "$here"/*) end=$(readlink -f -- "$1"); printf '%s\n' "${end#"$here"/}" ;;
esac"#;

/// What is at a path, by the sandbox's shell: the API of backends has no way to ask.
fn ask_shell(
    context: &Context<'_>,
    session_id: &SessionId,
    path: &RemotePath,
) -> Result<Option<Entry>, CliError> {
    let refused = |why: String| FileError::NotLooked { path: path.show(), why };
    let text = String::from_utf8(path.bytes())
        .map_err(|_| refused("it is not UTF-8, which commands cannot name".to_owned()))?;
    let from = |root: &&str| text.strip_prefix(root).map(|rest| rest.strip_prefix('/'));
    let (root, name) = match ROOTS.iter().find_map(|root| Some((*root, from(root)?))) {
        Some((root, Some(rest))) => (root, format!("./{rest}")),
        Some((root, None)) if text == root => (root, ".".to_owned()),
        Some(_) | None => (ROOTS[0], text.clone()),
    };
    let Some(backend) = &context.backend else { return Ok(None) };
    let cmd = ["sh", "-c", LOOK, "sh", &name].map(str::to_owned).to_vec();
    let (workdir, timeout_seconds) = (Some(root.to_owned()), Some(TimeoutSeconds::default()));
    let body = ExecBody { cmd, workdir, env: None, timeout_seconds };
    let ran = backend.exec(session_id, &body)?;
    if ran.exit_code != 0 {
        let why = format!("`sh` exited with {}: {}", ran.exit_code, ran.stderr.trim());
        return Err(refused(why).into());
    }
    let mut lines = ran.stdout.splitn(3, '\n');
    let kind = match lines.next() {
        Some("none") => return Ok(None),
        Some("directory") => FileType::Directory,
        Some("file") => FileType::File,
        Some("link") => FileType::Symlink,
        // Or another thing that is neither: nobody asks which.
        Some("special") => FileType::Fifo,
        Some(_) | None => return Err(refused(format!("`sh` said {:?}", ran.stdout)).into()),
    };
    let mode = lines.next().and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(0o755);
    let end = lines.next().and_then(|end| end.strip_suffix('\n'));
    let path = match end {
        Some(end) => RemotePath(Vec::new()).join(root.as_bytes()).join(end.as_bytes()),
        None => path.clone(),
    };
    Ok(Some(Entry { path, kind, mode }))
}

/// What is at the end of links, if anything is there.
fn follow(
    daemon: &mut Connection,
    session_id: &SessionId,
    path: &RemotePath,
    stat_of_path: FileStat,
) -> Result<Option<Entry>, CliError> {
    let (mut path, mut found) = (path.clone(), stat_of_path);
    for _ in 0..MAX_LINKS {
        let (kind, mode) = (found.entry.kind, found.entry.mode);
        if kind != FileType::Symlink {
            return Ok(Some(Entry { path, kind, mode }));
        }
        let target = match (&found.entry.target_base64, &found.entry.target) {
            (Some(base64), _) => STANDARD.decode(base64).unwrap_or_default(),
            (None, Some(target)) => target.clone().into_bytes(),
            (None, None) => return Ok(None),
        };
        path = path.parent().join(&target);
        match stat(daemon, session_id, &path)? {
            // A link that leads out leads nowhere.
            Some(next) if !next.redirected => found = next,
            Some(_) | None => return Ok(None),
        }
    }
    Ok(None)
}

fn stat(
    daemon: &mut Connection,
    session_id: &SessionId,
    path: &RemotePath,
) -> Result<Option<FileStat>, CliError> {
    let (path, path_base64) = wire_path(&path.bytes());
    let params = FilePathParams { session_id: session_id.clone(), path, path_base64 };
    match daemon.call::<FileStatOne>(&params) {
        Ok(stat) => Ok(Some(stat)),
        Err(CallError::Refused(error)) if error.kind == ErrorKind::FileNotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a path as it is typed means what is in a directory: it ends with `/.`, or is `.`.
pub(super) fn means_contents(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/.")
}

/// The last name of a local path, as it is typed.
pub(super) fn last_name(path: &Path) -> Option<&[u8]> {
    path.file_name().map(std::ffi::OsStr::as_encoded_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_they_mean_in_the_sandbox() {
        for (path, expected) in [
            ("", "/workspace"),
            ("a//b/./c/", "/workspace/a/b/c"),
            ("../tmp", "/tmp"),
            ("../../..", "/"),
            ("/a/../b", "/b"),
        ] {
            assert_eq!(RemotePath::workspace().join(path.as_bytes()).show(), expected, "{path}");
        }
        let path = RemotePath::workspace().join(b"d/\xff");
        assert_eq!(
            (path.name(), path.parent().show()),
            (Some(&b"\xff"[..]), "/workspace/d".into())
        );
        assert_eq!(RemotePath::workspace().join(b"/").name(), None);
    }

    #[test]
    fn the_contents_of_a_directory_are_meant_by_a_dot() {
        assert!([&b"."[..], b"a/.", b"./."].into_iter().all(means_contents));
        assert!(
            ![&b""[..], b"..", b"a/..", b"a.", b"a/.b", b"a/./"].into_iter().any(means_contents)
        );
    }
}
