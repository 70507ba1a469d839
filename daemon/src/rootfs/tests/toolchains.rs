//! Toolchains in homes.

use super::*;

const SECRETS: [&str; 14] = [
    ".cargo/credentials.toml",
    ".cargo/config.toml",
    ".pypirc",
    ".netrc",
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".local/share/uv/credentials/x",
    ".local/share/keyrings/x",
    ".config/gh/hosts.yml",
    ".npmrc",
    ".rustup/tokens",
    ".nvm/.npmrc",
    ".asdf/.netrc",
    ".pyenv/.git/config",
];

pub(super) fn full_home(machine: &mut Machine) {
    for name in SECRETS {
        machine.file(&format!("home/{name}"), "secret");
    }
    for name in [
        ".pyenv/bin/pyenv",
        ".pyenv/shims/python",
        ".pyenv/libexec/pyenv",
        ".pyenv/versions/3.12.1/bin/python3",
        ".nvm/versions/node/v22/bin/node",
        ".cargo/bin/cargo",
        ".rustup/toolchains/stable/bin/rustc",
        ".local/bin/uv",
        ".local/share/uv/python/cpython/bin/python",
        ".local/share/uv/tools/ruff/bin/ruff",
        ".local/pipx/venvs/black/bin/black",
        ".asdf/shims/go",
        ".asdf/installs/go/1.22/bin/go",
        ".local/share/mise/installs/go/1.22/go/bin/go",
        ".local/share/mise/shims/go",
    ] {
        machine.program(&format!("home/{name}"));
    }
    machine.file("home/.pyenv/version", "3.12.1\n");
    machine.file("home/.rustup/settings.toml", "default_toolchain = 'stable'\n");
    machine.file("home/.asdf/asdf.sh", "");
    machine.on_path(&[
        "home/.pyenv/shims",
        "home/.nvm/versions/node/v22/bin",
        "home/.cargo/bin",
        "home/.cargo/bin",
        "home/.local/bin",
        "home/.asdf/shims",
        "home/.local/share/mise/installs/go/1.22/go/bin",
    ]);
}

#[test]
fn toolchains_are_shown_at_their_own_paths_and_no_credentials_with_them() {
    let mut machine = Machine::new();
    full_home(&mut machine);
    let rootfs = machine.plan();
    assert_eq!(rootfs.warnings(), [""; 0]);
    for (_, source) in binds(&rootfs) {
        for name in SECRETS {
            let secret = machine.at("home").join(name);
            assert!(!secret.starts_with(&source), "{} brings {name}", source.display());
            assert_eq!(rootfs.host_path(&secret), None, "{name}");
        }
    }
    let home = |name: &str| machine.at("home").join(name);
    for name in [
        ".pyenv/versions/3.12.1/bin/python3",
        ".pyenv/libexec/pyenv",
        ".nvm/versions/node/v22/bin/node",
        ".cargo/bin/cargo",
        ".rustup/toolchains/stable/bin/rustc",
        ".local/share/uv/tools/ruff/bin/ruff",
        ".local/pipx/venvs/black/bin/black",
        ".asdf/installs/go/1.22/bin/go",
        ".local/share/mise/shims/go",
        ".rustup/settings.toml",
    ] {
        assert_eq!(rootfs.host_path(&home(name)), Some(home(name)), "{name}");
    }
    assert_eq!(rootfs.host_path(&machine.at("home")), Some(machine.at("home")), "on the way");
    assert_eq!(text(&rootfs, home(".pyenv/version")), "3.12.1\n");
    assert_eq!(text(&rootfs, home(".rustup/settings.toml")), "default_toolchain = 'stable'\n");
    assert_eq!(rootfs.env()[OsStr::new("RUSTUP_HOME")], *home(".rustup"));

    // Nothing of it where the search path does not name it.
    machine.on_path(&["home/.nvm/versions", "home/.cargo", "home"]);
    let rootfs = machine.plan();
    assert_eq!(binds(&rootfs).len(), 2);
    assert!(!rootfs.env().contains_key(OsStr::new("RUSTUP_HOME")));
}

#[test]
fn a_toolchain_behind_links_is_at_both_its_paths() {
    let mut machine = Machine::new();
    machine.program("data/cargo/bin/cargo");
    machine.link(machine.at("data/cargo"), "home/.cargo");
    machine.dir("data/rustup/toolchains");
    machine.file("data/rustup/settings.toml", "x");
    machine.link("data/rustup", "rustup");
    machine.inputs.rustup_home = Some(machine.at("rustup"));
    machine.on_path(&["home/.cargo/bin"]);
    let rootfs = machine.plan();
    let source = machine.at("data/cargo/bin");
    let toolchains = machine.at("data/rustup/toolchains");
    assert_eq!(
        binds(&rootfs)[2..],
        [
            (source.clone(), source.clone()),
            (machine.at("home/.cargo/bin"), source),
            (toolchains.clone(), toolchains.clone()),
            (machine.at("rustup/toolchains"), toolchains),
        ]
    );
    assert_eq!(text(&rootfs, machine.at("rustup/settings.toml")), "x");
    assert_eq!(text(&rootfs, machine.at("data/rustup/settings.toml")), "x");
    assert_eq!(rootfs.env()[OsStr::new("RUSTUP_HOME")], *machine.at("rustup"));
}

#[test]
fn a_toolchain_that_cannot_be_shown_is_left_out_and_named() {
    // Where sandboxes have something of their own.
    let mut machine = Machine::new();
    machine.program("reserved/u/.local/bin/tool");
    machine.on_path(&["reserved/u/.local/bin"]);
    let rootfs = machine.plan();
    assert_eq!(binds(&rootfs).len(), 2);
    assert_eq!(rootfs.warnings().len(), 1);
    assert!(rootfs.warnings()[0].contains("reserved/u/.local/bin: sandboxes have"));

    // A link up to a directory with everything in it, or to one of secrets.
    for target in ["..", "../.ssh", "../../home"] {
        let mut machine = Machine::new();
        full_home(&mut machine);
        fs::remove_dir_all(machine.at("home/.local/bin")).unwrap();
        machine.link(target, "home/.local/bin");
        machine.on_path(&["home/.local/bin"]);
        let rootfs = machine.plan();
        assert!(binds(&rootfs).iter().all(|(to, _)| !to.ends_with("bin")), "{target}");
        assert!(rootfs.warnings()[0].contains("credentials"), "{:?}", rootfs.warnings());
    }

    // In the daemon's own directory.
    let mut machine = Machine::new();
    machine.program("base/.local/bin/tool");
    machine.on_path(&["base/.local/bin"]);
    let rootfs = machine.plan();
    assert_eq!(binds(&rootfs).len(), 2);
    assert!(rootfs.warnings()[0].contains("it is or lies in"), "{:?}", rootfs.warnings());
}

#[test]
fn rustup_of_the_system_has_its_toolchains_in_the_home() {
    let mut machine = Machine::new();
    machine.program("distribution/bin/rustup");
    machine.program("home/.rustup/toolchains/stable/bin/rustc");
    machine.on_path(&["distribution/bin"]);
    let rootfs = machine.plan();
    let home = machine.at("home/.rustup");
    assert_eq!(node(&rootfs, home.join("toolchains")).map(|_| ()), Some(()));
    assert_eq!(rootfs.env()[OsStr::new("RUSTUP_HOME")], *home);
    machine.inputs.home = Some("relative".into());
    assert!(!machine.plan().env().contains_key(OsStr::new("RUSTUP_HOME")));
}

#[test]
fn a_daemon_of_root_copies_only_what_everybody_may_read() {
    let mut machine = Machine::new();
    full_home(&mut machine);
    let private = machine.file("private", "secret");
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600)).unwrap();
    let version = machine.at("home/.pyenv/version");
    fs::remove_file(&version).unwrap();
    symlink(&private, &version).unwrap();
    assert_eq!(text(&machine.plan(), &version), "secret", "its user's own");
    machine.is_root = true;
    let rootfs = machine.plan();
    assert_eq!(node(&rootfs, &version), None);
    assert!(rootfs.warnings()[0].contains("not everybody may read it"));
}
