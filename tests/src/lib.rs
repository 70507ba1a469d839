//! What the end-to-end tests share: a daemon of the real binary in a directory
//! of its own, ways to talk to it, and ways to see what it leaves behind.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

pub mod archive;
pub mod attack;
pub mod cgroup;
pub mod life;
pub mod processes;
mod started;
pub mod userns;
pub mod wire;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cgroup::Groups;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use noxrunner_client::Connection;
pub use noxrunner_protocol::types::Tier;
use noxrunner_protocol::types::{
    CreateParams, CreateResult, ExecParams, ExecResult, NoParams, SandboxRef,
};
use noxrunner_protocol::{RpcError, method};
use processes::{Family, Numbers, Process, TIER_FILE};
use serde_json::Value;
pub use started::{Started, number_in, run, shell_status, text};
use tempfile::TempDir;
use wire::{Wire, refusal};

/// How long anything here may take that should happen soon, however busy the machine is.
pub const SOON: Duration = Duration::from_secs(20);

/// A program of this project. `NOXRUNNER_TEST_BIN_DIR` says where, else it is
/// looked for where cargo builds it, beside the tests.
pub fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("NOXRUNNER_TEST_BIN_DIR").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().to_owned()
    });
    let program = dir.join(name);
    assert!(program.exists(), "{} is missing: cargo build --workspace --bins", program.display());
    program
}

/// Has each of these tests done in the strongest tier and in the one that holds nothing. They
/// are functions of a daemon.
#[macro_export]
macro_rules! in_both_tiers {
    ($($test:ident),+ $(,)?) => {
        mod full {
            $(#[test]
            fn $test() {
                super::$test($crate::TestDaemon::of_tier($crate::Tier::Full));
            })+
        }
        mod none {
            $(#[test]
            fn $test() {
                super::$test($crate::TestDaemon::of_tier($crate::Tier::None));
            })+
        }
    };
}

/// Waits until a condition holds, and fails the test where it does not in time.
#[track_caller]
pub fn eventually(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// A running daemon of the real binary, with its socket and its sandboxes in a
/// temporary directory. Dropping it ends it and checks that nothing of it runs on.
pub struct TestDaemon {
    /// Holds everything of it. Its path is in the environment of every process of the daemon and its sandboxes.
    pub dir: TempDir,
    /// Its socket.
    pub socket: PathBuf,
    /// Where it keeps its sandboxes.
    pub base: PathBuf,
    /// The tier of its sandboxes, as it says.
    pub tier: Tier,
    family: Family,
    groups: Groups,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    child: Child,
}

impl TestDaemon {
    /// A daemon as `noxrunnerd --local-test` starts it.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with sandboxes of this tier, and no other.
    #[track_caller]
    pub fn of_tier(tier: Tier) -> Self {
        let daemon = Self::start_with(&["--isolation", tier.name()]);
        assert_eq!(daemon.tier, tier);
        daemon
    }

    /// The same with more arguments.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_under(&[], arguments)
    }

    /// The same as the last thing that another command does, in the same process.
    #[track_caller]
    pub fn start_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
        let (socket, base) = (dir.path().join("s.sock"), dir.path().join("base"));
        fs::create_dir(&base).unwrap();
        let [wrapper, arguments]: [Vec<String>; 2] =
            [wrapper, arguments].map(|list| list.iter().map(|a| (*a).to_owned()).collect());
        let mut groups = Groups::default();
        let enter = groups.next(dir.path());
        let child = spawn(dir.path(), &socket, &base, &enter, &wrapper, &arguments);
        let family = Family::new(dir.path());
        let tier = Tier::None;
        let mut daemon =
            Self { dir, socket, base, tier, family, groups, wrapper, arguments, child };
        daemon.wait_until_it_answers();
        daemon
    }

    #[track_caller]
    fn wait_until_it_answers(&mut self) {
        let deadline = Instant::now() + SOON;
        // A connection alone says little: the kernel takes it before the daemon looks.
        let answer =
            || Connection::open(&self.socket).ok()?.call::<method::HealthCheck>(&NoParams {}).ok();
        loop {
            if let Some(health) = answer() {
                self.tier = health.isolation.tier;
                break;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}: {}", self.log());
            }
            assert!(Instant::now() < deadline, "the daemon does not answer: {}", self.log());
            sleep(Duration::from_millis(5));
        }
        fs::write(self.dir.path().join(TIER_FILE), self.tier.name()).unwrap();
        self.family.add(self.pid().as_raw());
    }

    /// The daemon's process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Its control group, where the tests run with a place for those of daemons.
    pub fn group(&self) -> Option<&Path> {
        self.groups.last()
    }

    /// What it wrote on stderr so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Sends it a signal and waits for its end.
    #[track_caller]
    pub fn end_by(&mut self, signal: Signal) -> ExitStatus {
        // Whoever is left when it has ended is known by then.
        self.processes();
        kill(self.pid(), signal).unwrap();
        let mut status = None;
        eventually("the daemon ends", SOON, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Waits for its end without asking for it.
    #[track_caller]
    pub fn wait_for_end(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        eventually("the daemon ends by itself", within, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Starts it again after it ended, with the same socket, base directory and arguments.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.note_how_it_ended();
        let enter = self.groups.next(self.dir.path());
        let Self { dir, socket, base, wrapper, arguments, .. } = &*self;
        self.child = spawn(dir.path(), socket, base, &enter, wrapper, arguments);
        self.wait_until_it_answers();
    }

    fn note_how_it_ended(&mut self) {
        let ended = self.child.try_wait().unwrap();
        if ended.is_none_or(|status| status.code().is_none()) {
            self.groups.killed();
        }
    }

    /// Starts it again where it cannot start, and gives what it says on its way out.
    #[track_caller]
    pub fn fails_to_start(&self) -> String {
        let mut command = noxrunnerd(self.dir.path(), &self.socket, &self.base);
        command.args(&self.arguments);
        let output = run(&mut under(&self.wrapper, command));
        assert!(!output.status.success(), "it started: {output:?}");
        text(&output.stderr)
    }

    /// A connection of bare lines.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        Wire::open(&self.socket)
    }

    /// Calls a method that is refused, and gives the kind and the message of its error.
    #[track_caller]
    pub fn refused(&self, method: &str, params: Value) -> (String, String) {
        refusal(&self.wire().call(1, method, params))
    }

    /// The workspace of a sandbox, as this machine names it.
    #[track_caller]
    pub fn workspace(&self, id: &str) -> PathBuf {
        let info = self.call("sandbox.get", serde_json::json!({"sessionId": id})).unwrap();
        Path::new(info["sandboxDir"].as_str().unwrap()).join("workspace")
    }

    /// A connection of the client library.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(&self.socket).unwrap()
    }

    /// Creates a sandbox with defaults.
    #[track_caller]
    pub fn create(&self, id: &str) -> CreateResult {
        let params = CreateParams::new(id.parse().unwrap());
        self.connect().call::<method::SandboxCreate>(&params).unwrap()
    }

    /// Creates a sandbox that lives for so many seconds.
    #[track_caller]
    pub fn create_for(&self, id: &str, ttl_seconds: u64) -> CreateResult {
        let mut params = CreateParams::new(id.parse().unwrap());
        params.ttl_seconds = ttl_seconds.try_into().unwrap();
        self.connect().call::<method::SandboxCreate>(&params).unwrap()
    }

    /// Deletes a sandbox.
    #[track_caller]
    pub fn delete(&self, id: &str) {
        let params = SandboxRef { session_id: id.parse().unwrap() };
        self.connect().call::<method::SandboxDelete>(&params).unwrap();
    }

    /// Runs a command in a sandbox that exists.
    #[track_caller]
    pub fn exec(&self, id: &str, cmd: &[&str]) -> ExecResult {
        self.exec_params(exec_params(id, cmd))
    }

    /// Runs a shell script in a sandbox that exists.
    #[track_caller]
    pub fn sh(&self, id: &str, script: &str) -> ExecResult {
        self.exec(id, &["sh", "-c", script])
    }

    /// Runs a command with params of the test's own.
    #[track_caller]
    pub fn exec_params(&self, params: ExecParams) -> ExecResult {
        self.connect().call::<method::SandboxExec>(&params).unwrap()
    }

    /// Calls a method by name with any JSON, and gives its result or its error.
    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let request = serde_json::json!(
            {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        );
        let mut answers = self.lines(format!("{request}\n"));
        let mut answer: Value = serde_json::from_str(&answers.remove(0)).unwrap();
        match answer.get_mut("error") {
            Some(error) => Err(serde_json::from_value(error.take()).unwrap()),
            None => Ok(answer["result"].take()),
        }
    }

    /// Sends bytes, closes the sending side, and gives every line that comes back.
    #[track_caller]
    pub fn lines(&self, text: impl AsRef<[u8]>) -> Vec<String> {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(text.as_ref()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().map(str::to_owned).collect()
    }

    /// `noxctl --socket …` with these arguments, not yet run.
    pub fn noxctl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("noxctl"));
        command.arg("--socket").arg(&self.socket).args(arguments).stdin(Stdio::null());
        command
    }

    /// Names of the sandbox directories that are there.
    pub fn directories(&self) -> Vec<String> {
        let names = fs::read_dir(&self.base).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
        names.retain(|name| name.starts_with("noxrunner_sandbox_"));
        names.sort();
        names
    }

    /// Every process of this daemon, its zygote, its inits and its sandboxes that still runs.
    pub fn processes(&self) -> Vec<Process> {
        self.family.alive()
    }

    /// The process whose command has written its number to a file in the workspace, once it has; it is alive.
    #[track_caller]
    pub fn process_in(&self, id: &str, file: &str) -> Process {
        let workspace = self.workspace(id);
        let number = number_in(&workspace.join(file));
        let process = Numbers::now().find(&workspace, number);
        process.unwrap_or_else(|| panic!("{file} ({number}) does not live"))
    }
}

impl Drop for TestDaemon {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let status = self.end_by(Signal::SIGTERM);
            if !std::thread::panicking() {
                assert!(status.success(), "the daemon ended with {status:?}: {}", self.log());
            }
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
            return;
        }
        eventually("nothing of the daemon runs", SOON, || self.processes().is_empty());
        self.note_how_it_ended();
        self.groups.remove();
    }
}

/// `noxrunnerd --local-test …` with its socket and its sandboxes in a directory, not yet run.
pub fn noxrunnerd(dir: &Path, socket: &Path, base: &Path) -> Command {
    let mut command = Command::new(program("noxrunnerd"));
    command.arg("--local-test").arg("--socket").arg(socket).arg("--base-dir").arg(base);
    // Marks every process that inherits it: see `Family`.
    command.env("NOXRUNNER_TEST_DIR", dir).stdin(Stdio::null());
    command
}

/// The command as what another one does in the end.
pub fn under<S: AsRef<OsStr>>(wrapper: &[S], command: Command) -> Command {
    let Some((program, arguments)) = wrapper.split_first() else { return command };
    let mut wrapped = Command::new(program);
    wrapped.args(arguments).arg(command.get_program()).args(command.get_args());
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped.stdin(Stdio::null());
    wrapped
}

fn spawn(
    dir: &Path,
    socket: &Path,
    base: &Path,
    enter: &[String],
    wrapper: &[String],
    arguments: &[String],
) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
    // Tests count processes and directories; those of sandboxes made ahead have tests of their own.
    let says_pool = arguments.iter().any(|a| a.starts_with("--pool"));
    let pool: &[&str] = if says_pool { &[] } else { &["--pool", "0"] };
    let says_level = arguments.iter().any(|a| a == "--log-level");
    let level: &[&str] = if says_level { &[] } else { &["--log-level", "debug"] };
    let mut command = noxrunnerd(dir, socket, base);
    command.args(level).args(pool).args(arguments);
    under(enter, under(wrapper, command)).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// The params of an exec with nothing special about it.
#[track_caller]
pub fn exec_params(id: &str, cmd: &[&str]) -> ExecParams {
    ExecParams::new(id.parse().unwrap(), cmd.iter().map(|c| (*c).to_owned()).collect())
}
