//! What worked with the old tool, `noxrc` of the Python package, works with `noxctl`, verb by verb.
//!
//! Both are run on one daemon with the same arguments, `noxctl` by its socket and by HTTP, each with a sandbox and a working directory
//! of its own. What they print where, their status and the files they leave are the same, but for
//! differences that are intended: each is written down where it shows, with its reason, and fails
//! the test where it no longer shows.
//!
//! | file | verbs |
//! |---|---|
//! | `sandboxes` | health, create, touch, delete |
//! | `exec` | exec |
//! | `upload`, `download` | upload, download |
//! | `shell` | shell, where standard input is no terminal |
//! | `usage` | no verb, wrong ones, help, terminals |
#![allow(clippy::unwrap_used)]

mod download;
mod exec;
mod sandboxes;
mod shell;
mod upload;
mod usage;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use noxrunner_tests::python::Python;
use noxrunner_tests::{ON_TCP, TestDaemon, program, run, shell_status};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What stands for the tool's own sandbox in arguments, and in what it says.
const SESSION: &str = "SESSION";

/// Which of the two tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    /// noxrc, over HTTP: it knows no other way.
    Old,
    /// noxctl.
    New,
}

const BOTH: [Tool; 2] = [Tool::Old, Tool::New];

/// How the new tool reaches the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Its socket.
    Socket,
    /// HTTP, told as the old tool is: `NOXRUNNER_BASE_URL`.
    BaseUrl,
}

/// Has each of these tests done by either way.
macro_rules! by_both_ways {
    ($($test:ident),+ $(,)?) => {
        mod by_socket {
            $(#[test]
            fn $test() {
                super::$test($crate::By::Socket);
            })+
        }
        mod by_base_url {
            $(#[test]
            fn $test() {
                super::$test($crate::By::BaseUrl);
            })+
        }
    };
}
pub(crate) use by_both_ways;

impl Tool {
    const fn session(self) -> &'static str {
        match self {
            Self::Old => "parity-old",
            Self::New => "parity-new",
        }
    }
}

/// What a tool says, and its status.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

/// A difference that is meant: makes of what the old tool says what the new one says.
struct Intended<'a> {
    why: &'static str,
    change: Box<dyn Fn(&mut Said) + 'a>,
}

fn intended<'a>(why: &'static str, change: impl Fn(&mut Said) + 'a) -> Intended<'a> {
    Intended { why, change: Box::new(change) }
}

/// Other words in an error.
fn reworded<'a>(why: &'static str, old: &'a str, new: &'a str) -> Intended<'a> {
    intended(why, move |said| said.stderr = said.stderr.replace(old, new))
}

/// Notes are for people, and scripts read standard output.
fn notes_to_stderr() -> Intended<'static> {
    intended("notes are for people, and scripts read standard output", |said| {
        let is_note = |line: &&str| line.starts_with('ℹ') || line.starts_with('⚠');
        let (notes, rest): (Vec<_>, Vec<_>) = said.stdout.split_inclusive('\n').partition(is_note);
        said.stderr += &notes.concat();
        said.stdout = rest.concat();
    })
}

/// How far a transfer is, a bar shows on a terminal.
fn no_note(note: &'static str) -> Intended<'static> {
    intended(
        "a bar on a terminal says how far it is, and nothing says that it begins",
        move |said| {
            said.stdout = said.stdout.replace(&format!("ℹ {note}\n"), "");
        },
    )
}

/// A daemon, the two tools, and where each works.
struct Pair {
    by: By,
    daemon: TestDaemon,
    base_url: String,
    python: Python,
    dir: TempDir,
}

impl Pair {
    #[track_caller]
    fn start(by: By) -> Self {
        let daemon = TestDaemon::start_with(&ON_TCP);
        let dir = tempfile::tempdir().unwrap();
        let pair =
            Self { by, base_url: daemon.base_url(), daemon, python: Python::with_noxrunner(), dir };
        BOTH.iter().for_each(|tool| fs::create_dir(pair.dir_of(*tool)).unwrap());
        pair
    }

    /// The same with a sandbox for each.
    #[track_caller]
    fn with_sandboxes(by: By) -> Self {
        let pair = Self::start(by);
        BOTH.iter().for_each(|tool| drop(pair.daemon.create(tool.session())));
        pair
    }

    /// Where a tool runs.
    fn dir_of(&self, tool: Tool) -> PathBuf {
        self.dir.path().join(tool.session())
    }

    /// Does the same in both working directories.
    fn prepare(&self, work: impl Fn(&Path)) {
        BOTH.iter().for_each(|tool| work(&self.dir_of(*tool)));
    }

    /// A tool with its arguments, not yet run.
    fn command(&self, tool: Tool, arguments: &[&str]) -> Command {
        let mut command = match tool {
            Tool::Old => self.python.noxrc(&self.base_url),
            Tool::New if self.by == By::Socket => self.daemon.noxctl(&[]),
            Tool::New => {
                let mut noxctl = Command::new(program("noxctl"));
                noxctl.env("NOXRUNNER_BASE_URL", &self.base_url).stdin(Stdio::null());
                noxctl
            }
        };
        command.args(arguments.iter().map(|argument| argument.replace(SESSION, tool.session())));
        command.current_dir(self.dir_of(tool));
        command
    }

    #[track_caller]
    fn output(&self, tool: Tool, arguments: &[&str]) -> Output {
        run(&mut self.command(tool, arguments))
    }

    /// The old tool shows HTTP's words and the JSON as it came; the new one what is in it, and by
    /// HTTP whom it has asked: for `action` of the sandbox.
    fn in_words(&self, action: &str) -> Intended<'static> {
        let asked = match self.by {
            By::Socket => String::new(),
            By::BaseUrl => format!("{}/v1/sandboxes/{SESSION}{action}: ", self.base_url),
        };
        let why = "what the daemon says, without HTTP's own words and the JSON around it";
        intended(why, move |said| {
            let (_, body) = said.stderr.split_once("\nResponse: ").unwrap_or_default();
            let Ok(answer) = serde_json::from_str::<Value>(body) else { return };
            let (error, hint) = (answer["error"].as_str().unwrap(), answer["hint"].as_str());
            let hint_too = |hint: &str| error.strip_suffix(&format!(" ({hint})")).unwrap();
            let error = hint.map_or(error, hint_too);
            let hint = hint.map_or(String::new(), |hint| format!("ℹ {hint}\n"));
            said.stderr = format!("✗ {asked}{error}\n{hint}");
        })
    }

    /// The local mode's warning, which a backend elsewhere has no reason for.
    fn warned(&self) -> Vec<Intended<'static>> {
        let warning = format!(
            "⚠ local mode: commands run on this machine (isolation: {})\n",
            self.daemon.tier.name()
        );
        let why = "where commands run is said at each";
        let warned = intended(why, move |said| said.stderr.insert_str(0, &warning));
        (self.by == By::Socket).then_some(warned).into_iter().collect()
    }

    /// What a tool says.
    #[track_caller]
    fn said(&self, tool: Tool, arguments: &[&str]) -> Said {
        self.hear(tool, &self.output(tool, arguments))
    }

    /// What a tool's output says, with the same names for both.
    #[track_caller]
    fn hear(&self, tool: Tool, output: &Output) -> Said {
        let pod = self.daemon.call("sandbox.get", json!({"sessionId": tool.session()}));
        let pod = pod.map(|info| info["podName"].as_str().unwrap().to_owned());
        let neutral = |bytes: &[u8]| {
            let mut text = String::from_utf8(bytes.to_vec()).unwrap();
            if let Ok(pod) = &pod {
                text = text.replace(pod, "POD");
            }
            text.replace(tool.session(), SESSION)
        };
        Said {
            status: shell_status(output.status),
            stdout: neutral(&output.stdout),
            stderr: neutral(&output.stderr),
        }
    }

    /// Runs both with the same arguments: they say and return the same, but for what is intended.
    #[track_caller]
    fn alike(&self, arguments: &[&str], intended: &[Intended<'_>]) {
        let [old, new] = BOTH.map(|tool| self.said(tool, arguments));
        let mut expected = old.clone();
        for Intended { why, change } in intended {
            let before = expected.clone();
            change(&mut expected);
            assert_ne!(before, expected, "{arguments:?}: there is no such difference: {why}");
        }
        let reasons: Vec<_> = intended.iter().map(|intended| intended.why).collect();
        assert_eq!(new, expected, "{arguments:?}: the old tool: {old:?}; intended: {reasons:?}");
    }

    /// Both fail, each in its own words. `why` says why they are not the same.
    #[track_caller]
    fn both_fail(&self, arguments: &[&str], old: (i32, &str), new: (i32, &str), why: &str) {
        for (tool, (status, part)) in BOTH.into_iter().zip([old, new]) {
            let said = self.said(tool, arguments);
            assert_eq!(said.status, status, "{tool:?} {arguments:?}: {said:?}; {why}");
            let all = format!("{}{}", said.stdout, said.stderr);
            assert!(all.contains(part), "{tool:?} {arguments:?}: {said:?}; {why}");
            assert!(!said.stdout.contains('✓'), "{tool:?} {arguments:?}: {said:?}; {why}");
        }
    }

    /// What the two left in their sandboxes.
    #[track_caller]
    fn workspaces(&self) -> [Vec<String>; 2] {
        BOTH.map(|tool| listing(&self.daemon.workspace(tool.session())))
    }

    /// What the two left in their working directories.
    fn local(&self) -> [Vec<String>; 2] {
        BOTH.map(|tool| listing(&self.dir_of(tool)))
    }
}

/// Everything in a directory: modes, paths, and what files have in them.
fn listing(top: &Path) -> Vec<String> {
    fn walk(dir: &Path, top: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(top).unwrap().display();
            let mode = meta.mode() & 0o7777;
            if meta.is_dir() {
                found.push(format!("{name}/ {mode:o}"));
                walk(&path, top, found);
            } else if meta.is_symlink() {
                found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else {
                let content = fs::read(&path).unwrap();
                found.push(format!("{name} {mode:o}: {}", String::from_utf8_lossy(&content)));
            }
        }
    }
    let mut found = Vec::new();
    walk(top, top, &mut found);
    found.sort();
    found
}

/// The two are the same, and not nothing.
#[track_caller]
fn same([old, new]: [Vec<String>; 2]) {
    assert!(!new.is_empty());
    assert_eq!(new, old);
}
