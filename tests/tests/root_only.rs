//! Two users at once, which only root can be.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod root_only {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::{Uid, geteuid};
    use noxrunner_protocol::ErrorKind;
    use noxrunner_tests::processes::Family;
    use noxrunner_tests::users::as_user;
    use noxrunner_tests::wire::{Wire, refusal};
    use noxrunner_tests::{
        SOON, Started, TestDaemon, Tier, eventually, in_both_tiers, program, run, text,
    };
    use serde_json::{Value, json};
    use tempfile::TempDir;

    /// Nobody in particular, and no user of this machine's.
    const OTHER: u32 = 65_534;

    fn needs_root() {
        assert!(geteuid().is_root(), "leave the group root_only out where you are not root");
    }

    fn open_to(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A command that another user runs.
    fn as_other(command: &Command) -> Command {
        let mut other = as_user(OTHER);
        other.arg(command.get_program()).args(command.get_args());
        other
    }

    /// A client in a few lines, for any user: sends one line and prints the last line that comes.
    fn client(socket: &Path, line: &str) -> Command {
        let script = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(sys.argv[2].encode())
    s.shutdown(socket.SHUT_WR)
except BrokenPipeError:
    pass # Turned away already; the answer says why.
print(s.makefile().readline(), end='')
";
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-I", "-c", script]).arg(socket).arg(line).stdin(Stdio::null());
        command
    }

    fn create(id: &str) -> String {
        noxrunner_tests::wire::request(1, "sandbox.create", json!({"sessionId": id})).to_string()
    }

    #[test]
    fn another_user_cannot_reach_roots_socket() {
        needs_root();
        let daemon = TestDaemon::start();
        let refused = |what: &str| {
            let output = run(&mut as_other(&client(&daemon.socket, &create("s"))));
            assert!(!output.status.success() && output.stdout.is_empty(), "{what}");
            let stderr = text(&output.stderr);
            assert!(stderr.contains("PermissionError"), "{what}: {stderr}");
        };
        refused("its directory is closed");
        // The directory alone no longer keeps anybody out: the socket's own mode does.
        open_to(daemon.dir.path(), 0o1777);
        refused("its mode is 0600");
        assert_eq!(daemon.directories(), [""; 0]);
        let control = run(&mut client(&daemon.socket, &create("s")));
        assert!(text(&control.stdout).contains("\"created\":true"), "{}", text(&control.stderr));
    }

    #[test]
    fn the_daemon_looks_at_who_connects() {
        needs_root();
        let daemon = TestDaemon::start();
        // Nothing of the file system's is in the way any more.
        open_to(daemon.dir.path(), 0o1777);
        open_to(&daemon.socket, 0o666);
        let output = run(&mut as_other(&client(&daemon.socket, &create("s"))));
        let answer: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
        let (kind, message) = refusal(&answer);
        assert_eq!((kind.as_str(), &answer["id"]), ("unauthorized", &Value::Null));
        assert!(message.contains("root"), "{message}");
        let http = "POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n";
        let began = Instant::now();
        let said = text(&run(&mut as_other(&client(&daemon.socket, http))).stdout);
        // Who says nothing for a second, as a process that is held up, hears it as a line.
        if began.elapsed() < Duration::from_secs(1) || said.starts_with("HTTP") {
            assert_eq!(said.trim_end(), "HTTP/1.1 401 Unauthorized");
        } else {
            assert_eq!(refusal(&serde_json::from_str(&said).unwrap()).0, "unauthorized");
        }
        assert_eq!(daemon.directories(), [""; 0]);
        assert!(daemon.log().contains(&OTHER.to_string()), "{}", daemon.log());
        let control = run(&mut client(&daemon.socket, &create("s")));
        assert!(text(&control.stdout).contains("\"created\":true"), "{}", text(&control.stderr));
    }

    /// A daemon of another user, in a directory of that user's.
    struct Others {
        dir: TempDir,
        child: Started,
        family: Family,
    }

    impl Others {
        fn start() -> Self {
            let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
            let (bin, home) = (dir.path().join("bin"), dir.path().join("home"));
            open_to(dir.path(), 0o755);
            for made in [&bin, &home] {
                fs::create_dir(made).unwrap();
                open_to(made, 0o755);
            }
            chown(&home, Some(OTHER), Some(OTHER)).unwrap();
            // Where cargo builds it that user may not look.
            let copy = bin.join("noxrunnerd");
            fs::copy(program("noxrunnerd"), &copy).unwrap();
            open_to(&copy, 0o755);
            let mut command = Command::new(&copy);
            command.arg("--local-test").arg("--base-dir").arg(&home);
            command.arg("--socket").arg(home.join("s.sock"));
            let mut command = as_other(&command);
            command.env("NOXRUNNER_TEST_DIR", dir.path());
            let family = Family::new(dir.path());
            let others = Self { child: Started::new(&mut command), dir, family };
            let socket = others.socket();
            eventually("it listens", SOON, || UnixStream::connect(&socket).is_ok());
            others
        }

        fn socket(&self) -> PathBuf {
            self.dir.path().join("home/s.sock")
        }

        /// What a request of that user's own comes to.
        fn as_owner(&self, method: &str, params: Value) -> Value {
            let line = noxrunner_tests::wire::request(1, method, params).to_string();
            let output = run(&mut as_other(&client(&self.socket(), &line)));
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
        }
    }

    impl Drop for Others {
        fn drop(&mut self) {
            self.family.alive();
            kill(self.child.pid(), Signal::SIGTERM).unwrap();
            let status = self.child.wait();
            if !std::thread::panicking() {
                assert_eq!(status.code(), Some(0));
                eventually("nothing of it runs", SOON, || self.family.alive().is_empty());
            }
        }
    }

    #[test]
    fn root_sees_and_uses_an_ordinary_users_daemon() {
        needs_root();
        let others = Others::start();
        let made = others.as_owner("sandbox.create", json!({"sessionId": "theirs"}));
        let dir = PathBuf::from(made["result"]["sandboxDir"].as_str().unwrap());
        assert_eq!(dir.metadata().unwrap().uid(), OTHER);
        let root = |method: &str, params| Wire::open(&others.socket()).call(1, method, params);
        let list = root("sandbox.list", json!({}));
        let list = &list["result"]["sandboxes"];
        assert_eq!(
            (&list[0]["sessionId"], &list[0]["ownerUid"]),
            (&json!("theirs"), &json!(OTHER))
        );
        // Another one inside, and that daemon's own outside.
        let id = json!({"sessionId": "theirs", "cmd": ["sh", "-c", "id -u; echo x > made"]});
        assert_eq!(root("sandbox.exec", id)["result"]["stdout"], "1000\n");
        assert_eq!(dir.join("workspace/made").metadata().unwrap().uid(), OTHER);
        // What root makes there is root's to name, and the daemon's user does not see it.
        assert_eq!(
            root("sandbox.create", json!({"sessionId": "roots"}))["result"]["created"],
            true
        );
        let own = others.as_owner("sandbox.list", json!({}));
        let own = own["result"]["sandboxes"].as_array().unwrap();
        assert!(own.len() == 1 && own[0]["sessionId"] == "theirs", "{own:?}");
        let gone = others.as_owner("sandbox.get", json!({"sessionId": "roots"}));
        assert_eq!(refusal(&gone).0, ErrorKind::SandboxNotFound.name());
        let both = root("sandbox.list", json!({}))["result"]["sandboxes"].as_array().unwrap().len();
        assert_eq!(both, 2);
        assert_eq!(
            root("sandbox.delete", json!({"sessionId": "theirs"}))["result"]["deleted"],
            true
        );
        assert!(!dir.exists());
    }

    #[test]
    fn equal_names_of_two_users_are_two_sandboxes() {
        needs_root();
        let others = Others::start();
        others.as_owner("sandbox.create", json!({"sessionId": "s"}));
        let root = |method: &str, params| Wire::open(&others.socket()).call(1, method, params);
        assert_eq!(root("sandbox.create", json!({"sessionId": "s"}))["result"]["created"], true);
        let owner = |answer: Value| answer["result"]["ownerUid"].clone();
        assert_eq!(owner(others.as_owner("sandbox.get", json!({"sessionId": "s"}))), OTHER);
        assert_eq!(owner(root("sandbox.get", json!({"sessionId": "s"}))), 0);
        others.as_owner("sandbox.delete", json!({"sessionId": "s"}));
        assert_eq!(owner(root("sandbox.get", json!({"sessionId": "s"}))), 0);
    }

    #[test]
    fn noxctl_trusts_only_its_own_user_and_root() {
        needs_root();
        let others = Others::start();
        let output = run(Command::new(program("noxctl"))
            .args(["exec", "s", "ls", "--socket"])
            .env("NOXRUNNER_SOCKET", others.socket())
            .stdin(Stdio::null()));
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        assert!(stderr.contains(&format!("belongs to user {OTHER}")), "{stderr}");
        // In root's own directory the listener is looked at, too.
        let dir = tempfile::tempdir().unwrap();
        open_to(dir.path(), 0o711);
        let socket = dir.path().join("s.sock");
        let listen = "
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
os.setuid(65534)
s.settimeout(30)
s.listen()
sys.exit(1 if s.accept()[0].recv(1) else 0)
";
        let mut fake = Command::new("/usr/bin/python3");
        fake.args(["-I", "-c", listen]).arg(&socket).stdin(Stdio::null());
        let mut fake = Started::new(&mut fake);
        let mut stderr = String::new();
        eventually("it listens", SOON, || {
            let output = run(Command::new(program("noxctl"))
                .arg("--socket")
                .arg(&socket)
                .arg("health")
                .stdin(Stdio::null()));
            stderr = text(&output.stderr);
            !stderr.contains("no daemon answers")
        });
        assert!(stderr.contains(&format!("is served by user {OTHER}")), "{stderr}");
        // Nothing was said to it.
        assert_eq!(fake.wait().code(), Some(0));
        assert_eq!(Uid::from_raw(dir.path().metadata().unwrap().uid()), geteuid());
    }

    in_both_tiers!(
        each_sandbox_has_a_host_uid_that_no_other_had,
        what_the_daemon_makes_in_a_sandbox_is_the_sandboxes,
    );

    fn owners(dir: &str) -> (u32, u32) {
        let meta = Path::new(dir).join("workspace").metadata().unwrap();
        (meta.uid(), meta.gid())
    }

    /// The host uid of a sandbox, as its places show it.
    #[track_caller]
    fn host_uid(daemon: &TestDaemon, dir: &str) -> u32 {
        let (uid, gid) = owners(dir);
        assert_eq!(uid, gid);
        for place in ["workspace", "home", "tmp"] {
            let meta = Path::new(dir).join(place).metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (uid, uid, 0o700));
        }
        let meta = Path::new(dir).metadata().unwrap();
        // Without a mount tree the sandbox's own user comes in by its path.
        let mode = if daemon.tier == Tier::Full { 0o700 } else { 0o711 };
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, mode));
        uid
    }

    fn each_sandbox_has_a_host_uid_that_no_other_had(mut daemon: TestDaemon) {
        needs_root();
        let one = daemon.create("one").sandbox_dir;
        let (first, second) =
            (host_uid(&daemon, &one), host_uid(&daemon, &daemon.create("two").sandbox_dir));
        assert!(first >= 1_879_048_192 && second >= 1_879_048_192 && first != second);
        daemon.delete("two");
        let third = host_uid(&daemon, &daemon.create("two").sandbox_dir);
        assert!(third != second && third != first);
        // Another daemon, which knows nothing of this one but what the machine keeps.
        let other = TestDaemon::start();
        let others = host_uid(&other, &other.create("one").sandbox_dir);
        assert!(![first, second, third].contains(&others));
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            daemon.end_by(signal);
            // As a daemon of the other tier would have made it.
            open_to(Path::new(&one), if daemon.tier == Tier::Full { 0o711 } else { 0o700 });
            daemon.start_again();
            assert_eq!(daemon.create("one").sandbox_dir, one);
            assert_eq!(host_uid(&daemon, &one), first);
            let new = host_uid(&daemon, &daemon.create(&format!("new {signal}")).sandbox_dir);
            assert!(![first, second, third, others].contains(&new));
        }
    }

    fn what_the_daemon_makes_in_a_sandbox_is_the_sandboxes(mut daemon: TestDaemon) {
        needs_root();
        let dir = daemon.create("s").sandbox_dir;
        let uid = host_uid(&daemon, &dir);
        if daemon.tier == Tier::Full {
            // A live init has the old one mounted; so this is for the next.
            daemon.end_by(Signal::SIGTERM);
        }
        fs::remove_dir(Path::new(&dir).join("workspace")).unwrap();
        if daemon.tier == Tier::Full {
            daemon.start_again();
        }
        let mut params = noxrunner_tests::exec_params("s", &["true"]);
        params.workdir = "/workspace/a/b".to_owned();
        assert_eq!(daemon.exec_params(params).exit_code, 0);
        assert_eq!(host_uid(&daemon, &dir), uid);
        for made in ["workspace/a", "workspace/a/b"] {
            let meta = Path::new(&dir).join(made).metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid()), (uid, uid), "{made}");
        }
    }

    #[test]
    fn a_range_of_ones_own_is_kept_to_and_used_again() {
        needs_root();
        // Far from what other daemons use, and from another run of this test.
        let low = 2_000_000_000 + 2 * std::process::id();
        let range = format!("{low}-{}", low + 1);
        let daemon = TestDaemon::start_with(&["--sandbox-uids", &range]);
        let first = host_uid(&daemon, &daemon.create("one").sandbox_dir);
        let second = host_uid(&daemon, &daemon.create("two").sandbox_dir);
        let both = [low, low + 1];
        assert!(both.contains(&first) && both.contains(&second) && first != second);
        let (kind, message) = daemon.refused("sandbox.create", json!({"sessionId": "three"}));
        assert_eq!(kind, ErrorKind::Internal.name());
        assert!(message.contains(&range), "{message}");
        assert_eq!(daemon.directories().len(), 2);
        daemon.delete("one");
        assert_eq!(host_uid(&daemon, &daemon.create("three").sandbox_dir), first);
        drop(daemon);
        fs::remove_file(format!("/var/lib/noxrunner/uids-{low}")).unwrap();
    }

    /// In a container without root's powers over the machine, few numbers are mapped.
    #[test]
    fn numbers_that_are_not_mapped_are_refused_at_start() {
        needs_root();
        let dir = tempfile::tempdir().unwrap();
        let start = |range: &str| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--"]).arg(program("noxrunnerd"));
            command.args(["--local-test", "--sandbox-uids", range, "--base-dir"]).arg(dir.path());
            command.arg("--socket").arg(dir.path().join("s.sock")).stdin(Stdio::null());
            run(&mut command)
        };
        let output = start("1000-1999");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        for part in ["1000-1999", "mapped: 0-0", "--sandbox-uids"] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        for nonsense in ["5", "0-9", "9-5", "a-b"] {
            let output = start(nonsense);
            assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        }
    }
}
