//! What the host has under other names, and what it does to its programs while sandboxes run.

use std::os::unix::fs::symlink;

use super::*;

/// Whether a sandbox can empty a file with a program.
#[track_caller]
fn runs(daemon: &TestDaemon, id: &str, program: &Path) -> bool {
    let script = "echo precious > victim; \"$0\" -s0 victim; echo $?; cat victim";
    let result = daemon.exec(id, &["sh", "-c", script, program.to_str().unwrap()]);
    match result.stdout.as_str() {
        "0\n" => true,
        "126\nprecious\n" => {
            assert!(result.stderr.contains("Command not allowed: "), "{result:?}");
            false
        }
        _ => panic!("{}: {result:?}", program.display()),
    }
}

/// The positive control, and what is blocked.
const BOTH: [(&str, bool); 2] = [("commands = \"direct\"", true), ("", false)];

#[test]
fn other_names_of_a_blocked_program_are_blocked() {
    for (policy, want) in BOTH {
        let exposed = Exposed::new();
        fs::hard_link(exposed.program(FAKE), exposed.program("hard")).unwrap();
        symlink(FAKE, exposed.program("soft")).unwrap();
        exposed.install("MKFS.Upper");
        exposed.install("innocent");
        // The name is a link's alone.
        exposed.install("real");
        symlink("real", exposed.program("mkfs.link")).unwrap();
        // Not in a directory for programs.
        let apart = exposed.bin().join("far/apart");
        fs::create_dir_all(&apart).unwrap();
        fs::copy(exposed.program(FAKE), apart.join("mkfs.apart")).unwrap();
        let daemon = exposed.daemon(Tier::Full, policy);
        for name in
            [FAKE, "hard", "soft", "MKFS.Upper", "real", "mkfs.link", "far/apart/mkfs.apart"]
        {
            assert_eq!(runs(&daemon, "s", &exposed.program(name)), want, "{name}");
        }
        assert!(runs(&daemon, "s", &exposed.program("innocent")));
    }
}

#[test]
fn a_new_file_over_a_blocked_program_changes_nothing() {
    for (policy, want) in BOTH {
        let exposed = Exposed::new();
        let daemon = exposed.daemon(Tier::Full, policy);
        let fake = exposed.program(FAKE);
        assert_eq!(runs(&daemon, "s", &fake), want);
        exposed.install(FAKE);
        assert_eq!(runs(&daemon, "s", &fake), want, "in a sandbox that was there");
        // Gone for a moment, and back.
        fs::remove_file(&fake).unwrap();
        exposed.install(FAKE);
        assert_eq!(runs(&daemon, "s", &fake), want, "in a sandbox that was there");
        daemon.create("t");
        assert_eq!(runs(&daemon, "t", &fake), want, "in one made later");
        assert_eq!(runs(&daemon, "s", &fake), want);
    }
}

#[test]
fn a_blocked_program_that_is_installed_later_is_blocked_for_sandboxes_made_later() {
    for (policy, want) in BOTH {
        let exposed = Exposed::new();
        let daemon = exposed.daemon(Tier::Full, policy);
        assert_eq!(runs(&daemon, "s", &exposed.program(FAKE)), want);
        exposed.install("mkfs.late");
        exposed.install("late");
        daemon.create("t");
        assert_eq!(runs(&daemon, "t", &exposed.program("mkfs.late")), want);
        assert!(runs(&daemon, "t", &exposed.program("late")));
    }
}

/// What is resolved is what the host has: the stub of a program is not taken for another one.
#[test]
fn a_check_names_the_program_and_the_rule() {
    let exposed = Exposed::new();
    let daemon = exposed.daemon(Tier::Full, "");
    let fake = exposed.program(FAKE);
    let check = daemon.call("policy.check", json!({"cmd": [fake]})).unwrap();
    assert_eq!(check["resolved"], fake.to_str().unwrap());
    assert_eq!((&check["allowed"], &check["rule"]), (&json!(false), &json!("mkfs*")));
    // Another name of it: no list says so, and the kernel will.
    let alias = exposed.program("alias");
    fs::hard_link(&fake, &alias).unwrap();
    daemon.create("t");
    let check = daemon.call("policy.check", json!({"cmd": [alias]})).unwrap();
    assert_eq!(check["resolved"], alias.to_str().unwrap());
    assert_eq!((&check["allowed"], &check["rule"]), (&json!(false), &json!("mkfs*")));
    assert_eq!(check["setting"], "block");
    let free = exposed.daemon(Tier::Full, "commands = \"direct\"");
    let check = free.call("policy.check", json!({"cmd": [alias]})).unwrap();
    assert_eq!((&check["allowed"], &check["rule"]), (&json!(true), &json!(null)));
}

mod root_only {
    use super::*;

    /// Layers upon layers: more than the kernel takes. What it leaves is bound, and it is said.
    #[test]
    fn where_no_layer_can_be_put_the_daemon_says_so() {
        let exposed = Exposed::new();
        let bin = exposed.bin();
        let script = "set -e; b=$0; mount -t tmpfs none /mnt; mkdir /mnt/0 /mnt/1 /mnt/2
            cp -a \"$b/.\" /mnt/0
            mount -t overlay -o lowerdir=/mnt/0:/mnt/1 none /mnt/2
            mount -t overlay -o lowerdir=/mnt/2:/mnt/1 none \"$b\"
            exec \"$@\"";
        let wrapper = ["unshare", "--mount", "sh", "-c", script, bin.to_str().unwrap()];
        let daemon = exposed.daemon_under(&wrapper, Tier::Full, "");
        let [(setting, why)] = &gaps(&daemon)[..] else { panic!("{:?}", gaps(&daemon)) };
        assert_eq!(setting, "commands");
        assert!(why.contains(bin.to_str().unwrap()) && why.contains("Invalid argument"), "{why}");
        assert!(daemon.log().contains("`commands` is not enforced in full"), "{}", daemon.log());
        assert!(!runs(&daemon, "s", &exposed.program(FAKE)));
    }

    /// As containers have their GPU tools: files and directories mounted among the programs.
    #[test]
    fn what_is_mounted_among_blocked_programs_is_seen_all_the_same() {
        for (policy, want) in BOTH {
            let exposed = Exposed::new();
            let bin = exposed.bin();
            for name in ["mounted", "mkfs.mounted"] {
                fs::write(exposed.program(name), "").unwrap();
            }
            fs::create_dir(exposed.program("tools")).unwrap();
            let script = "set -e; b=$0; chmod 755 \"$b\"/*mounted
                mount --bind /usr/bin/truncate \"$b/mounted\"
                mount --bind /usr/bin/truncate \"$b/mkfs.mounted\"
                mount -t tmpfs none \"$b/tools\"
                cp /usr/bin/truncate \"$b/tools/tool\"; cp /usr/bin/truncate \"$b/tools/mkfs.tool\"
                exec \"$@\"";
            let wrapper = ["unshare", "--mount", "sh", "-c", script, bin.to_str().unwrap()];
            let daemon = exposed.daemon_under(&wrapper, Tier::Full, policy);
            assert_eq!(gaps(&daemon), []);
            for name in ["mounted", "tools/tool"] {
                assert!(runs(&daemon, "s", &exposed.program(name)), "{name}");
            }
            for name in ["mkfs.mounted", "tools/mkfs.tool", FAKE] {
                assert_eq!(runs(&daemon, "s", &exposed.program(name)), want, "{name}");
            }
        }
    }
}
