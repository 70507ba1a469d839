//! The same command without a sandbox, in this process.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use nix::fcntl::OFlag;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use nix::unistd::pipe2;
use noxrunner_tests::text;
use tokio::runtime::{Builder, Runtime};

/// What every command of every arm is given: a longer environment alone makes a spawn slower.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/bin:/bin"), ("LANG", "C.UTF-8")];

/// A bare spawn, its output read and checked. It copies the table of this
/// process's descriptors, of which there are few: those of the sandboxes are the daemon's.
pub(crate) fn floor(nonce: u64) {
    let c = |text: &str| CString::new(text).unwrap();
    let environment: Vec<CString> = ENVIRONMENT.map(|(k, v)| c(&format!("{k}={v}"))).to_vec();
    // Other threads spawn too: what one of them inherits would keep this pipe from ending.
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut actions = PosixSpawnFileActions::init().unwrap();
    actions.add_dup2(writer.as_raw_fd(), 1).unwrap();
    let argv = [c("/bin/echo"), c(&nonce.to_string())];
    let attributes = PosixSpawnAttr::init().unwrap();
    let pid = posix_spawn(c"/bin/echo", &actions, &attributes, &argv, &environment).unwrap();
    drop(writer);
    let mut output = String::new();
    File::from(reader).read_to_string(&mut output).unwrap();
    waitpid(pid, None).unwrap();
    assert_eq!(output, format!("{nonce}\n"));
}

/// A program as a whole process, with the standard library, whose output is the nonce.
pub(crate) fn process(command: &mut Command, nonce: u64) {
    command.arg(nonce.to_string()).env_clear().envs(ENVIRONMENT).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(text(&output.stdout), format!("{nonce}\n"), "{}", text(&output.stderr));
}

/// Spawns as a program with tokio does.
pub(crate) struct Tokio(Runtime);

impl Tokio {
    /// A runtime of one thread.
    pub(crate) fn new() -> Self {
        Self(Builder::new_current_thread().enable_all().build().unwrap())
    }

    /// One spawn.
    pub(crate) fn echo(&self, nonce: u64) {
        let spawning = async {
            let mut command = tokio::process::Command::new("/bin/echo");
            command.arg(nonce.to_string()).env_clear().envs(ENVIRONMENT).stdin(Stdio::null());
            command.output().await
        };
        let output = self.0.block_on(spawning).unwrap();
        assert_eq!(text(&output.stdout), format!("{nonce}\n"));
    }
}
