//! What stands in for blocked programs, on machines of several kinds.

use std::collections::BTreeMap;

use super::*;

/// What each stub says, by its path.
fn stubs(rootfs: &Rootfs) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in &rootfs.template().entries {
        let Node::Stubs(stubs) = &entry.node else { continue };
        for stub in stubs {
            let text = String::from_utf8_lossy(&stub.program);
            let line = text.rsplit("Command not allowed: ").next().unwrap();
            found
                .insert(path_of(&entry.path).join(path_of(&stub.name)), line.trim_end().to_owned());
        }
    }
    found
}

#[track_caller]
fn stand(rootfs: &Rootfs, want: &[(&str, &str)]) {
    let want = want.iter().map(|(path, line)| ((*path).into(), (*line).to_owned()));
    assert_eq!(stubs(rootfs), want.collect::<BTreeMap<PathBuf, String>>());
}

fn blocking(machine: Machine, rules: &[&str]) -> Machine {
    let blocked = rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect();
    Machine { inputs: Inputs { blocked, ..machine.inputs }, ..machine }
}

/// Programs apart, as on Debian, and BusyBox beside them.
fn debian() -> Machine {
    let machine = blocking(Machine::new(), &["rm", "mkfs*", "reboot"]);
    machine.link("usr/bin", "root/bin");
    machine.link("usr/sbin", "root/sbin");
    for name in ["bin/sh", "bin/ls", "bin/rm", "bin/systemctl", "sbin/mke2fs", "bin/busybox"] {
        machine.program(&format!("root/usr/{name}"));
    }
    machine.link("mke2fs", "root/usr/sbin/mkfs.ext4");
    machine.link("/bin/systemctl", "root/usr/sbin/reboot");
    machine
}

#[test]
fn blocked_names_and_blocked_programs_under_other_names() {
    let machine = debian();
    machine.link("rm", "root/usr/bin/alias");
    machine.file("root/usr/share/bash-completion/completions/rm", "no program");
    machine.file("root/usr/lib/data/rm", "no program");
    machine.file("root/usr/libexec/data/rm", "no program");
    machine.dir("root/usr/local/bin");
    machine.link("..", "root/usr/local/bin/rm");
    let rm = machine.at("root/usr/bin/rm");
    fs::hard_link(&rm, machine.at("root/usr/bin/gone")).unwrap();
    machine.program("root/usr/bin/RM");
    let rootfs = machine.plan();
    stand(
        &rootfs,
        &[
            ("/usr/bin/rm", "rm"),
            ("/usr/bin/RM", "rm"),
            ("/usr/bin/gone", "gone (it is rm)"),
            ("/usr/bin/busybox", "busybox (it can be rm)"),
            ("/usr/bin/systemctl", "systemctl (it is reboot)"),
            ("/usr/sbin/reboot", "reboot"),
            ("/usr/sbin/mkfs.ext4", "mkfs*"),
            ("/usr/sbin/mke2fs", "mke2fs (it is mkfs*)"),
        ],
    );
    assert_eq!(rootfs.kept(), [""; 0].map(PathBuf::from));
    assert_eq!(rootfs.warnings(), [""; 0]);
    for (program, rule) in [
        ("/usr/bin/gone", Some("rm")),
        ("/usr/sbin/mke2fs", Some("mkfs*")),
        ("/usr/bin/busybox", Some("rm")),
        ("/usr/bin/ls", None),
        ("/", None),
    ] {
        assert_eq!(rootfs.blocks(Path::new(program)), rule, "{program}");
    }
    // What is on the host is what names are resolved to.
    assert_eq!(rootfs.host_path(Path::new("/bin/rm")), Some(rm));
}

#[test]
fn who_blocks_nothing_gets_no_stub_and_busybox_only_matters_where_it_could_be_one() {
    stand(&blocking(debian(), &[]).plan(), &[]);
    stand(&blocking(debian(), &["curl"]).plan(), &[]);
    stand(
        &blocking(debian(), &["wget"]).plan(),
        &[("/usr/bin/busybox", "busybox (it can be wget)")],
    );
}

#[test]
fn where_busybox_is_the_system_its_blocked_names_alone_are_stood_in_for() {
    let machine = blocking(Machine::new(), &["rm", "reboot"]);
    machine.program("root/bin/busybox");
    for name in ["bin/sh", "bin/rm", "bin/ls", "sbin/reboot", "usr/bin/env"] {
        machine.dir("root/sbin");
        machine.link("/bin/busybox", &format!("root/{name}"));
    }
    let rootfs = machine.plan();
    stand(&rootfs, &[("/bin/rm", "rm"), ("/sbin/reboot", "reboot")]);
    assert_eq!(rootfs.kept(), [PathBuf::from("/bin/busybox")]);
}

#[test]
fn where_the_core_utilities_are_one_program_of_many_hard_links() {
    let machine = blocking(Machine::new(), &["rm", "chmod"]);
    let one = machine.program("root/usr/bin/coreutils");
    for name in ["cat", "chmod", "echo", "ls", "rm"] {
        fs::hard_link(&one, machine.at("root/usr/bin").join(name)).unwrap();
    }
    let rootfs = machine.plan();
    stand(&rootfs, &[("/usr/bin/rm", "rm"), ("/usr/bin/chmod", "chmod")]);
    assert_eq!(rootfs.kept(), [PathBuf::from("/usr/bin/coreutils")]);
}

#[test]
fn a_program_that_is_known_by_many_other_names_is_left_under_these() {
    let mut machine = blocking(Machine::new(), &["cargo"]);
    for name in ["cargo", "rustc", "rustdoc", "rustup", "rustfmt", "clippy-driver"] {
        match name {
            "cargo" => drop(machine.program("home/.cargo/bin/cargo")),
            name => machine.link("cargo", &format!("home/.cargo/bin/{name}")),
        }
    }
    machine.on_path(&["home/.cargo/bin"]);
    let rootfs = machine.plan();
    let cargo = machine.at("home/.cargo/bin/cargo");
    stand(&rootfs, &[(cargo.to_str().unwrap(), "cargo")]);
    assert_eq!(rootfs.kept(), [cargo]);
}

#[test]
fn the_file_behind_a_blocked_name_wherever_it_lies() {
    let machine = blocking(Machine::new(), &["rm", "sudo"]);
    machine.program("root/usr/lib/cargo/bin/coreutils/rm");
    machine.link("../lib/cargo/bin/coreutils/rm", "root/usr/bin/rm");
    machine.program("root/usr/lib/far/away/from/all/bin/real");
    machine.link("../lib/far/away/from/all/bin/real", "root/usr/bin/sudo");
    stand(
        &machine.plan(),
        &[
            ("/usr/bin/rm", "rm"),
            ("/usr/bin/sudo", "sudo"),
            ("/usr/lib/cargo/bin/coreutils/rm", "rm"),
            ("/usr/lib/far/away/from/all/bin/real", "real (it is sudo)"),
        ],
    );
}

#[test]
fn every_tree_that_is_shown_is_looked_through() {
    let mut machine = blocking(Machine::new(), &["rm"]);
    for name in [
        "root/usr/local/bin/rm",
        "root/usr/lib/klibc/bin/rm",
        "root/opt/tool/bin/rm",
        "root/snap/core22/1/usr/bin/rm",
        "root/nix/store/abc-coreutils/bin/rm",
        "home/.local/bin/rm",
        "srv/venv/bin/rm",
        "srv/plain/rm",
    ] {
        machine.program(name);
    }
    machine.dir("root/nix/store/abc-empty");
    machine.on_path(&["home/.local/bin"]);
    machine.expose(&["srv/venv", "srv/plain"]);
    let rootfs = machine.plan();
    let found: Vec<PathBuf> = stubs(&rootfs).into_keys().collect();
    let mut want = [
        "/usr/local/bin/rm",
        "/usr/lib/klibc/bin/rm",
        "/opt/tool/bin/rm",
        "/snap/core22/1/usr/bin/rm",
        "/nix/store/abc-coreutils/bin/rm",
    ]
    .map(PathBuf::from)
    .to_vec();
    let own = ["home/.local/bin/rm", "srv/venv/bin/rm", "srv/plain/rm"];
    want.extend(own.map(|name| machine.at(name)));
    want.sort();
    assert_eq!(found, want);
}

#[test]
fn a_blocked_file_that_is_exposed_by_itself_is_not_shown() {
    let mut machine = blocking(Machine::new(), &["rm"]);
    machine.program("srv/rm");
    machine.program("srv/fine");
    machine.expose(&["srv/rm", "srv/fine"]);
    let rootfs = machine.plan();
    assert_eq!(node(&rootfs, machine.at("srv/rm")), None);
    assert!(node(&rootfs, machine.at("srv/fine")).is_some());
    assert!(rootfs.warnings()[0].contains("the policy blocks rm"), "{:?}", rootfs.warnings());
}

#[test]
fn a_program_that_comes_or_is_replaced_makes_the_plan_stale() {
    let machine = blocking(Machine::new(), &["rm"]);
    machine.program("root/usr/bin/ls");
    let rootfs = machine.plan();
    assert!(!rootfs.is_stale());
    machine.program("root/usr/bin/rm");
    eventually_stale(&machine, &rootfs);
    let rootfs = machine.plan();
    stand(&rootfs, &[("/usr/bin/rm", "rm")]);
    machine.program("root/usr/new");
    fs::rename(machine.at("root/usr/new"), machine.at("root/usr/bin/rm")).unwrap();
    eventually_stale(&machine, &rootfs);
}

/// A kernel whose clock for directories ticks slowly may need another change.
#[track_caller]
fn eventually_stale(machine: &Machine, rootfs: &Rootfs) {
    for n in 0..1000 {
        if rootfs.is_stale() {
            return;
        }
        machine.program(&format!("root/usr/bin/other{n}"));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("it is not stale");
}

#[test]
fn what_is_mounted_or_hidden_below_a_layer_is_put_on_top_of_it_again() {
    let mut machine = blocking(Machine::new(), &["rm"]);
    machine.program("root/opt/tool/bin/rm");
    machine.bind_mount("elsewhere", "root/opt/tool/bin/mounted");
    machine.dir("root/opt/tool/bin/own");
    machine.inputs.protected.push(machine.at("root/opt/tool/bin/own"));
    let rootfs = machine.plan();
    let entries = &rootfs.template().entries;
    let layer = entries.iter().position(|entry| matches!(entry.node, Node::Stubs(_))).unwrap();
    let after: Vec<_> =
        entries[layer + 1..].iter().map(|entry| (path_of(&entry.path), &entry.node)).collect();
    let mounted = machine.at("root/opt/tool/bin/mounted");
    let mounted = std::ffi::CString::new(mounted.to_str().unwrap()).unwrap();
    assert_eq!(
        after,
        [
            ("/opt/tool/bin/mounted".into(), &Node::Bind(mounted)),
            ("/opt/tool/bin/own".into(), &Node::Hidden)
        ]
    );
}
