//! The network: the sandbox's own loopback and nothing else, unless it was made with the host's.

use std::io::Write;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use noxrunner_tests::TestDaemon;
use noxrunner_tests::attack::{inside, outside};
use serde_json::json;

use super::Control::Outside;
use super::{denied, full};

/// A listener that takes connections and says nothing.
fn listen_on_loopback() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, format!("socket.create_connection(('127.0.0.1', {port}), 5)"))
}

fn listen_abstract(name: &str) -> (UnixListener, String) {
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    (listener, format!("socket.socket(1, 1).connect('\\0{name}')"))
}

fn connect(path: &Path) -> String {
    format!("socket.socket(1, 1).connect({:?})", path.to_str().unwrap())
}

#[test]
fn services_of_the_host_are_out_of_reach() {
    let daemon = full();
    let (_tcp, tcp) = listen_on_loopback();
    let (_abstract, abstract_socket) = listen_abstract(&format!("noxtest-{}", std::process::id()));
    let path = daemon.dir.path().join("service.sock");
    let _service = UnixListener::bind(&path).unwrap();
    denied(
        &daemon,
        &[
            ("loopback", &tcp, Outside, "ECONNREFUSED"),
            ("an abstract socket", &abstract_socket, Outside, "ECONNREFUSED"),
            ("a path socket", &connect(&path), Outside, "ENOENT"),
            ("the daemon's own socket", &connect(&daemon.socket), Outside, "ENOENT"),
        ],
    );
    // 192.0.2.0/24 is nobody's (RFC 5737).
    let elsewhere = "socket.create_connection(('192.0.2.1', 9), 2)";
    assert_eq!(inside(&daemon, "s", elsewhere), "ENETUNREACH");
    assert_eq!(
        inside(&daemon, "s", "socket.socket(2, 2).sendto(b'x', ('192.0.2.1', 9))"),
        "ENETUNREACH"
    );
}

#[test]
fn loopback_is_up_and_the_only_interface() {
    let daemon = full();
    let own = "l = socket.create_server(('127.0.0.1', 8080)); socket.create_connection(('127.0.0.1', 8080)).send(b'x'); assert l.accept()[0].recv(1) == b'x'";
    assert_eq!(inside(&daemon, "s", own), "ok");
    assert_eq!(inside(&daemon, "s", &own.replace("127.0.0.1", "localhost")), "ok");
    let six = "l = socket.create_server(('::1', 0), family=10); socket.create_connection(l.getsockname()[:2])";
    assert_eq!(inside(&daemon, "s", six), outside(six));
    assert_eq!(
        inside(&daemon, "s", "print([name for _, name in socket.if_nameindex()])"),
        "['lo']\nok"
    );
    assert_eq!(
        inside(&daemon, "s", "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'"),
        "ok"
    );
    // Another sandbox has another.
    daemon.create("other");
    let listening = noxrunner_tests::attack::params(
        "s",
        "l = socket.create_server(('127.0.0.1', 8082)); open('/workspace/up', 'w'); l.accept()",
    );
    let pending = noxrunner_tests::life::Pending::exec(&daemon, &listening);
    let up = daemon.workspace("s").join("up");
    noxrunner_tests::eventually("it listens", noxrunner_tests::SOON, || up.exists());
    let reach = "socket.create_connection(('127.0.0.1', 8082), 5)";
    assert_eq!(inside(&daemon, "other", reach), "ECONNREFUSED");
    assert_eq!(inside(&daemon, "s", reach), "ok");
    drop(pending);
}

/// A daemon whose policy allows the host's network, and its sandbox `h` with it.
fn with_host_network() -> (TestDaemon, tempfile::NamedTempFile) {
    let mut policy = tempfile::NamedTempFile::new().unwrap();
    writeln!(policy, "network_allowed = ['none', 'host']").unwrap();
    let path = policy.path().to_str().unwrap();
    let daemon = TestDaemon::start_with(&["--isolation", "full", "--policy", path]);
    daemon.call("sandbox.create", json!({"sessionId": "h", "network": "host"})).unwrap();
    daemon.create("s");
    (daemon, policy)
}

#[test]
fn the_hosts_network_is_there_for_who_is_given_it() {
    let (daemon, _policy) = with_host_network();
    let (_tcp, tcp) = listen_on_loopback();
    assert_eq!(inside(&daemon, "h", &tcp), "ok");
    assert_eq!(inside(&daemon, "s", &tcp), "ECONNREFUSED");
    // Sockets with an abstract name belong to the network; Landlock keeps them apart all the same.
    let (_abstract, abstract_socket) =
        listen_abstract(&format!("noxtest-host-{}", std::process::id()));
    assert_eq!(outside(&abstract_socket), "ok");
    assert_eq!(inside(&daemon, "h", &abstract_socket), "EPERM");
    let name = format!("'\\0noxtest-own-{}", std::process::id());
    let own = format!(
        "socket.socket(1, 1).bind({name}'); l = socket.socket(1, 1); l.bind({name}-2'); l.listen(); socket.socket(1, 1).connect({name}-2')"
    );
    assert_eq!(inside(&daemon, "h", &own), "ok");
    assert_eq!(inside(&daemon, "h", &connect(&daemon.socket)), "ENOENT");
    for file in ["/etc/resolv.conf", "/etc/hosts"] {
        let host = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(daemon.exec("h", &["/bin/cat", file]).stdout, host, "{file}");
        assert_ne!(daemon.exec("s", &["/bin/cat", file]).stdout, host, "{file}");
    }
    assert_eq!(inside(&daemon, "h", "socket.socket(2, 3, 1)"), "EPERM");
}

#[test]
fn a_sandbox_keeps_its_network_over_creates_and_restarts() {
    let (mut daemon, policy) = with_host_network();
    let again = |network: &str| {
        daemon.call("sandbox.create", json!({"sessionId": "h", "network": network}))
    };
    assert_eq!(again("none").unwrap_err().kind.name(), "conflict");
    again("host").unwrap();
    daemon.call("sandbox.create", json!({"sessionId": "h"})).unwrap();
    let (_tcp, tcp) = listen_on_loopback();
    assert_eq!(inside(&daemon, "h", &tcp), "ok");
    daemon.end_by(nix::sys::signal::Signal::SIGKILL);
    daemon.start_again();
    assert_eq!(inside(&daemon, "h", &tcp), "ok");
    assert_eq!(inside(&daemon, "s", &tcp), "ECONNREFUSED");
    // What a policy does not allow any more is not kept either.
    daemon.end_by(nix::sys::signal::Signal::SIGTERM);
    std::fs::write(policy.path(), "network_allowed = ['none']").unwrap();
    daemon.start_again();
    assert_eq!(inside(&daemon, "h", &tcp), "ECONNREFUSED");
    assert!(daemon.log().contains("does not allow its network"), "{}", daemon.log());
}

#[test]
fn a_network_that_the_policy_does_not_allow_is_refused_with_its_setting() {
    let mut policy = tempfile::NamedTempFile::new().unwrap();
    writeln!(policy, "network_allowed = ['none']").unwrap();
    let daemon = TestDaemon::start_with(&["--policy", policy.path().to_str().unwrap()]);
    let refused =
        daemon.call("sandbox.create", json!({"sessionId": "h", "network": "host"})).unwrap_err();
    assert_eq!(refused.kind.name(), "unauthorized");
    assert!(refused.hint.unwrap().contains("network_allowed"));
    assert_eq!(daemon.directories(), [""; 0]);
}

#[test]
fn a_failure_for_want_of_a_network_is_explained() {
    let daemon = full();
    let result = daemon.exec("s", &["/usr/bin/curl", "-sS", "http://example.invalid/"]);
    assert_ne!(result.exit_code, 0);
    assert!(
        result.hint.as_deref().is_some_and(|hint| hint.contains("--network host")),
        "{result:?}"
    );
    assert_eq!(daemon.sh("s", "exit 3").hint, None);
}

/// Only root can give a directory two names by a mount.
mod root_only {
    use super::*;

    struct Alias(PathBuf);

    impl Drop for Alias {
        fn drop(&mut self) {
            let unmounted = std::process::Command::new("umount").arg(&self.0).status();
            assert!(unmounted.unwrap().success());
            std::fs::remove_dir(&self.0).unwrap();
        }
    }

    /// A second daemon's socket directory, mounted where its sandboxes look.
    #[test]
    fn an_alias_of_the_sockets_directory_does_not_bring_it_in() {
        let policy = tempfile::NamedTempFile::new().unwrap();
        let mut daemon = TestDaemon::start_with(&[
            "--isolation",
            "full",
            "--policy",
            policy.path().to_str().unwrap(),
        ]);
        let dir = daemon.dir.path().to_owned();
        let alias = Alias(PathBuf::from(format!("/opt/noxtest-alias-{}", std::process::id())));
        std::fs::create_dir_all(&alias.0).unwrap();
        let bound =
            std::process::Command::new("mount").arg("--bind").arg(&dir).arg(&alias.0).status();
        assert!(bound.unwrap().success());
        // What was mounted after its start it sees at the next.
        daemon.end_by(nix::sys::signal::Signal::SIGTERM);
        daemon.start_again();
        daemon.create("s");
        let through = alias.0.join("s.sock");
        assert_eq!(outside(&connect(&through)), "ok");
        assert_eq!(inside(&daemon, "s", &connect(&through)), "ENOENT");
        assert_eq!(inside(&daemon, "s", &format!("assert os.listdir({:?}) == []", alias.0)), "ok");
        // Who asks for it by name is told why not.
        daemon.end_by(nix::sys::signal::Signal::SIGTERM);
        std::fs::write(policy.path(), format!("expose = [{:?}]", alias.0)).unwrap();
        let refused = daemon.fails_to_start();
        assert!(refused.contains("expose") && refused.contains(dir.to_str().unwrap()), "{refused}");
    }
}
