//! Commands that other users run, and what they see of a daemon.

use std::process::{Command, Stdio};

use nix::unistd::geteuid;

use crate::{TestDaemon, run, text};

/// A command line of another user, that begins with what is added next. Only root can do that.
#[track_caller]
pub fn as_user(uid: u32) -> Command {
    assert!(geteuid().is_root(), "leave the group root_only out where you are not root");
    let uid = uid.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]);
    // Not the tests' own directory, which that user may not enter.
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// What curl prints as another user who asks a daemon over TCP: the body, a space and the status.
#[track_caller]
pub fn curl_as(uid: u32, daemon: &TestDaemon, arguments: &[&str], path: &str) -> String {
    let mut command = as_user(uid);
    command.args(["curl", "--silent", "--noproxy", "*", "--max-time", "20"]);
    command.args(["--write-out", " %{http_code}"]).args(arguments);
    let output = run(command.arg(format!("http://{}{path}", daemon.http())));
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}
