//! The command line from outside: every verb, what it prints where, and its status.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use noxrunner_tests::{TestDaemon, Tier, in_both_tiers, program, run, shell_status, text};
use serde_json::{Value, json};

/// Status, standard output and standard error.
#[track_caller]
fn noxctl(daemon: &TestDaemon, arguments: &[&str]) -> (i32, String, String) {
    let output = run(&mut daemon.noxctl(arguments));
    (shell_status(output.status), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn json_of(daemon: &TestDaemon, arguments: &[&str]) -> Value {
    let (status, stdout, stderr) = noxctl(daemon, arguments);
    assert_eq!((status, stderr.as_str()), (0, ""), "{arguments:?}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn the_verbs_of_a_session_say_what_they_did() {
    let daemon = TestDaemon::start();
    assert_eq!(noxctl(&daemon, &["health"]), (0, "✓ Manager is healthy\n".into(), String::new()));
    let (status, stdout, stderr) = noxctl(&daemon, &["create", "--ttl", "100", "s"]);
    let pod = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap()["podName"].clone();
    assert_eq!((status, stdout), (0, format!("✓ Sandbox created: {}\n", pod.as_str().unwrap())));
    assert_eq!(stderr, "");
    let (status, _, stderr) = noxctl(&daemon, &["create", "s", "--image", "x", "--wait"]);
    assert_eq!(status, 0);
    assert!(stderr.contains("It existed") && stderr.contains("image"), "{stderr}");
    assert_eq!(noxctl(&daemon, &["touch", "s"]), (0, "✓ TTL extended\n".into(), String::new()));
    let (status, list, _) = noxctl(&daemon, &["list"]);
    assert_eq!((status, list.lines().count()), (0, 2), "{list}");
    assert!(list.lines().nth(1).unwrap().starts_with("s "), "{list}");
    let (status, got, _) = noxctl(&daemon, &["get", "s"]);
    assert!(status == 0 && got.contains(pod.as_str().unwrap()), "{got}");
    assert_eq!(noxctl(&daemon, &["delete", "s"]), (0, "✓ Sandbox deleted\n".into(), String::new()));
    assert_eq!(daemon.directories(), [""; 0]);
    let (status, stdout, stderr) = noxctl(&daemon, &["delete", "s"]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    assert!(stderr.contains('✗') && stderr.contains("create"), "{stderr}");
}

#[test]
fn with_json_every_verb_prints_the_result() {
    let daemon = TestDaemon::start();
    let of = |arguments: &[&str]| json_of(&daemon, arguments);
    assert_eq!(of(&["--json", "health"])["status"], "ok");
    assert_eq!(of(&["create", "s", "--json", "--mem", "1Gi", "--env", "A=b"])["created"], true);
    assert_eq!(of(&["--json", "get", "s"])["sessionId"], "s");
    assert_eq!(of(&["--json", "list"])["sandboxes"][0]["sessionId"], "s");
    assert!(of(&["--json", "touch", "s"])["expiresAt"].is_string());
    let ran = of(&["exec", "--json", "s", "sh", "-c", "echo $A; echo err >&2"]);
    assert_eq!((&ran["stdout"], &ran["stderr"]), (&json!("b\n"), &json!("err\n")));
    assert_eq!((&ran["encoding"], &ran["exitCode"]), (&json!("utf8"), &json!(0)));
    assert_eq!(of(&["--json", "policy"])["mode"], "block");
    assert_eq!(of(&["--json", "policy", "check", "ls"])["allowed"], true);
    assert_eq!(of(&["--json", "doctor"])["isolation"]["tier"], daemon.tier.name());
    assert_eq!(of(&["--json", "daemon", "status"])["pid"], daemon.pid().as_raw());
    assert_eq!(of(&["--json", "daemon", "start"])["pid"], daemon.pid().as_raw());
    assert_eq!(of(&["--json", "delete", "s"]), json!({"deleted": true}));
    let (status, stdout, stderr) = noxctl(&daemon, &["--json", "get", "s"]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["error"]["data"]["kind"], "sandboxNotFound");
}

in_both_tiers!(doctor_and_policy_explain);

fn doctor_and_policy_explain(daemon: TestDaemon) {
    let (status, stdout, _) = noxctl(&daemon, &["doctor"]);
    assert_eq!(status, 0);
    let line = |name: &str| stdout.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(line("isolation "), daemon.tier.name(), "{stdout}");
    // What isolates in one tier is what is missing in the other.
    let without_network = "network: commands use this machine's network";
    let full = daemon.tier == Tier::Full;
    assert_eq!(line("in use ").contains("network namespace"), full, "{stdout}");
    assert_eq!(stdout.contains(without_network), !full, "{stdout}");
    assert!(stdout.contains(daemon.socket.to_str().unwrap()), "{stdout}");
    assert_eq!(stdout.contains("missing "), stdout.contains("to mend it"), "{stdout}");
    let (status, stdout, _) = noxctl(&daemon, &["policy"]);
    assert!(status == 0 && stdout.contains("mkfs*"), "{stdout}");
    for (key, value) in [("exec", "anywhere"), ("delete", "allowed")] {
        let shown = |line: &str| line.starts_with(key) && line.ends_with(value);
        assert!(stdout.lines().any(shown), "{key}: {stdout}");
    }
    assert_eq!(stdout.contains("not enforced"), !full, "{stdout}");
    let (status, stdout, _) = noxctl(&daemon, &["policy", "check", "--", "/bin/rm", "-r", "x"]);
    assert!(status == 1 && stdout.contains("denied") && stdout.contains("block"), "{stdout}");
    let (status, stdout, _) = noxctl(&daemon, &["policy", "check", "sh", "-c", "rm x"]);
    assert!(status == 0 && stdout.contains("allowed"), "{stdout}");
    let (status, stdout, _) = noxctl(&daemon, &["policy", "check", "--path", "/etc/passwd"]);
    assert!(status == 0 && stdout.contains("/workspace/passwd"), "{stdout}");
}

#[test]
fn the_status_is_the_commands_own() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    for (cmd, expected) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 3"], 3),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["no-such-program"], 127),
        (&["/tmp"], 126),
        (&["rm", "x"], 1),
    ] {
        let (status, _, stderr) = noxctl(&daemon, &[&["exec", "s"], cmd].concat());
        assert_eq!(status, expected, "{cmd:?}: {stderr}");
        let ignoring = [&["exec", "--ignore-exit-code", "s"], cmd].concat();
        assert_eq!(noxctl(&daemon, &ignoring).0, 0, "{cmd:?}");
    }
    let (_, _, stderr) = noxctl(&daemon, &["exec", "s", "rm", "x"]);
    assert!(stderr.contains("Command not allowed: rm\n"), "{stderr}");
    let late = ["exec", "--timeout-seconds", "3.0", "s", "sh", "-c", "echo partial; sleep 1000"];
    let (status, stdout, _) = noxctl(&daemon, &late);
    assert_eq!((status, stdout.as_str()), (124, "partial\n"));
}

#[test]
fn the_flags_of_exec_reach_the_command() {
    let daemon = TestDaemon::of_tier(Tier::Full);
    let script = "echo $A $B; pwd; echo \"$@\"";
    let arguments = [
        "exec",
        "--env",
        "A=1",
        "--env",
        "B=x=y",
        "--workdir",
        "sub",
        "s",
        "--",
        "sh",
        "-c",
        script,
        "sh",
        "--json",
        "-i",
        "--",
        "--help",
    ];
    let (status, stdout, _) = noxctl(&daemon, &arguments);
    assert_eq!((status, stdout), (0, "1 x=y\n/workspace/sub\n--json -i -- --help\n".to_owned()));
    assert!(daemon.workspace("s").join("sub").is_dir());
    // The sandbox that it made is an ordinary one.
    assert_eq!(json_of(&daemon, &["--json", "get", "s"])["ttlSeconds"], 900);
}

#[test]
fn streams_pass_byte_for_byte() {
    let daemon = TestDaemon::start();
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut child = daemon
        .noxctl(&["exec", "-i", "s", "sh", "-c", "tee /dev/stderr"])
        .env("NOXRUNNER_QUIET", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == bytes && output.stderr == bytes);
    // Without -i nothing of standard input is passed on, and nothing waits for it.
    let (reader, _writer) = std::io::pipe().unwrap();
    let output = run(daemon.noxctl(&["exec", "s", "cat"]).stdin(reader));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

#[test]
fn cut_output_is_said() {
    let daemon = TestDaemon::start();
    let much = ["exec", "--quiet", "s", "head", "-c", "5000000", "/dev/zero"];
    let (status, stdout, stderr) = noxctl(&daemon, &much);
    assert_eq!((status, stdout.len()), (0, 4 * 1024 * 1024));
    assert!(stderr.contains("4194304 of 5000000"), "{stderr}");
}

#[test]
fn warnings_go_to_standard_error_unless_silenced() {
    let daemon = TestDaemon::start();
    let warning =
        format!("⚠ local mode: commands run on this machine (isolation: {})\n", daemon.tier.name());
    let hi = ["exec", "s", "echo", "hi"];
    assert_eq!(noxctl(&daemon, &hi), (0, "hi\n".into(), warning));
    let quiet = (0, "hi\n".to_owned(), String::new());
    assert_eq!(noxctl(&daemon, &["--quiet", "exec", "s", "echo", "hi"]), quiet);
    assert_eq!(noxctl(&daemon, &["exec", "--quiet", "s", "echo", "hi"]), quiet);
    for (value, silent) in [("1", true), ("0", false), ("", false)] {
        let output = run(daemon.noxctl(&hi).env("NOXRUNNER_QUIET", value));
        assert_eq!(output.stderr.is_empty(), silent, "{value:?}");
    }
    // Errors are no warnings.
    let (status, _, stderr) = noxctl(&daemon, &["--quiet", "get", "other"]);
    assert!(status == 1 && stderr.contains("other"), "{stderr}");
}

/// Runs noxctl on a terminal of its own, by script(1), and gives all that it shows.
#[track_caller]
fn on_a_terminal(daemon: &TestDaemon, variables: &[(&str, &str)], arguments: &str) -> String {
    let line =
        format!("{} --socket {} {arguments}", program("noxctl").display(), daemon.socket.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env("TERM", "xterm");
    let output = run(command.envs(variables.iter().copied()));
    assert!(output.status.success(), "{}", text(&output.stdout));
    text(&output.stdout)
}

#[test]
fn colour_is_for_terminals() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let hi = "exec s echo hi";
    let shown = on_a_terminal(&daemon, &[], hi);
    assert!(shown.contains("\u{1b}[1;33m⚠ local mode") && shown.contains("hi\r\n"), "{shown:?}");
    assert!(on_a_terminal(&daemon, &[], "health").contains("\u{1b}[0;32m✓"));
    let plain = on_a_terminal(&daemon, &[("NO_COLOR", "1")], hi);
    assert!(plain.contains("⚠ local mode") && !plain.contains('\u{1b}'), "{plain:?}");
    assert!(!noxctl(&daemon, &["exec", "s", "echo", "hi"]).2.contains('\u{1b}'));
    let forced = run(daemon.noxctl(&["health"]).env("CLICOLOR_FORCE", "1"));
    assert!(text(&forced.stdout).contains('\u{1b}'));
    // Each stream goes by its own terminal.
    let file = daemon.dir.path().join("stderr");
    on_a_terminal(&daemon, &[], &format!("{hi} 2>{}", file.display()));
    assert_eq!(std::fs::read_to_string(&file).unwrap().find('\u{1b}'), None);
    let half = on_a_terminal(&daemon, &[], &format!("{hi} | cat"));
    assert!(half.contains("\u{1b}[1;33m⚠ local mode"), "{half:?}");
    let half = on_a_terminal(&daemon, &[], "health | cat");
    assert!(half.contains("✓ Manager") && !half.contains('\u{1b}'), "{half:?}");
}

#[test]
fn names_from_a_sandbox_cannot_drive_a_terminal() {
    let daemon = TestDaemon::start();
    daemon.create("right\u{202e}to left");
    let shown = on_a_terminal(&daemon, &[], "list");
    assert!(shown.contains(r"right\u{202e}to left") && !shown.contains('\u{202e}'), "{shown:?}");
    assert!(noxctl(&daemon, &["list"]).1.contains("right\u{202e}to left"));
}

#[test]
fn wrong_usage_is_two_and_help_is_help() {
    let daemon = TestDaemon::start();
    for arguments in [
        &[][..],
        &["frob"],
        &["exec", "s"],
        &["create", "--ttl", "0", "s"],
        &["exec"],
        &["create", ""],
        &["exec", "--timeout-seconds", "-1", "s", "ls"],
        &["list", "--bad"],
    ] {
        let (status, stdout, stderr) = noxctl(&daemon, arguments);
        assert_eq!((status, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
    assert!(noxctl(&daemon, &[]).2.contains("Usage"));
    let (status, stdout, _) = noxctl(&daemon, &["--help"]);
    assert_eq!(status, 0);
    for verb in "health create exec touch delete list get policy doctor daemon openrpc completions"
        .split(' ')
    {
        assert!(stdout.contains(&format!("\n  {verb} ")), "{verb}: {stdout}");
    }
    assert_eq!(daemon.directories(), [""; 0]);
}

#[test]
fn without_a_daemon_both_ways_on_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    for by_env in [false, true] {
        let mut command = Command::new(program("noxctl"));
        match by_env {
            true => command.env("NOXRUNNER_SOCKET", &socket),
            false => command.arg("--socket").arg(&socket),
        };
        let output = run(command.args(["exec", "s", "ls"]).stdin(Stdio::null()));
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        for part in [socket.to_str().unwrap(), "noxrunnerd --local-test", "noxctl --local-test"] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn completions_are_what_the_shell_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let script = |shell: &str| {
        let output =
            run(Command::new(program("noxctl")).args(["completions", shell]).stdin(Stdio::null()));
        assert!(output.status.success() && output.stderr.is_empty());
        let file = dir.path().join(shell);
        std::fs::write(&file, output.stdout).unwrap();
        file
    };
    let bash = |arguments: &[&str], file: &Path| {
        let output = run(Command::new("bash").args(arguments).arg(file).stdin(Stdio::null()));
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let file = script("bash");
    bash(&["-n"], &file);
    let complete = "source $0; COMP_WORDS=(noxctl ex); COMP_CWORD=1; _noxctl noxctl ex noxctl; echo ${COMPREPLY[@]}";
    assert_eq!(bash(&["-c", complete], &file), "exec\n");
    for shell in ["zsh", "fish"] {
        assert!(std::fs::read_to_string(script(shell)).unwrap().contains("noxctl"));
    }
}
