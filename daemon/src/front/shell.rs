//! Looking at files by commands: the backend's API has nothing for that but archives, and those
//! tell neither a directory from a file nor how large one is.
//!
//! The commands are in every image that has a shell (POSIX, and `stat` and `base64` as both coreutils
//! and busybox have them). They run in the workspace and name what is in it by relative paths.

use noxrunner_protocol::http::{self, ExecBody, Executed};
use noxrunner_protocol::types::Cause;
use noxrunner_protocol::{ErrorKind, SessionId};
use tokio::time::Instant;

use super::Front;
use super::error::{FrontError, Trouble};
use super::upstream::Ask;

/// A path in a sandbox, absolute, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemotePath(Vec<String>);

impl RemotePath {
    /// What a path means, if it begins in the workspace.
    ///
    /// # Errors
    /// Where commands cannot name it.
    pub(super) fn new(path: &[u8]) -> Result<Self, FrontError> {
        let text = std::str::from_utf8(path);
        let text = text.map_err(|_| FrontError::Unsupported("a path that is not UTF-8"))?;
        if text.contains('\0') {
            return Err(FrontError::Invalid("path has a NUL byte".to_owned()));
        }
        let mut parts = if text.starts_with('/') { vec![] } else { vec![WORKSPACE.to_owned()] };
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                name => parts.push(name.to_owned()),
            }
        }
        Ok(Self(parts))
    }

    /// The directory it is in, and its last name there; none for the root and the workspace, which
    /// are always there.
    pub(super) fn split(&self) -> Option<(Self, &str)> {
        let (name, parent) = self.0.split_last()?;
        if self.is_workspace() {
            return None;
        }
        Some((Self(parent.to_vec()), name))
    }

    /// Its last name.
    pub(super) fn name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    pub(super) fn absolute(&self) -> String {
        format!("/{}", self.0.join("/"))
    }

    fn is_workspace(&self) -> bool {
        self.0.len() == 1 && self.0.first().is_some_and(|first| first == WORKSPACE)
    }

    /// As commands name it. Not every backend has a directory `/workspace` of that name.
    fn as_argument(&self) -> String {
        match self.0.split_first() {
            Some((first, rest)) if first == WORKSPACE => format!("./{}", rest.join("/")),
            Some(_) | None => self.absolute(),
        }
    }
}

const WORKSPACE: &str = "workspace";

/// How long such a command may run, in seconds.
const SECONDS: f64 = 20.0;

impl Front {
    /// Runs a script with the path as `$1` and this as `$2` and `$3`, and gives what it prints.
    pub(super) async fn script(
        &self,
        name: &SessionId,
        script: &str,
        path: &RemotePath,
        more: [u64; 2],
    ) -> Result<String, FrontError> {
        let mut cmd = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
        cmd.push(path.as_argument());
        cmd.extend(more.map(|number| number.to_string()));
        let timeout = SECONDS.try_into().map_err(|_| FrontError::Stopping)?;
        let body = ExecBody { cmd, timeout_seconds: Some(timeout), ..ExecBody::default() };
        let deadline = Instant::now()
            + std::time::Duration::from_secs_f64(SECONDS)
            + self.config.upstream.upstream_exec_grace;
        let ask = Ask::new(hyper::Method::POST, http::exec(name), "looking at a file").json(&body);
        let answered = self.upstream.once(ask, deadline).await;
        let answered = answered.inspect_err(|error| self.notice(name, error))?;
        let ran: Executed = self.upstream.read(answered).await?;
        if ran.exit_code == 0 {
            return Ok(ran.stdout);
        }
        let kind = match ran.cause {
            Some(Cause::Denied) => ErrorKind::CommandDenied,
            Some(_) | None => ErrorKind::Unsupported,
        };
        let (path, code) = (path.absolute(), ran.exit_code);
        let said = ran.stderr.trim();
        Err(FrontError::Refused {
            kind,
            message: format!("cannot look at {path}: the backend's `sh` ended with {code}: {said}"),
            hint: Some("files are looked at by sh, stat, head, tail and base64 there".to_owned()),
        })
    }

    /// What a script printed that makes no sense.
    pub(super) fn garbled(&self, printed: &str) -> FrontError {
        self.upstream.failed(Trouble::Nonsense(format!("a script printed {printed:?}")).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_in_the_workspace_and_stay_paths() {
        for (path, absolute, argument) in [
            ("a", "/workspace/a", "./a"),
            ("-rf", "/workspace/-rf", "./-rf"),
            ("/workspace/a/../b/.", "/workspace/b", "./b"),
            ("", "/workspace", "./"),
            ("..", "/", "/"),
            ("../../tmp/x", "/tmp/x", "/tmp/x"),
            ("/", "/", "/"),
        ] {
            let path = RemotePath::new(path.as_bytes()).unwrap();
            assert_eq!((path.absolute(), path.as_argument()), (absolute.into(), argument.into()));
        }
        RemotePath::new(b"\xff").unwrap_err();
        RemotePath::new(b"a\0").unwrap_err();
        let split = |path: &str| {
            let path = RemotePath::new(path.as_bytes()).unwrap();
            path.split().map(|(parent, name)| (parent.absolute(), name.to_owned()))
        };
        assert_eq!(split("a/b"), Some(("/workspace/a".to_owned(), "b".to_owned())));
        assert_eq!((split("."), split("/")), (None, None));
    }
}
