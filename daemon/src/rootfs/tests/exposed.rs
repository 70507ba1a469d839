//! What the policy exposes, and what is never shown.

use super::toolchains::full_home;
use super::*;

#[test]
fn what_is_exposed_is_at_its_own_path_and_not_twice() {
    let mut machine = Machine::new();
    full_home(&mut machine);
    machine.dir("srv/tree/sub");
    machine.file("srv/file", "");
    machine.dir("home/venv/bin");
    machine.link(machine.at("srv/tree"), "link");
    machine.expose(&["srv/tree/sub", "link", "srv/file", "srv/tree", "home/.pyenv"]);
    machine.inputs.expose.push("~/venv".into());
    let rootfs = machine.plan();
    let want = |name: &str| (machine.at(name), machine.at(name));
    let tree = machine.at("srv/tree");
    assert_eq!(
        binds(&rootfs)[2..7],
        [
            want("home/venv"),
            (tree.clone(), tree.clone()),
            (machine.at("link"), tree),
            want("srv/file"),
            want("home/.pyenv"),
        ]
    );
    let in_pyenv = rootfs
        .template()
        .entries
        .iter()
        .filter(|entry| path_of(&entry.path).starts_with(machine.at("home/.pyenv")));
    assert_eq!(in_pyenv.count(), 1, "the toolchain is in what is exposed");
    assert_eq!(rootfs.host_path(&machine.at("srv/file")), Some(machine.at("srv/file")));
    assert_eq!(rootfs.warnings(), [""; 0]);

    machine.expose(&["home"]);
    let rootfs = machine.plan();
    assert_eq!(binds(&rootfs).len(), 3);
    assert!(rootfs.warnings()[0].contains("credentials"), "asked for, but said");
}

#[test]
fn what_cannot_be_exposed_is_refused_by_name() {
    let mut machine = Machine::new();
    machine.dir("reserved/x");
    machine.file("srv/file", "");
    machine.expose(&["absent"]);
    let error = machine.try_plan().unwrap_err().to_string();
    assert!(
        error.starts_with("the policy's `expose` has /") && error.contains("absent: there is no")
    );
    nix::unistd::mkfifo(&machine.at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    machine.expose(&["fifo"]);
    assert!(matches!(machine.refused(), ExposeProblem::NotAFile));
    machine.expose(&["srv/file/below"]);
    assert!(matches!(machine.refused(), ExposeProblem::Unreadable(_)));
    for own in ["/proc", "/proc/self/net", "/dev/shm", "/etc"] {
        machine.inputs.expose = vec![own.into()];
        assert!(matches!(machine.refused(), ExposeProblem::InTheWay { .. }), "{own}");
    }
    machine.expose(&["reserved/x"]);
    assert!(matches!(machine.refused(), ExposeProblem::InTheWay { .. }));
    machine.inputs.expose = vec!["relative".into()];
    assert!(matches!(machine.refused(), ExposeProblem::NotAbsolute));
    machine.inputs.expose = vec!["~/venv".into()];
    machine.inputs.home = None;
    assert!(matches!(machine.refused(), ExposeProblem::NoHome));
}

#[test]
fn the_daemons_own_directories_are_never_exposed() {
    let mut machine = Machine::new();
    machine.dir("base/sandbox");
    machine.link(machine.at("base"), "link");
    machine.bind_mount("base/sandbox", "alias");
    machine.bind_mount("base", "srv/deep/alias");
    for (name, within, alias) in [
        ("base", true, false),
        ("base/sandbox", true, false),
        ("link", true, false),
        ("", false, false),
        ("alias", true, true),
        ("srv", false, true),
        ("srv/deep/alias/sandbox", true, true),
    ] {
        machine.dir("srv/deep/alias/sandbox");
        machine.expose(&[name]);
        let problem = machine.refused();
        let ExposeProblem::Protected(conflict) = problem else { panic!("{name}: {problem}") };
        assert_eq!((conflict.within, conflict.alias), (within, alias), "{name}");
        assert_eq!(conflict.protected, machine.at("base"));
    }
    machine.inputs.expose = vec!["/".into()];
    assert!(matches!(machine.refused(), ExposeProblem::Protected(_)));
    machine.inputs.expose.clear();
    machine.inputs.protected.push(machine.at("absent"));
    assert!(matches!(machine.try_plan(), Err(RootfsError::Protected { .. })));
}

#[test]
fn in_the_system_they_are_hidden() {
    let mut machine = Machine::new();
    machine.dir("root/opt/own/base");
    machine.dir("root/opt/other");
    machine.inputs.protected = vec![machine.at("root/opt/own/base")];
    machine.bind_mount("root/opt/own", "root/usr/alias");
    machine.dir("root/usr/alias/base");
    let rootfs = machine.plan();
    let want = ["/opt/own/base", "/usr/alias/base"].map(PathBuf::from);
    assert_eq!(hidden(&rootfs), want);
    let last = rootfs.template().entries.iter().rev().take(2);
    assert!(last.into_iter().all(|entry| entry.node == Node::Hidden), "after what has them");
    assert_eq!(rootfs.host_path(Path::new("/opt/own/base")), None);
    assert_eq!(rootfs.host_path(Path::new("/opt/own/base/x")), None);
    let own = machine.at("root/opt/own");
    assert_eq!(rootfs.host_path(Path::new("/opt/own")), Some(own));

    machine.inputs.protected = vec![machine.at("root/opt")];
    let rootfs = machine.plan();
    assert_eq!(node(&rootfs, "/opt"), None);
    assert_eq!(hidden(&rootfs), [PathBuf::from("/usr/alias")]);
    assert!(rootfs.warnings()[0].contains("/opt: it is or lies in"), "{:?}", rootfs.warnings());
}

#[test]
fn a_file_of_theirs_that_is_mounted_in_the_system_is_hidden_too() {
    let mut machine = Machine::new();
    let (own, alias) = (machine.file("base/own", "secret"), machine.file("root/opt/file", ""));
    let line = format!("2 1 8:1 {} {} rw - ext4 x rw\n", own.display(), alias.display());
    machine.mountinfo += &line;
    let rootfs = machine.plan();
    assert_eq!(node(&rootfs, "/opt/file"), Some(&Node::Bind(c"/dev/null".into())));
    // What the daemon cannot reach cannot be hidden either.
    fs::remove_file(alias).unwrap();
    let rootfs = machine.plan();
    assert_eq!((node(&rootfs, "/opt"), node(&rootfs, "/opt/file")), (None, None));
    assert!(rootfs.warnings()[0].contains("/opt: "), "{:?}", rootfs.warnings());
}
