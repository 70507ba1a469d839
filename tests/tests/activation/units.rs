//! The units in systemd/ are ones that systemd takes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use noxrunner_tests::{program, run, text};

use super::tool;

const UNITS: [(&str, &str, &str); 4] = [
    ("system", "noxrunnerd.socket", include_str!("../../../systemd/system/noxrunnerd.socket")),
    ("system", "noxrunnerd.service", include_str!("../../../systemd/system/noxrunnerd.service")),
    ("user", "noxrunnerd.socket", include_str!("../../../systemd/user/noxrunnerd.socket")),
    ("user", "noxrunnerd.service", include_str!("../../../systemd/user/noxrunnerd.service")),
];

/// Where the units look for the daemon.
const INSTALLED: &str = "/usr/local/bin/noxrunnerd";

/// What systemd says of the units of one manager, with something in them replaced.
#[track_caller]
fn verify(manager: &str, from: &str, to: &str) -> Result<(), String> {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let mut paths: Vec<PathBuf> = vec![];
    let mut replaced = 0;
    for (_, name, unit) in UNITS.iter().filter(|(of, ..)| *of == manager) {
        let path = dir.path().join(name);
        replaced += unit.matches(from).count();
        let unit = unit.replace(from, to);
        // It has to be there for systemd to be content, and here it is where it was built.
        fs::write(&path, unit.replace(INSTALLED, program("noxrunnerd").to_str().unwrap())).unwrap();
        paths.push(path);
    }
    assert!(replaced > 0, "{from:?} is nowhere in the units for {manager}");
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let mut analyze = tool("systemd-analyze");
    analyze.arg(format!("--{manager}")).arg("verify").args(&paths);
    let output = run(analyze.env("XDG_RUNTIME_DIR", dir.path()));
    let said = text(&output.stderr) + &text(&output.stdout);
    // What it does not know it only warns of.
    if output.status.success() && said.is_empty() { Ok(()) } else { Err(said) }
}

#[test]
fn systemd_takes_them() {
    for manager in ["system", "user"] {
        assert_eq!(verify(manager, "Type=notify", "Type=notify"), Ok(()), "{manager}");
    }
}

/// The control: it looks.
#[test]
fn systemd_does_not_take_what_is_wrong() {
    for manager in ["system", "user"] {
        for (from, to, why) in [
            ("KillMode=mixed", "KilMode=mixed", "Unknown key"),
            ("Type=notify", "Type=nonsense", "Failed to parse service type"),
            ("ListenStream=", "#", "no Listen setting"),
            (INSTALLED, "/nowhere/noxrunnerd", "is not executable"),
        ] {
            let said = verify(manager, from, to).unwrap_err();
            assert!(said.contains(why), "{manager}, {to}: {said}");
        }
    }
}

/// The settings of a unit.
fn settings(unit: &str) -> Vec<(&str, &str)> {
    let lines = unit.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn nothing_in_them_takes_from_sandboxes_what_they_are_made_of() {
    for (manager, name, unit) in UNITS.iter().filter(|(_, name, _)| name.ends_with(".service")) {
        let settings = settings(unit);
        for needed in [("Type", "notify"), ("Delegate", "yes"), ("KillMode", "mixed")] {
            assert!(settings.contains(&needed), "{manager} {name}: {needed:?}");
        }
        for (key, value) in &settings {
            let breaks = key.starts_with("ProtectKernel")
                || key.starts_with("Restrict")
                || (key.starts_with("Private") && *value != "no")
                || ["ProtectProc", "ProcSubset", "ProtectHostname", "ProtectControlGroups"]
                    .contains(key)
                || ["SystemCallFilter", "DynamicUser", "RuntimeDirectory"].contains(key);
            assert!(!breaks, "{manager} {name}: {key}={value}");
        }
    }
}

/// Each option that a unit starts the daemon with is one that it has.
#[test]
fn the_daemon_knows_their_options() {
    let help = run(std::process::Command::new(program("noxrunnerd")).arg("--help"));
    let help = text(&help.stdout);
    for (_, _, unit) in &UNITS {
        let commands = settings(unit).into_iter().filter(|(key, _)| *key == "ExecStart");
        for (_, command) in commands {
            assert!(command.starts_with(INSTALLED), "{command}");
            for option in command.split(' ').filter(|word| word.starts_with("--")) {
                assert!(help.contains(option), "{option} is not in {help}");
            }
        }
    }
}

#[test]
fn clients_look_where_they_listen() {
    let listen = |at: usize| {
        let settings = settings(UNITS[at].2);
        settings.iter().find(|(key, _)| *key == "ListenStream").unwrap().1.to_owned()
    };
    assert_eq!(Path::new(&listen(0)), Path::new(noxrunner_protocol::socket::SYSTEM_SOCKET));
    let user = noxrunner_protocol::socket::default_path(
        |name| (name == "XDG_RUNTIME_DIR").then(|| "/run/user/7".into()),
        7,
    );
    assert_eq!(Path::new(&listen(2).replace("%t", "/run/user/7")), user);
}
