//! exec.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use noxrunner_tests::{SOON, eventually, run, shell_status, text};
use serde_json::json;

use super::{BOTH, By, Pair, Tool, by_both_ways, intended};

by_both_ways!(
    streams_and_status_are_the_commands,
    what_does_not_run_or_takes_too_long,
    bytes_and_much_of_them_arrive,
    standard_input_is_not_passed_on_unless_asked_for,
    a_sandbox_that_is_not_there,
    what_cannot_be_asked,
    an_interrupt_ends_it_with_130
);

fn streams_and_status_are_the_commands(by: By) {
    let pair = Pair::with_sandboxes(by);
    for command in [
        &["echo", "hi"][..],
        &["sh", "-c", "echo out; echo err >&2; exit 7"],
        &["sh", "-c", "printf 'no newline'"],
        &["false"],
        &["printf", "%s|", "a b", "ünï", "$HOME", "--json", "-i"],
        &["ls", "--all", "--workdir", "x"],
        &["cat"],
        &["pwd"],
    ] {
        let arguments = [&["exec", "SESSION"], command].concat();
        pair.alike(&arguments, &pair.warned());
    }
    for flags in [
        &["--ignore-exit-code"][..],
        &["--env", "A=1", "--env", "B=x=y"],
        &["--env=A="],
        &["--workdir", "/tmp"],
        &["--timeout-seconds", "20"],
        &["--workdir=/workspace", "--ignore-exit-code", "--env", "A=ä"],
    ] {
        let command = ["SESSION", "sh", "-c", "echo \"$A|$B\"; pwd; exit 3"];
        let arguments = [&["exec"], flags, &command].concat();
        pair.alike(&arguments, &pair.warned());
    }
}

fn what_does_not_run_or_takes_too_long(by: By) {
    let pair = Pair::with_sandboxes(by);
    for (command, seconds) in [
        (&["no-such-program"][..], 20),
        (&["/tmp"], 20),
        (&["rm", "-rf", "x"], 20),
        (&["sh", "-c", "kill -TERM $$"], 20),
        (&["sh", "-c", "echo partial; exec sleep 1000"], 3),
    ] {
        let params =
            json!({"sessionId": Tool::New.session(), "cmd": command, "timeoutSeconds": seconds});
        let result = pair.daemon.call("sandbox.exec", params).unwrap();
        let mut differ = pair.warned();
        if let Some(hint) = result["hint"].as_str() {
            let hint = format!("ℹ {hint}\n");
            let why = "what it was or what to do about it is said";
            differ.push(intended(why, move |said| said.stderr += &hint));
        }
        let seconds = seconds.to_string();
        let arguments = [&["exec", "--timeout-seconds", &seconds, "SESSION"], command].concat();
        pair.alike(&arguments, &differ);
    }
}

fn bytes_and_much_of_them_arrive(by: By) {
    let pair = Pair::with_sandboxes(by);
    // In the REST API output is text: what is none comes as replacement characters. By the socket it
    // is what it was.
    let bytes = ["exec", "SESSION", "printf", "a\\377b"];
    assert_eq!(text(&pair.output(Tool::Old, &bytes).stdout), "a\u{fffd}b");
    let exact = by == By::Socket;
    let expected = if exact { &b"a\xffb"[..] } else { "a\u{fffd}b".as_bytes() };
    assert_eq!(pair.output(Tool::New, &bytes).stdout, expected);
    // It has at most 1 MiB of it. The old tool does not say where it is cut. By the socket it is 4 MiB.
    let much = ["exec", "SESSION", "head", "-c", "5000000", "/dev/zero"];
    let [old, new] = BOTH.map(|tool| pair.output(tool, &much));
    assert_eq!((old.stdout.len(), text(&old.stderr).as_str()), (1 << 20, ""));
    let most = if exact { 4 << 20 } else { 1 << 20 };
    assert_eq!(new.stdout.len(), most);
    let cut = format!("{most} of 5000000");
    assert!(text(&new.stderr).contains(&cut), "{}", text(&new.stderr));
}

fn standard_input_is_not_passed_on_unless_asked_for(by: By) {
    let pair = Pair::with_sandboxes(by);
    for tool in BOTH {
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut command = pair.command(tool, &["exec", "SESSION", "cat"]);
        let output = run(command.stdin(reader));
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{tool:?}");
    }
}

fn a_sandbox_that_is_not_there(by: By) {
    let pair = Pair::start(by);
    // As the old tool's own local mode does it.
    let arguments = ["exec", "SESSION", "echo", "hi"];
    let old = pair.said(Tool::Old, &arguments);
    assert_eq!((old.status, old.stdout.as_str()), (1, ""));
    assert!(old.stderr.contains("HTTP 404"), "{old:?}");
    let new = pair.said(Tool::New, &arguments);
    assert_eq!((new.status, new.stdout.as_str()), (0, "hi\n"));
    pair.daemon.create(Tool::Old.session());
    pair.alike(&["exec", "SESSION", "true"], &pair.warned());
}

fn what_cannot_be_asked(by: By) {
    let pair = Pair::with_sandboxes(by);
    let why = "a usage error, before anything is asked";
    pair.both_fail(&["exec", "SESSION"], (1, "cmd"), (2, "COMMAND"), why);
    pair.both_fail(&["exec"], (2, "session_id"), (2, "SESSION_ID"), why);
    pair.both_fail(
        &["exec", "--timeout-seconds", "0", "SESSION", "true"],
        (1, "timeoutSeconds"),
        (2, "--timeout-seconds"),
        why,
    );
    pair.both_fail(
        &["exec", "--frob", "SESSION", "true"],
        (2, "--frob"),
        (2, "--frob"),
        "the same",
    );
    // The old tool goes on without it, and warns in the middle of the command's output.
    let arguments = ["exec", "--env", "NOTHING", "SESSION", "echo", "hi"];
    let old = pair.said(Tool::Old, &arguments);
    assert!(old.status == 0 && old.stdout.ends_with("NOTHING\nhi\n"), "{old:?}");
    let new = pair.said(Tool::New, &arguments);
    assert!(new.status == 2 && new.stderr.contains("--env"), "{new:?}");
    // Answered by the daemon, and found by it.
    pair.alike(&["exec", "SESSION", ""], &[pair.in_words("/exec")]);
}

fn an_interrupt_ends_it_with_130(by: By) {
    let pair = Pair::with_sandboxes(by);
    for tool in BOTH {
        let arguments = ["exec", "SESSION", "sh", "-c", "echo $$ > pid; exec sleep 1000"];
        let mut child =
            pair.command(tool, &arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
        let process = pair.daemon.process_in(tool.session(), "pid");
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        assert_eq!(shell_status(child.wait().unwrap()), 130, "{tool:?}");
        eventually("what it ran ends with it", SOON, || !process.is_alive());
    }
}
