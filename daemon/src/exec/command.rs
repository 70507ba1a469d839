//! A whole exec: from the request's params to the answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use noxrunner_protocol::limits;
use noxrunner_protocol::types::{
    Cause, Denial, Encoding, ExecParams, ExecResult, Network, ResourceUsage, Tier,
};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::hint;
use super::outcome::{self, Outcome};
use super::output::Captured;
use super::supervise::{self, Finished, Terms};
use crate::daemon::{Daemon, joined};
use crate::error::CallError;
use crate::policy::{
    CommandRequest, Inside, PathUse, Refusal, RootNames, Shown, View, check_words, decide,
};
use crate::sandbox::Sandbox;
use crate::sandbox::plan::{self, Plan};
use crate::warning;

/// What became of a command before it could start.
enum Judged {
    Planned(Plan),
    Denied(Denial),
}

/// Runs a command to its end. `arrived` is when the request was read: the
/// command's time counts from there.
///
/// # Errors
/// Where the request makes no sense or the sandbox fails. A command that
/// fails, is refused or takes too long is a result.
pub async fn exec(
    daemon: &Arc<Daemon>,
    caller: u32,
    arrived: Instant,
    mut params: ExecParams,
) -> Result<ExecResult, CallError> {
    let stdin = check(&mut params)?;
    let longest = daemon.policy.max_timeout();
    if params.timeout_seconds > longest {
        let why = format!(
            "timeoutSeconds is at most {} here, not {}: the policy's setting \"max_timeout\"",
            longest.get(),
            params.timeout_seconds.get()
        );
        return Err(CallError::Invalid(why));
    }
    let params = Arc::new(params);
    let sandbox = if params.create {
        daemon.find_or_create(caller, &params.session_id).await?
    } else {
        let found = daemon.registry.find(caller, &params.session_id).await;
        found.map_err(CallError::lookup(&params.session_id))?
    };
    let _running = sandbox.running();
    let terms = Terms {
        deadline: arrived + params.timeout_seconds.duration(),
        stdin,
        max_output: usize::try_from(params.max_output_bytes).unwrap_or(usize::MAX),
        stop_after: daemon.policy.max_output(),
        keep_free: daemon.policy.keep_free(),
        spawns: Arc::clone(&daemon.spawns),
    };
    let place = decide(params.workdir.as_bytes(), PathUse::Directory, &names(daemon, &sandbox)?)
        .map_err(|error| CallError::Invalid(format!("workdir {error}")))?;
    let mut answer = Answer::new(&params, &place, daemon.isolation.tier);

    let judged = if daemon.scene.is_some() {
        // Nothing but names on this machine's own disks is looked at, which is sooner done than handed on.
        judge(daemon, &sandbox, &params)?
    } else {
        // Without a mount tree a link may lead to a file system that does not answer.
        let (judging, judged_in) = (Arc::clone(daemon), Arc::clone(&sandbox));
        let asked = Arc::clone(&params);
        joined(spawn_blocking(move || judge(&judging, &judged_in, &asked)).await)??
    };
    let plan = match judged {
        Judged::Denied(denial) => return Ok(answer.denied(denial)),
        Judged::Planned(plan) => plan,
    };
    if plan.workdir_created {
        answer
            .warnings
            .push(format!("the working directory {} was missing: created", answer.workdir));
    }
    let programs = plan.spec.program_paths();
    if !sandbox.has_init() {
        // Adopted, or its last one died.
        daemon.refresh().await;
    }
    tracing::debug!(session = %params.session_id, "exec");
    let finished =
        supervise::start(Arc::clone(&daemon.engine), Arc::clone(&sandbox), plan.spec, terms);
    // The supervisor always answers, unless the runtime ends.
    let finished = finished.await.map_err(|_| CallError::Stopping)?;
    let offline = sandbox.settings().network == Network::None && daemon.scene.is_some();
    let exists = |program: &Path| daemon.exists(&sandbox, program);
    let mut result = answer.finished(finished?, &params, &programs, &exists)?;
    if result.hint.is_none() {
        result.hint = match result.cause {
            Cause::NotFound => hint::not_found(daemon, &params),
            Cause::Exited => {
                hint::blocked(&result).or_else(|| hint::offline(&result).filter(|_| offline))
            }
            Cause::Signaled
            | Cause::Timeout
            | Cause::Oom
            | Cause::Denied
            | Cause::NotExecutable
            | Cause::Limit => None,
        };
    }
    Ok(result)
}

/// Checks all that needs no sandbox, before one is made for a command that
/// makes no sense, and takes the bytes for standard input out of it.
fn check(params: &mut ExecParams) -> Result<Option<Vec<u8>>, CallError> {
    if params.fds != 0 {
        return Err(CallError::Unsupported("sandbox.exec with fds"));
    }
    if params.tag.is_some() {
        return Err(CallError::Unsupported("sandbox.exec with a tag"));
    }
    check_words(&params.cmd, &params.env).map_err(CallError::Invalid)?;
    if params.workdir.contains('\0') {
        return Err(CallError::Invalid("workdir has a NUL byte".to_owned()));
    }
    let most = match params.encoding {
        Encoding::Utf8 => limits::MAX_OUTPUT_BYTES_UTF8,
        Encoding::Base64 => limits::MAX_OUTPUT_BYTES_BASE64,
    };
    if params.max_output_bytes > most {
        return Err(CallError::Invalid(format!(
            "maxOutputBytes is at most {most} with this encoding, not {}",
            params.max_output_bytes
        )));
    }
    let Some(text) = params.stdin.take() else { return Ok(None) };
    Ok(Some(match params.stdin_encoding {
        Encoding::Utf8 => text.into_bytes(),
        Encoding::Base64 => STANDARD
            .decode(text)
            .map_err(|e| CallError::Invalid(format!("stdin is not base64: {e}")))?,
    }))
}

fn names(daemon: &Daemon, sandbox: &Sandbox) -> Result<RootNames, CallError> {
    daemon.names(sandbox.dir.path()).map_err(CallError::names)
}

/// Asks policy and plans what it approves. Touches the disk.
fn judge(daemon: &Daemon, sandbox: &Sandbox, params: &ExecParams) -> Result<Judged, CallError> {
    let names = names(daemon, sandbox)?;
    let host_path = |inside: &Inside| Some(sandbox.dir.host_path(inside));
    let shown = |path: &Path| daemon.scene.as_ref().and_then(|scene| scene.host_path(path));
    let shown = daemon.scene.is_some().then_some(&shown as &Shown<'_>);
    let base_env = sandbox.environment(&daemon.host);
    let request = CommandRequest {
        cmd: &params.cmd,
        workdir: &params.workdir,
        env: &params.env,
        base_env: &base_env,
        view: View { names: &names, host_path: &host_path, shown },
    };
    match daemon.policy.approve(&request) {
        Ok(approved) => {
            // The working directory may have to be made: not while the sandbox's files are being
            // removed. Nothing in there waits for what is outside, which would keep them from going.
            let _pass = sandbox.gate.enter().ok_or_else(|| daemon.closed(&params.session_id))?;
            Ok(Judged::Planned(plan::plan(approved, sandbox, &names)?))
        }
        Err(Refusal::Denied(denial)) => Ok(Judged::Denied(denial)),
        Err(Refusal::Invalid(why)) => Err(CallError::Invalid(why)),
    }
}

/// An answer in the making.
struct Answer {
    encoding: Encoding,
    workdir: String,
    redirected: bool,
    warnings: Vec<String>,
}

impl Answer {
    fn new(params: &ExecParams, place: &Inside, tier: Tier) -> Self {
        Self {
            encoding: params.encoding,
            workdir: String::from_utf8_lossy(&place.display_path()).into_owned(),
            redirected: place.redirected(),
            warnings: vec![warning::at_exec(tier)],
        }
    }

    fn denied(self, denial: Denial) -> ExecResult {
        let hint = format!(
            "the policy's setting {:?} refuses it: policy.get shows the policy, --policy FILE changes it",
            denial.setting
        );
        let stderr = format!("Command not allowed: {}\n", denial.rule);
        let outcome =
            Outcome { exit_code: 1, cause: Cause::Denied, stderr: Some(stderr), hint: Some(hint) };
        let mut result = self.compose(outcome, &Captured::default(), Captured::default());
        result.denial = Some(denial);
        result
    }

    fn finished(
        self,
        finished: Finished,
        params: &ExecParams,
        programs: &[PathBuf],
        exists: &dyn Fn(&Path) -> bool,
    ) -> Result<ExecResult, CallError> {
        let Finished { end, stdout, stderr, usage, duration } = finished;
        let outcome = outcome::of(end, params, programs, exists)?;
        let mut result = self.compose(outcome, &stdout, stderr);
        result.duration_ms = duration.as_millis().try_into().unwrap_or(u64::MAX);
        result.usage = ResourceUsage {
            user_ms: usage.user_us as f64 / 1000.0,
            sys_ms: usage.sys_us as f64 / 1000.0,
            max_rss_kib: usage.max_rss_kib,
            minor_faults: usage.minor_faults,
            major_faults: usage.major_faults,
            voluntary_switches: usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches,
        };
        Ok(result)
    }

    fn compose(self, outcome: Outcome, stdout: &Captured, mut stderr: Captured) -> ExecResult {
        if let Some(text) = outcome.stderr {
            stderr.kept = text.into_bytes();
            stderr.total = stderr.kept.len() as u64;
        }
        ExecResult {
            exit_code: outcome.exit_code,
            stdout: encode(stdout, self.encoding),
            stderr: encode(&stderr, self.encoding),
            encoding: self.encoding,
            duration_ms: 0,
            cause: outcome.cause,
            stdout_truncated: stdout.truncated(),
            stderr_truncated: stderr.truncated(),
            stdout_bytes: stdout.total,
            stderr_bytes: stderr.total,
            workdir: self.workdir,
            redirected: self.redirected,
            usage: ResourceUsage::default(),
            denial: None,
            warnings: self.warnings,
            hint: outcome.hint,
        }
    }
}

fn encode(stream: &Captured, encoding: Encoding) -> String {
    let mut bytes = stream.kept.as_slice();
    match encoding {
        Encoding::Base64 => STANDARD.encode(bytes),
        Encoding::Utf8 => {
            if stream.truncated() {
                bytes = whole_characters(bytes);
            }
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

/// Without the beginning of a character that was cut in two.
fn whole_characters(bytes: &[u8]) -> &[u8] {
    // A character has at most four bytes, so a cut one leaves at most three.
    let tail = bytes.len().saturating_sub(3);
    for (at, byte) in bytes.iter().enumerate().skip(tail) {
        let cut = std::str::from_utf8(&bytes[at..]).err();
        if *byte >= 0xC0 && cut.is_some_and(|e| e.error_len().is_none() && e.valid_up_to() == 0) {
            return &bytes[..at];
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_in_two_is_dropped_and_nothing_else() {
        for (text, kept) in [
            (&b"abc"[..], 3),
            ("é".as_bytes(), 2),
            (&"é".as_bytes()[..1], 0),
            (&"a€".as_bytes()[..3], 1),
            (&"a\u{1F600}".as_bytes()[..4], 1),
            (b"a\xff", 2),
            (b"a\x80", 2),
            (b"", 0),
        ] {
            assert_eq!(whole_characters(text).len(), kept, "{text:?}");
        }
    }
}
