//! Running a command: its streams go through byte for byte, and its status
//! becomes noxctl's.

use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use noxrunner_protocol::http::{ExecBody, Executed};
use noxrunner_protocol::method::SandboxExec;
use noxrunner_protocol::types::{Encoding, ExecParams};
use noxrunner_protocol::{SessionId, limits};

use crate::backend;
use crate::cli::ExecArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::interrupt;

/// `exec`.
pub(crate) fn exec(context: &Context<'_>, mut args: ExecArgs) -> Result<u8, CliError> {
    // The daemon kills the command when its connection closes.
    interrupt::exit_at_once();
    let (session_id, command) = args.take_command()?;
    let body = ExecBody {
        cmd: command,
        workdir: Some(args.workdir),
        env: (!args.env.is_empty()).then(|| args.env.into_iter().collect()),
        timeout_seconds: Some(args.timeout_seconds),
    };
    if !args.stdin {
        return finish(context, run(context, &session_id, body)?, args.ignore_exit_code);
    }
    context.not_of_a_backend("exec -i")?;
    let mut params = params(session_id, body);
    // Before the connection is opened: a daemon does not wait long for a request.
    let (text, encoding) = encode(read_input(io::stdin().lock())?);
    params.stdin = Some(text);
    params.stdin_encoding = encoding;
    let ran = context.connect()?.call::<SandboxExec>(&params)?;
    finish(context, ran.into(), args.ignore_exit_code)
}

/// Runs a command without input in a sandbox, which is made if it does not exist.
pub(crate) fn run(
    context: &Context<'_>,
    session_id: &SessionId,
    body: ExecBody,
) -> Result<Executed, CliError> {
    match &context.backend {
        Some(backend) => backend::exec(backend, session_id, &body),
        None => {
            let params = params(session_id.clone(), body);
            Ok(context.connect()?.call::<SandboxExec>(&params)?.into())
        }
    }
}

fn params(session_id: SessionId, body: ExecBody) -> ExecParams {
    let mut params = ExecParams::new(session_id, body.cmd);
    params.workdir = body.workdir.unwrap_or(params.workdir);
    params.env = body.env.unwrap_or_default();
    params.timeout_seconds = body.timeout_seconds.unwrap_or_default();
    params.create = true;
    params.encoding = Encoding::Base64;
    params.max_output_bytes = limits::MAX_OUTPUT_BYTES_BASE64;
    params
}

/// Passes on what a command left, and gives its status.
pub(crate) fn finish(
    context: &Context<'_>,
    mut ran: Executed,
    ignore: bool,
) -> Result<u8, CliError> {
    let encoding = ran.encoding.unwrap_or_default();
    let stdout = decode(&ran.stdout, encoding)?;
    let stderr = decode(&ran.stderr, encoding)?;
    let status = if ignore { 0 } else { status(ran.exit_code) };
    if context.out.json {
        as_text(&mut ran, stdout, stderr);
        context.out.result(&ran, || Ok(()))?;
        return Ok(status);
    }
    pass_on(context, &ran, &stdout, &stderr)?;
    Ok(status)
}

/// Writes both streams byte for byte, and says what there is to say about how it ran.
fn pass_on(
    context: &Context<'_>,
    ran: &Executed,
    stdout: &[u8],
    stderr: &[u8],
) -> Result<(), CliError> {
    let out = context.out;
    match &context.backend {
        Some(_) => backend::remarks(out, ran.warnings.as_deref()),
        None => ran.warnings.iter().flatten().for_each(|warning| out.warn(warning)),
    }
    match out.stdout(stdout) {
        // Who reads has read enough; the command's status is still its own.
        Err(CliError::Stdout(e)) if e.kind() == io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    out.stderr(stderr);
    for (name, truncated, kept, all) in [
        ("output", ran.stdout_truncated, stdout.len(), ran.stdout_bytes),
        ("error output", ran.stderr_truncated, stderr.len(), ran.stderr_bytes),
    ] {
        if truncated == Some(true) {
            let all = all.map(|all| format!(" of {all}")).unwrap_or_default();
            out.warn_loss(&format!(
                "The command's {name} is cut: these are the first {kept}{all} bytes; \
                 write it to a file in the sandbox to keep all of it"
            ));
        }
    }
    if let Some(hint) = &ran.hint {
        out.info(hint);
    }
    Ok(())
}

/// Reads all of the input, unless it is more than a request can carry.
fn read_input(input: impl Read) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let mut bounded = input.take(limits::MAX_LINE_BYTES as u64 + 1);
    bounded.read_to_end(&mut bytes).map_err(CliError::Stdin)?;
    if bytes.len() > limits::MAX_LINE_BYTES { Err(CliError::StdinTooLong) } else { Ok(bytes) }
}

fn encode(bytes: Vec<u8>) -> (String, Encoding) {
    match String::from_utf8(bytes) {
        Ok(text) => (text, Encoding::Utf8),
        Err(e) => (STANDARD.encode(e.as_bytes()), Encoding::Base64),
    }
}

pub(crate) fn decode(text: &str, encoding: Encoding) -> Result<Vec<u8>, CliError> {
    match encoding {
        Encoding::Utf8 => Ok(text.as_bytes().to_vec()),
        Encoding::Base64 => STANDARD.decode(text).map_err(CliError::NotBase64),
    }
}

/// Writes the streams as text where both are: who asks for JSON wants to read
/// them, and `encoding` says which it is.
fn as_text(ran: &mut Executed, stdout: Vec<u8>, stderr: Vec<u8>) {
    if let (Ok(stdout), Ok(stderr)) = (String::from_utf8(stdout), String::from_utf8(stderr)) {
        ran.stdout = stdout;
        ran.stderr = stderr;
        ran.encoding = ran.encoding.map(|_| Encoding::Utf8);
    }
}

fn status(exit_code: i32) -> u8 {
    // Linux has no others; one that does not fit is at least not a success.
    u8::try_from(exit_code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_there_and_back() {
        for (bytes, encoding) in [
            (&b"a\0\n"[..], Encoding::Utf8),
            (b"\xff\xfe", Encoding::Base64),
            (b"", Encoding::Utf8),
        ] {
            let (text, chosen) = encode(bytes.to_vec());
            assert_eq!(chosen, encoding, "{bytes:?}");
            assert_eq!(decode(&text, chosen).unwrap(), bytes);
        }
        assert!(matches!(decode("%", Encoding::Base64), Err(CliError::NotBase64(_))));
    }

    #[test]
    fn endless_input_is_refused() {
        assert!(matches!(read_input(io::repeat(b'x')), Err(CliError::StdinTooLong)));
        let most = io::repeat(b'x').take(limits::MAX_LINE_BYTES as u64);
        assert_eq!(read_input(most).unwrap().len(), limits::MAX_LINE_BYTES);
    }

    #[test]
    fn a_status_that_does_not_fit_is_a_failure() {
        assert_eq!([0, 7, 255, 256, -1].map(status), [0, 7, 255, 1, 1]);
    }

    #[test]
    fn json_has_text_only_where_nothing_is_lost() {
        let golden = include_str!("../../../../protocol/golden/exec_result.json");
        let mut ran: Executed = serde_json::from_str(golden).unwrap();
        (ran.stdout, ran.encoding) = ("/w==".to_owned(), Some(Encoding::Base64));
        as_text(&mut ran, vec![0xff], Vec::new());
        assert_eq!((ran.stdout.as_str(), ran.encoding), ("/w==", Some(Encoding::Base64)));
        as_text(&mut ran, b"hi".to_vec(), Vec::new());
        assert_eq!((ran.stdout.as_str(), ran.encoding), ("hi", Some(Encoding::Utf8)));
    }
}
