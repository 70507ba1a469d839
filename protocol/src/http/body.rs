//! The bodies of the NoxRunner v1 REST API. They may gain fields, which both sides ignore.
//!
//! What is asked is checked as the wire's other params are. What is answered is read with
//! patience: other backends know less of it, and may spell what they add in their own way.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::ids::{TimeoutSeconds, TtlSeconds};
use crate::quantity::Quantity;
use crate::types::{
    Cause, CreateResult, Denial, Encoding, ExecResult, Isolation, Limits, ResourceUsage,
    UploadResult,
};

/// The body of a `PUT` that makes a sandbox, or keeps the one of that name.
///
#[doc = concat!("```json\n", include_str!("../../golden/create_body.json"), "```")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateBody {
    /// How long it lives unless it is touched, in seconds; 900 where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<TtlSeconds>,
    /// A container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Most processor time, in cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<Quantity>,
    /// Most memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Quantity>,
    /// Most storage, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_limit: Option<Quantity>,
}

/// The answer to a `PUT` that makes a sandbox. NoxRunner Local sends all of
/// [`CreateResult`], other backends the first two.
///
#[doc = concat!("```json\n", include_str!("../../golden/created.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Name of the sandbox on its backend.
    pub pod_name: String,
    /// When it expires, as the backend writes it.
    #[serde(default)]
    pub expires_at: String,
    /// Whether it was made now; false where it existed.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub created: Option<bool>,
    /// Its directory on the backend's machine.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub sandbox_dir: Option<String>,
    /// What isolates it.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Its limits.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What a person should know about it.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<String>>,
}

impl From<CreateResult> for Created {
    fn from(result: CreateResult) -> Self {
        Self {
            pod_name: result.pod_name,
            expires_at: result.expires_at,
            created: Some(result.created),
            sandbox_dir: Some(result.sandbox_dir),
            isolation: Some(result.isolation),
            limits: Some(result.limits),
            warnings: (!result.warnings.is_empty()).then_some(result.warnings),
        }
    }
}

/// The body of a `POST` that runs a command.
///
#[doc = concat!("```json\n", include_str!("../../golden/exec_body.json"), "```")]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecBody {
    /// The program and its arguments; no shell reads them.
    pub cmd: Vec<String>,
    /// Directory to run in; `/workspace` where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Environment variables beside the sandbox's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// How long the command may run, in seconds; 30 where it is missing.
    #[serde(default, serialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<TimeoutSeconds>,
}

/// The answer to a `POST` that runs a command. NoxRunner Local sends all of
/// [`ExecResult`], other backends the first four.
///
#[doc = concat!("```json\n", include_str!("../../golden/executed.json"), "```")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Executed {
    /// The command's exit status.
    pub exit_code: i32,
    /// What it wrote on its standard output.
    #[serde(default)]
    pub stdout: String,
    /// What it wrote on its standard error.
    #[serde(default)]
    pub stderr: String,
    /// How long it ran, in milliseconds.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How the two streams are written; as text where it is missing.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Why it ended.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Whether `stdout` is only the beginning.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub stdout_truncated: Option<bool>,
    /// Whether `stderr` is only the beginning.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub stderr_truncated: Option<bool>,
    /// How many bytes it wrote on its standard output.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub stdout_bytes: Option<u64>,
    /// How many bytes it wrote on its standard error.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub stderr_bytes: Option<u64>,
    /// The directory it ran in, as the sandbox names it.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Whether the directory asked for was outside and replaced by the workspace.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub redirected: Option<bool>,
    /// What it used.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub usage: Option<ResourceUsage>,
    /// Which rule refused it, where one did.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// What a person should know about how it ran.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<String>>,
    /// What to do about how it ended.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<ExecResult> for Executed {
    fn from(result: ExecResult) -> Self {
        Self {
            exit_code: result.exit_code,
            stdout: result.stdout,
            stderr: result.stderr,
            duration_ms: Some(result.duration_ms),
            encoding: Some(result.encoding),
            cause: Some(result.cause),
            stdout_truncated: Some(result.stdout_truncated),
            stderr_truncated: Some(result.stderr_truncated),
            stdout_bytes: Some(result.stdout_bytes),
            stderr_bytes: Some(result.stderr_bytes),
            workdir: Some(result.workdir),
            redirected: Some(result.redirected),
            usage: Some(result.usage),
            denial: result.denial,
            warnings: (!result.warnings.is_empty()).then_some(result.warnings),
            hint: result.hint,
        }
    }
}

/// The answer to a `POST` of an archive. NoxRunner Local sends all of [`UploadResult`], other
/// backends say nothing but that it is done.
///
#[doc = concat!("```json\n", include_str!("../../golden/uploaded.json"), "```")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uploaded {
    /// How many members were written.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    /// How many bytes of files.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many members were left out.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    /// How many with an absolute path, or with `..` in it, were put into the destination by their last name.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub rerooted: Option<u64>,
    /// How many files lost a set-user-id or set-group-id bit.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub set_id_cleared: Option<u64>,
    /// Where it was unpacked, as the sandbox names it.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub dest: Option<String>,
    /// Whether the destination was outside and replaced by the workspace.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub redirected: Option<bool>,
    /// What a person should know about it.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<String>>,
}

impl From<UploadResult> for Uploaded {
    fn from(result: UploadResult) -> Self {
        Self {
            written: Some(result.written),
            bytes: Some(result.bytes),
            skipped: Some(result.skipped),
            rerooted: Some(result.rerooted),
            set_id_cleared: Some(result.set_id_cleared),
            dest: Some(result.dest),
            redirected: Some(result.redirected),
            warnings: (!result.warnings.is_empty()).then_some(result.warnings),
        }
    }
}

/// A value that is one of ours; what another backend means by the name is as good as none.
pub(super) fn known<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: for<'a> Deserialize<'a>,
{
    Ok(T::deserialize(Value::deserialize(deserializer)?).ok())
}

/// A timeout without a fraction where it has none: other backends read whole numbers only.
#[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
fn whole<S: Serializer>(
    timeout: &Option<TimeoutSeconds>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let seconds = timeout.map(TimeoutSeconds::get);
    match seconds.filter(|seconds| seconds.fract() == 0.0) {
        // At most a day, so that nothing is lost.
        Some(whole) => serializer.serialize_u32(whole as u32),
        None => seconds.serialize(serializer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_timeout_travels_without_a_fraction() {
        for (seconds, written) in [(30.0, "30"), (0.5, "0.5"), (86_400.0, "86400")] {
            let timeout = TimeoutSeconds::try_from(seconds).unwrap();
            let body = ExecBody { timeout_seconds: Some(timeout), ..ExecBody::default() };
            let text = serde_json::to_string(&body).unwrap();
            assert_eq!(text, format!(r#"{{"cmd":[],"timeoutSeconds":{written}}}"#));
        }
    }

    #[test]
    fn what_is_asked_is_checked_and_what_is_unknown_ignored() {
        let read = serde_json::from_str::<CreateBody>;
        assert_eq!(read("{}").unwrap(), CreateBody::default());
        assert_eq!(read(r#"{"x": 1, "image": null}"#).unwrap(), CreateBody::default());
        for bad in [r#"{"ttlSeconds": 0}"#, r#"{"memoryLimit": "lots"}"#, r#"{"cpuLimit": 1}"#] {
            read(bad).unwrap_err();
        }
        let read = serde_json::from_str::<ExecBody>;
        assert_eq!(read(r#"{"cmd": ["a"], "x": {}}"#).unwrap().cmd, ["a"]);
        for bad in ["{}", r#"{"cmd": "a"}"#, r#"{"cmd": [], "timeoutSeconds": -1}"#] {
            read(bad).unwrap_err();
        }
    }

    #[test]
    fn what_other_backends_answer_is_understood() {
        let read = serde_json::from_str::<Created>;
        let created = read(r#"{"podName": "p", "created": "yes", "node": 3}"#).unwrap();
        assert_eq!((created.pod_name.as_str(), created.created), ("p", None));
        read("{}").unwrap_err();
        let read = serde_json::from_str::<Executed>;
        let text = r#"{"exitCode": 7, "stdout": "a", "cause": "evicted", "durationMs": 1.5,
            "usage": null, "warnings": "w", "pod": "p"}"#;
        let executed = read(text).unwrap();
        assert_eq!((executed.exit_code, executed.stdout.as_str()), (7, "a"));
        assert_eq!((executed.cause, executed.duration_ms, executed.usage), (None, None, None));
        assert_eq!(executed.warnings, None);
        read(r#"{"stdout": "a"}"#).unwrap_err();
    }

    #[test]
    fn our_own_results_lose_nothing() {
        let text = include_str!("../../golden/exec_result.json");
        let result: ExecResult = serde_json::from_str(text).unwrap();
        let executed: Executed = serde_json::from_str(text).unwrap();
        assert_eq!(executed, result.into());
        let text = include_str!("../../golden/create_result.json");
        let result: CreateResult = serde_json::from_str(text).unwrap();
        let created: Created = serde_json::from_str(text).unwrap();
        assert_eq!(created, result.into());
        let text = include_str!("../../golden/upload_result.json");
        let result: UploadResult = serde_json::from_str(text).unwrap();
        let uploaded: Uploaded = serde_json::from_str(text).unwrap();
        assert_eq!(uploaded, result.into());
        assert_eq!(serde_json::from_str::<Uploaded>("{}").unwrap(), Uploaded::default());
    }
}
