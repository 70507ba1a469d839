//! What a newcomer's failure most likely means, said in the answer.

use std::ffi::OsStr;

use noxrunner_protocol::types::{ExecParams, ExecResult};

use crate::daemon::Daemon;

/// What programs say when there is no network: libc, curl, Node.js, Python and Go.
const OFFLINE: [&str; 7] = [
    "Temporary failure in name resolution",
    "Could not resolve",
    "Network is unreachable",
    "network is unreachable",
    "ENETUNREACH",
    "EAI_AGAIN",
    "Name or service not known",
];

/// A command that failed for want of a network.
pub(super) fn offline(result: &ExecResult) -> Option<String> {
    let says = |text: &str| OFFLINE.iter().any(|words| text.contains(words));
    (result.exit_code != 0 && (says(&result.stderr) || says(&result.stdout))).then(|| {
        "network is off in this sandbox: create it with network \"host\" (noxctl create --network host), \
         where the policy allows that"
            .to_owned()
    })
}

/// A blocked command that something the caller named has tried.
pub(super) fn blocked(result: &ExecResult) -> Option<String> {
    (result.exit_code != 0 && result.stderr.contains("Command not allowed: ")).then(|| {
        "the daemon's policy blocks it however it is run; commands = \"direct\" in its policy file \
         (--policy FILE) checks only what you name yourself"
            .to_owned()
    })
}

/// A program that this machine has and sandboxes do not see.
pub(super) fn not_found(daemon: &Daemon, params: &ExecParams) -> Option<String> {
    let program = OsStr::new(params.cmd.first()?);
    let path = daemon.host.variables().get(OsStr::new("PATH"))?;
    let directory = daemon.scene.as_ref()?.rootfs().suggest(program, path)?;
    Some(format!(
        "this machine has it where sandboxes do not look: expose = [{:?}] in the daemon's policy \
         file (--policy FILE) shows it",
        directory.display().to_string()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_for_want_of_a_network_is_explained_by_it() {
        let result = |exit_code, stderr: &str| {
            let text = include_str!("../../../protocol/golden/exec_result.json");
            let mut result: ExecResult = serde_json::from_str(text).unwrap();
            (result.exit_code, result.stderr) = (exit_code, stderr.to_owned());
            result.stdout = String::new();
            result
        };
        let curl = "curl: (6) Could not resolve host: example.com";
        assert!(offline(&result(6, curl)).is_some());
        assert!(offline(&result(0, curl)).is_none());
        assert!(offline(&result(1, "no such file")).is_none());
    }
}
