//! What is asked of a plan once it is made.

use super::toolchains::full_home;
use super::*;

#[test]
fn what_is_seen_is_found_on_the_host() {
    let machine = Machine::new();
    machine.link("usr/bin", "root/bin");
    machine.file("root/etc/services", "");
    machine.dir("root/etc/alternatives");
    let rootfs = machine.plan();
    let at = |path: &str| rootfs.host_path(Path::new(path));
    let usr = machine.at("root/usr");
    assert_eq!(at("/usr"), Some(usr.clone()));
    assert_eq!(at("//usr/./bin/ls"), Some(usr.join("bin/ls")));
    assert_eq!(at("/bin"), Some("/bin".into()));
    assert_eq!(at("/bin/ls"), Some(usr.join("bin/ls")));
    assert_eq!(at("/etc/services"), Some(machine.at("root/etc/services")));
    assert_eq!(at("/etc/alternatives/x"), Some(machine.at("root/etc/alternatives/x")));
    assert_eq!(at("/etc"), Some("/etc".into()));
    assert_eq!(at("/"), Some("/".into()));
    for absent in ["/etc/passwd", "/etc/shadow", "/root", "/var", "/usr/../root", "usr", "/home"] {
        assert_eq!(at(absent), None, "{absent}");
    }
}

#[test]
fn a_program_that_is_not_seen_is_met_by_what_would_show_it() {
    let mut machine = Machine::new();
    full_home(&mut machine);
    machine.program("srv/go/bin/tool");
    machine.program("srv/venv/bin/black");
    machine.file("srv/venv/pyvenv.cfg", "");
    machine.program("srv/app/node_modules/.bin/tsc");
    machine.program("base/bin/own");
    machine.program("reserved/bin/theirs");
    machine.program("home/script");
    machine.file("srv/go/bin/data", "");
    machine.program("srv/real/linked");
    machine.link(machine.at("srv/real/linked"), "home/.local/bin/linked");
    let rootfs = machine.plan();
    let dirs = [
        "home/.local/bin",
        "srv/go/bin",
        "srv/venv/bin",
        "srv/app/node_modules/.bin",
        "base/bin",
        "reserved/bin",
        "home",
    ];
    let path = std::env::join_paths(dirs.map(|dir| machine.at(dir))).unwrap();
    let suggest = |program: &str| rootfs.suggest(OsStr::new(program), &path);
    assert_eq!(suggest("tool"), Some(machine.at("srv/go/bin")));
    assert_eq!(suggest("black"), Some(machine.at("srv/venv")));
    assert_eq!(suggest("tsc"), Some(machine.at("srv/app/node_modules")));
    assert_eq!(suggest("linked"), Some(machine.at("srv/real")));
    let typed = machine.at("srv/go/bin/tool");
    assert_eq!(suggest(typed.to_str().unwrap()), Some(machine.at("srv/go/bin")));
    for none in ["absent", "data", "uv", "own", "theirs", "script", "./tool"] {
        assert_eq!(suggest(none), None, "{none}");
    }
}

#[test]
fn a_plan_is_stale_once_the_host_is_another() {
    type Change = fn(&Machine);
    let changes: [(&str, Change); 8] = [
        ("a copied file", |m| drop(m.file("root/etc/services", "more"))),
        ("a settings file", |m| drop(m.file("home/.rustup/settings.toml", "x"))),
        ("resolv.conf", |m| drop(m.file("root/etc/resolv.conf", "more"))),
        ("a new tree of /etc", |m| drop(m.dir("root/etc/alternatives"))),
        ("a new java", |m| drop(m.dir("root/etc/java-21"))),
        ("a new directory of a tool", |m| drop(m.dir("home/.pyenv/plugins"))),
        ("a link", |m| {
            fs::remove_file(m.at("root/bin")).unwrap();
            m.link("usr/sbin", "root/bin");
        }),
        ("a directory put in another's place", |m| {
            fs::rename(m.at("home/.cargo/bin"), m.at("home/old")).unwrap();
            m.dir("home/.cargo/bin");
        }),
    ];
    for (what, change) in changes {
        let mut machine = Machine::new();
        full_home(&mut machine);
        machine.file("root/etc/services", "");
        machine.file("root/etc/resolv.conf", "");
        machine.link("usr/bin", "root/bin");
        let rootfs = machine.plan();
        assert!(!rootfs.is_stale(), "{what}");
        machine.program("home/.cargo/bin/another");
        machine.file("root/etc/unrelated", "");
        assert!(!rootfs.is_stale(), "{what}: a tree that changed inside");
        change(&machine);
        assert!(rootfs.is_stale(), "{what}");
    }
}

#[test]
fn this_machine_has_a_root_file_system_to_show() {
    let base = tempfile::tempdir().unwrap();
    let inputs = Inputs {
        path: std::env::var_os("PATH").unwrap(),
        home: std::env::home_dir(),
        protected: vec![base.path().to_owned()],
        ..Inputs::default()
    };
    let rootfs = Rootfs::plan(&inputs).unwrap();
    assert!(!rootfs.is_stale());
    assert_eq!(rootfs.host_path(Path::new("/usr/bin/env")), Some("/usr/bin/env".into()));
    assert_eq!(rootfs.host_path(Path::new("/etc/shadow")), None);
    let plain = |path: &Path| path.is_absolute() && path.iter().all(|p| p != ".." && p != ".");
    for entry in &rootfs.template().entries {
        assert!(plain(&path_of(&entry.path)), "{entry:?}");
    }
    for (_, source) in binds(&rootfs) {
        assert_eq!(source.canonicalize().unwrap(), source);
    }
}
