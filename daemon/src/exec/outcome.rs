//! What each way that a command ends means for its caller.

use std::path::{Path, PathBuf};

use nix::libc;
use noxrunner_init::message::{ExecStep, Status};
use noxrunner_protocol::types::{Cause, ExecParams};

use super::supervise::End;
use crate::engine::{EngineError, errno_text};
use crate::error::CallError;
use crate::limits::Stop;

/// What an answer's fields are for each way a command ends.
pub(super) struct Outcome {
    pub(super) exit_code: i32,
    pub(super) cause: Cause,
    /// Ours, where the command had no chance to say it.
    pub(super) stderr: Option<String>,
    pub(super) hint: Option<String>,
}

/// What the end of a command means.
///
/// # Errors
/// Where it was never started, for a reason that is not its own.
pub(super) fn of(
    end: End,
    params: &ExecParams,
    programs: &[PathBuf],
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Outcome, CallError> {
    Ok(match end {
        End::Own(Status::Exited(code)) => {
            Outcome { exit_code: code, cause: Cause::Exited, stderr: None, hint: None }
        }
        // Of a single file, the kernel keeps to the limit of storage itself (getrlimit(2)).
        End::Own(Status::Signaled(libc::SIGXFSZ)) => {
            limited("a file of it grew beyond the sandbox's storage limit: ephemeralStorageLimit")
        }
        End::OutOfMemory(status) => Outcome {
            exit_code: match status {
                Status::Exited(code) => code,
                Status::Signaled(signal) => 128 + signal,
            },
            cause: Cause::Oom,
            stderr: None,
            hint: Some(format!("the sandbox ran out of memory: {MEMORY_HINT}")),
        },
        End::TooMuchOutput => {
            limited("it printed more than the policy's setting \"max_output\" lets a command print")
        }
        End::Stopped(why) => stopped(why),
        End::Own(Status::Signaled(signal)) => {
            let hint = nix::sys::signal::Signal::try_from(signal).ok();
            let hint = hint.map(|signal| format!("{signal} ended it"));
            Outcome { exit_code: 128 + signal, cause: Cause::Signaled, stderr: None, hint }
        }
        End::Timeout => {
            let hint = format!(
                "its {:?} s were over: timeoutSeconds gives it more",
                params.timeout_seconds.get()
            );
            Outcome { exit_code: 124, cause: Cause::Timeout, stderr: None, hint: Some(hint) }
        }
        End::SandboxGone => Outcome {
            exit_code: 137,
            cause: Cause::Signaled,
            stderr: None,
            hint: Some(
                "the sandbox ended around it: deleted, expired, or its init was killed".into(),
            ),
        },
        End::NotStarted(step, errno) => not_started(step, errno, &params.cmd, programs, exists)?,
    })
}

const MEMORY_HINT: &str = "memoryLimit at sandbox.create (noxctl create --mem) gives it more";

fn limited(hint: &str) -> Outcome {
    Outcome { exit_code: 137, cause: Cause::Limit, stderr: None, hint: Some(hint.to_owned()) }
}

/// What it means that everything in the sandbox was stopped.
fn stopped(why: Stop) -> Outcome {
    match why {
        Stop::Memory => Outcome {
            exit_code: 137,
            cause: Cause::Oom,
            stderr: None,
            hint: Some(format!("the sandbox used more memory than it may: {MEMORY_HINT}")),
        },
        Stop::Processes => limited(
            "the sandbox had as many processes as it may, and all of them were stopped: pidsLimit at \
             sandbox.create (noxctl create --pids) gives it more",
        ),
        Stop::Storage => limited(
            "the sandbox's files took up more than they may, and its processes were stopped: remove \
             some, or give it more with ephemeralStorageLimit (noxctl create --storage)",
        ),
        Stop::Inodes => limited(
            "the sandbox had more files than it may, and its processes were stopped: remove some; the \
             policy's setting \"default_inodes\" gives more",
        ),
        Stop::DiskFull => limited(
            "the disk that sandboxes are on is nearly full, and what wrote to it was stopped: free some \
             of it; the policy's setting \"keep_free\" says how much stays free",
        ),
    }
}

/// What it means that a command could not be started.
fn not_started(
    step: ExecStep,
    errno: i32,
    cmd: &[String],
    programs: &[PathBuf],
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Outcome, CallError> {
    let name = cmd.first().map_or("", String::as_str);
    // The kernel says ENOENT of a missing interpreter too (execve(2)), and EACCES where a
    // directory of the search path is closed to the sandbox's user.
    let missing = || !programs.iter().any(|program| exists(program));
    match (step, errno) {
        (ExecStep::Execve, libc::ENOENT | libc::ENOTDIR | libc::EACCES) if missing() => {
            Ok(Outcome {
                exit_code: 127,
                cause: Cause::NotFound,
                stderr: Some(format!("Command not found: {name}\n")),
                hint: None,
            })
        }
        (ExecStep::Execve, errno) => Ok(Outcome {
            exit_code: 126,
            cause: Cause::NotExecutable,
            stderr: Some(format!("Cannot execute {name}: {}\n", errno_text(errno))),
            hint: execute_hint(errno),
        }),
        // fork(2): the sandbox has as many processes as it may.
        (ExecStep::Clone | ExecStep::Supervisor, libc::EAGAIN) => Ok(Outcome {
            exit_code: 126,
            cause: Cause::Limit,
            stderr: Some(format!("Cannot execute {name}: {}\n", errno_text(errno))),
            ..stopped(Stop::Processes)
        }),
        (ExecStep::Workdir, _) => Err(CallError::Invalid(format!(
            "cannot run in the working directory: {}",
            errno_text(errno)
        ))),
        (
            ExecStep::Descriptors
            | ExecStep::Prepare
            | ExecStep::Clone
            | ExecStep::Supervisor
            | ExecStep::Session
            | ExecStep::Descriptor,
            _,
        ) => Err(CallError::Engine(EngineError::Exec { step, errno })),
    }
}

fn execute_hint(errno: i32) -> Option<String> {
    let hint = match errno {
        libc::ENOENT | libc::ENOTDIR => "the interpreter that its first line names does not exist",
        libc::EACCES => "it is not executable, or a directory",
        libc::ENOEXEC => "it is no program: a script needs a first line such as #!/bin/sh",
        libc::E2BIG => "pass large data on standard input or in a file",
        _ => return None,
    };
    Some(hint.to_owned())
}
