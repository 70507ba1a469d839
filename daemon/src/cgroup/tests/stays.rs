//! Daemons that died, and others that are about.

use std::fs;
use std::mem::forget;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::super::hierarchy::name;
use super::super::place::{Place, Spot};
use super::super::{Caps, Controller, Hierarchy, Unavailable};
use super::fixture::{Fixture, Program, SOON, eventually, lives, own_place};

/// Which group of version 2 a process is in.
fn group_of(pid: nix::unistd::Pid) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// As kill -9 of a daemon leaves it.
fn killed(hierarchy: Hierarchy) {
    let group = hierarchy.make().unwrap();
    forget((hierarchy, group));
}

pub(super) fn leftovers_of_a_dead_daemon_are_removed(fx: &Fixture) {
    let hierarchy = fx.establish();
    let mut inside = Vec::new();
    for _ in 0..3 {
        let group = hierarchy.make().unwrap();
        inside.push(Program::inside(&group, "fork; sleep 100"));
        forget(group);
    }
    killed(hierarchy);
    let count = |parent: &PathBuf| fs::read_dir(parent).unwrap().flatten();
    for parent in fx.parents() {
        assert_eq!(count(&parent).filter(|e| e.path().is_dir()).count(), 4);
    }
    assert!(inside.iter().all(|program| lives(program.pid())));
    let next = fx.establish();
    // Out of their groups, and on their last steps.
    eventually("none of them lives", || !inside.iter().any(|program| lives(program.pid())));
    for parent in fx.parents() {
        assert_eq!(count(&parent).filter(|e| e.path().is_dir()).count(), 0);
    }
    next.make().unwrap().remove(SOON).unwrap();
}

pub(super) fn leftovers_elsewhere_are_removed(fx: &Fixture) {
    // It was started from another group.
    let elsewhere: Vec<_> = fx.own().iter().map(|own| own.join("noxrunner-elsewhere")).collect();
    for elsewhere in &elsewhere {
        fs::create_dir(elsewhere).unwrap();
        fs::create_dir_all(elsewhere.join(fx.name()).join("s1/deeper")).unwrap();
    }
    let mut sleeper = Program::perl("print \"here\\n\"; sleep 100");
    for elsewhere in &elsewhere {
        let procs = elsewhere.join(fx.name()).join("s1/deeper/cgroup.procs");
        fs::write(procs, sleeper.pid().to_string()).unwrap();
    }
    sleeper.go();
    assert_eq!(sleeper.line(), "here");
    let hierarchy = fx.establish();
    eventually("it lives no longer", || !lives(sleeper.pid()));
    for elsewhere in &elsewhere {
        assert!(!elsewhere.join(fx.name()).exists());
        fs::remove_dir(elsewhere).unwrap();
    }
    drop(hierarchy);
}

pub(super) fn another_daemons_groups_are_let_be(fx: &Fixture) {
    let others: Vec<_> = fx.own().iter().map(|own| own.join("noxrunner-0-0-0")).collect();
    for other in &others {
        fs::create_dir(other).unwrap();
    }
    drop(fx.establish());
    for other in &others {
        fs::remove_dir(other).unwrap();
    }
}

pub(super) fn v2_a_group_with_strangers_is_refused(fx: &Fixture) {
    let stranger = Program::perl("sleep 100");
    let before = group_of(nix::unistd::getpid());
    let error = Hierarchy::establish_at(&fx.place, &fx.name(), geteuid().as_raw(), &[]);
    let error = error.unwrap_err();
    let expected = format!("perl (pid {})", stranger.pid());
    assert!(
        matches!(&error, Unavailable::Shared { process, .. } if *process == expected),
        "{error}"
    );
    let missing = error.missing(false);
    assert!(missing.mend.contains("systemd-run --user --scope -p Delegate=yes"), "{missing:?}");
    assert_eq!(group_of(nix::unistd::getpid()), before);
    assert!(!fx.own()[0].join("daemon").exists());
    drop(stranger);
    drop(fx.establish());
}

pub(super) fn v2_our_other_processes_move_along(fx: &Fixture) {
    let before = group_of(nix::unistd::getpid());
    let zygote = Program::perl("sleep 100");
    let others = [zygote.pid()];
    let hierarchy = Hierarchy::establish_at(&fx.place, &fx.name(), geteuid().as_raw(), &others);
    let hierarchy = hierarchy.unwrap();
    for pid in [nix::unistd::getpid(), zygote.pid()] {
        assert_eq!(group_of(pid), format!("{before}/daemon"));
    }
    drop(hierarchy);
    for pid in [nix::unistd::getpid(), zygote.pid()] {
        assert_eq!(group_of(pid), before);
    }
}

/// Of the machine, not of a cgroup namespace.
pub(super) fn v2_the_root_keeps_its_processes() {
    let base = tempfile::tempdir().unwrap();
    let mount = own_place().unified.unwrap().mount;
    assert!(!mount.join("cgroup.type").exists(), "{} is not the root", mount.display());
    let before = group_of(nix::unistd::getpid());
    let spot = Spot { mount: mount.clone(), own: mount.clone(), read_only: false };
    let place = Place { unified: Some(spot), ..Place::default() };
    let uid = geteuid().as_raw();
    let name = name(base.path(), uid).unwrap();
    let hierarchy = Hierarchy::establish_at(&place, &name, uid, &[]).unwrap();
    assert!(Controller::ALL.into_iter().all(|controller| hierarchy.has(controller)));
    assert_eq!(group_of(nix::unistd::getpid()), before);
    assert!(!mount.join("daemon").exists());
    let group = hierarchy.make().unwrap();
    group.apply(&Caps { pids: Some(1), ..Caps::default() }).unwrap();
    let mut alone = Program::inside(&group, "defined fork or exit $!+0");
    assert_eq!(alone.end(), Ok(Errno::EAGAIN as i32));
    group.remove(SOON).unwrap();
    drop(hierarchy);
    assert!(!mount.join(name).exists());
}
