//! shell, where standard input is no terminal.

use std::fs::{self, File};

use noxrunner_tests::run;

use super::{BOTH, By, Pair, SESSION, by_both_ways};

by_both_ways!(lines_are_run_one_after_the_other, what_the_old_shell_could_not);

const LINES: &str = "echo hi\n\n  echo 'a  b' ü  \nsh -c 'echo err >&2; exit 3'\ntouch\n\
    sh -c 'exit 127'\ncat\npwd\nquit\necho never\n";

#[test]
fn nothing_is_read_after_the_end() {
    let pair = Pair::with_sandboxes(By::Socket);
    for tool in BOTH {
        let output = run(&mut pair.command(tool, &["shell", SESSION]));
        assert!(output.status.success(), "{tool:?}: {output:?}");
    }
}

fn lines_are_run_one_after_the_other(by: By) {
    let pair = Pair::with_sandboxes(by);
    pair.prepare(|dir| fs::write(dir.join("lines"), LINES).unwrap());
    let [mut old, mut new] = BOTH.map(|tool| {
        let mut shell = pair.command(tool, &["shell", SESSION]);
        let lines = File::open(pair.dir_of(tool).join("lines")).unwrap();
        pair.hear(tool, &run(shell.stdin(lines)))
    });
    // A greeting and prompts are for people at a terminal.
    let (greeting, rest) = old.stdout.split_once("\n\n").unwrap();
    assert!(greeting.contains("Interactive shell"), "{greeting}");
    assert_eq!(rest.matches("noxrunner:SESSION$ ").count(), LINES.lines().count() - 1, "{rest}");
    old.stdout = rest.replace("noxrunner:SESSION$ ", "");
    // So are notes, which go where they are in nobody's way, but keep their order there.
    let is_note = |line: &&str| line.starts_with('⚠');
    let notes: Vec<String> = old.stdout.lines().filter(is_note).map(str::to_owned).collect();
    assert_eq!(notes, ["⚠ Command exited with code 3", "⚠ Command exited with code 127"]);
    old.stdout = old.stdout.split_inclusive('\n').filter(|line| !is_note(line)).collect();
    let local = |line: &&str| line.contains("local mode:");
    // One for each command.
    let warned = if by == By::Socket { 6 } else { 0 };
    assert_eq!(new.stderr.lines().filter(local).count(), warned, "{new:?}");
    let said: Vec<_> = new.stderr.lines().filter(|line| !local(line)).collect();
    for note in &notes {
        assert!(said.contains(&note.as_str()), "{note}: {said:?}");
    }
    new.stderr =
        said.into_iter().filter(|line| !is_note(line)).map(|line| format!("{line}\n")).collect();
    assert_eq!(new, old);
}

/// Each line is one for the sandbox's sh: the old tool has no pipes, and forgets every `cd`.
fn what_the_old_shell_could_not(by: By) {
    let pair = Pair::with_sandboxes(by);
    let lines = "echo a b | wc -w\nmkdir d\ncd d\npwd | sed 's:.*/::'\n";
    pair.prepare(|dir| fs::write(dir.join("lines"), lines).unwrap());
    let [old, new] = BOTH.map(|tool| {
        let mut shell = pair.command(tool, &["shell", SESSION]);
        let lines = File::open(pair.dir_of(tool).join("lines")).unwrap();
        pair.hear(tool, &run(shell.stdin(lines)))
    });
    assert!(old.stdout.contains("a b | wc -w\n"), "{old:?}");
    assert_eq!((new.status, new.stdout.as_str()), (0, "2\nd\n"), "{new:?}");
}
