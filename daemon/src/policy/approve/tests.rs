use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::policy::rules::DEFAULT_BLOCK;

/// A sandbox without a mount tree in a directory of its own.
struct Sandbox {
    dir: tempfile::TempDir,
    names: RootNames,
    env: BTreeMap<String, String>,
    base_env: BTreeMap<OsString, OsString>,
    workdir: String,
}

impl Sandbox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("workspace")).unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["rm", "ls", "cat"] {
            fs::write(bin.join(name), "").unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("/nonexistent:{}", bin.display());
        Self {
            names: RootNames::with_host_dir(dir.path()).unwrap(),
            dir,
            env: BTreeMap::new(),
            base_env: BTreeMap::from([("PATH".into(), path.into())]),
            workdir: "/workspace".to_owned(),
        }
    }

    fn workspace(&self) -> PathBuf {
        self.dir.path().join("workspace")
    }

    /// One of the programs of its system: `rm`, `ls` and `cat`.
    fn program(&self, name: &str) -> PathBuf {
        self.dir.path().join("bin").join(name)
    }

    fn with<T>(&self, cmd: &[&str], judge: impl FnOnce(&CommandRequest<'_>) -> T) -> T {
        let cmd: Vec<String> = cmd.iter().map(|&part| part.to_owned()).collect();
        let host_path = |inside: &Inside| {
            Some(self.dir.path().join(inside.root().host_name()).join(inside.rest()))
        };
        judge(&CommandRequest {
            cmd: &cmd,
            workdir: &self.workdir,
            env: &self.env,
            base_env: &self.base_env,
            view: View { names: &self.names, host_path: &host_path, shown: None },
        })
    }

    fn approve(&self, policy: &Policy, cmd: &[&str]) -> Result<Approved, Refusal> {
        self.with(cmd, |request| policy.approve(request))
    }

    fn check(&self, policy: &Policy, cmd: &[&str]) -> PolicyCheck {
        self.with(cmd, |request| policy.check_command(request)).unwrap()
    }
}

fn denied(rule: &str, setting: &str) -> Refusal {
    Refusal::Denied(Denial { rule: rule.to_owned(), setting: setting.to_owned() })
}

fn policy(text: &str) -> Policy {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    fs::write(&file, text).unwrap();
    Policy::load(&file).unwrap()
}

#[test]
fn a_command_that_nothing_denies_is_approved_as_it_was_asked_for() {
    let mut sandbox = Sandbox::new();
    sandbox.env =
        BTreeMap::from([("B".into(), "caller=s".into()), ("EMPTY".into(), String::new())]);
    sandbox.base_env.insert("A".into(), "own".into());
    sandbox.base_env.insert("B".into(), "own".into());
    sandbox.workdir = "/etc/x".to_owned();
    let approved = sandbox.approve(&Policy::built_in(), &["ls", "-l", "rm", ""]).unwrap();
    assert_eq!(approved.argv(), [c"ls", c"-l", c"rm", c""]);
    let path = format!("PATH=/nonexistent:{}", sandbox.dir.path().join("bin").display());
    let path = CString::new(path).unwrap();
    assert_eq!(approved.env(), [c"A=own", c"B=caller=s", c"EMPTY=", &path]);
    assert_eq!(approved.workdir().display_path(), b"/workspace");
    assert!(approved.workdir().redirected());
    let (argv, env, workdir) = approved.clone().into_parts();
    assert_eq!(approved, Approved { argv, env, workdir });
}

#[test]
fn a_blocked_command_is_denied_however_its_name_is_written() {
    let sandbox = Sandbox::new();
    symlink(sandbox.program("rm"), sandbox.workspace().join("innocent")).unwrap();
    symlink("innocent", sandbox.workspace().join("more")).unwrap();
    for typed in
        ["rm", "RM", "/bin/rm", "../../bin/Rm", "/no/such/rm", "rm/", "./innocent", "./more"]
    {
        assert_eq!(
            sandbox.approve(&Policy::built_in(), &[typed, "x"]),
            Err(denied("rm", "block")),
            "{typed}"
        );
    }
    assert_eq!(sandbox.approve(&Policy::built_in(), &["mkfs.ext4"]), Err(denied("mkfs*", "block")));
    assert_eq!(denied("rm", "block").to_string(), "Command not allowed: rm");
    // Nothing is parsed: this is not the list's to refuse.
    sandbox.approve(&Policy::built_in(), &["sh", "-c", "rm x"]).unwrap();
}

#[test]
fn a_program_that_is_many_is_judged_by_what_it_is_asked_to_be() {
    let sandbox = Sandbox::new();
    symlink("/no/such/busybox", sandbox.workspace().join("box")).unwrap();
    for cmd in [
        &["busybox", "rm", "x"][..],
        &["/bin/busybox", "/bin/RM"],
        &["./box", "rm"],
        &["coreutils", "--coreutils-prog=rm", "x"],
    ] {
        assert_eq!(
            sandbox.approve(&Policy::built_in(), cmd),
            Err(denied("rm", "block")),
            "{cmd:?}"
        );
    }
    for cmd in [&["busybox", "ls", "rm"][..], &["busybox"], &["ls", "rm"], &["git", "rm", "x"]] {
        sandbox.approve(&Policy::built_in(), cmd).unwrap_or_else(|e| panic!("{cmd:?}: {e}"));
    }
    sandbox.approve(&policy("block = []"), &["busybox", "rm", "x"]).unwrap();
}

#[test]
fn a_link_on_the_callers_path_is_followed() {
    let mut sandbox = Sandbox::new();
    symlink(sandbox.program("rm"), sandbox.workspace().join("innocent")).unwrap();
    sandbox.approve(&Policy::built_in(), &["innocent"]).expect("is on no PATH yet");
    sandbox.env.insert("PATH".into(), "/nonexistent:.".into());
    assert_eq!(sandbox.approve(&Policy::built_in(), &["innocent"]), Err(denied("rm", "block")));
    sandbox.workdir = "/tmp".into();
    sandbox.approve(&Policy::built_in(), &["innocent"]).expect("is in another directory");
}

#[test]
fn an_allow_list_allows_the_systems_own_programs_alone() {
    let mut sandbox = Sandbox::new();
    let only_ls = policy("allow = ['ls', 'missing', 'c*']");
    let ls = sandbox.program("ls");
    let (typed_ls, typed_rm) = (ls.to_str().unwrap(), sandbox.program("rm"));
    let typed_rm = typed_rm.to_str().unwrap();
    symlink(&ls, sandbox.workspace().join("ls")).unwrap();
    for typed in ["ls", typed_ls, "./ls", "cat", "missing"] {
        sandbox.approve(&only_ls, &[typed]).unwrap_or_else(|refusal| panic!("{typed}: {refusal}"));
    }
    for (typed, rule) in
        [("rm", "rm"), ("LS", "LS"), (typed_rm, "rm"), ("./missing", "missing"), ("/", "/")]
    {
        assert_eq!(sandbox.approve(&only_ls, &[typed]), Err(denied(rule, "allow")), "{typed}");
    }
    // Under an allowed name, but another program.
    fs::remove_file(sandbox.workspace().join("ls")).unwrap();
    symlink(sandbox.program("rm"), sandbox.workspace().join("ls")).unwrap();
    assert_eq!(sandbox.approve(&only_ls, &["./ls"]), Err(denied("ls", "allow")));
    fs::remove_file(sandbox.workspace().join("ls")).unwrap();
    fs::copy(&ls, sandbox.workspace().join("ls")).unwrap();
    assert_eq!(sandbox.approve(&only_ls, &["./ls"]), Err(denied("ls", "allow")));
    sandbox.env.insert("PATH".into(), format!(".:{}", sandbox.dir.path().join("bin").display()));
    assert_eq!(sandbox.approve(&only_ls, &["ls"]), Err(denied("ls", "allow")));
    assert_eq!(sandbox.approve(&only_ls, &["missing"]), Err(denied("missing", "allow")));
}

#[test]
fn what_could_not_be_executed_is_named() {
    let policy = Policy::built_in();
    let invalid = |sandbox: &Sandbox, cmd: &[&str]| match sandbox.approve(&policy, cmd) {
        Err(Refusal::Invalid(message)) => message,
        other @ (Ok(_) | Err(Refusal::Denied(_))) => panic!("{other:?}"),
    };
    let mut sandbox = Sandbox::new();
    assert_eq!(invalid(&sandbox, &[]), "cmd is empty");
    assert_eq!(invalid(&sandbox, &["", "x"]), "cmd[0] is empty");
    assert_eq!(invalid(&sandbox, &["ls", "a", "b\0c"]), "cmd[2] has a NUL byte");
    assert_eq!(invalid(&sandbox, &["rm\0"]), "cmd[0] has a NUL byte");
    for (name, value, want) in [
        ("", "x", "env has a variable with an empty name"),
        ("A=B", "x", "the variable name \"A=B\" in env has an equals sign"),
        ("A\0", "x", "the variable name \"A\\0\" in env has a NUL byte"),
        ("A", "x\0", "env[\"A\"] has a NUL byte"),
    ] {
        sandbox.env = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(invalid(&sandbox, &["ls"]), want);
    }
    sandbox.env.clear();
    sandbox.workdir = "a\0".to_owned();
    assert_eq!(invalid(&sandbox, &["ls"]), "workdir has a NUL byte");
}

#[test]
fn a_check_says_what_an_exec_would_and_by_which_rule() {
    let sandbox = Sandbox::new();
    let answer =
        |allowed, rule: Option<&str>, setting: Option<&str>, resolved: Option<&Path>| PolicyCheck {
            allowed,
            rule: rule.map(str::to_owned),
            setting: setting.map(str::to_owned),
            resolved: resolved.map(|path| path.to_str().unwrap().to_owned()),
            redirected: false,
        };
    let (rm, ls) = (sandbox.program("rm"), sandbox.program("ls"));
    let built_in = Policy::built_in();
    assert_eq!(
        sandbox.check(&built_in, &["rm"]),
        answer(false, Some("rm"), Some("block"), Some(&rm))
    );
    assert_eq!(
        sandbox.check(&built_in, &["/x/rm"]),
        answer(false, Some("rm"), Some("block"), None)
    );
    assert_eq!(sandbox.check(&built_in, &["ls"]), answer(true, None, None, Some(&ls)));
    let only = policy("allow = ['l*']");
    assert_eq!(sandbox.check(&only, &["ls"]), answer(true, Some("l*"), Some("allow"), Some(&ls)));
    assert_eq!(sandbox.check(&only, &["rm"]), answer(false, Some("rm"), Some("allow"), Some(&rm)));
}

#[test]
fn a_path_is_always_allowed_and_the_check_says_where_it_leads() {
    let names = RootNames::mount_tree();
    let check = |path: &[u8]| check_path(path, &names).unwrap();
    assert_eq!(check(b"a/../b").resolved.as_deref(), Some("/workspace/b"));
    assert!(check(b"b").allowed && !check(b"b").redirected);
    let outside = check(b"/etc/passwd");
    assert_eq!(outside.resolved.as_deref(), Some("/workspace/passwd"));
    assert!(outside.allowed && outside.redirected);
    assert_eq!(check_path(b"\0", &names), Err(PathError::Nul));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_spelling_of_a_blocked_name_is_approved(
        name in prop::sample::select(DEFAULT_BLOCK.to_vec()),
        upper in prop::collection::vec(any::<bool>(), 16),
        prefix in "(/|\\.\\./|/bin/|/usr/bin/|[a-z]{1,4}/|\\./){0,4}",
        arguments in prop::collection::vec("[ -~]{0,8}", 0..3),
    ) {
        let spelled: String = name.replace('*', ".ext4").chars().zip(upper.iter().cycle())
            .map(|(c, up)| if *up { c.to_ascii_uppercase() } else { c }).collect();
        let typed = format!("{prefix}{spelled}");
        let cmd: Vec<&str> = std::iter::once(&typed).chain(&arguments).map(String::as_str).collect();
        let sandbox = Sandbox::new();
        prop_assert_eq!(sandbox.approve(&Policy::built_in(), &cmd), Err(denied(name, "block")));
    }
}
