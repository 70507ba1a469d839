//! Files of the host, told apart from ordinary permissions: everybody may do everything with these.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use noxrunner_tests::attack::inside;
use noxrunner_tests::{TestDaemon, Tier, exec_params};
use tempfile::TempDir;

use super::{denied, landlock, of_tier, open_to};

/// A directory of the test's own in which everybody may do everything.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap());
        host.put_right();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put_right(&self) {
        for entry in fs::read_dir(self.0.path()).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                fs::remove_dir_all(entry.path()).unwrap();
            } else {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        open_to(self.0.path(), 0o777);
        fs::create_dir(self.path("d")).unwrap();
        open_to(&self.path("d"), 0o777);
        fs::write(self.path("f"), "precious").unwrap();
        open_to(&self.path("f"), 0o666);
    }
}

#[test]
fn files_of_the_host_cannot_be_read_written_made_or_removed() {
    let (daemon, host) = (landlock(), Host::new());
    let attacks = [
        ("read", "open(h + '/f').read()", "EACCES"),
        ("through /proc", "open('/proc/self/root' + h + '/f').read()", "EACCES"),
        ("through ..", "open(h + '/d/../f').read()", "EACCES"),
        (
            "through a link",
            "os.symlink(h + '/f', 'l')\ntry: open('l').read()\nfinally: os.unlink('l')",
            "EACCES",
        ),
        ("write", "open(h + '/f', 'r+').write('x')", "EACCES"),
        ("append", "open(h + '/f', 'a').write('x')", "EACCES"),
        ("truncate by path", "os.truncate(h + '/f', 0)", "EACCES"),
        ("truncate by open", "open(h + '/f', 'w')", "EACCES"),
        ("list", "os.listdir(h)", "EACCES"),
        ("create", "open(h + '/new', 'w')", "EACCES"),
        ("unlink", "os.unlink(h + '/f')", "EACCES"),
        ("rename", "os.rename(h + '/f', h + '/g')", "EACCES"),
        ("rename to another directory", "os.rename(h + '/f', h + '/d/f')", "EACCES"),
        ("mkdir", "os.mkdir(h + '/new')", "EACCES"),
        ("rmdir", "os.rmdir(h + '/d')", "EACCES"),
        ("symlink", "os.symlink('f', h + '/new')", "EACCES"),
        ("mkfifo", "os.mkfifo(h + '/new')", "EACCES"),
        ("move out", "open('o', 'w').close(); os.rename('o', h + '/o')", "EACCES"),
        ("move in", "os.rename(h + '/d', 'd'); os.rmdir('d')", "EACCES"),
    ];
    let at = format!("h = {:?}\n", host.0.path());
    let code: Vec<String> = attacks.iter().map(|(_, code, _)| at.clone() + code).collect();
    let attacks: Vec<_> = std::iter::zip(attacks, &code)
        .map(|((name, _, want), code)| (name, code.as_str(), want))
        .collect();
    denied(&daemon, &attacks, || host.put_right());
    host.put_right();
    for (name, code, _) in &attacks {
        inside(&daemon, "s", code);
        assert_eq!(fs::read_to_string(host.path("f")).unwrap(), "precious", "{name}");
        assert_eq!(fs::read_dir(host.0.path()).unwrap().count(), 2, "{name}");
    }
    // Between directories Landlock says that it cannot be done this way.
    let linked = format!("{at}os.link(h + '/f', 'f')");
    assert_eq!(inside(&daemon, "s", &linked), "EXDEV");
    // What `missing` says is not held is not.
    assert_eq!(inside(&daemon, "s", &format!("{at}assert os.stat(h + '/f').st_size == 8")), "ok");
}

#[test]
fn the_daemons_own_files_and_socket_are_out_of_reach() {
    let daemon = landlock();
    let socket = daemon.socket.to_str().unwrap();
    let base = daemon.base.to_str().unwrap();
    assert_eq!(inside(&daemon, "s", &format!("os.listdir({base:?})")), "EACCES");
    assert_eq!(inside(&daemon, "s", &format!("open({base:?} + '/x', 'w')")), "EACCES");
    let manifest = "os.path.dirname(os.getcwd()) + '/manifest.json'";
    assert_eq!(inside(&daemon, "s", &format!("open({manifest})")), "EACCES");
    assert_eq!(inside(&daemon, "s", &format!("os.unlink({manifest})")), "EACCES");
    assert_eq!(inside(&daemon, "s", &format!("os.unlink({socket:?})")), "EACCES");
    let connect = format!("socket.socket(1, 1).connect({socket:?})");
    assert_eq!(inside(&daemon, "s", &connect), "EPERM");
}

/// A socket of a pair is not one that socket() made, and a datagram goes wherever it is addressed.
#[test]
fn path_sockets_are_not_reached_through_a_pair() {
    let (daemon, host) = (landlock(), Host::new());
    let path = host.path("datagrams");
    let listen = || {
        host.put_right();
        let socket = UnixDatagram::bind(&path).unwrap();
        open_to(&path, 0o666);
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let send = |kind: i32| format!("socket.socketpair(1, {kind})[0].sendto(b'x', {path:?})");
    let open = of_tier(Tier::None);
    for kind in [2, 3] {
        let socket = listen();
        assert_eq!(inside(&daemon, "s", &send(kind)), "EPERM");
        assert!(socket.recv(&mut [0]).is_err());
        assert_eq!(inside(&open, "s", &send(kind)), "ok");
        assert_eq!(socket.recv(&mut [0]).unwrap(), 1);
    }
    // These have their peer for good.
    let listener = listen();
    assert_eq!(inside(&daemon, "s", &send(1)), "EISCONN");
    let sent = format!(
        "a, b = socket.socketpair(1, 5)\ntry: a.sendto(b'x', {path:?})\nexcept OSError: pass"
    );
    assert_eq!(inside(&daemon, "s", &sent), "ok");
    assert!(listener.recv(&mut [0]).is_err());
}

#[test]
fn a_sandboxs_own_places_are_its_own() {
    let daemon = landlock();
    let own = "for place in (os.getcwd(), os.environ['HOME'], os.environ['TMPDIR']):
    f = place + '/f'
    open(f, 'w').write('x'); os.truncate(f, 0); os.rename(f, f + '2'); os.link(f + '2', f)
    os.symlink('f', place + '/l'); open(place + '/l').read(); os.unlink(f); os.mkdir(f); os.rmdir(f)
os.rename(os.environ['TMPDIR'] + '/f2', os.environ['HOME'] + '/f3'); os.rename(os.environ['HOME'] + '/f3', 'f3')";
    assert_eq!(inside(&daemon, "s", own), "ok");
    // No file can be made executable later, but it can be born so.
    let made = "fd = os.open('script', os.O_CREAT | os.O_WRONLY, 0o755)
os.write(fd, b'#!/bin/sh\\nexit 7\\n'); os.close(fd)
assert os.spawnv(os.P_WAIT, './script', ['script']) == 7";
    assert_eq!(inside(&daemon, "s", made), "ok");
    assert_eq!(daemon.sh("s", "cp /bin/echo copied; ./copied executed").stdout, "executed\n");
}

#[test]
fn tools_of_the_system_run() {
    let daemon = landlock();
    for cmd in [
        ["sh", "-c", "exit 0"],
        ["python3", "-c", "import ssl"],
        ["git", "--version", "--build-options"],
    ] {
        let ran = daemon.exec("s", &cmd);
        assert_eq!((ran.exit_code, ran.stderr.as_str()), (0, ""), "{cmd:?}");
    }
    let devices = "head -c 1 /dev/zero /dev/urandom > /dev/null; echo x > /dev/stderr";
    assert_eq!(daemon.sh("s", devices).exit_code, 0);
}

#[test]
fn toolchains_in_a_home_run_and_the_secrets_beside_them_stay_shut() {
    // Not in /tmp, which is nobody's home.
    let home = tempfile::Builder::new().prefix("noxtest.").tempdir_in("/var/tmp").unwrap();
    let put = |name: &str, content: &str, mode: u32| {
        let file = home.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        open_to(&file, mode);
    };
    put(".local/bin/noxtest-mine", "#!/bin/sh\necho mine\n", 0o755);
    put(".ssh/id_ed25519", "secret", 0o644);
    open_to(home.path(), 0o755);
    let path = format!("PATH={}/.local/bin:/usr/bin:/bin", home.path().display());
    let home_is = format!("HOME={}", home.path().display());
    let secret = format!("open({:?}).read()", home.path().join(".ssh/id_ed25519"));
    for (tier, want) in [(Tier::Landlock, "EACCES"), (Tier::None, "ok")] {
        let environment = ["/usr/bin/env", home_is.as_str(), path.as_str()];
        let daemon = TestDaemon::start_under(&environment, &["--isolation", tier.name()]);
        open_to(daemon.dir.path(), 0o711);
        daemon.create("s");
        assert_eq!(daemon.exec("s", &["noxtest-mine"]).stdout, "mine\n", "{tier}");
        assert_eq!(inside(&daemon, "s", &secret), want, "{tier}");
    }
}

#[test]
fn working_directories_are_translated_and_arguments_are_not() {
    let daemon = landlock();
    let workspace = daemon.workspace("s");
    let shown = workspace.to_str().unwrap();
    assert_eq!(daemon.exec("s", &["pwd"]).stdout, format!("{shown}\n"));
    let mut below = exec_params("s", &["pwd"]);
    below.workdir = "/workspace/a/b".to_owned();
    let below = daemon.exec_params(below);
    assert_eq!(below.stdout, format!("{shown}/a/b\n"));
    assert!(!below.redirected, "{below:?}");
    let mut outside = exec_params("s", &["pwd"]);
    outside.workdir = "/etc".to_owned();
    let outside = daemon.exec_params(outside);
    assert!(outside.redirected && outside.stdout.starts_with(shown), "{outside:?}");
    assert_ne!(daemon.exec("s", &["ls", "/workspace"]).exit_code, 0);
}

#[test]
fn sandboxes_do_not_reach_each_others_files() {
    let daemon = landlock();
    daemon.create("t");
    let file = daemon.workspace("s").join("secret");
    // Nobody's permissions but Landlock's are in the way, where both are one user.
    let write = "os.umask(0); open('secret', 'w').write('x'); open('secret').read()";
    assert_eq!(inside(&daemon, "s", write), "ok");
    for code in [
        format!("open({file:?}).read()"),
        format!("open({file:?}, 'w')"),
        format!("os.unlink({file:?})"),
        format!("os.listdir({:?})", file.parent().unwrap()),
    ] {
        assert_eq!(inside(&daemon, "t", &code), "EACCES", "{code}");
    }
    assert_eq!(inside(&daemon, "s", &format!("open({file:?}).read()")), "ok");
}
