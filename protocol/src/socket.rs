//! Where the daemon listens when nobody says otherwise. Pure: the environment
//! is an argument, and nothing is looked up on disk.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Environment variable that names the socket.
pub const SOCKET_ENV: &str = "NOXRUNNER_SOCKET";

/// Name of the socket in its directory.
pub const SOCKET_NAME: &str = "noxrunnerd.sock";

/// The socket of a daemon that serves the whole machine.
pub const SYSTEM_SOCKET: &str = "/run/noxrunner/noxrunnerd.sock";

/// The default socket of a user, the first that applies: `$NOXRUNNER_SOCKET`,
/// `$XDG_RUNTIME_DIR/noxrunner/noxrunnerd.sock`, `/run/noxrunner/noxrunnerd.sock`
/// for root, `/tmp/noxrunner-<uid>/noxrunnerd.sock`. An empty variable does not count,
/// nor does a runtime directory that is not absolute (the XDG Base Directory
/// Specification asks for such a one to be ignored).
///
/// ```
/// use noxrunner_protocol::socket::default_path;
/// let none = |_: &str| None;
/// assert_eq!(default_path(none, 1000).to_str(), Some("/tmp/noxrunner-1000/noxrunnerd.sock"));
/// ```
pub fn default_path(env: impl Fn(&str) -> Option<OsString>, uid: u32) -> PathBuf {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(path) = set(SOCKET_ENV) {
        return path.into();
    }
    if let Some(runtime) = set("XDG_RUNTIME_DIR").map(PathBuf::from)
        && runtime.is_absolute()
    {
        return runtime.join("noxrunner").join(SOCKET_NAME);
    }
    if uid == 0 {
        return SYSTEM_SOCKET.into();
    }
    Path::new("/tmp").join(format!("noxrunner-{uid}")).join(SOCKET_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_applies() {
        let path = |vars: &[(&str, &str)], uid| {
            let vars: Vec<(String, OsString)> =
                vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
            default_path(|n| vars.iter().find(|(k, _)| k == n).map(|(_, v)| v.clone()), uid)
        };
        let (socket, xdg) = ((SOCKET_ENV, "/s"), ("XDG_RUNTIME_DIR", "/run/user/7"));
        assert_eq!(path(&[socket, xdg], 7), Path::new("/s"));
        assert_eq!(
            path(&[(SOCKET_ENV, ""), xdg], 7),
            Path::new("/run/user/7/noxrunner/noxrunnerd.sock")
        );
        assert_eq!(path(&[("XDG_RUNTIME_DIR", "x")], 0), Path::new(SYSTEM_SOCKET));
        assert_eq!(path(&[], 0), Path::new(SYSTEM_SOCKET));
        assert_eq!(path(&[], 7), Path::new("/tmp/noxrunner-7/noxrunnerd.sock"));
    }
}
