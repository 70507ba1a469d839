//! Running a command to its end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{SessionId, TimeoutSeconds};
use crate::limits;

/// How bytes are written in JSON.
///
/// ```json
/// "utf8"
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum Encoding {
    /// As text; bytes that are not UTF-8 become replacement characters.
    #[default]
    Utf8,
    /// As base64, standard alphabet with padding (RFC 4648), byte for byte.
    Base64,
}

/// Params of `sandbox.exec`.
///
#[doc = concat!("```json\n", include_str!("../../golden/exec_params.json"), "```")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct ExecParams {
    /// The sandbox to run in.
    pub session_id: SessionId,
    /// The program and its arguments; no shell reads them.
    pub cmd: Vec<String>,
    /// Directory to run in; missing is created, outside the sandbox becomes the workspace.
    #[serde(default = "workspace")]
    pub workdir: String,
    /// Environment variables beside the sandbox's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// How long the command may run, in seconds, counted from when the request was read.
    #[serde(default)]
    pub timeout_seconds: TimeoutSeconds,
    /// What the command reads on its standard input; without it the input is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// How `stdin` is written.
    #[serde(default)]
    pub stdin_encoding: Encoding,
    /// Whether to create the sandbox, with defaults, if it does not exist.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub create: bool,
    /// Most bytes to keep of each output stream; the command goes on past it.
    #[serde(default = "output_bytes")]
    pub max_output_bytes: u64,
    /// How `stdout` and `stderr` are written in the answer.
    #[serde(default)]
    pub encoding: Encoding,
    /// A name for the running command (not built yet: `unsupported`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// How many descriptors come with the request (not built yet: anything but 0 is `unsupported`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fds: u32,
}

fn workspace() -> String {
    "/workspace".to_owned()
}

fn output_bytes() -> u64 {
    limits::DEFAULT_OUTPUT_BYTES
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl ExecParams {
    /// A command with every other param at its default.
    pub fn new(session_id: SessionId, cmd: Vec<String>) -> Self {
        Self {
            session_id,
            cmd,
            workdir: workspace(),
            env: BTreeMap::new(),
            timeout_seconds: TimeoutSeconds::default(),
            stdin: None,
            stdin_encoding: Encoding::default(),
            create: false,
            max_output_bytes: output_bytes(),
            encoding: Encoding::default(),
            tag: None,
            fds: 0,
        }
    }
}

/// Why a command ended.
///
/// ```json
/// "exited"
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub enum Cause {
    /// It ended by itself; `exitCode` is its own.
    Exited,
    /// A signal ended it; `exitCode` is 128 and the signal's number.
    Signaled,
    /// Its time was over; `exitCode` is 124.
    Timeout,
    /// It ran out of memory.
    Oom,
    /// Policy refused it and nothing ran; `exitCode` is 1.
    Denied,
    /// There is no such program; `exitCode` is 127.
    NotFound,
    /// The program cannot be executed; `exitCode` is 126.
    NotExecutable,
    /// The storage, process or output policy stopped it.
    Limit,
}

/// Result of `sandbox.exec`. A command that failed, was refused or timed out is
/// a result, not an error.
///
#[doc = concat!("```json\n", include_str!("../../golden/exec_result.json"), "```")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct ExecResult {
    /// The command's exit status, or what `cause` says of it.
    pub exit_code: i32,
    /// What it wrote on its standard output.
    pub stdout: String,
    /// What it wrote on its standard error.
    pub stderr: String,
    /// How the two are written.
    pub encoding: Encoding,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Why it ended.
    pub cause: Cause,
    /// Whether `stdout` is only the beginning.
    pub stdout_truncated: bool,
    /// Whether `stderr` is only the beginning.
    pub stderr_truncated: bool,
    /// How many bytes it wrote on its standard output.
    pub stdout_bytes: u64,
    /// How many bytes it wrote on its standard error.
    pub stderr_bytes: u64,
    /// The directory it ran in, as the sandbox names it.
    pub workdir: String,
    /// Whether the directory asked for was outside and replaced by the workspace.
    pub redirected: bool,
    /// What it used.
    pub usage: ResourceUsage,
    /// Which rule refused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// What a person should know about how it ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What to do about how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Which rule of the policy refused a command.
///
#[doc = concat!("```json\n", include_str!("../../golden/denial.json"), "```")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct Denial {
    /// The rule, as the policy spells it.
    pub rule: String,
    /// The policy setting that it stands in.
    pub setting: String,
}

/// What a command and the children it waited for used, as getrusage(2) counts it.
///
#[doc = concat!("```json\n", include_str!("../../golden/resource_usage.json"), "```")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openrpc", derive(schemars::JsonSchema))]
pub struct ResourceUsage {
    /// Processor time in user mode, in milliseconds.
    pub user_ms: f64,
    /// Processor time in the kernel, in milliseconds.
    pub sys_ms: f64,
    /// Largest resident set of any of its processes, in KiB.
    pub max_rss_kib: u64,
    /// Page faults that needed no I/O.
    pub minor_faults: u64,
    /// Page faults that needed I/O.
    pub major_faults: u64,
    /// Times it waited by its own will.
    pub voluntary_switches: u64,
    /// Times it was made to wait.
    pub involuntary_switches: u64,
}
