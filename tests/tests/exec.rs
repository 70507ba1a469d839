//! Running commands: what goes in, how they end, what they leave.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use noxrunner_protocol::types::{Cause, Encoding, ExecParams, ExecResult};
use noxrunner_tests::life::Pending;
use noxrunner_tests::{SOON, TestDaemon, Tier, eventually, exec_params, in_both_tiers};
use serde_json::json;

in_both_tiers!(
    commands_see_a_clean_environment,
    each_way_to_end_has_its_status_and_its_cause,
    standard_streams_can_be_opened_by_their_names,
    time_that_is_over_ends_a_command_and_keeps_what_it_wrote,
    a_background_process_holds_no_answer_up_and_lives_on,
    each_answer_warns_with_the_tier,
);

fn sandbox() -> TestDaemon {
    let daemon = TestDaemon::start();
    daemon.create("s");
    daemon
}

fn script(text: &str) -> ExecParams {
    exec_params("s", &["sh", "-c", text])
}

#[track_caller]
fn ended(result: &ExecResult, exit_code: i32, cause: Cause) {
    assert_eq!((result.exit_code, result.cause), (exit_code, cause), "{result:?}");
}

fn commands_see_a_clean_environment(daemon: TestDaemon) {
    daemon.create("s");
    let names = |result: ExecResult| {
        let mut names: Vec<String> =
            result.stdout.lines().map(|l| l.split('=').next().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    // The daemon has NOXRUNNER_TEST_DIR and whatever the tests were started with.
    let own = ["HOME", "LANG", "NOXRUNNER_SESSION", "PATH", "TERM", "TMPDIR", "USER"];
    let mut seen = names(daemon.exec("s", &["env"]));
    if daemon.tier == Tier::Full {
        // Its own, for the toolchains that are shown; rustup's, if it is one of them.
        seen.retain(|name| name != "RUSTUP_HOME");
        assert!(seen.first().is_some_and(|name| name == "CARGO_HOME"), "{seen:?}");
        seen.remove(0);
    }
    assert_eq!(seen, own);
    let mut params = exec_params("s", &["env"]);
    params.env = [("MINE", "a=b\nc"), ("HOME", "/elsewhere"), ("EMPTY", "")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let seen = daemon.exec_params(params).stdout;
    for line in ["MINE=a=b\nc\n", "HOME=/elsewhere\n", "EMPTY=\n"] {
        assert!(seen.contains(line), "{seen}");
    }
    let made = json!({"sessionId": "e", "env": {"BOTH": "create", "ONE": "create"}});
    daemon.call("sandbox.create", made).unwrap();
    let mut params = exec_params("e", &["sh", "-c", "echo $BOTH $ONE"]);
    params.env.insert("BOTH".to_owned(), "exec".to_owned());
    assert_eq!(daemon.exec_params(params).stdout, "exec create\n");
    let places =
        daemon.sh("s", "cd $HOME && pwd; cd $TMPDIR && pwd; touch $HOME/h $TMPDIR/t; echo $?");
    let dir = daemon.workspace("s").parent().unwrap().to_owned();
    let expected = match daemon.tier {
        Tier::Full => "/home/nox\n/tmp\n0\n".to_owned(),
        Tier::Landlock | Tier::None => format!("{0}/home\n{0}/tmp\n0\n", dir.display()),
    };
    assert_eq!(places.stdout, expected);
    assert!(dir.join("home/h").exists() && dir.join("tmp/t").exists());
}

#[test]
fn what_no_program_can_be_given_is_refused_and_nothing_runs() {
    let daemon = sandbox();
    for (more, part) in [
        (json!({"env": {"": "x"}}), "empty name"),
        (json!({"env": {"A=B": "x"}}), "equals"),
        (json!({"env": {"A\u{0}": "x"}}), "NUL"),
        (json!({"env": {"A": "x\u{0}"}}), "NUL"),
        (json!({"cmd": ["touch", "ran\u{0}"]}), "cmd[1]"),
        (json!({"cmd": []}), "cmd"),
        (json!({"cmd": ["", "ran"]}), "cmd[0]"),
        (json!({"workdir": "a\u{0}b"}), "workdir"),
        (json!({"stdin": "%%%", "stdinEncoding": "base64"}), "base64"),
    ] {
        let mut params = json!({"sessionId": "s", "cmd": ["touch", "ran"]});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (kind, message) = daemon.refused("sandbox.exec", params.clone());
        assert!(kind == "invalidArgument" && message.contains(part), "{more}: {message}");
        // Nor is a sandbox made for it; that there is one only is looked at below.
        params["sessionId"] = json!("new");
        params["create"] = json!(true);
        assert_eq!(daemon.refused("sandbox.exec", params).1, message);
    }
    let (kind, _) = daemon.refused("sandbox.create", json!({"sessionId": "t", "env": {"A=": "x"}}));
    assert_eq!((kind.as_str(), daemon.directories().len()), ("invalidArgument", 1));
    assert_eq!(fs::read_dir(daemon.workspace("s")).unwrap().count(), 0);
    ended(&daemon.exec("s", &["touch", "ran"]), 0, Cause::Exited);
    assert!(daemon.workspace("s").join("ran").exists());
}

#[test]
fn standard_input_is_what_was_given_and_then_ends() {
    let daemon = sandbox();
    ended(&daemon.exec("s", &["cat"]), 0, Cause::Exited);
    let cat = |text: &str, encoding| {
        let mut params = exec_params("s", &["cat"]);
        (params.stdin, params.stdin_encoding) = (Some(text.to_owned()), encoding);
        params.encoding = Encoding::Base64;
        daemon.exec_params(params).stdout
    };
    assert_eq!(cat("hé\n", Encoding::Utf8), "aMOpCg==");
    assert_eq!(cat("", Encoding::Utf8), "");
    assert_eq!(cat("/wAK", Encoding::Base64), "/wAK");
    let mut params = exec_params("s", &["wc", "-c"]);
    params.stdin = Some("x".repeat(3_000_000));
    assert_eq!(daemon.exec_params(params.clone()).stdout.trim(), "3000000");
    // Not reading it is no error and holds nothing up.
    params.cmd = vec!["true".to_owned()];
    ended(&daemon.exec_params(params), 0, Cause::Exited);
}

fn each_way_to_end_has_its_status_and_its_cause(daemon: TestDaemon) {
    daemon.create("s");
    let workspace = daemon.workspace("s");
    ended(&daemon.sh("s", "exit 3"), 3, Cause::Exited);
    ended(&daemon.sh("s", "exit 255"), 255, Cause::Exited);
    ended(&daemon.sh("s", "kill -KILL $$"), 137, Cause::Signaled);
    ended(&daemon.sh("s", "kill -TERM $$"), 143, Cause::Signaled);
    fs::write(workspace.join("plain"), "").unwrap();
    for missing in ["no-such-program", "./missing", "plain/x", "/no/such/file"] {
        let result = daemon.exec("s", &[missing]);
        ended(&result, 127, Cause::NotFound);
        assert!(result.stderr.contains(missing), "{result:?}");
    }
    let program = |name: &str, text: &str, mode| {
        fs::write(workspace.join(name), text).unwrap();
        fs::set_permissions(workspace.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    program("no-bit", "#!/bin/sh\n", 0o644);
    program("no-interpreter", "#!/no/such/interpreter\n", 0o755);
    program("no-program", "\u{7f}ELF and no more", 0o755);
    for name in ["./no-bit", "./no-interpreter", "./no-program", "/tmp", "."] {
        let result = daemon.exec("s", &[name]);
        ended(&result, 126, Cause::NotExecutable);
        assert!(result.stderr.contains(name) && result.hint.is_some(), "{result:?}");
    }
    program("good", "#!/bin/sh\necho \"$0 $1\"\n", 0o755);
    assert_eq!(daemon.exec("s", &["./good", "a b"]).stdout, "./good a b\n");
}

/// Opening it anew asks for the rights of whoever opens it, which are not those of who made it.
fn standard_streams_can_be_opened_by_their_names(daemon: TestDaemon) {
    daemon.create("s");
    let mut params = script("cat /dev/stdin > /dev/stdout; echo err > /dev/stderr");
    params.stdin = Some("in".to_owned());
    let result = daemon.exec_params(params);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("in", "err\n"));
    ended(&result, 0, Cause::Exited);
}

#[test]
fn arguments_may_be_many_but_not_more_than_the_kernel_takes() {
    let daemon = sandbox();
    let with = |count: usize, bytes: usize| {
        let mut params = script("echo $# ${#1}");
        params.cmd.push("sh".to_owned());
        params.cmd.extend(std::iter::repeat_n("x".repeat(bytes), count));
        daemon.exec_params(params)
    };
    assert_eq!(with(100, 10_000).stdout, "100 10000\n");
    assert_eq!(with(10_000, 50).stdout, "10000 50\n");
    // One argument of more than 128 KiB (execve(2)), and more of all than a quarter of the stack.
    for result in [with(1, 200_000), with(35, 100_000)] {
        ended(&result, 126, Cause::NotExecutable);
        assert!(result.hint.unwrap().contains("standard input"), "{}", result.stderr);
    }
    assert_eq!(with(1, 10).stdout, "1 10\n");
}

fn time_that_is_over_ends_a_command_and_keeps_what_it_wrote(daemon: TestDaemon) {
    daemon.create("s");
    let mut params = script("echo partial; echo $$ > pid; echo oops >&2; exec sleep 1000");
    // Long enough to find the process meanwhile.
    params.timeout_seconds = 5.0.try_into().unwrap();
    let before = Instant::now();
    let pending = Pending::exec(&daemon, &params);
    let process = daemon.process_in("s", "pid");
    // Meanwhile: one that has stopped itself, and one that will not listen.
    let hard = ["kill -STOP $$", "trap '' TERM INT HUP; while :; do sleep 1000; done"];
    let hard = hard.map(|hard| {
        let mut params = script(&format!("echo before; {hard}; echo after"));
        params.timeout_seconds = 3.0.try_into().unwrap();
        (hard, Pending::exec(&daemon, &params))
    });
    let result = pending.result_within(2 * SOON);
    let took = before.elapsed();
    ended(&result, 124, Cause::Timeout);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("partial\n", "oops\n"));
    assert!(result.hint.unwrap().contains("timeoutSeconds"));
    assert!(took >= Duration::from_secs(5), "{took:?}");
    eventually("the command is dead", SOON, || !process.is_alive());
    for (hard, pending) in hard {
        let result = pending.result_within(2 * SOON);
        ended(&result, 124, Cause::Timeout);
        assert_eq!(result.stdout, "before\n", "{hard}");
    }
    let mut params = script("sleep 0.2; echo in time");
    params.timeout_seconds = 10.0.try_into().unwrap();
    assert_eq!(daemon.exec_params(params).stdout, "in time\n");
}

fn a_background_process_holds_no_answer_up_and_lives_on(daemon: TestDaemon) {
    daemon.create("s");
    let background = "sleep 1000 & echo $! > pid; echo now";
    let before = Instant::now();
    let result = daemon.sh("s", background);
    ended(&result, 0, Cause::Exited);
    assert_eq!(result.stdout, "now\n");
    assert!(before.elapsed() < SOON, "{:?}", before.elapsed());
    let process = daemon.process_in("s", "pid");
    let info = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
    assert_eq!((&info["execs"], info["usage"]["processes"].as_u64() > Some(0)), (&json!(0), true));
    daemon.delete("s");
    eventually("it goes with its sandbox", SOON, || !process.is_alive());
}

#[test]
fn a_background_process_survives_writing_what_nobody_reads() {
    let daemon = sandbox();
    let workspace = daemon.workspace("s");
    daemon.sh("s", "(until [ -e go ]; do sleep 0.01; done; echo lost; touch wrote) & echo now");
    fs::write(workspace.join("go"), "").unwrap();
    eventually("it goes on after writing", SOON, || workspace.join("wrote").exists());
}

#[test]
fn commands_of_one_sandbox_run_at_the_same_time() {
    let daemon = sandbox();
    let meets = |own: &str, other: &str| {
        daemon.sh("s", &format!("touch {own}; until [ -e {other} ]; do sleep 0.01; done; echo met"))
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| meets("a", "b"));
        assert_eq!(meets("b", "a").stdout, "met\n");
        assert_eq!(first.join().unwrap().stdout, "met\n");
    });
}

#[test]
fn a_running_command_counts_and_a_finished_one_says_what_it_used() {
    let daemon = sandbox();
    std::thread::scope(|scope| {
        let busy = "until [ -e go ]; do :; done; head -c 30000000 /dev/zero | tail -c 20000000 > /dev/null";
        let running = scope.spawn(|| daemon.sh("s", busy));
        let info = || daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
        eventually("it counts", SOON, || info()["execs"] == 1);
        eventually("its processes count", SOON, || info()["usage"]["processes"].as_u64() > Some(0));
        fs::write(daemon.workspace("s").join("go"), "").unwrap();
        let result = running.join().unwrap();
        ended(&result, 0, Cause::Exited);
        assert!(result.usage.user_ms + result.usage.sys_ms > 0.0, "{:?}", result.usage);
        assert!(result.usage.max_rss_kib > 10_000, "{:?}", result.usage);
        assert!(result.duration_ms > 0);
        eventually("it counts no longer", SOON, || info()["execs"] == 0);
    });
}

#[test]
fn a_command_starts_with_nothing_of_the_daemons() {
    let daemon = sandbox();
    // To list them the shell opens one more, and closes it.
    let open =
        daemon.sh("s", "for fd in /proc/$$/fd/*; do [ -L $fd ] && echo ${fd##*/}; done").stdout;
    assert_eq!(open, "0\n1\n2\n");
    assert_eq!(daemon.exec("s", &["readlink", "/proc/self/fd/0"]).stdout, "/dev/null\n");
    let signals = daemon.exec("s", &["grep", "^Sig[BI]", "/proc/self/status"]).stdout;
    for line in signals.lines() {
        // Without the two signals that the C library keeps to itself (signal(7)).
        let mask = u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap();
        assert_eq!(mask & !0x1_8000_0000, 0, "{signals}");
    }
    assert_eq!(signals.lines().count(), 2);
    // A session and a process group of its own, and no terminal (proc_pid_stat(5)).
    let stat = daemon.sh("s", "exec cat /proc/self/stat").stdout;
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let pid = stat.split(' ').next().unwrap();
    assert_eq!((fields[2], fields[3], fields[4]), (pid, pid, "0"), "{stat}");
}

fn each_answer_warns_with_the_tier(daemon: TestDaemon) {
    daemon.create("s");
    let result = daemon.exec("s", &["true"]);
    let warning =
        format!("local mode: commands run on this machine (isolation: {})", daemon.tier.name());
    assert_eq!(result.warnings, [warning]);
}
