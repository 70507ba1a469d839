//! Processes, told apart by more than their number, found by what they
//! belong to, and by the numbers that their sandboxes give them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process, and not another one that got its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number on this machine.
    pub pid: i32,
    // In clock ticks since the machine started, proc_pid_stat(5).
    started: u64,
}

impl Process {
    /// The process of that number, unless it has ended.
    pub fn find(pid: i32) -> Option<Self> {
        Stat::of(pid).filter(Stat::is_alive).map(|stat| stat.process)
    }

    /// Whether it still runs (or is stopped); a zombie does not.
    pub fn is_alive(&self) -> bool {
        Self::find(self.pid) == Some(*self)
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).unwrap();
    }

    /// Ends it, if it is still there.
    #[track_caller]
    pub fn put_down(&self) {
        if self.is_alive() {
            let killed = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
            assert!(matches!(killed, Ok(()) | Err(Errno::ESRCH)), "{killed:?}");
        }
    }

    /// Whether it keeps the processes of one of several commands together.
    pub fn is_supervisor(&self) -> bool {
        self.proc("comm").trim_ascii_end() == b"nox-supervisor"
    }

    /// Whether its command line has this in it.
    pub fn names(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.proc("cmdline")).contains(text)
    }

    /// A file of its directory in /proc; nothing where it is gone or may not be looked at.
    fn proc(&self, file: &str) -> Vec<u8> {
        fs::read(format!("/proc/{}/{file}", self.pid)).unwrap_or_default()
    }
}

/// The processes of a list that still run.
pub fn alive(processes: &[Process]) -> Vec<Process> {
    processes.iter().copied().filter(Process::is_alive).collect()
}

/// What /proc/PID/stat says of a process, read at once.
struct Stat {
    process: Process,
    state: char,
    parent: i32,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The fields follow the name, which is in brackets and may hold anything; they
        // are numbered from 3 on (proc_pid_stat(5)).
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let field = |number: usize| fields.get(number - 3);
        let process = Process { pid, started: field(22)?.parse().ok()? };
        Some(Self { process, state: field(3)?.chars().next()?, parent: field(4)?.parse().ok()? })
    }

    fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// Everything that runs on this machine.
fn everyone() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").unwrap();
    let numbers = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    numbers.filter_map(Stat::of).filter(Stat::is_alive).collect()
}

/// The parent of a process.
#[track_caller]
pub fn parent(process: Process) -> Process {
    Process::find(Stat::of(process.pid).unwrap().parent).unwrap()
}

/// Whether a process is stopped by a signal.
pub fn is_stopped(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.state == 'T')
}

/// A process's children.
pub fn children(pid: i32) -> Vec<Process> {
    let all = everyone().into_iter();
    all.filter(|stat| stat.parent == pid).map(|stat| stat.process).collect()
}

/// A process with this variable in its environment.
pub fn with_variable(variable: &str) -> Option<Process> {
    let has = |process: &Process| {
        process.proc("environ").split(|b| *b == 0).any(|v| v == variable.as_bytes())
    };
    everyone().into_iter().map(|stat| stat.process).find(has)
}

/// Whether a process has the path in its environment, works below it, or has a
/// workspace mounted that comes from below it.
fn is_marked(process: &Process, path: &Path) -> bool {
    let cwd = fs::read_link(format!("/proc/{}/cwd", process.pid));
    let environ = process.proc("environ");
    // Where that file system has it and where it is mounted, proc_pid_mountinfo(5).
    let mounted = process.proc("mountinfo");
    let name = path.file_name().unwrap().to_str().unwrap();
    let is_workspace = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        fields.next().is_some_and(|root| root.contains(name)) && fields.next() == Some("/workspace")
    };
    cwd.is_ok_and(|cwd| cwd.starts_with(path))
        || String::from_utf8_lossy(&environ).contains(path.to_str().unwrap())
        || String::from_utf8_lossy(&mounted).lines().any(is_workspace)
}

/// All that a daemon ever started, as far as somebody looked while it ran. Who is of
/// it stays of it, whoever its parent is later, and whether or not it may still be looked at.
#[derive(Debug)]
pub struct Family {
    mark: PathBuf,
    known: Mutex<Vec<Process>>,
}

impl Family {
    /// The family of everybody who is marked by this directory: see [`Family::alive`].
    pub fn new(mark: &Path) -> Self {
        Self { mark: mark.to_owned(), known: Mutex::default() }
    }

    /// Takes in a process that cannot be told by its mark.
    #[track_caller]
    pub fn add(&self, pid: i32) {
        self.known.lock().unwrap().extend(Process::find(pid));
    }

    /// Those that run: who has the directory in its environment, as its working place or
    /// below its workspace,
    /// who was known to be of it, and all their descendants.
    pub fn alive(&self) -> Vec<Process> {
        let own = i32::try_from(std::process::id()).unwrap();
        let mut known = self.known.lock().unwrap();
        let everyone = everyone();
        known.retain(|known| everyone.iter().any(|stat| stat.process == *known));
        let mut of_it: HashSet<i32> = known.iter().map(|process| process.pid).collect();
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for Stat { process, parent, .. } in &everyone {
            children.entry(*parent).or_default().push(process.pid);
            if process.pid != own && is_marked(process, &self.mark) {
                of_it.insert(process.pid);
            }
        }
        let mut unasked: Vec<i32> = of_it.iter().copied().collect();
        while let Some(pid) = unasked.pop() {
            let fresh = children.get(&pid).into_iter().flatten();
            unasked.extend(fresh.filter(|child| of_it.insert(**child)));
        }
        let all = everyone.iter().map(|stat| stat.process);
        *known = all.filter(|process| of_it.contains(&process.pid)).collect();
        known.clone()
    }
}

/// Who has which number in which sandbox, found for all sandboxes of this machine at once.
pub struct Numbers(HashMap<(Place, i32), Process>);

/// A workspace, by device and inode.
type Place = (u64, u64);

fn place(path: impl AsRef<Path>) -> Option<Place> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

impl Numbers {
    /// As it is now.
    pub fn now() -> Self {
        let number = |process: Process| {
            let status = String::from_utf8(process.proc("status")).ok()?;
            // From the namespace of this /proc to the process's own (proc_pid_status(5)).
            let levels = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            let inside = levels.split_whitespace().nth(1)?.parse().ok()?;
            let place = place(format!("/proc/{}/root/workspace", process.pid))?;
            Some(((place, inside), process))
        };
        Self(everyone().into_iter().filter_map(|stat| number(stat.process)).collect())
    }

    /// The process that has this number in the sandbox with this workspace.
    pub fn find(&self, workspace: &Path, number: i32) -> Option<Process> {
        if !has_numbers_of_its_own(workspace) {
            return Process::find(number);
        }
        let process = self.0.get(&(place(workspace)?, number)).copied();
        process.filter(Process::is_alive)
    }
}

/// Where a daemon of these tests has said which tier its sandboxes are of, beside its base directory.
pub(crate) const TIER_FILE: &str = "tier";

/// Whether a sandbox has a pid namespace.
fn has_numbers_of_its_own(workspace: &Path) -> bool {
    let tier = workspace.ancestors().nth(3).unwrap().join(TIER_FILE);
    fs::read_to_string(&tier).unwrap_or_else(|e| panic!("{}: {e}", tier.display())) == "full"
}
