//! Users who share a daemon because they are in one group, which only root can try.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

mod root_only {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use nix::unistd::{Gid, Group, geteuid};
    use noxrunner_tests::wire::{Wire, refusal, request};
    use noxrunner_tests::{SOON, Started, TestDaemon, eventually, noxrunnerd, run, text};
    use serde_json::{Value, json};
    use tempfile::TempDir;

    /// Two users of the group, and one who is not. None of them is a user of this machine's.
    const ANNA: u32 = 65_533;
    const BERT: u32 = 65_532;
    const CARL: u32 = 65_531;

    /// A group that every Linux has, and which is nobody's.
    fn group() -> Group {
        assert!(geteuid().is_root(), "leave the group root_only out where you are not root");
        Group::from_name("daemon").unwrap().expect("no group daemon")
    }

    /// Sends one line as a user of these groups, and gives the line that comes, or the exception.
    #[track_caller]
    fn ask(
        socket: &Path,
        uid: u32,
        group: u32,
        others: &[u32],
        line: &Value,
    ) -> Result<Value, String> {
        let script = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(sys.argv[2].encode() + b'\\n')
except BrokenPipeError:
    pass # Turned away already; the answer says why.
print(s.makefile().readline(), end='')
";
        let others: Vec<String> = others.iter().map(u32::to_string).collect();
        let groups = match others.as_slice() {
            [] => "--clear-groups".to_owned(),
            others => format!("--groups={}", others.join(",")),
        };
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={group}"), groups]);
        command.args(["--", "/usr/bin/python3", "-I", "-c", script]).arg(socket);
        let output = run(command.arg(line.to_string()).current_dir("/").stdin(Stdio::null()));
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            false => Err(text(&output.stderr)),
        }
    }

    /// A daemon of root's whose socket is in a directory that it has made.
    struct Shared {
        daemon: Started,
        socket: PathBuf,
        group: Group,
        dir: TempDir,
    }

    impl Shared {
        #[track_caller]
        fn start() -> Self {
            let group = group();
            let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
            // On the way to the socket.
            fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
            let (socket, base) = (dir.path().join("run/s.sock"), dir.path().join("base"));
            fs::create_dir(&base).unwrap();
            let mut command = noxrunnerd(dir.path(), &socket, &base);
            let daemon = Started::new(command.args(["--pool", "0", "--socket-group", &group.name]));
            eventually("it listens", SOON, || {
                std::os::unix::net::UnixStream::connect(&socket).is_ok()
            });
            // It listens before the socket is the group's, and answers only then.
            Wire::open(&socket).call(1, "health", json!({}));
            Self { daemon, socket, group, dir }
        }

        #[track_caller]
        fn member(&self, uid: u32, method: &str, params: Value) -> Value {
            let others = [self.group.gid.as_raw(), 4];
            ask(&self.socket, uid, uid, &others, &request(1, method, params)).unwrap()
        }

        #[track_caller]
        fn root(&self, method: &str, params: Value) -> Value {
            Wire::open(&self.socket).call(1, method, params)
        }

        fn directories(&self) -> usize {
            fs::read_dir(self.dir.path().join("base"))
                .unwrap()
                .filter(|entry| {
                    entry
                        .as_ref()
                        .unwrap()
                        .file_name()
                        .to_string_lossy()
                        .starts_with("noxrunner_sandbox_")
                })
                .count()
        }
    }

    fn ids(list: &Value) -> Vec<String> {
        let all = list["result"]["sandboxes"].as_array().unwrap_or_else(|| panic!("{list}"));
        all.iter()
            .map(|s| format!("{} of {}", s["sessionId"].as_str().unwrap(), s["ownerUid"]))
            .collect()
    }

    #[test]
    fn each_sees_its_own_and_root_sees_all() {
        let mut shared = Shared::start();
        let meta = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.mode() & 0o7777, meta.uid(), Gid::from_raw(meta.gid()))
        };
        assert_eq!(meta(&shared.socket), (0o660, 0, shared.group.gid));
        assert_eq!(meta(shared.socket.parent().unwrap()), (0o750, 0, shared.group.gid));

        let own = json!({"sessionId": "s"});
        for user in [ANNA, BERT] {
            assert_eq!(
                shared.member(user, "sandbox.create", own.clone())["result"]["created"],
                true
            );
            let script = format!("echo {user} > mine; cat mine");
            let exec = json!({"sessionId": "s", "cmd": ["sh", "-c", script]});
            let ran = shared.member(user, "sandbox.exec", exec);
            assert_eq!(ran["result"]["stdout"], format!("{user}\n"), "{ran}");
        }
        shared.member(ANNA, "sandbox.create", json!({"sessionId": "annas"}));
        assert_eq!(shared.directories(), 3);
        let list = |user| ids(&shared.member(user, "sandbox.list", json!({})));
        assert_eq!(list(ANNA), [format!("annas of {ANNA}"), format!("s of {ANNA}")]);
        assert_eq!(list(BERT), [format!("s of {BERT}")]);
        assert_eq!(ids(&shared.root("sandbox.list", json!({}))).len(), 3);
        assert_eq!(shared.member(ANNA, "health", json!({}))["result"]["sandboxes"], 2);

        let annas = json!({"sessionId": "annas"});
        for (method, params) in [
            ("sandbox.get", annas.clone()),
            ("sandbox.touch", annas.clone()),
            ("sandbox.delete", annas.clone()),
            ("sandbox.exec", json!({"sessionId": "annas", "cmd": ["true"]})),
            ("file.read", json!({"sessionId": "annas", "path": "x"})),
            ("file.list", annas.clone()),
            ("file.download", annas.clone()),
        ] {
            let answer = shared.member(BERT, method, params);
            assert_eq!(refusal(&answer).0, "sandboxNotFound", "{method}");
        }
        assert_eq!(shared.root("sandbox.get", annas.clone())["result"]["ownerUid"], ANNA);
        // Of root's there is none of that name, and of the members' two: it has to say whose.
        assert_eq!(refusal(&shared.root("sandbox.get", own.clone())).0, "conflict");
        let read =
            |user| shared.member(user, "file.read", json!({"sessionId": "s", "path": "mine"}));
        assert_eq!(read(BERT)["result"]["data"], format!("{BERT}\n"));
        assert_eq!(shared.member(BERT, "sandbox.delete", own)["result"]["deleted"], true);
        assert_eq!(read(ANNA)["result"]["data"], format!("{ANNA}\n"));

        let answer = shared.member(ANNA, "daemon.shutdown", json!({}));
        let (kind, message) = refusal(&answer);
        assert!(kind == "unauthorized" && message.contains("root"), "{message}");
        assert_eq!(shared.member(ANNA, "health", json!({}))["result"]["status"], "ok");
        shared.root("sandbox.delete", annas);
        shared.member(ANNA, "sandbox.delete", json!({"sessionId": "s"}));
        assert_eq!(shared.directories(), 0);
        assert_eq!(shared.root("daemon.shutdown", json!({}))["result"]["stopping"], true);
        assert!(shared.daemon.wait().success());
    }

    #[test]
    fn a_stranger_is_kept_out_by_the_socket_and_by_the_daemon() {
        let shared = Shared::start();
        let create = request(1, "sandbox.create", json!({"sessionId": "s"}));
        let stranger = || ask(&shared.socket, CARL, CARL, &[], &create);
        let closed = stranger().unwrap_err();
        assert!(closed.contains("PermissionError: [Errno 13]"), "{closed}");
        // Nothing of the file system's is in the way any more.
        let open =
            |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        open(shared.socket.parent().unwrap(), 0o755);
        open(&shared.socket, 0o666);
        let (kind, message) = refusal(&stranger().unwrap());
        assert_eq!(kind, "unauthorized");
        assert!(
            message.contains(&format!("members of the group {}", shared.group.name)),
            "{message}"
        );
        assert_eq!(shared.directories(), 0);
        // The group will do as the first of a user's, too.
        let first = ask(&shared.socket, CARL, shared.group.gid.as_raw(), &[], &create).unwrap();
        assert_eq!(first["result"]["created"], true, "{first}");
        shared.root("sandbox.delete", json!({"sessionId": "s"}));
        shared.root("daemon.shutdown", json!({}));
    }

    #[test]
    fn without_the_option_its_members_are_strangers() {
        let daemon = TestDaemon::start();
        fs::set_permissions(daemon.dir.path(), Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&daemon.socket, Permissions::from_mode(0o666)).unwrap();
        let create = request(1, "sandbox.create", json!({"sessionId": "s"}));
        let member = group().gid.as_raw();
        for (group, others) in [(ANNA, &[member][..]), (member, &[])] {
            let answer = ask(&daemon.socket, ANNA, group, others, &create).unwrap();
            assert_eq!(refusal(&answer).0, "unauthorized");
        }
        assert_eq!(daemon.directories(), [""; 0]);
    }
}

use noxrunner_tests::{noxrunnerd, run, text};

#[test]
fn a_group_that_does_not_exist_is_said_at_start() {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let (socket, base) = (dir.path().join("s.sock"), dir.path().join("base"));
    std::fs::create_dir(&base).unwrap();
    for name in ["no-such-group", "4294967294"] {
        let mut command = noxrunnerd(dir.path(), &socket, &base);
        let output = run(command.args(["--socket-group", name]));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(name) && stderr.contains("groupadd"), "{stderr}");
        assert!(!socket.exists());
    }
}

#[test]
fn a_directory_that_members_cannot_pass_through_is_warned_of() {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let (closed, base) = (dir.path().join("closed"), dir.path().join("base"));
    std::fs::DirBuilder::new().mode(0o700).create(&closed).unwrap();
    std::fs::create_dir(&base).unwrap();
    let open =
        |path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).unwrap();
    open(dir.path());
    let group = nix::unistd::getegid().to_string();
    let said = || {
        let mut command = noxrunnerd(dir.path(), &closed.join("s.sock"), &base);
        let output = run(command.args(["--socket-group", &group, "--idle-exit", "1"]));
        assert!(output.status.success(), "{output:?}");
        text(&output.stderr)
    };
    let name = closed.to_str().unwrap();
    assert!(said().contains(&format!("cannot reach the socket through {name}")));
    open(&closed);
    assert!(!said().contains("cannot reach"), "it is warned of what is open");
}
