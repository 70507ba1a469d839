use std::fs;

use noxrunner_protocol::types::Tier;

use super::*;
use crate::policy::Means;

fn load(text: impl AsRef<[u8]>) -> Result<Policy, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    fs::write(&file, text).unwrap();
    Policy::load(&file).map_err(|error| {
        let text = error.to_string();
        let prefix = format!("policy file {}: ", file.display());
        text.strip_prefix(&prefix).expect("the file is named").to_owned()
    })
}

#[test]
fn an_empty_file_is_the_built_in_policy() {
    let info = load("").unwrap().info(false, &Means::of(Tier::Full));
    assert!(info.file.as_deref().is_some_and(|file| file.ends_with("/policy.toml")));
    let built_in = Policy::built_in().info(false, &Means::of(Tier::Full));
    assert_eq!(noxrunner_protocol::types::PolicyInfo { file: None, ..info }, built_in);
}

#[test]
fn block_replaces_and_also_block_adds() {
    let block = |text| load(text).unwrap().info(false, &Means::of(Tier::Full)).block;
    assert_eq!(block("block = ['curl']"), ["curl"]);
    assert_eq!(block("block = []"), [""; 0]);
    assert_eq!(block("block = ['a']\nalso_block = ['b', 'a']"), ["a", "b"]);
    let added = block("also_block = ['curl', 'rm']");
    let default = Policy::built_in().info(false, &Means::of(Tier::Full)).block;
    assert_eq!(added[..default.len()], default);
    assert_eq!(added[default.len()..], ["curl"]);
}

#[test]
fn the_other_keys() {
    let policy = load("commands = 'direct'\nallow = ['ls']\nenv_passthrough = ['LC_ALL']").unwrap();
    assert_eq!(policy.env_passthrough(), ["LC_ALL"]);
    let info = policy.info(false, &Means::of(Tier::Full));
    assert_eq!((info.commands, info.allow), (CommandScope::Direct, vec!["ls".to_owned()]));
    assert_eq!(info.block, [""; 0]);
    assert_eq!((info.exec, info.delete), (ExecScope::Anywhere, DeleteScope::Allowed));
    assert_eq!(policy.places(), noxrunner_init::message::Places::default());
    let strict = load("exec = 'system-only'\ndelete = 'never'").unwrap();
    let info = strict.info(false, &Means::of(Tier::Full));
    assert_eq!((info.exec, info.delete), (ExecScope::SystemOnly, DeleteScope::Never));
    let places = strict.places();
    assert!(places.no_exec && places.no_delete);
}

#[test]
fn only_a_block_list_that_reaches_everywhere_is_for_the_kernel() {
    let blocked = |text| load(text).unwrap().blocked_everywhere().len();
    assert_eq!(blocked("block = ['a']\nalso_block = ['b']"), 2);
    assert_eq!(blocked("block = []"), 0);
    assert_eq!(blocked("commands = 'direct'"), 0);
    assert_eq!(blocked("allow = ['ls']"), 0);
}

#[test]
fn what_sandboxes_see_and_reach() {
    let policy = load("expose = ['/srv/x', '~/venv']").unwrap();
    assert_eq!(policy.expose(), [PathBuf::from("/srv/x"), PathBuf::from("~/venv")]);
    let info = policy.info(false, &Means::of(Tier::Full));
    assert_eq!(info.expose, ["/srv/x", "~/venv"]);
    assert_eq!(info.network_allowed, [Network::None, Network::Host]);
    assert_eq!(info.network_default, Network::None);
    assert_eq!(policy.info(true, &Means::of(Tier::Full)).network_allowed, [Network::None]);

    let both = load("network_allowed = ['none', 'host']\nnetwork_default = 'host'").unwrap();
    assert_eq!(both.network_allowed(true), [Network::None, Network::Host]);
    assert_eq!(both.network_default(), Network::Host);
    let one = load("network_allowed = 'none'").unwrap();
    assert_eq!(one.network_allowed(false), [Network::None]);
}

#[test]
fn what_an_upload_may_bring() {
    let limits = load("").unwrap().upload_limits();
    assert_eq!((limits.bytes, limits.keep_free), (8 << 30, 512 << 20));
    let policy = load("max_upload = '1.5Ki'\nkeep_free = '2G'").unwrap();
    let limits = policy.upload_limits();
    assert_eq!((limits.bytes, limits.keep_free), (1536, 2_000_000_000));
    let info = policy.info(false, &Means::of(Tier::Full));
    assert_eq!((info.max_upload_bytes, info.keep_free_bytes), (1536, 2_000_000_000));
}

#[test]
fn how_long_a_command_may_run() {
    assert_eq!(load("").unwrap().max_timeout().get(), 86_400.0);
    for (text, seconds) in [("30s", 30.0), ("10m", 600.0), ("24h", 86_400.0)] {
        let policy = load(format!("max_timeout = '{text}'")).unwrap();
        assert_eq!(policy.info(false, &Means::of(Tier::Full)).max_timeout_seconds.get(), seconds);
    }
}

#[test]
fn a_daemon_of_root_must_be_told_that_the_hosts_network_is_allowed() {
    let text = "network_default = 'host'";
    assert_eq!(parse(text, false).unwrap().network_default(), Network::Host);
    let error = parse(text, true).unwrap_err().to_string();
    let want = "does not have it (it is not set, and a daemon of root allows only none)";
    assert!(error.contains(want), "{error}");
}

#[test]
fn what_cannot_be_followed_is_named_with_what_to_do() {
    for (text, want) in [
        (
            "blok = []",
            "unknown key `blok`; the keys are commands, block, also_block, allow, exec, delete, \
             env_passthrough, expose, network_allowed, network_default, max_upload, keep_free",
        ),
        ("[block]", "`block` must have an array of strings, not table"),
        ("block = 'rm'", "`block` must have an array of strings, not string"),
        ("also_block = ['a', 1]", "`also_block` must have strings in its array, not integer"),
        ("commands = true", "`commands` must have a string, not boolean"),
        ("commands = 'Direct'", "`commands` must be \"everywhere\" or \"direct\", not \"Direct\""),
        ("exec = 'system'", "`exec` must be \"anywhere\" or \"system-only\", not \"system\""),
        ("exec = false", "`exec` must have a string, not boolean"),
        ("delete = 'no'", "`delete` must be \"allowed\" or \"never\", not \"no\""),
        ("allow = []\nblock = []", "`allow` and `block` exclude each other; set one of them"),
        (
            "allow = []\nalso_block = []",
            "`allow` and `also_block` exclude each other; set one of them",
        ),
        (
            "allow = ['/bin/ls']",
            "`allow` has \"/bin/ls\": it has a slash; write the command's name alone",
        ),
        ("block = ['']", "`block` has \"\": it is empty"),
        (
            "env_passthrough = ['A=b']",
            "`env_passthrough` has \"A=b\": write the variable's whole name",
        ),
        ("env_passthrough = ['LC_*']", "`env_passthrough` has \"LC_*\""),
        ("env_passthrough = ['']", "`env_passthrough` has \"\""),
        ("expose = '/srv'", "`expose` must have an array of strings, not string"),
        (
            "expose = ['srv']",
            "`expose` has \"srv\": write a path that begins with `/`, or with `~/`",
        ),
        ("expose = ['~user/x']", "`expose` has \"~user/x\""),
        ("expose = ['']", "`expose` has \"\""),
        ("expose = [\"/a\\u0000b\"]", "`expose` has \"/a\\0b\""),
        (
            "network_allowed = ['lan']",
            "`network_allowed` has \"lan\": the networks are \"none\" and \"host\"",
        ),
        ("network_allowed = 1", "`network_allowed` must have an array of strings, not integer"),
        ("network_default = 'Host'", "`network_default` has \"Host\""),
        ("network_default = []", "`network_default` must have a string, not array"),
        (
            "network_allowed = ['none']\nnetwork_default = 'host'",
            "`network_default` is host but `network_allowed` does not have it; add it there",
        ),
        (
            "network_allowed = 'host'",
            "`network_default` is none (it is not set) but `network_allowed` does not have it;",
        ),
        (
            "max_upload = 5",
            "`max_upload` must have a quantity in quotes, as in \"8Gi\", not integer",
        ),
        (
            "max_timeout = 600",
            "`max_timeout` must have a time in quotes, as in \"10m\", not integer",
        ),
        ("max_timeout = '29s'", "`max_timeout` has \"29s\": write a time from 30s to 24h"),
        ("max_timeout = '25h'", "`max_timeout` has \"25h\": write a time from 30s to 24h"),
        ("max_timeout = 'soon'", "`max_timeout` has \"soon\": write a time from 30s to 24h"),
        ("keep_free = 'much'", "`keep_free`: \"much\" is not a quantity"),
        ("keep_free = '0'", "`keep_free`: \"0\" is not a quantity"),
        ("network_allowed = []", "`network_default` is none (it is not set) but"),
        ("\nblock = [", "is not TOML: line 2: "),
        ("block = []\nblock = []", "is not TOML: line 2: duplicate key"),
    ] {
        let error = load(text).expect_err(text);
        assert!(error.starts_with(want), "{text:?}: {error}");
    }
    assert!(load(b"\xff").unwrap_err().starts_with("is not UTF-8"));
}

#[test]
fn what_is_no_policy_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let problem = |name: &str| Policy::load(&dir.path().join(name)).unwrap_err().problem;
    assert!(matches!(problem("missing"), PolicyFileProblem::Read(_)));
    assert!(matches!(problem(""), PolicyFileProblem::NotRegular));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(problem("fifo"), PolicyFileProblem::NotRegular));
    let most = usize::try_from(MAX_POLICY_FILE_BYTES).unwrap();
    load(" ".repeat(most)).unwrap();
    assert!(load(" ".repeat(most + 1)).unwrap_err().starts_with("is larger"));
}
