//! `noxctl --local-test` where no daemon answers. The daemon that it starts keeps
//! its sandboxes in /tmp, and a user has one daemon there: these tests take turns.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod autostart {
    use std::collections::BTreeSet;
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use nix::fcntl::{Flock, FlockArg};
    use nix::unistd::geteuid;
    use noxrunner_tests::processes::Family;
    use noxrunner_tests::{SOON, eventually, program, run, text};
    use serde_json::Value;
    use tempfile::TempDir;

    /// A place for a socket, no daemon yet, and the turn. Dropping it ends what was started.
    struct Place {
        dir: TempDir,
        family: Family,
        _turn: Flock<File>,
    }

    impl Place {
        fn new() -> Self {
            // A file that is there anyway, so that the lock leaves nothing behind.
            let file = File::open(program("noxrunnerd")).unwrap();
            let turn = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
            let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
            assert!(!Self::base().exists(), "a daemon of this user keeps its sandboxes in /tmp");
            let family = Family::new(dir.path());
            Self { dir, family, _turn: turn }
        }

        /// What a daemon keeps in /tmp beside its sandboxes.
        fn base() -> PathBuf {
            format!("/tmp/noxrunner-{}", geteuid()).into()
        }

        fn socket(&self) -> PathBuf {
            self.dir.path().join("new/s.sock")
        }

        fn noxctl(&self, arguments: &[&str]) -> Command {
            let mut command = Command::new(program("noxctl"));
            command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
            // Passed on to the daemon, and marks all that it starts.
            command.env("HOME", self.dir.path()).env("NOXRUNNER_TEST_DIR", self.dir.path());
            command.arg("--socket").arg(self.socket()).args(arguments).stdin(Stdio::null());
            command
        }

        #[track_caller]
        fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
            let output = run(&mut self.noxctl(arguments));
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        }

        #[track_caller]
        fn json(&self, arguments: &[&str]) -> Value {
            let (status, stdout, stderr) = self.run(&[&["--json"], arguments].concat());
            assert_eq!(status, Some(0), "{stderr}{}", self.log());
            serde_json::from_str(&stdout).unwrap()
        }

        /// The process id of the daemon that answers.
        #[track_caller]
        fn pid(&self) -> i32 {
            self.json(&["daemon", "status"])["pid"].as_i64().unwrap().try_into().unwrap()
        }

        fn log(&self) -> String {
            fs::read_to_string(self.dir.path().join("new/noxrunnerd.log")).unwrap_or_default()
        }

        /// Deletes these sandboxes and ends the daemon; then nothing is left but its log.
        #[track_caller]
        fn clear(self, ids: &[&str]) {
            let dirs = ids.iter().map(|id| self.json(&["get", id])["sandboxDir"].clone());
            let dirs: Vec<Value> = dirs.collect();
            ids.iter().for_each(|id| assert_eq!(self.run(&["delete", id]).0, Some(0)));
            // Whoever is left afterwards is known by then.
            self.family.alive();
            let (status, stdout, stderr) = self.run(&["daemon", "stop"]);
            assert_eq!((status, stdout.as_str()), (Some(0), ""));
            assert!(stderr.contains("has ended"), "{stderr}");
            self.nothing_is_left();
            for dir in dirs {
                assert!(!Path::new(dir.as_str().unwrap()).exists(), "{dir}");
            }
        }

        #[track_caller]
        fn nothing_is_left(&self) {
            eventually("nothing of it runs", SOON, || self.family.alive().is_empty());
            assert!(!Self::base().exists());
            let left = fs::read_dir(self.dir.path().join("new")).unwrap();
            let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left, ["noxrunnerd.log"]);
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the daemon's log:\n{}", self.log());
                // Best effort: the test has failed already.
                let list = self.noxctl(&["--json", "list"]).output().unwrap().stdout;
                let list: Value = serde_json::from_slice(&list).unwrap_or_default();
                for sandbox in list["sandboxes"].as_array().into_iter().flatten() {
                    let id = sandbox["sessionId"].as_str().unwrap();
                    let _ = self.noxctl(&["delete", id]).output();
                }
                let _ = self.noxctl(&["daemon", "stop"]).output();
            }
        }
    }

    #[test]
    fn an_exec_starts_the_daemon_that_it_needs() {
        let place = Place::new();
        assert_eq!(
            place.run(&["list"]).0,
            Some(1),
            "nobody answers, and nobody asked for a daemon"
        );
        let (status, stdout, stderr) = place.run(&["--local-test", "exec", "s", "echo", "hi"]);
        assert_eq!((status, stdout.as_str()), (Some(0), "hi\n"), "{stderr}");
        assert!(stderr.contains("isolation: full"), "{stderr}");
        let pid = place.pid();
        let again = place.run(&["--local-test", "exec", "s", "echo", "again"]);
        assert_eq!((again.0, again.1.as_str(), place.pid()), (Some(0), "again\n", pid));
        place.clear(&["s"]);
    }

    #[test]
    fn the_daemon_is_on_its_own() {
        let place = Place::new();
        let marker = place.dir.path().join("marker");
        fs::write(&marker, "").unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 9<\"$0\"; umask 000; exec \"$@\""]).arg(&marker);
        let noxctl = place.noxctl(&["--local-test", "create", "s"]);
        shell.arg(noxctl.get_program()).args(noxctl.get_args()).stdin(Stdio::null());
        shell.env_clear().envs(noxctl.get_envs().filter_map(|(k, v)| Some((k, v?))));
        let output = run(shell.env("SECRET", "sekret").env("XDG_DATA_HOME", "/data"));
        assert!(output.status.success(), "{}", text(&output.stderr));

        let pid = place.pid();
        let proc = |what: &str| PathBuf::from(format!("/proc/{pid}/{what}"));
        let stat = fs::read_to_string(proc("stat")).unwrap();
        let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().to_owned();
        assert_eq!(session, pid.to_string(), "a session of its own");
        assert_eq!(fs::read_link(proc("cwd")).unwrap(), Path::new("/"));
        let log = place.dir.path().join("new/noxrunnerd.log");
        assert_eq!(fs::read_link(proc("fd/0")).unwrap(), Path::new("/dev/null"));
        assert_eq!(fs::read_link(proc("fd/2")).unwrap(), log);
        let mode = |path: &Path| path.symlink_metadata().unwrap().mode() & 0o7777;
        let modes = [mode(&log), mode(log.parent().unwrap()), mode(&place.socket())];
        assert_eq!(modes, [0o600, 0o700, 0o600]);
        for process in place.family.alive() {
            let pid = process.pid;
            let open = fs::read_dir(format!("/proc/{pid}/fd"));
            if open.is_err() && !process.is_alive() {
                continue;
            }
            if open.as_ref().is_err_and(|e| e.kind() == ErrorKind::PermissionDenied) {
                // Root may look at all of them; what is none of an ordinary user's business is an init or zygote.
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                let is_private = !geteuid().is_root() && name.starts_with("nox-");
                assert!(is_private || !process.is_alive(), "{pid} {name}");
                continue;
            }
            let mut open = open.unwrap().filter_map(|e| fs::read_link(e.ok()?.path()).ok());
            assert!(open.all(|file| file != marker), "process {pid} keeps what was open");
        }
        let environ = fs::read(proc("environ")).unwrap();
        let names: BTreeSet<String> = environ
            .split(|b| *b == 0)
            .filter(|v| !v.is_empty())
            .map(|v| text(v).split('=').next().unwrap().to_owned())
            .collect();
        let passed = ["HOME", "NOXRUNNER_TEST_DIR", "PATH", "XDG_DATA_HOME"];
        assert_eq!(names, passed.map(str::to_owned).into());
        place.clear(&["s"]);
    }

    #[test]
    fn a_shell_that_reads_its_output_does_not_hang() {
        let place = Place::new();
        let noxctl = place.noxctl(&["--local-test", "exec", "s", "echo", "hi"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "x=$(\"$@\" 2>&1); echo \"got $x\"", "sh"]);
        shell.arg(noxctl.get_program()).args(noxctl.get_args()).stdin(Stdio::null());
        let output =
            run(shell.env("NOXRUNNER_QUIET", "1").env("NOXRUNNER_TEST_DIR", place.dir.path()));
        assert_eq!(text(&output.stdout), "got hi\n");
        place.clear(&["s"]);
    }

    #[test]
    fn clients_that_start_at_once_end_with_one_daemon() {
        for count in [2, 8] {
            let place = Place::new();
            let ids: Vec<String> = (0..count).map(|n| format!("s{n}")).collect();
            let start = |id: &String| {
                let mut command =
                    place.noxctl(&["--local-test", "--quiet", "exec", id, "echo", id]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            };
            let clients: Vec<_> = ids.iter().map(start).collect();
            for (id, client) in ids.iter().zip(clients) {
                let output = client.wait_with_output().unwrap();
                let stderr = text(&output.stderr);
                assert_eq!(text(&output.stdout), format!("{id}\n"), "{stderr}{}", place.log());
                assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
            }
            assert_eq!(place.json(&["list"])["sandboxes"].as_array().unwrap().len(), count);
            let pid = place.pid();
            // Those that came too late are about to end.
            eventually("one daemon is left", SOON, || {
                let leads = |pid: &i32| {
                    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                    let session =
                        stat.rsplit_once(") ").and_then(|(_, s)| s.split(' ').nth(3)?.parse().ok());
                    text(&cmdline).contains("noxrunnerd") && session == Some(*pid)
                };
                let all = place.family.alive().into_iter().map(|process| process.pid);
                let daemons = all.filter(leads);
                let daemons: Vec<i32> = daemons.collect();
                daemons.contains(&pid) && daemons.iter().all(|d| *d == pid || is_below(*d, pid))
            });
            place.clear(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    /// Whether a process has the other among its ancestors.
    fn is_below(mut pid: i32, ancestor: i32) -> bool {
        while pid > 1 && pid != ancestor {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent =
                stat.rsplit_once(") ").and_then(|(_, s)| s.split(' ').nth(1)?.parse().ok());
            pid = parent.unwrap_or(0);
        }
        pid == ancestor
    }

    #[test]
    fn an_idle_daemon_ends_by_itself_and_leaves_nothing() {
        let place = Place::new();
        let made = place.json(&["--local-test", "--idle-exit", "1", "create", "s"]);
        let dir = PathBuf::from(made["sandboxDir"].as_str().unwrap());
        assert!(dir.is_dir() && dir.starts_with("/tmp"));
        assert_eq!(place.json(&["daemon", "status"])["idleExitSeconds"], 1);
        assert_eq!(place.run(&["delete", "s"]).0, Some(0));
        eventually("the socket is gone", SOON, || !place.socket().exists());
        place.nothing_is_left();
        assert!(!dir.exists());
        assert_eq!(place.run(&["daemon", "status"]).0, Some(1));
    }

    #[test]
    fn start_stop_and_status() {
        let place = Place::new();
        let (status, _, stderr) = place.run(&["daemon", "status"]);
        assert!(status == Some(1) && stderr.contains("no daemon answers"), "{stderr}");
        let (status, _, stderr) = place.run(&["daemon", "stop"]);
        assert!(status == Some(0) && stderr.contains("No daemon is running"), "{stderr}");
        let (status, stdout, stderr) = place.run(&["daemon", "start"]);
        assert_eq!((status, stdout.as_str()), (Some(0), ""));
        assert!(stderr.contains("Daemon started"), "{stderr}");
        let pid = place.pid();
        assert!(stderr.contains(&pid.to_string()), "{stderr}");
        let (status, _, stderr) = place.run(&["daemon", "start"]);
        assert!(status == Some(0) && stderr.contains("running already"), "{stderr}");
        assert_eq!(place.pid(), pid);
        let (status, stdout, _) = place.run(&["daemon", "status"]);
        assert!(status == Some(0) && stdout.contains(&pid.to_string()), "{stdout}");
        assert!(stdout.contains("600 s"), "{stdout}");
        place.clear(&[]);
    }

    #[test]
    fn a_sandbox_outlives_its_daemon() {
        let place = Place::new();
        assert_eq!(place.run(&["--local-test", "exec", "s", "touch", "kept"]).0, Some(0));
        let pid = place.pid();
        assert_eq!(place.run(&["daemon", "stop"]).0, Some(0));
        let (status, stdout, _) = place.run(&["--local-test", "exec", "s", "ls"]);
        assert_eq!((status, stdout.as_str()), (Some(0), "kept\n"));
        assert_ne!(place.pid(), pid);
        place.clear(&["s"]);
    }
}
