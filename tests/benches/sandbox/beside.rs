//! What else there is to run a command with, where it is installed.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use noxrunner_tests::text;

use crate::pinned::WHERE_PROGRAMS_ARE;
use crate::spawn::{ENVIRONMENT, process};

const BWRAP: [&str; 10] = [
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
    "--unshare-all",
    "--die-with-parent",
    "--",
];
const UNSHARE: [&str; 9] = [
    "--user",
    "--map-root-user",
    "--mount",
    "--pid",
    "--net",
    "--ipc",
    "--uts",
    "--fork",
    "--mount-proc",
];
const WORKER: &str = include_str!("worker.py");

/// Does it once and says how long it took.
type Once = Box<dyn FnMut(u64) -> Duration>;

/// bwrap, started anew for each command.
pub(crate) fn bwrap() -> Result<Once, String> {
    each(find("bwrap")?, &BWRAP)
}

/// unshare(1), started anew for each command.
pub(crate) fn unshare() -> Result<Once, String> {
    each(find("unshare")?, &UNSHARE)
}

fn each(program: PathBuf, arguments: &'static [&str]) -> Result<Once, String> {
    try_out(Command::new(&program).args(arguments))?;
    Ok(Box::new(move |nonce| {
        let started = Instant::now();
        process(Command::new(&program).args(arguments).arg("/bin/echo"), nonce);
        started.elapsed()
    }))
}

/// A shell kept alive in bwrap: what it prints up to a last line is the command's output.
pub(crate) fn kept_bash() -> Result<Once, String> {
    let (program, bash) = (find("bwrap")?, find("bash")?);
    try_out(Command::new(&program).args(BWRAP))?;
    let mut command = Command::new(program);
    command.args(BWRAP).arg(bash).args(["--noprofile", "--norc", "-s"]);
    let mut shell = Worker::start(&mut command);
    Ok(Box::new(move |nonce| {
        let started = Instant::now();
        shell.say(&format!("/bin/echo {nonce}; echo -END-"));
        let (answer, last) = (shell.hear(), shell.hear());
        let took = started.elapsed();
        assert_eq!((answer, last.as_str()), (nonce.to_string(), "-END-"));
        took
    }))
}

/// Python's subprocess.run, in an interpreter that runs already.
pub(crate) fn python() -> Result<Once, String> {
    worker("subprocess")
}

/// The local mode of the Python package, which isolates nothing.
pub(crate) fn local_mode() -> Result<Once, String> {
    worker("noxrunner")
}

fn worker(module: &str) -> Result<Once, String> {
    // What the PATH names may be a script that looks for the real one.
    let mut asked = Command::new(find("python3")?);
    asked.env("PATH", WHERE_PROGRAMS_ARE.get().unwrap());
    asked.args(["-c", &format!("import {module}, sys; print(sys.executable)")]);
    let answer = asked.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !answer.status.success() {
        return Err("not installed".to_owned());
    }
    let mut command = Command::new(text(&answer.stdout).trim());
    command.args(["-c", WORKER, module, &format!("bench-{}", std::process::id())]);
    let mut worker = Worker::start(&mut command);
    // It measures and checks by itself.
    Ok(Box::new(move |nonce| {
        worker.say(&nonce.to_string());
        Duration::from_nanos(worker.hear().parse().unwrap())
    }))
}

/// Where a program is.
fn find(name: &str) -> Result<PathBuf, String> {
    let mut places = std::env::split_paths(WHERE_PROGRAMS_ARE.get().unwrap());
    let found = places.find_map(|dir| Some(dir.join(name)).filter(|program| program.is_file()));
    found.ok_or_else(|| "not installed".to_owned())
}

/// Whether a program that runs commands can do so here, and what it says where it cannot.
fn try_out(command: &mut Command) -> Result<(), String> {
    command.args(["/bin/echo", "works"]).env_clear().envs(ENVIRONMENT).stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    if output.stdout == b"works\n" {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("does not work here: {}", said.lines().last().unwrap_or("no word why")))
}

/// A process that is told something line by line. It ends when nothing more will come.
struct Worker {
    child: Child,
    told: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl Worker {
    fn start(command: &mut Command) -> Self {
        command.env_clear().envs(ENVIRONMENT).stderr(Stdio::null());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Self { told: child.stdin.take(), says, child }
    }

    fn say(&mut self, line: &str) {
        self.told.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.told.take());
        let _ = self.child.wait();
    }
}
