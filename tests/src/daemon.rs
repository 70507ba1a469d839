//! A daemon of the real binary: how it is started, ended and looked over.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use noxrunner_client::Connection;
use noxrunner_protocol::method;
use noxrunner_protocol::types::{NoParams, Tier};
use tempfile::TempDir;

use crate::cgroup::Groups;
use crate::processes::{Family, Process, TIER_FILE};
use crate::{SOON, eventually, program, run, text};

/// Makes a daemon listen on a free port of the loopback, too.
pub const ON_TCP: [&str; 2] = ["--http", "127.0.0.1:0"];

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
        Self::of_tier_with(tier, &[])
    }

    /// The same with more arguments.
    #[track_caller]
    pub fn of_tier_with(tier: Tier, arguments: &[&str]) -> Self {
        let daemon = Self::start_with(&[arguments, &["--isolation", tier.name()]].concat());
        assert_eq!(daemon.tier, tier);
        daemon
    }

    /// The same with more arguments.
    #[track_caller]
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_under(&[], arguments)
    }

    /// The front of the backend at this address.
    #[track_caller]
    pub fn front_of(url: &str, arguments: &[&str]) -> Self {
        Self::start_with(&[&["--base-url", url], arguments].concat())
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

    /// Where it listens for HTTP on TCP.
    #[track_caller]
    pub fn http(&self) -> SocketAddr {
        let mut connection = Connection::open(&self.socket).unwrap();
        let info = connection.call::<method::DaemonInfoGet>(&NoParams {}).unwrap();
        info.http.expect("it was started without --http").parse().unwrap()
    }

    /// Its control group, where the tests run with a place for those of daemons.
    pub fn group(&self) -> Option<&Path> {
        self.groups.last()
    }

    /// The memory it has and the most it ever had, in MiB (VmRSS and VmHWM, proc_pid_status(5)).
    #[track_caller]
    pub fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let mebibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
        };
        (mebibytes("VmRSS:"), mebibytes("VmHWM:"))
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

    /// Every process of this daemon, its zygote, its inits and its sandboxes that still runs.
    pub fn processes(&self) -> Vec<Process> {
        self.family.alive()
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

/// The same for `noxrunnerd --base-url …`, which keeps nothing in a directory.
pub fn front(dir: &Path, socket: &Path) -> Command {
    let mut command = Command::new(program("noxrunnerd"));
    command.arg("--socket").arg(socket).env("NOXRUNNER_TEST_DIR", dir).stdin(Stdio::null());
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
    let is_front = arguments.iter().any(|a| a == "--base-url");
    let says_pool = is_front || arguments.iter().any(|a| a.starts_with("--pool"));
    let pool: &[&str] = if says_pool { &[] } else { &["--pool", "0"] };
    let says_level = arguments.iter().any(|a| a == "--log-level");
    let level: &[&str] = if says_level { &[] } else { &["--log-level", "debug"] };
    let mut command = if is_front { front(dir, socket) } else { noxrunnerd(dir, socket, base) };
    command.args(level).args(pool).args(arguments);
    under(enter, under(wrapper, command)).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}
