//! `policy.check`: what the policy makes of a command or a path, with nothing run.

use std::collections::BTreeMap;
use std::ffi::OsString;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use noxrunner_protocol::types::{PolicyCheck, PolicyCheckParams};

use super::{CommandRequest, Policy, RootNames, Shown, View, check_path};

/// Answers `policy.check` as for a sandbox with nothing in it. `base_env` is
/// the environment of its commands, `shown` what they see of the host where they have a mount tree. Looks at the file system: not for the async threads.
///
/// # Errors
/// Why the question makes no sense, in words.
pub fn check(
    policy: &Policy,
    base_env: &BTreeMap<OsString, OsString>,
    names: &RootNames,
    shown: Option<&Shown<'_>>,
    params: &PolicyCheckParams,
) -> Result<PolicyCheck, String> {
    let path = |path: &[u8]| check_path(path, names).map_err(|e| format!("path {e}"));
    match (&params.cmd, &params.path, &params.path_base64) {
        (Some(cmd), None, None) => {
            let request = CommandRequest {
                cmd,
                workdir: "/workspace",
                env: &BTreeMap::new(),
                base_env,
                view: View { names, host_path: &|_| None, shown },
            };
            policy.check_command(&request).map_err(|refusal| refusal.to_string())
        }
        (None, Some(text), None) => path(text.as_bytes()),
        (None, None, Some(base64)) => {
            let bytes = STANDARD.decode(base64);
            path(&bytes.map_err(|e| format!("pathBase64 is not base64: {e}"))?)
        }
        _ => Err("give exactly one of cmd, path and pathBase64".to_owned()),
    }
}
