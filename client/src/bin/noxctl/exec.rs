//! Running a command: its streams go through byte for byte, and its status
//! becomes noxctl's.

use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use noxrunner_protocol::limits;
use noxrunner_protocol::method::SandboxExec;
use noxrunner_protocol::types::{Encoding, ExecParams, ExecResult};

use crate::cli::ExecArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::interrupt;
use crate::render::Out;

/// `exec`.
pub(crate) fn exec(context: &Context<'_>, mut args: ExecArgs) -> Result<u8, CliError> {
    // The daemon kills the command when its connection closes.
    interrupt::exit_at_once();
    let (session_id, command) = args.take_command()?;
    let mut params = ExecParams::new(session_id, command);
    // Before the connection is opened: a daemon does not wait long for a request.
    if args.stdin {
        let (text, encoding) = encode(read_input(io::stdin().lock())?);
        params.stdin = Some(text);
        params.stdin_encoding = encoding;
    }
    params.workdir = args.workdir;
    params.env = args.env.into_iter().collect();
    params.timeout_seconds = args.timeout_seconds;
    params.create = true;
    params.encoding = Encoding::Base64;
    params.max_output_bytes = limits::MAX_OUTPUT_BYTES_BASE64;
    let mut result = context.connect()?.call::<SandboxExec>(&params)?;
    let stdout = decode(&result.stdout, result.encoding)?;
    let stderr = decode(&result.stderr, result.encoding)?;
    let status = if args.ignore_exit_code { 0 } else { status(result.exit_code) };
    if context.out.json {
        as_text(&mut result, stdout, stderr);
        context.out.result(&result, || Ok(()))?;
        return Ok(status);
    }
    pass_on(context.out, &result, &stdout, &stderr)?;
    Ok(status)
}

fn pass_on(out: &Out, result: &ExecResult, stdout: &[u8], stderr: &[u8]) -> Result<(), CliError> {
    result.warnings.iter().for_each(|warning| out.warn(warning));
    match out.stdout(stdout) {
        // Who reads has read enough; the command's status is still its own.
        Err(CliError::Stdout(e)) if e.kind() == io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    out.stderr(stderr);
    for (name, truncated, kept, all) in [
        ("output", result.stdout_truncated, stdout.len(), result.stdout_bytes),
        ("error output", result.stderr_truncated, stderr.len(), result.stderr_bytes),
    ] {
        if truncated {
            out.warn_loss(&format!(
                "The command's {name} is cut: these are the first {kept} of {all} bytes; \
                 write it to a file in the sandbox to keep all of it"
            ));
        }
    }
    if let Some(hint) = &result.hint {
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

fn decode(text: &str, encoding: Encoding) -> Result<Vec<u8>, CliError> {
    match encoding {
        Encoding::Utf8 => Ok(text.as_bytes().to_vec()),
        Encoding::Base64 => STANDARD.decode(text).map_err(CliError::NotBase64),
    }
}

/// Writes the streams as text where both are: who asks for JSON wants to read
/// them, and `encoding` says which it is.
fn as_text(result: &mut ExecResult, stdout: Vec<u8>, stderr: Vec<u8>) {
    if let (Ok(stdout), Ok(stderr)) = (String::from_utf8(stdout), String::from_utf8(stderr)) {
        result.stdout = stdout;
        result.stderr = stderr;
        result.encoding = Encoding::Utf8;
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
        let mut result: ExecResult = serde_json::from_str(golden).unwrap();
        (result.stdout, result.encoding) = ("/w==".to_owned(), Encoding::Base64);
        as_text(&mut result, vec![0xff], Vec::new());
        assert_eq!((result.stdout.as_str(), result.encoding), ("/w==", Encoding::Base64));
        as_text(&mut result, b"hi".to_vec(), Vec::new());
        assert_eq!((result.stdout.as_str(), result.encoding), ("hi", Encoding::Utf8));
    }
}
