//! Daemons that get nothing: these are processes of their own, since a test
//! cannot change its user or its mounts.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::unistd::geteuid;

use super::super::{Hierarchy, Version};
use super::fixture::Fixture;

/// The test that is such a process.
const ITSELF: &str = "cgroup::tests::refused::tries_to_establish";

/// Its base directory.
const BASE: &str = "NOXRUNNER_TEST_CGROUP_BASE";

#[test]
#[ignore = "other tests run it, with a base directory of theirs"]
fn tries_to_establish() {
    let base = std::env::var_os(BASE).unwrap();
    let uid = geteuid().as_raw();
    match Hierarchy::establish(Path::new(&base), uid, &[]) {
        Ok(hierarchy) => println!("established {:?}", hierarchy.version()),
        Err(error) => println!("refused: {:?}", error.missing(uid == 0)),
    }
}

/// What it prints.
fn established(command: &mut Command, base: &Path) -> String {
    let arguments = ["--exact", ITSELF, "--ignored", "--nocapture"];
    let output: Output = command.args(arguments).env(BASE, base).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    text
}

/// The positive control.
fn works_for_root(base: &Path) {
    let text = established(&mut Command::new(std::env::current_exe().unwrap()), base);
    assert!(text.contains(&format!("established {:?}", Version::V1)), "{text}");
}

pub(super) fn v1_gives_nothing_to_an_ordinary_user(fx: &Fixture) {
    works_for_root(fx.base());
    // By the link: the way to the file may be closed to that user.
    let text = established(Command::new("/proc/self/exe").uid(65534).gid(65534), fx.base());
    assert!(text.contains("belongs to another user"), "{text}");
    assert!(text.contains("version 1 gives ordinary users nothing"), "{text}");
}

pub(super) fn v1_that_is_mounted_read_only_says_so(fx: &Fixture) {
    works_for_root(fx.base());
    let mounts = fx.place.legacy.iter().map(|legacy| legacy.spot.mount.display());
    let remount = mounts.map(|mount| format!("mount -o remount,bind,ro {mount} && "));
    let script = format!("{}exec \"$@\"", remount.collect::<String>());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]).arg(std::env::current_exe().unwrap());
    let text = established(&mut command, fx.base());
    assert!(text.contains("is mounted read-only"), "{text}");
    assert!(text.contains("mount it writable"), "{text}");
    works_for_root(fx.base());
}
