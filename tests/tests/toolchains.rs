//! Toolchains that live in a home: they run inside, and the credentials beside them are not there.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use noxrunner_client::Connection;
use noxrunner_protocol::method::{SandboxCreate, SandboxExec};
use noxrunner_protocol::types::{CreateParams, ExecResult};
use noxrunner_tests::{SOON, eventually, exec_params, noxrunnerd, run, text};
use tempfile::TempDir;

/// A daemon whose user has a home with toolchains and with secrets in it.
struct Home {
    dir: TempDir,
    user: TempDir,
    socket: PathBuf,
    daemon: Child,
}

const SECRETS: [&str; 12] = [
    ".cargo/credentials.toml",
    ".cargo/config.toml",
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".gitconfig",
    ".config/gh/hosts.yml",
    ".docker/config.json",
    ".local/share/uv/credentials/credentials.toml",
    ".bash_history",
];

fn put(home: &Path, path: &str, content: &str, mode: u32) {
    let file = home.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
}

fn link(home: &Path, path: &str, target: &str) {
    let link = home.join(path);
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(target, link).unwrap();
}

/// The cargo that tests are built with, or the one that the runner of the tests names.
fn real_cargo() -> PathBuf {
    if let Some(cargo) = std::env::var_os("NOXRUNNER_TEST_CARGO") {
        return cargo.into();
    }
    let found = run(Command::new("rustup").args(["which", "cargo"]));
    PathBuf::from(text(&found.stdout).trim())
}

impl Home {
    #[track_caller]
    fn start(with: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
        // Not in /tmp: sandboxes have one of their own.
        let user = tempfile::Builder::new().prefix("noxtest.").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(user.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let home = user.path().join("me");
        for secret in SECRETS {
            put(&home, secret, "secret", 0o644);
        }
        // As pyenv has it: shims that are scripts, whose first line and whose target are absolute.
        let shim = |name: &str| {
            let real = home.join(".pyenv/versions/3.x/bin").join(name);
            let script = format!("#!/bin/sh\nexec {} \"$@\"\n", real.display());
            put(&home, &format!(".pyenv/shims/{name}"), &script, 0o755);
        };
        link(&home, ".pyenv/versions/3.x/bin/python3", "/usr/bin/python3");
        let pip = format!(
            "#!{}\nfrom pip._internal.cli.main import main\nimport sys\nsys.exit(main())\n",
            home.join(".pyenv/versions/3.x/bin/python3").display()
        );
        put(&home, ".pyenv/versions/3.x/bin/pip", &pip, 0o755);
        shim("python3");
        shim("pip");
        link(&home, ".nvm/versions/node/v20/bin/node", "/usr/bin/node");
        put(&home, ".local/bin/mine", "#!/bin/sh\necho mine\n", 0o755);
        // The programs of a rustup, as it lays them out, but for its choice among toolchains.
        let cargo = home.join(".rustup/toolchains/stable/bin/cargo");
        fs::create_dir_all(cargo.parent().unwrap()).unwrap();
        fs::copy(real_cargo(), &cargo).unwrap();
        link(&home, ".cargo/bin/cargo", cargo.to_str().unwrap());
        put(&home, ".rustup/settings.toml", "version = \"12\"\n", 0o644);
        put(&home, "project/tool", "#!/bin/sh\necho exposed\n", 0o755);

        let (socket, base) = (dir.path().join("s.sock"), dir.path().join("base"));
        fs::create_dir(&base).unwrap();
        let path =
            [".pyenv/shims", ".nvm/versions/node/v20/bin", ".cargo/bin", ".local/bin", "project"];
        let mut path: Vec<PathBuf> = path.iter().map(|entry| home.join(entry)).collect();
        path.extend(["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from));
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let daemon = noxrunnerd(dir.path(), &socket, &base)
            .args(["--isolation", "full"])
            .args(with)
            .env_remove("RUSTUP_HOME")
            .env("HOME", &home)
            .env("PATH", std::env::join_paths(path).unwrap())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        eventually("it listens", SOON, || Connection::open(&socket).is_ok());
        let made = Self { dir, user, socket, daemon };
        let id = CreateParams::new("s".parse().unwrap());
        Connection::open(&made.socket).unwrap().call::<SandboxCreate>(&id).unwrap();
        made
    }

    fn home(&self) -> PathBuf {
        self.user.path().join("me")
    }

    #[track_caller]
    fn exec(&self, cmd: &[&str]) -> ExecResult {
        let mut connection = Connection::open(&self.socket).unwrap();
        connection.call::<SandboxExec>(&exec_params("s", cmd)).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.daemon.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.daemon.wait().unwrap();
        if std::thread::panicking() {
            println!("{}", fs::read_to_string(self.dir.path().join("log")).unwrap());
        }
    }
}

#[test]
fn what_a_developer_expects_runs() {
    let home = Home::start(&[]);
    for (cmd, says) in [
        (&["python3", "--version"][..], "Python 3."),
        (&["python3", "-c", "import ssl, sqlite3, json; print('imported')"], "imported"),
        (&["pip", "--version"], "pip "),
        (&["node", "-e", "console.log(6 * 7)"], "42"),
        (&["cargo", "--version"], "cargo 1."),
        (&["git", "--version"], "git version"),
        (&["mine"], "mine"),
        (
            &[
                "sh",
                "-c",
                "git init -q r && cd r && git -c user.name=n -c user.email=e commit -q --allow-empty -m m && git log --format=%s",
            ],
            "m\n",
        ),
    ] {
        let result = home.exec(cmd);
        assert!(result.exit_code == 0 && result.stdout.starts_with(says), "{cmd:?}: {result:?}");
    }
    let of_home = |name: &str| home.exec(&["sh", "-c", &format!("command -v {name}")]).stdout;
    for name in ["python3", "pip", "node", "cargo", "mine"] {
        assert!(
            of_home(name).starts_with(home.home().to_str().unwrap()),
            "{name}: {}",
            of_home(name)
        );
    }
    let env = home.exec(&["sh", "-c", "echo $RUSTUP_HOME $CARGO_HOME $HOME"]).stdout;
    assert_eq!(
        env,
        format!("{} /home/nox/.cargo /home/nox\n", home.home().join(".rustup").display())
    );
}

#[test]
fn credentials_are_not_there() {
    let home = Home::start(&[]);
    for secret in SECRETS {
        let path = home.home().join(secret);
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
        let result = home.exec(&["cat", path.to_str().unwrap()]);
        assert!(result.stderr.contains("No such file or directory"), "{secret}: {result:?}");
    }
    let found = home.exec(&[
        "sh",
        "-c",
        &format!(
            "find {} -name '*redential*' -o -name 'id_*' -o -name '.netrc'",
            home.home().display()
        ),
    ]);
    assert_eq!(found.stdout, "");
    // The way there is nothing but a way, and what is there is not to be changed.
    let listed = home.exec(&["ls", "-A", home.home().to_str().unwrap()]).stdout;
    assert_eq!(listed, ".cargo\n.local\n.nvm\n.pyenv\n.rustup\n");
    let write = home.exec(&[
        "sh",
        "-c",
        &format!("echo x >> {}", home.home().join(".local/bin/mine").display()),
    ]);
    assert!(
        write.stderr.contains("Read-only file system")
            || write.stderr.contains("Permission denied"),
        "{write:?}"
    );
}

#[test]
fn what_is_elsewhere_is_named_with_the_setting_that_shows_it() {
    let home = Home::start(&[]);
    let missing = home.exec(&["tool"]);
    assert_eq!(missing.exit_code, 127);
    let project = home.home().join("project");
    let hint = missing.hint.unwrap();
    assert!(hint.contains(&format!("expose = [{:?}]", project.display().to_string())), "{hint}");
    let other = home.exec(&["no-such-tool"]);
    assert_eq!((other.exit_code, other.hint), (127, None));
    drop(home);

    let policy = tempfile::NamedTempFile::new().unwrap();
    fs::write(policy.path(), "expose = ['~/project']\n").unwrap();
    let home = Home::start(&["--policy", policy.path().to_str().unwrap()]);
    assert_eq!(home.exec(&["tool"]).stdout, "exposed\n");
}

/// A toolchain that is installed later is there for the next sandbox.
#[test]
fn what_the_host_installs_later_is_seen_by_sandboxes_made_later() {
    let home = Home::start(&[]);
    let tools = home.home().join(".local/bin");
    put(&home.home(), ".local/bin/late", "#!/bin/sh\necho late\n", 0o755);
    assert_eq!(home.exec(&["late"]).stdout, "late\n");
    // Replaced as a whole, it is another directory.
    fs::rename(&tools, home.home().join(".local/old")).unwrap();
    put(&home.home(), ".local/bin/later", "#!/bin/sh\necho later\n", 0o755);
    let mut connection = Connection::open(&home.socket).unwrap();
    let id = CreateParams::new("t".parse().unwrap());
    connection.call::<SandboxCreate>(&id).unwrap();
    let mut run = |id: &str, program: &str| {
        connection.call::<SandboxExec>(&exec_params(id, &[program])).unwrap()
    };
    assert_eq!(run("t", "later").stdout, "later\n");
    assert_eq!(run("t", "late").exit_code, 127);
    // What is there already goes on with what it had.
    assert_eq!(run("s", "late").stdout, "late\n");
}
