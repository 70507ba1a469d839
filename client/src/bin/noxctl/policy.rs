//! What may run, and where paths lead.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use noxrunner_protocol::method::{PolicyCheckOne, PolicyGet};
use noxrunner_protocol::types::{NoParams, PolicyCheck, PolicyCheckParams, PolicyInfo};

use crate::cli::{PolicyArgs, PolicyCheckArgs, PolicyVerb};
use crate::context::Context;
use crate::error::CliError;
use crate::render::{bytes, list, wire_name};

/// `policy` and `policy check`.
pub(crate) fn policy(context: &Context<'_>, args: PolicyArgs) -> Result<u8, CliError> {
    match args.verb {
        None => get(context),
        Some(PolicyVerb::Check(args)) => check(context, args),
    }
}

fn get(context: &Context<'_>) -> Result<u8, CliError> {
    let policy = context.connect()?.call::<PolicyGet>(&NoParams {})?;
    context.out.result(&policy, || context.out.pairs(&describe(&policy)))?;
    Ok(0)
}

fn describe(policy: &PolicyInfo) -> Vec<(&'static str, String)> {
    let networks: Vec<_> = policy.network_allowed.iter().map(wire_name).collect();
    let mut pairs = vec![
        ("file", policy.file.clone().unwrap_or_else(|| "built in".to_owned())),
        ("commands", wire_name(&policy.commands)),
        ("mode", wire_name(&policy.mode)),
        ("block", list(&policy.block)),
        ("allow", list(&policy.allow)),
        ("exec", wire_name(&policy.exec)),
        ("delete", wire_name(&policy.delete)),
        ("env passthrough", list(&policy.env_passthrough)),
        ("expose", list(&policy.expose)),
        ("network allowed", list(&networks)),
        ("network default", wire_name(&policy.network_default)),
        ("max upload", bytes(policy.max_upload_bytes)),
        ("keep free", bytes(policy.keep_free_bytes)),
        ("default limits", default_limits(policy)),
        ("max timeout", format!("{} s", policy.max_timeout_seconds.get())),
        ("max output", policy.max_output_bytes.map_or_else(|| "any".to_owned(), bytes)),
    ];
    let gaps = policy.not_enforced.iter();
    pairs.extend(gaps.map(|gap| ("not enforced", format!("{}: {}", gap.setting, gap.why))));
    pairs
}

fn default_limits(policy: &PolicyInfo) -> String {
    let limits = policy.default_limits;
    format!(
        "memory {}, cpu {}m, {} processes, storage {}, {} files and directories, {} open files",
        bytes(limits.memory_bytes),
        limits.cpu_millis,
        limits.pids,
        bytes(limits.storage_bytes),
        limits.inodes,
        limits.open_files
    )
}

fn check(context: &Context<'_>, args: PolicyCheckArgs) -> Result<u8, CliError> {
    let answer = context.connect()?.call::<PolicyCheckOne>(&question(args))?;
    context.out.result(&answer, || context.out.pairs(&verdict(&answer)))?;
    Ok(u8::from(!answer.allowed))
}

fn question(PolicyCheckArgs { path, command }: PolicyCheckArgs) -> PolicyCheckParams {
    match path.map(|path| PathBuf::into_os_string(path).into_string()) {
        None => PolicyCheckParams { cmd: Some(command), ..Default::default() },
        Some(Ok(path)) => PolicyCheckParams { path: Some(path), ..Default::default() },
        Some(Err(path)) => {
            let path_base64 = Some(STANDARD.encode(path.as_encoded_bytes()));
            PolicyCheckParams { path_base64, ..Default::default() }
        }
    }
}

fn verdict(answer: &PolicyCheck) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("verdict", if answer.allowed { "allowed" } else { "denied" }.to_owned())];
    let known = [("rule", &answer.rule), ("setting", &answer.setting)];
    pairs.extend(known.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    pairs.push(("resolved", answer.resolved.clone().unwrap_or_else(|| "-".to_owned())));
    if answer.redirected {
        pairs.push(("redirected", "the path leads out of the sandbox".to_owned()));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_path_that_is_not_utf8_travels_as_base64() {
        let ask = |bytes: &[u8]| {
            let path = Some(OsString::from_vec(bytes.to_vec()).into());
            question(PolicyCheckArgs { path, command: Vec::new() })
        };
        assert_eq!(ask(b"/etc").path.as_deref(), Some("/etc"));
        assert_eq!(ask(b"a\xff").path_base64.as_deref(), Some("Yf8="));
        assert_eq!(ask(b"a\xff").cmd, None);
    }
}
