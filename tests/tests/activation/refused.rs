//! What was handed over and cannot be listened on: the daemon says so, and what to do.

use std::path::Path;
use std::process::{Command, Stdio};

use noxrunner_tests::{SOON, Started, eventually, noxrunnerd, run, text};

use super::{activate, activated};

/// Has a daemon handed what a script of Python's makes in a temporary directory (`dir`), as
/// descriptors 3 and up (`give`), and gives all that it says before it ends.
#[track_caller]
fn said_of(script: &str, told: &[&str]) -> String {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let prologue = "
import os, socket, sys
dir = os.environ['NOXRUNNER_TEST_DIR']
made = []
def give(one, listen=True):
    made.append(one)
    if listen: one.listen()
";
    let epilogue = "
for number, one in enumerate(made, start=3):
    spare = os.dup(one.fileno())
    os.dup2(spare, number)
os.environ.setdefault('LISTEN_PID', str(os.getpid()))
os.environ.setdefault('LISTEN_FDS', str(len(made)))
os.execv(sys.argv[1], sys.argv[1:])
";
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-I", "-c", &format!("{prologue}{script}{epilogue}")]);
    let daemon = noxrunnerd(dir.path(), Path::new(""), dir.path());
    command.arg(daemon.get_program()).args(["--local-test", "--base-dir"]).arg(dir.path());
    command.args(told).env("NOXRUNNER_TEST_DIR", dir.path()).stdin(Stdio::null());
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.extension().is_some()), "{left:?}");
    // A temporary directory has another name each time.
    text(&output.stderr).replace(dir.path().to_str().unwrap(), "DIR")
}

#[test]
fn two_sockets() {
    let said = said_of(
        "
for name in ['a.sock', 'b.sock']:
    one = socket.socket(socket.AF_UNIX)
    one.bind(dir + '/' + name)
    give(one)
",
        &[],
    );
    assert_eq!(
        said,
        "noxrunnerd: 2 sockets were handed over, and noxrunnerd listens on one: leave a single \
         ListenStream= in the socket unit\n"
    );
}

/// The same from systemd's own hands.
#[test]
fn two_sockets_of_systemds() {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let sockets = ["a.sock", "b.sock"].map(|name| dir.path().join(name));
    let options = sockets.iter().map(|socket| format!("--listen={}", socket.display()));
    let options: Vec<String> = options.collect();
    let log = dir.path().join("log");
    let mut command = activate(dir.path(), &options, &[]);
    let mut daemon = Started::with_stderr(&mut command, std::fs::File::create(&log).unwrap());
    let said = || std::fs::read_to_string(&log).unwrap();
    eventually("both listen", SOON, || said().matches("Listening on").count() == 2);
    let _client = std::os::unix::net::UnixStream::connect(&sockets[1]).unwrap();
    assert_eq!(daemon.wait().code(), Some(1));
    let wanted = "noxrunnerd: 2 sockets were handed over";
    assert!(said().contains(wanted), "{}", said());
}

#[test]
fn a_socket_of_datagrams_and_one_of_packets() {
    for kind in ["SOCK_DGRAM", "SOCK_SEQPACKET"] {
        let said = said_of(
            &format!(
                "
one = socket.socket(socket.AF_UNIX, socket.{kind})
one.bind(dir + '/a.sock')
give(one, listen=False)
"
            ),
            &[],
        );
        assert_eq!(
            said,
            "noxrunnerd: a Unix socket without streams was handed over: use ListenStream= in the \
             place of ListenDatagram= or ListenSequentialPacket= in the socket unit\n"
        );
    }
}

#[test]
fn a_socket_of_the_network() {
    for (family, address) in [("AF_INET", "127.0.0.1"), ("AF_INET6", "::1")] {
        let said = said_of(
            &format!(
                "
one = socket.socket(socket.{family})
one.bind(('{address}', 0))
give(one)
"
            ),
            &[],
        );
        assert_eq!(
            said,
            "noxrunnerd: a socket of the network was handed over, and noxrunnerd listens on a Unix \
             socket only: use ListenStream= with a path in the socket unit\n"
        );
    }
}

#[test]
fn a_socket_that_does_not_listen() {
    let said = said_of("for one in socket.socketpair()[:1]: give(one, listen=False)", &[]);
    assert_eq!(
        said,
        "noxrunnerd: a socket that does not listen was handed over: use Accept=no in the socket unit\n"
    );
}

#[test]
fn no_socket_at_all() {
    let said = said_of("give(open('/dev/null'), listen=False)", &[]);
    assert_eq!(
        said,
        "noxrunnerd: what was handed over is no socket: use ListenStream= with a path, and nothing \
         else, in the socket unit\n"
    );
}

#[test]
fn a_socket_that_clients_would_not_find() {
    for bind in ["one.bind('\\0noxtest' + str(os.getpid()))", "os.chdir(dir); one.bind('a.sock')"] {
        let said = said_of(&format!("one = socket.socket(socket.AF_UNIX); {bind}; give(one)"), &[]);
        assert_eq!(
            said,
            "noxrunnerd: the socket that was handed over is not bound to an absolute path, where \
             clients would find it: use ListenStream= with one in the socket unit\n"
        );
    }
}

#[test]
fn a_socket_that_others_could_replace() {
    let said = said_of(
        "
os.mkdir(dir + '/open.d')
os.chmod(dir + '/open.d', 0o777)
one = socket.socket(socket.AF_UNIX)
one.bind(dir + '/open.d/a.sock')
give(one)
",
        &[],
    );
    assert_eq!(
        said,
        "noxrunnerd: DIR/open.d can be written by other users: use DirectoryMode=0700 in the socket \
         unit\n"
    );
}

#[test]
fn another_socket_than_the_command_line_names() {
    let bind = "one = socket.socket(socket.AF_UNIX); one.bind(dir + '/handed.sock'); give(one)";
    let said = said_of(bind, &["--socket", "/nowhere/told.sock"]);
    assert_eq!(
        said,
        "noxrunnerd: --socket /nowhere/told.sock is not the socket that was handed over, \
         DIR/handed.sock: leave --socket out, or change ListenStream= in the socket unit\n"
    );
}

#[test]
fn variables_that_say_something_else() {
    for (variable, value, why) in [
        ("LISTEN_FDS", "many", "invalid LISTEN_FDS"),
        ("LISTEN_PID", "me", "invalid LISTEN_PID"),
        // Nothing was handed over, and they say that something was.
        ("LISTEN_FDS", "1", "Bad file descriptor (os error 9)"),
    ] {
        let said = said_of(&format!("os.environ['{variable}'] = '{value}'"), &[]);
        assert_eq!(
            said,
            format!(
                "noxrunnerd: LISTEN_PID and LISTEN_FDS do not tell what was handed over ({why}): \
                 start noxrunnerd from a socket unit, or without these variables\n"
            )
        );
    }
}

/// The control of all of these: the same way with a good one.
#[test]
fn none_of_which_a_good_one_is() {
    let daemon = activated("", &[]);
    daemon.create("s");
    assert_eq!(daemon.exec("s", &["echo", "fine"]).stdout, "fine\n");
}
