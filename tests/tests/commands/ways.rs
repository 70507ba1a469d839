//! The ways to a command.

use super::*;

/// A command that does something to a file.
struct Kind {
    name: &'static str,
    path: PathBuf,
    /// What it is told beside the file.
    option: &'static str,
    /// What the denial calls it.
    rule: &'static str,
    /// Whether it has done it.
    done: fn(&Path) -> bool,
}

const VICTIM: &str = "/workspace/victim";

fn kinds(exposed: &Exposed) -> [Kind; 3] {
    [
        Kind {
            name: "rm",
            path: "/bin/rm".into(),
            option: "",
            rule: "rm",
            done: |victim| !victim.exists(),
        },
        Kind {
            name: "chmod",
            path: "/bin/chmod".into(),
            option: "600",
            rule: "chmod",
            done: |victim| victim.metadata().unwrap().permissions().mode() & 0o777 == 0o600,
        },
        Kind {
            name: FAKE,
            path: exposed.program(FAKE),
            option: "-s0",
            rule: "mkfs*",
            done: |victim| victim.metadata().unwrap().len() == 0,
        },
    ]
}

/// Scripts of bash: a name, the lines, and whether they end as the command does. In the lines, `@c`
/// is the command by its name, `@p` by its path, `@o` its option, `@v` the victim, `@a` both of these.
const WAYS: [(&str, &str, bool); 52] = [
    ("by name", "@c @a", true),
    ("absolute", "@p @a", true),
    ("non-canonical", "@d//./../$(basename @d)/@c @a", true),
    ("relative", "cd @d/.. && $(basename @d)/@c @a", true),
    ("beside", "cd @d && ./@c @a", true),
    ("backslash", "@1\\@2 @a", true),
    ("double quotes", "\"@1\"@2 @a", true),
    ("single quotes", "'@c' @a", true),
    ("variable", "x=@c; $x @a", true),
    ("substitution", "$(echo @c) @a", true),
    ("eval", "eval @c @a", true),
    ("function", "f() { @c \"$@\"; }; f @a", true),
    ("sh", "sh -c '@c @a'", true),
    ("sh from a pipe", "echo '@c @a' | sh", true),
    ("a script", "echo '@c @a' > script; sh script", true),
    ("background", "@c @a & wait $!", true),
    ("env", "env @c @a", true),
    ("env -S", "env -S '@c @a'", true),
    ("env -i", "env -i @p @a", true),
    ("command", "command @c @a", true),
    ("command -p", "PATH=/usr/bin:/bin:@d command @c @a", true),
    ("exec", "exec @c @a", true),
    ("lying exec", "exec -a ls @p @a", true),
    ("reset PATH", "PATH=/usr/bin:/bin:@d; @c @a", true),
    ("PATH for one", "PATH=@d @c @a", true),
    ("xargs", "echo @v | xargs @c @o", false),
    ("xargs with a path", "echo @v | xargs -n1 @p @o", false),
    ("find -exec", "find /workspace -name victim -exec @c @o {} \\;", false),
    ("find -exec +", "find /workspace -name victim -exec @p @o {} +", false),
    ("find -execdir", "find /workspace -name victim -execdir @p @o {} \\;", false),
    ("nice", "nice @c @a", true),
    ("timeout", "timeout 10 @c @a", true),
    ("nohup", "nohup @c @a", true),
    ("setsid", "setsid -w @c @a", true),
    ("stdbuf", "stdbuf -o0 @c @a", true),
    ("ionice", "ionice -c3 @c @a", true),
    ("chrt", "chrt -o 0 @c @a", true),
    ("taskset", "taskset ffffffff @c @a", true),
    ("one in another", "env nice timeout 10 sh -c 'exec @c @a'", true),
    ("awk", "awk 'BEGIN { system(\"@c @a\") }'", false),
    ("sed e", "echo x | sed '1e @c @a'", false),
    (
        "tar",
        "head -c 100000 /dev/zero > much; tar -cf /dev/null --checkpoint=1 --checkpoint-action=exec='@c @a' much",
        false,
    ),
    (
        "Python's subprocess",
        "/usr/bin/python3 -c 'import subprocess, sys; sys.exit(subprocess.call(\"@c @a\".split()))'",
        true,
    ),
    (
        "Python's os.execv",
        "/usr/bin/python3 -c 'import os; os.execv(\"@p\", \"ls @a\".split())'",
        true,
    ),
    (
        "Python's os.execvp",
        "/usr/bin/python3 -c 'import os; os.execvp(\"@c\", \"@c @a\".split())'",
        true,
    ),
    ("Python's os.system", "/usr/bin/python3 -c 'import os; os.system(\"@c @a\")'", false),
    ("Perl", "perl -e 'exit(system(\"@c\", split(\" \", \"@a\")) >> 8)'", true),
    ("symbolic link", "ln -s @p link; ./link @a", true),
    ("links to links", "ln -s @p one; ln -s one two; PATH=.; two @a", true),
    ("copy", "cp @p copy; ./copy @a", true),
    (
        "copy of what is read",
        "cat @p > copy; /usr/bin/python3 -c 'import os; os.chmod(\"copy\", 0o755)'; ./copy @a",
        true,
    ),
    (
        "shebang",
        "printf '#!%s @o\\n' @p > @v; /usr/bin/python3 -c 'import os; os.chmod(\"@v\", 0o755)'; ./victim",
        true,
    ),
];

fn fill(script: &str, kind: &Kind) -> String {
    let path = kind.path.to_str().unwrap();
    let both = format!("{} {VICTIM}", kind.option);
    let (first, rest) = kind.name.split_at(1);
    let directory = kind.path.parent().unwrap().to_str().unwrap();
    script
        .replace("@a", both.trim_start())
        .replace("@o", kind.option)
        .replace("@v", VICTIM)
        .replace("@p", path)
        .replace("@d", directory)
        .replace("@c", kind.name)
        .replace("@1", first)
        .replace("@2", rest)
}

/// Puts the victim there, and nothing else.
fn furnish(workspace: &Path) -> PathBuf {
    for entry in fs::read_dir(workspace).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let victim = workspace.join("victim");
    fs::write(&victim, "precious\n").unwrap();
    // Its owner in the sandbox may be another than the test.
    fs::set_permissions(&victim, Permissions::from_mode(0o644)).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&workspace.metadata().unwrap());
    std::os::unix::fs::chown(&victim, Some(owner), Some(owner)).unwrap_or_else(|error| {
        assert!(!nix::unistd::geteuid().is_root(), "{error}");
    });
    victim
}

/// Tries a way where the command is blocked and where it is not, and says what came out otherwise
/// than it should.
fn attempt(
    exposed: &Exposed,
    [blocked, free]: [&TestDaemon; 2],
    (way, script, passes_on): (&str, &str, bool),
    kind: &Kind,
) -> Option<String> {
    let script = fill(script, kind);
    let victim = furnish(&free.workspace("s"));
    let result = exposed.bash(free, "s", &script);
    if !(kind.done)(&victim) {
        return Some(format!("{way}: does nothing where it may: {script}: {result:?}"));
    }
    let victim = furnish(&blocked.workspace("s"));
    let result = exposed.bash(blocked, "s", &script);
    if (kind.done)(&victim) {
        return Some(format!("{way}: it ran: {script}"));
    }
    let says = format!("Command not allowed: {}", kind.rule);
    if !result.stderr.contains(&says) {
        return Some(format!("{way}: {script}: {result:?}"));
    }
    (passes_on && result.exit_code != 126).then(|| format!("{way}: {script}: {result:?}"))
}

#[test]
fn a_blocked_command_does_not_run_however_it_is_reached() {
    let exposed = Exposed::new();
    let blocked = exposed.daemon(Tier::Full, "");
    let free = exposed.daemon(Tier::Full, "commands = \"direct\"");
    let mut wrong = Vec::new();
    for kind in kinds(&exposed) {
        for way in WAYS {
            wrong.extend(attempt(&exposed, [&blocked, &free], way, &kind));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(gaps(&blocked), []);
    assert_eq!(gaps(&free), []);
}

/// Ways that only some commands can be reached by.
#[test]
fn neither_by_a_program_that_is_many_nor_by_a_search_path_of_nothing() {
    let exposed = Exposed::new();
    let blocked = exposed.daemon(Tier::Full, "");
    let free = exposed.daemon(Tier::Full, "commands = \"direct\"");
    let [rm, chmod, _] = kinds(&exposed);
    let mut wrong = Vec::new();
    for kind in [rm, chmod] {
        for way in [
            // execvp(3) without a PATH has one of its own.
            ("env -i", "env -i @c @a", true),
            ("reset PATH alone", "PATH=/usr/bin:/bin @c @a", true),
        ] {
            wrong.extend(attempt(&exposed, [&blocked, &free], way, &kind));
        }
        let whole = Kind { rule: "busybox", ..kind };
        for way in [
            ("busybox", "busybox @c @a", true),
            ("busybox by its path", "/bin/busybox @c @a", true),
            ("its shell", "busybox sh -c '@c @a'", true),
            ("its env", "busybox env @c @a", true),
            ("a link to it", "ln -s /bin/busybox @c; ./@c @a", true),
            ("a copy of it", "cp /bin/busybox @c; ./@c @a", true),
            ("a lying name", "exec -a @c /bin/busybox @a", true),
        ] {
            wrong.extend(attempt(&exposed, [&blocked, &free], way, &whole));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for daemon in [&blocked, &free] {
        let result = daemon.exec("s", &["busybox", "rm", "victim"]);
        assert_eq!((result.exit_code, result.stderr.as_str()), (1, "Command not allowed: rm\n"));
    }
}

/// What the loader makes of a stub is its own affair; what it stands for does not run.
#[test]
fn the_loader_does_not_run_it() {
    let exposed = Exposed::new();
    let blocked = exposed.daemon(Tier::Full, "");
    let free = exposed.daemon(Tier::Full, "commands = \"direct\"");
    for kind in kinds(&exposed) {
        for script in ["@l @p @a", "@l --argv0 ls @p @a", "cp @p copy; @l ./copy @a"] {
            let script = fill(&script.replace("@l", loader()), &kind);
            let victim = furnish(&free.workspace("s"));
            let result = exposed.bash(&free, "s", &script);
            assert!((kind.done)(&victim), "{script}: {result:?}");
            let victim = furnish(&blocked.workspace("s"));
            let result = exposed.bash(&blocked, "s", &script);
            assert!(!(kind.done)(&victim), "{script}: it ran");
            assert_ne!(result.exit_code, 0, "{script}: {result:?}");
        }
    }
}

#[test]
fn the_commands_that_a_caller_names_are_answered_before_anything_runs() {
    let exposed = Exposed::new();
    let blocked = exposed.daemon(Tier::Full, "");
    let fake = exposed.program(FAKE);
    for (cmd, rule) in [
        ("/bin/rm", "rm"),
        ("RM", "rm"),
        ("../../usr//bin/../bin/Chmod", "chmod"),
        (fake.to_str().unwrap(), "mkfs*"),
    ] {
        let result = blocked.exec("s", &[cmd, "victim"]);
        let says = format!("Command not allowed: {rule}\n");
        assert_eq!((result.exit_code, result.stderr), (1, says), "{cmd}");
        assert_eq!(result.cause, noxrunner_protocol::types::Cause::Denied);
    }
}

#[test]
fn a_stub_needs_nobody_to_listen() {
    let exposed = Exposed::new();
    let blocked = exposed.daemon(Tier::Full, "");
    for script in ["rm victim 2>&-", "rm victim >&- 2>&- <&-", "rm victim 2>/dev/null"] {
        let victim = furnish(&blocked.workspace("s"));
        let result = exposed.bash(&blocked, "s", script);
        assert_eq!((result.exit_code, result.stderr.as_str()), (126, ""), "{script}");
        assert!(victim.exists(), "{script}");
    }
}
