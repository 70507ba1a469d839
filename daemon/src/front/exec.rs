//! Running a command on the backend.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use noxrunner_protocol::http::{self, ExecBody, Executed};
use noxrunner_protocol::ids::TimeoutSeconds;
use noxrunner_protocol::limits::{MAX_OUTPUT_BYTES_BASE64, MAX_OUTPUT_BYTES_UTF8};
use noxrunner_protocol::types::{Cause, CreateParams, Encoding, ExecParams, ExecResult};
use tokio::time::Instant;

use super::Front;
use super::calls::{create, is_missing};
use super::error::FrontError;
use super::upstream::Ask;
use crate::serve::rpc::Caller;
use crate::serve::service::REST_DEFAULT_TIMEOUT;

/// `sandbox.exec`. Dropped, it closes the connection that the backend runs the command for.
pub(super) async fn exec(
    front: Arc<Front>,
    caller: Caller,
    params: ExecParams,
) -> Result<ExecResult, FrontError> {
    check(&params)?;
    let name = front.name(caller, &params.session_id)?;
    let begun = Instant::now();
    let deadline = caller.arrived
        + params.timeout_seconds.duration()
        + front.config.upstream.upstream_exec_grace;
    // A backend shortens the default by itself, and may know whole seconds only.
    let timeout = if params.timeout_seconds.get() == REST_DEFAULT_TIMEOUT {
        TimeoutSeconds::default()
    } else {
        params.timeout_seconds
    };
    let body = ExecBody {
        cmd: params.cmd.clone(),
        workdir: Some(params.workdir.clone()),
        env: (!params.env.is_empty()).then(|| params.env.clone()),
        timeout_seconds: Some(timeout),
    };
    let ask = Ask::new(Method::POST, http::exec(&name), "a command").json(&body);
    let mut running = front.known.running(&name);
    let mut answered = front.upstream.once(ask.clone(), deadline).await;
    if params.create && matches!(&answered, Err(error) if is_missing(error)) {
        // Nothing ran, so it may be asked again.
        front.known.forget(&name);
        create(Arc::clone(&front), caller, CreateParams::new(params.session_id.clone())).await?;
        running = front.known.running(&name);
        answered = front.upstream.once(ask, deadline).await;
    }
    let answered = answered.inspect_err(|error| front.notice(&name, error))?;
    drop(running);
    let executed: Executed = front.upstream.read(answered).await?;
    let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(result(executed, &params, elapsed))
}

fn check(params: &ExecParams) -> Result<(), FrontError> {
    let unsupported = [
        (params.stdin.is_some(), "sandbox.exec with stdin"),
        (params.fds != 0, "sandbox.exec with fds"),
        (params.tag.is_some(), "sandbox.exec with a tag"),
    ];
    if let Some((_, what)) = unsupported.into_iter().find(|(asked, _)| *asked) {
        return Err(FrontError::Unsupported(what));
    }
    let most = match params.encoding {
        Encoding::Utf8 => MAX_OUTPUT_BYTES_UTF8,
        Encoding::Base64 => MAX_OUTPUT_BYTES_BASE64,
    };
    if params.max_output_bytes > most {
        let asked = params.max_output_bytes;
        let why = format!("maxOutputBytes is at most {most} with this encoding, not {asked}");
        return Err(FrontError::Invalid(why));
    }
    Ok(())
}

/// The answer, from what the backend says. What it does not say is not guessed from what it does:
/// a command may well exit with 124 by itself.
fn result(executed: Executed, params: &ExecParams, elapsed: u64) -> ExecResult {
    let most = usize::try_from(params.max_output_bytes).unwrap_or(usize::MAX);
    let sent = executed.encoding.unwrap_or_default();
    let stdout = Stream::new(executed.stdout, sent, params.encoding, most);
    let stderr = Stream::new(executed.stderr, sent, params.encoding, most);
    let mut warnings = executed.warnings.unwrap_or_default();
    warnings.retain(|warning| !warning.starts_with(http::LOCAL_MODE));
    if stdout.is_doubtful || stderr.is_doubtful {
        warnings.push(
            "the backend sends output as text: where it has the character U+FFFD, there may have \
             been bytes that are no text"
                .to_owned(),
        );
    }
    ExecResult {
        exit_code: executed.exit_code,
        stdout_truncated: executed.stdout_truncated.unwrap_or(false) || stdout.is_cut,
        stderr_truncated: executed.stderr_truncated.unwrap_or(false) || stderr.is_cut,
        stdout_bytes: executed.stdout_bytes.unwrap_or(stdout.all),
        stderr_bytes: executed.stderr_bytes.unwrap_or(stderr.all),
        stdout: stdout.text,
        stderr: stderr.text,
        encoding: params.encoding,
        duration_ms: executed.duration_ms.unwrap_or(elapsed),
        cause: executed.cause.unwrap_or(Cause::Exited),
        workdir: executed.workdir.unwrap_or_else(|| params.workdir.clone()),
        redirected: executed.redirected.unwrap_or(false),
        usage: executed.usage.unwrap_or_default(),
        denial: executed.denial,
        warnings,
        hint: executed.hint,
    }
}

/// A stream of a command's output, as the client wants it.
struct Stream {
    text: String,
    /// How many bytes came.
    all: u64,
    is_cut: bool,
    /// Whether bytes may have been replaced before they came.
    is_doubtful: bool,
}

impl Stream {
    fn new(sent: String, how: Encoding, wanted: Encoding, most: usize) -> Self {
        let (mut bytes, is_text) = match how {
            Encoding::Utf8 => (sent.into_bytes(), true),
            // None sends it unasked; what is no base64 then is text.
            Encoding::Base64 => match STANDARD.decode(&sent) {
                Ok(bytes) => (bytes, false),
                Err(_) => (sent.into_bytes(), true),
            },
        };
        let (all, is_cut) = (bytes.len() as u64, bytes.len() > most);
        if is_cut {
            let mut end = most;
            // A character that is cut in two is dropped.
            while is_text && end > 0 && bytes.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
                end -= 1;
            }
            bytes.truncate(end);
        }
        let replaced = |bytes: &[u8]| bytes.windows(3).any(|c| c == "\u{fffd}".as_bytes());
        let is_doubtful = wanted == Encoding::Base64 && is_text && replaced(&bytes);
        let text = match wanted {
            Encoding::Base64 => STANDARD.encode(bytes),
            Encoding::Utf8 => String::from_utf8(bytes)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
        };
        Self { text, all, is_cut, is_doubtful }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> ExecParams {
        ExecParams::new("s".parse().unwrap(), vec!["x".to_owned()])
    }

    fn executed(text: &str) -> Executed {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_a_backend_does_not_say_is_not_guessed() {
        for code in [124, 126, 127, 137] {
            let said = executed(&format!(r#"{{"exitCode": {code}, "stdout": "a", "stderr": ""}}"#));
            let result = result(said, &params(), 7);
            assert_eq!((result.exit_code, result.cause), (code, Cause::Exited));
            assert_eq!((result.duration_ms, result.workdir.as_str()), (7, "/workspace"));
            assert_eq!((result.stdout_bytes, result.stderr_bytes), (1, 0));
            assert!(result.warnings.is_empty() && result.hint.is_none());
        }
    }

    #[test]
    fn what_one_of_ours_says_comes_through_whole() {
        let golden = include_str!("../../../protocol/golden/exec_result.json");
        let mut wanted: ExecResult = serde_json::from_str(golden).unwrap();
        // But for what is about the machine that it ran on.
        assert!(wanted.warnings.pop().is_some_and(|warning| warning.starts_with(http::LOCAL_MODE)));
        assert_eq!(result(executed(golden), &params(), 7), wanted);
    }

    #[test]
    fn output_is_cut_between_characters_and_said_to_be() {
        let cut = |text: &str, wanted, most| {
            let stream = Stream::new(text.to_owned(), Encoding::Utf8, wanted, most);
            (stream.text, stream.is_cut, stream.is_doubtful)
        };
        assert_eq!(cut("aüb", Encoding::Utf8, 4), ("aüb".to_owned(), false, false));
        assert_eq!(cut("aüb", Encoding::Utf8, 2), ("a".to_owned(), true, false));
        assert_eq!(cut("aüb", Encoding::Utf8, 3), ("aü".to_owned(), true, false));
        assert_eq!(cut("aüb", Encoding::Utf8, 0), (String::new(), true, false));
        assert_eq!(cut("hi", Encoding::Base64, 9), ("aGk=".to_owned(), false, false));
        assert!(cut("a\u{fffd}", Encoding::Base64, 9).2);
        assert!(!cut("a\u{fffd}", Encoding::Utf8, 9).2);
        let bytes = Stream::new("/w==".to_owned(), Encoding::Base64, Encoding::Base64, 9);
        assert_eq!((bytes.text.as_str(), bytes.all, bytes.is_doubtful), ("/w==", 1, false));
    }
}
