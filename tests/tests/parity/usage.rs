//! No verb, wrong ones, help, terminals, no daemon.

use std::process::{Command, Stdio};

use noxrunner_tests::{program, run, text};

use super::{BOTH, By, Pair, Tool, by_both_ways};

by_both_ways!(
    help_and_wrong_verbs,
    on_a_terminal_the_colours_are_the_same,
    without_a_daemon_every_verb_fails_with_1
);

const VERBS: [&str; 8] =
    ["health", "create", "exec", "upload", "download", "touch", "delete", "shell"];

fn help_and_wrong_verbs(by: By) {
    let pair = Pair::start(by);
    // Help that was asked for is on standard output.
    for tool in BOTH {
        let said = pair.said(tool, &["--help"]);
        assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{tool:?}");
        for verb in VERBS {
            assert!(said.stdout.contains(&format!("  {verb} ")), "{tool:?}: {verb}");
            let said = pair.said(tool, &[verb, "--help"]);
            assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{tool:?} {verb}");
        }
    }
    // Help that was not asked for is an error's: on standard error, 2 as for all wrong usage.
    let [old, new] = BOTH.map(|tool| pair.said(tool, &[]));
    assert_eq!((old.status, old.stderr.as_str(), new.status, new.stdout.as_str()), (1, "", 2, ""));
    assert!(old.stdout.contains("health") && new.stderr.contains("health"), "{new:?}");
    let why = "argparse's words and clap's";
    pair.both_fail(&["frob"], (2, "frob"), (2, "frob"), why);
    pair.both_fail(&["touch"], (2, "session_id"), (2, "SESSION_ID"), why);
    pair.both_fail(&["touch", "a", "b"], (2, "b"), (2, "b"), why);
    pair.both_fail(&["--frob", "health"], (2, "--frob"), (2, "--frob"), why);
}

fn on_a_terminal_the_colours_are_the_same(by: By) {
    let pair = Pair::with_sandboxes(by);
    for arguments in ["health", "touch SESSION", "touch nobody"] {
        let [old, new] = BOTH.map(|tool| {
            let arguments = arguments.split(' ').collect::<Vec<_>>();
            let command = pair.command(tool, &arguments);
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            let line: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
            let mut script = Command::new("script");
            script
                .args(["--quiet", "--command", &line.join(" "), "/dev/null"])
                .stdin(Stdio::null());
            script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            script.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env("TERM", "xterm");
            text(&run(&mut script).stdout)
        });
        // Of an error the sign and its colour; the words are compared elsewhere.
        let shown = |text: &str| match text.contains('✗') {
            true => text.chars().take_while(|c| *c != ' ').collect(),
            false => text.to_owned(),
        };
        assert!(old.contains("\u{1b}["), "{old:?}");
        assert_eq!(shown(&new), shown(&old), "{arguments}");
    }
}

fn without_a_daemon_every_verb_fails_with_1(by: By) {
    let pair = Pair::start(by);
    std::fs::write(pair.dir_of(Tool::Old).join("f"), "f").unwrap();
    std::fs::write(pair.dir_of(Tool::New).join("f"), "f").unwrap();
    for verb in VERBS.into_iter().filter(|verb| *verb != "shell") {
        let arguments = match verb {
            "health" => vec![verb],
            "exec" => vec![verb, "s", "true"],
            "upload" => vec![verb, "s", "f"],
            _ => vec![verb, "s"],
        };
        for tool in BOTH {
            let mut command = match tool {
                // The port of nobody: it is not given out.
                Tool::Old => pair.python.noxrc("http://127.0.0.1:1"),
                Tool::New => Command::new(program("noxctl")),
            };
            match (tool, by) {
                (Tool::Old, _) => {}
                (Tool::New, By::Socket) => {
                    command.args(["--socket", "nowhere.sock"]).stdin(Stdio::null());
                }
                (Tool::New, By::BaseUrl) => {
                    command.env("NOXRUNNER_BASE_URL", "http://127.0.0.1:1").stdin(Stdio::null());
                }
            }
            command.current_dir(pair.dir_of(tool));
            let output = run(command.args(&arguments));
            assert_eq!(output.status.code(), Some(1), "{tool:?} {arguments:?}");
            assert!(text(&output.stderr).starts_with('✗'), "{}", text(&output.stderr));
            assert!(!text(&output.stdout).contains('✓'), "{}", text(&output.stdout));
        }
    }
}
