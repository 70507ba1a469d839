//! Programs that a test starts by itself, and what they say of themselves in files.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::unistd::Pid;

use crate::{SOON, eventually};

/// A program that a test starts by itself, killed where the test fails before its end.
pub struct Started(Child);

impl Started {
    /// Starts it, silent.
    #[track_caller]
    pub fn new(command: &mut Command) -> Self {
        Self::with_stderr(command, Stdio::null())
    }

    /// Starts it with its errors going elsewhere.
    #[track_caller]
    pub fn with_stderr(command: &mut Command, stderr: impl Into<Stdio>) -> Self {
        Self(command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap())
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("it ends", SOON, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Gone where the test has waited for it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number that a command has written to a file, once it has.
#[track_caller]
pub fn number_in(file: &Path) -> i32 {
    let mut number = None;
    eventually(&format!("a number in {}", file.display()), SOON, || {
        let text = fs::read_to_string(file).unwrap_or_default();
        // Without its newline it may be only the beginning.
        number = text.strip_suffix('\n').and_then(|n| n.trim().parse().ok());
        number.is_some()
    });
    number.unwrap()
}
