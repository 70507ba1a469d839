//! The daemon itself, by `--http`: what it says over HTTP is what it says over its socket.

use std::fs;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use noxrunner_tests::archive::fed;
use noxrunner_tests::{SOON, Started, TestDaemon, Tier, eventually, program, shell_status, text};

use super::{ask, fails, noxctl, said};

/// Has each of these tests done in the strongest tier and in the one that holds nothing, where
/// the sandbox's directories have other names to commands.
macro_rules! in_both_tiers {
    ($($test:ident),+ $(,)?) => {
        mod full {
            $(#[test]
            fn $test() {
                super::$test(noxrunner_tests::Tier::Full);
            })+
        }
        mod none {
            $(#[test]
            fn $test() {
                super::$test(noxrunner_tests::Tier::None);
            })+
        }
    };
}

in_both_tiers!(
    a_session_goes_through_from_its_first_verb_to_its_last,
    copies_follow_dockers_rules_without_the_socket,
    a_shell_runs_line_after_line,
);

/// A daemon that listens on TCP, too, and its URL.
fn daemon(tier: Tier) -> (TestDaemon, String) {
    let daemon = TestDaemon::of_tier_with(tier, &["--http", "127.0.0.1:0"]);
    let url = format!("http://{}", daemon.http());
    (daemon, url)
}

fn a_session_goes_through_from_its_first_verb_to_its_last(tier: Tier) {
    let (daemon, url) = daemon(tier);
    let dir = tempfile::tempdir().unwrap();
    let of = |arguments: &[&str]| {
        let mut command = noxctl(&["--base-url", &url]);
        said(command.args(arguments).current_dir(&dir))
    };
    let done = |text: &str| (0, format!("✓ {text}\n"), String::new());
    assert_eq!(of(&["health"]), done("Manager is healthy"));
    let (status, stdout, stderr) = of(&["create", "a/b ä", "--wait"]);
    assert!(status == 0 && stdout.ends_with("✓ Pod is ready\n"), "{stdout}{stderr}");
    let command = ["exec", "--env", "A=b", "a/b ä", "sh", "-c", "echo $A; echo e >&2; exit 7"];
    assert_eq!(of(&command), (7, "b\n".to_owned(), "e\n".to_owned()));
    assert_eq!(of(&["touch", "a/b ä"]), done("TTL extended"));
    fs::create_dir_all(dir.path().join("from/d/empty")).unwrap();
    fs::write(dir.path().join("from/d/f"), "hello").unwrap();
    let uploaded = of(&["upload", "a/b ä", "--dir", "from"]);
    assert_eq!(uploaded, done("Uploaded 1 file(s) to /workspace"));
    assert_eq!(of(&["exec", "a/b ä", "cat", "d/f"]).1, "hello");
    let downloaded = of(&["download", "a/b ä", "--extract", "to"]);
    assert_eq!(downloaded, done("Extracted to to"));
    assert_eq!(fs::read_to_string(dir.path().join("to/d/f")).unwrap(), "hello");
    assert!(dir.path().join("to/d/empty").is_dir());
    // The sandbox is the one that the socket knows by that name.
    let result = daemon.exec("a/b ä", &["cat", "d/f"]);
    assert_eq!(result.stdout, "hello");
    assert_eq!(of(&["delete", "a/b ä"]), done("Sandbox deleted"));
    assert_eq!(daemon.directories(), [""; 0]);
    fails(of(&["delete", "a/b ä"]), &[&url, "a/b ä"]);
    // One that is not there is made.
    assert_eq!(of(&["exec", "new", "echo", "hi"]), (0, "hi\n".to_owned(), String::new()));
    assert_eq!(daemon.directories().len(), 1);
}

#[test]
fn an_interrupted_exec_ends_with_130_and_so_does_its_command() {
    let (daemon, url) = daemon(Tier::Full);
    let command = ["--base-url", &url, "exec", "s", "sleep", "4242"];
    let mut noxctl = Started::new(&mut noxctl(&command));
    let runs = || daemon.processes().iter().any(|process| process.names("4242"));
    eventually("the command runs", SOON, runs);
    kill(noxctl.pid(), Signal::SIGINT).unwrap();
    assert_eq!(shell_status(noxctl.wait()), 130);
    eventually("the command ends with it", SOON, || !runs());
}

fn copies_follow_dockers_rules_without_the_socket(tier: Tier) {
    let (_daemon, url) = daemon(tier);
    let dir = tempfile::tempdir().unwrap();
    let of = |arguments: &[&str]| {
        let mut command = noxctl(&["--base-url", &url]);
        let (status, stdout, stderr) = said(command.args(arguments).current_dir(&dir));
        assert_eq!((status, stdout.as_str()), (0, ""), "{arguments:?}: {stderr}");
    };
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/f"), "hello").unwrap();
    of(&["exec", "s", "sh", "-c", "mkdir there; ln -s there link"]);
    of(&["cp", "d", "s:new"]);
    of(&["cp", "d/f", "s:there"]);
    of(&["cp", "d/f", "s:link/g"]);
    of(&["cp", "d/.", "s:link"]);
    let look = "cat new/f there/f there/g && ls there | tr '\\n' ' ' && [ -h link ]";
    let (status, stdout, _) = ask(&url, &["exec", "s", "sh", "-c", look]);
    assert_eq!((status, stdout.as_str()), (0, "hellohellohellof g "));
    of(&["cp", "s:new", "back"]);
    of(&["cp", "s:there/g", "file"]);
    of(&["cp", "s:link", "linked"]);
    for path in ["back/f", "file", "linked/g"] {
        assert_eq!(fs::read_to_string(dir.path().join(path)).unwrap(), "hello", "{path}");
    }
    for (arguments, part) in [
        (["cp", "d", "s:new/f"], "is not a directory"),
        (["cp", "d/f", "s:none/x"], "no directory"),
        (["cp", "s:none", "x"], "no /workspace/none"),
    ] {
        let mut command = noxctl(&["--base-url", &url]);
        fails(said(command.args(arguments).current_dir(&dir)), &[part]);
    }
}

fn a_shell_runs_line_after_line(tier: Tier) {
    let (daemon, url) = daemon(tier);
    let lines = "
mkdir sub
  echo \"a  b\" $((1 + 1))
cd sub
basename \"$(pwd)\"
cd nowhere
X=1
echo [$X] > f; cat f; ls ../*
false
touch
help
exit
echo not reached
";
    let mut doors: Vec<Command> =
        vec![noxctl(&["--base-url", &url, "shell", "http"]), daemon.noxctl(&["shell", "socket"])];
    for command in &mut doors {
        let Output { status, stdout, stderr } = fed(command, lines.as_bytes());
        let (stdout, stderr) = (text(&stdout), text(&stderr));
        assert_eq!(shell_status(status), 0, "{stderr}");
        assert_eq!(stdout, "a  b 2\nsub\n[]\nf\n✓ TTL extended\n");
        for part in ["nowhere", "exited with code 1", "exit, quit"] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
    }
    // On a terminal it says what it is not, and asks for lines.
    let line = format!("{} --base-url {url} shell http", program("noxctl").display());
    let output =
        fed(Command::new("script").args(["-qec", &line, "/dev/null"]), b"echo h''i\nexit\n");
    let shown = text(&output.stdout);
    for part in ["no interactive terminal", "noxrunner:http$ "] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    // What is typed is shown by the terminal, before the prompt or after it.
    assert!(shown.lines().any(|line| line.trim_end().ends_with("hi")), "{shown:?}");
    // Where nobody is there, each line says so, and the status does.
    let mut nobody = noxctl(&["--base-url", "http://127.0.0.1:1", "shell", "s"]);
    let output = fed(&mut nobody, b"a\nb\n");
    assert_eq!(shell_status(output.status), 1);
    assert_eq!(text(&output.stderr).matches("cannot connect").count(), 2);
    let flags = ["--base-url", &url, "shell", "--workdir", "/tmp", "--timeout-seconds", "3", "s"];
    let output = fed(&mut noxctl(&flags), b"basename \"$(pwd)\"\nsleep 60\n");
    assert_eq!(text(&output.stdout), "tmp\n");
    assert!(text(&output.stderr).contains("exited with code 124"), "{}", text(&output.stderr));
}
