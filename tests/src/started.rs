//! Programs that a test starts by itself, and what they say of themselves in files.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use nix::sys::signal::{Signal, kill};
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

/// Runs a command to its end, and fails where that takes too long.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut err, &mut bytes).map(|_| bytes)
    });
    let watchdog = Watchdog::new(child.id());
    let mut stdout = Vec::new();
    std::io::Read::read_to_end(&mut out, &mut stdout).unwrap();
    let stderr = reader.join().unwrap().unwrap();
    let status = child.wait().unwrap();
    assert!(!watchdog.fired(), "it took too long: {command:?}");
    Output { status, stdout, stderr }
}

/// Kills a process that takes too long, so that a test fails instead of hanging.
struct Watchdog {
    done: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<bool>,
}

impl Watchdog {
    fn new(pid: u32) -> Self {
        let (done, ended) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let late = ended.recv_timeout(3 * SOON).is_err();
            if late {
                let _ = kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL);
            }
            late
        });
        Self { done, thread }
    }

    fn fired(self) -> bool {
        // Gone where the watchdog has fired.
        let _ = self.done.send(());
        self.thread.join().unwrap()
    }
}

/// The exit status as a shell would show it.
pub fn shell_status(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// The text of a stream.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
