//! What may run, from outside: a denial is a result that says which rule and which setting.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use noxrunner_protocol::types::{Cause, ExecResult};
use noxrunner_tests::{TestDaemon, Tier, in_both_tiers, program, run, text};
use serde_json::json;
use tempfile::TempDir;

/// A directory with a policy file.
fn file(policy: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    fs::write(&path, policy).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

/// A daemon with this policy and the sandbox `s`. The directory keeps its file.
#[track_caller]
fn with_policy(policy: &str) -> (TestDaemon, TempDir) {
    under(Tier::Full, policy)
}

/// The same with sandboxes of this tier.
#[track_caller]
fn under(tier: Tier, policy: &str) -> (TestDaemon, TempDir) {
    let (dir, path) = file(policy);
    let daemon = TestDaemon::start_with(&["--isolation", tier.name(), "--policy", &path]);
    daemon.create("s");
    (daemon, dir)
}

#[track_caller]
fn denied(result: &ExecResult, rule: &str) {
    assert_eq!((result.exit_code, result.cause), (1, Cause::Denied), "{result:?}");
    assert_eq!(result.stderr, format!("Command not allowed: {rule}\n"));
    let denial = result.denial.as_ref().unwrap();
    assert_eq!(denial.rule, rule);
    assert!(result.hint.as_ref().unwrap().contains(&denial.setting), "{result:?}");
    assert_eq!(result.stdout, "");
}

#[track_caller]
fn ran(result: &ExecResult) {
    assert_eq!((result.exit_code, result.cause), (0, Cause::Exited), "{result:?}");
    assert_eq!(result.denial, None);
}

/// Ways to write one and the same command.
const REMOVALS: [&str; 7] =
    ["rm", "/bin/rm", "/usr/bin/rm", "//bin/./rm", "/usr/bin/../bin/rm", "./link", "chain/link"];

/// Puts a file, a link to rm and a link to that into the workspace.
fn furnish(daemon: &TestDaemon) {
    let workspace = daemon.workspace("s");
    fs::write(workspace.join("precious"), "").unwrap();
    if fs::symlink_metadata(workspace.join("link")).is_err() {
        symlink("/bin/rm", workspace.join("link")).unwrap();
        fs::create_dir(workspace.join("chain")).unwrap();
        symlink("../link", workspace.join("chain/link")).unwrap();
    }
}

in_both_tiers!(
    a_blocked_command_does_not_run_however_it_is_named,
    an_allow_list_lets_nothing_else_run,
    the_same_commands_run_where_nothing_is_blocked,
);

/// What commands call a directory of the workspace.
fn seen(daemon: &TestDaemon, sub: &str) -> String {
    let workspace = match daemon.tier {
        Tier::Full => PathBuf::from("/workspace"),
        Tier::Landlock | Tier::None => daemon.workspace("s"),
    };
    workspace.join(sub).to_str().unwrap().to_owned()
}

fn a_blocked_command_does_not_run_however_it_is_named(daemon: TestDaemon) {
    daemon.create("s");
    furnish(&daemon);
    let precious = daemon.workspace("s").join("precious");
    for name in REMOVALS.into_iter().chain([
        "RM",
        "Rm",
        "../../bin/RM",
        "../../../../../bin/rm",
        "/no/such/rm",
    ]) {
        denied(&daemon.exec("s", &[name, "precious"]), "rm");
        assert!(precious.exists(), "{name}");
    }
    // Found on a PATH that the caller brings.
    let bin = daemon.workspace("s").join("bin");
    fs::create_dir(&bin).unwrap();
    symlink("/bin/rm", bin.join("tidy")).unwrap();
    let mut params = noxrunner_tests::exec_params("s", &["tidy", "precious"]);
    params.env.insert("PATH".to_owned(), seen(&daemon, "bin"));
    denied(&daemon.exec_params(params), "rm");
    assert!(precious.exists());
}

fn the_same_commands_run_where_nothing_is_blocked(daemon: TestDaemon) {
    let (daemon, _dir) = under(daemon.tier, "block = []\n");
    let precious = daemon.workspace("s").join("precious");
    for name in REMOVALS {
        furnish(&daemon);
        assert!(precious.exists());
        ran(&daemon.exec("s", &[name, "precious"]));
        assert!(!precious.exists(), "{name}");
    }
}

#[test]
fn the_built_in_list_is_that_of_the_page() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let listed = "rm rmdir unlink shred del format mkfs* dd fdisk parted shutdown reboot halt poweroff \
        init telinit killall sudo su doas pkexec chmod chown chgrp mount umount";
    let policy = daemon.call("policy.get", json!({})).unwrap();
    assert_eq!(policy["block"], json!(listed.split(' ').collect::<Vec<_>>()));
    assert_eq!((&policy["mode"], &policy["allow"]), (&json!("block"), &json!([])));
    assert_eq!((&policy["file"], &policy["commands"]), (&json!(null), &json!("everywhere")));
    for rule in listed.split(' ') {
        let name = rule.replace('*', ".ext4");
        denied(&daemon.exec("s", &[&name, "--help"]), rule);
    }
    for name in ["rmx", "xrm", "ddd", "mkf"] {
        assert_eq!(daemon.exec("s", &[name]).cause, Cause::NotFound, "{name}");
    }
}

#[test]
fn what_a_shell_runs_is_stopped_where_the_kernel_can_and_policy_get_says_where_not() {
    for (tier, policy, runs, gaps) in [
        (Tier::Full, "", false, &[][..]),
        (Tier::Landlock, "", true, &["commands"]),
        (Tier::None, "", true, &["commands"]),
        (Tier::None, "block = []\n", true, &[]),
        // Who asks for no more than that is promised no more.
        (Tier::Full, "commands = \"direct\"\n", true, &[]),
        (Tier::None, "commands = \"direct\"\n", true, &[]),
        // Scripts could not do without their helpers.
        (Tier::Full, "allow = [\"sh\"]\n", true, &["commands"]),
    ] {
        let (daemon, _dir) = under(tier, policy);
        // Where they have users of their own and no mount tree, they come by this path.
        fs::set_permissions(daemon.dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        furnish(&daemon);
        let result = daemon.sh("s", "rm -f precious");
        let precious = daemon.workspace("s").join("precious");
        assert_eq!(!precious.exists(), runs, "{tier} {policy}: {result:?}");
        let policy = daemon.call("policy.get", json!({})).unwrap();
        let said = policy["notEnforced"].as_array().unwrap();
        let said: Vec<_> = said.iter().map(|gap| gap["setting"].as_str().unwrap()).collect();
        assert_eq!(said, gaps, "{tier}: {policy}");
        let direct = daemon.exec("s", &["rm", "precious"]);
        match policy["block"].as_array().unwrap().is_empty() && policy["mode"] == "block" {
            true => assert_eq!(direct.denial, None),
            false => denied(&direct, "rm"),
        }
    }
}

#[test]
fn also_block_adds_to_the_list() {
    let (daemon, _dir) = with_policy("also_block = [\"tru*\"]\n");
    let (added, own) = (daemon.exec("s", &["true"]), daemon.exec("s", &["rm", "x"]));
    denied(&added, "tru*");
    denied(&own, "rm");
    let setting = |result: ExecResult| result.denial.unwrap().setting;
    assert_eq!((setting(added), setting(own)), ("also_block".into(), "block".into()));
    ran(&daemon.exec("s", &["echo"]));
    ran(&TestDaemon::start().exec_params({
        let mut params = noxrunner_tests::exec_params("s", &["true"]);
        params.create = true;
        params
    }));
}

fn an_allow_list_lets_nothing_else_run(daemon: TestDaemon) {
    let (daemon, _dir) = under(daemon.tier, "allow = [\"ls\", \"ech*\", \"rm\"]\n");
    let policy = daemon.call("policy.get", json!({})).unwrap();
    assert_eq!(
        (&policy["mode"], &policy["allow"]),
        (&json!("allow"), &json!(["ls", "ech*", "rm"]))
    );
    furnish(&daemon);
    for cmd in [&["ls"][..], &["/bin/ls"], &["echo", "x"], &["rm", "precious"]] {
        ran(&daemon.exec("s", cmd));
    }
    for name in ["cat", "/bin/cat", "sh", "LS", "no-such-program"] {
        let result = daemon.exec("s", &[name, "x"]);
        denied(&result, name.rsplit('/').next().unwrap());
        assert_eq!(result.denial.unwrap().setting, "allow");
    }
    // A program of the sandbox's own that only has the name.
    let own = daemon.workspace("s").join("ls");
    fs::write(&own, "#!/bin/sh\ntouch fooled\n").unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    denied(&daemon.exec("s", &["./ls"]), "ls");
    let mut params = noxrunner_tests::exec_params("s", &["ls"]);
    params.env.insert("PATH".to_owned(), seen(&daemon, ""));
    denied(&daemon.exec_params(params), "ls");
    assert!(!daemon.workspace("s").join("fooled").exists());
}

#[test]
fn commands_see_the_variables_that_the_policy_names() {
    let (daemon, _dir) = with_policy("env_passthrough = [\"NOXRUNNER_TEST_DIR\"]\n");
    let seen = daemon.sh("s", "echo \"$NOXRUNNER_TEST_DIR\"").stdout;
    assert_eq!(seen.trim_end(), daemon.dir.path().to_str().unwrap());
    let plain = TestDaemon::start();
    plain.create("s");
    assert_eq!(plain.sh("s", "echo \"$NOXRUNNER_TEST_DIR\"").stdout, "\n");
}

#[test]
fn a_policy_that_makes_no_sense_keeps_the_daemon_from_starting() {
    for (policy, parts) in [
        ("blok = []", &["blok"][..]),
        ("block = \"rm\"", &["block"]),
        ("block = [1]", &["block"]),
        ("also_block = [\"/bin/rm\"]", &["also_block", "/bin/rm"]),
        ("block = [\"*x\"]", &["block", "*x"]),
        ("commands = \"sometimes\"", &["commands", "sometimes"]),
        ("env_passthrough = [\"A=B\"]", &["env_passthrough", "A=B"]),
        ("allow = [\"ls\"]\nblock = []", &["allow", "block"]),
        ("allow = [\"ls\"]\nalso_block = [\"x\"]", &["allow", "also_block"]),
        ("block = [\"rm\"\nx", &["line"]),
    ] {
        let (dir, path) = file(policy);
        let mut command = Command::new(program("noxrunnerd"));
        command.args(["--local-test", "--policy", &path, "--base-dir"]).arg(dir.path());
        command.arg("--socket").arg(dir.path().join("s.sock")).stdin(Stdio::null());
        let output = run(&mut command);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{policy}: {stderr}");
        for part in parts.iter().chain([&path.as_str()]) {
            assert!(stderr.contains(part), "{policy}: {part:?} is not in {stderr}");
        }
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["policy.toml"], "{policy}");
    }
    let output = run(Command::new(program("noxrunnerd"))
        .args(["--local-test", "--policy", "/no/such/policy.toml"])
        .stdin(Stdio::null()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/no/such/policy.toml"));
}

#[test]
fn policy_check_answers_and_runs_nothing() {
    let daemon = TestDaemon::start();
    let check = |params| daemon.call("policy.check", params).unwrap();
    let no = check(json!({"cmd": ["/bin/RM", "x"]}));
    assert_eq!(
        (&no["allowed"], &no["rule"], &no["setting"]),
        (&json!(false), &json!("rm"), &json!("block"))
    );
    let yes = check(json!({"cmd": ["sh", "-c", "rm x"]}));
    assert_eq!((&yes["allowed"], &yes["rule"]), (&json!(true), &json!(null)));
    assert!(yes["resolved"].as_str().unwrap().ends_with("sh"), "{yes}");
    let missing = check(json!({"cmd": ["no-such-program"]}));
    assert_eq!((&missing["allowed"], &missing["resolved"]), (&json!(true), &json!(null)));
    for (path, resolved, redirected) in [
        ("a/../b", "/workspace/b", false),
        ("/workspace/x", "/workspace/x", false),
        ("/tmp/x", "/tmp/x", false),
        ("/etc/passwd", "/workspace/passwd", true),
        ("../../etc/shadow", "/workspace/shadow", true),
        ("/workspace2/x", "/workspace/x", true),
    ] {
        let answer = check(json!({"path": path}));
        assert_eq!(
            (&answer["allowed"], &answer["resolved"]),
            (&json!(true), &json!(resolved)),
            "{path}"
        );
        assert_eq!(answer["redirected"], redirected, "{path}");
    }
    // a, 0xff, b
    let bytes = check(json!({"pathBase64": "Yf9i"}));
    assert_eq!(bytes["resolved"], "/workspace/a\u{fffd}b");
    for bad in [
        json!({}),
        json!({"cmd": ["ls"], "path": "x"}),
        json!({"path": "x", "pathBase64": "eA=="}),
        json!({"pathBase64": "%"}),
        json!({"path": "a\u{0}b"}),
        json!({"cmd": []}),
        json!({"cmd": [""]}),
        json!({"cmd": ["a\u{0}"]}),
    ] {
        assert_eq!(daemon.refused("policy.check", bad.clone()).0, "invalidArgument", "{bad}");
    }
    assert_eq!(daemon.directories(), [""; 0]);
}
