//! What tidies temporary directories leaves sandboxes alone, and the system's socket has its directory.

use std::fs;
use std::path::Path;

use noxrunner_tests::{run, text};
use tempfile::TempDir;

use super::tool;

const TMPFILES: &str = include_str!("../../../systemd/noxrunner.tmpfiles.conf");
const SYSUSERS: &str = include_str!("../../../systemd/noxrunner.sysusers.conf");

/// A root directory with the rules of ours and one by which everything in its temporary directories is old.
fn root(rules: &str) -> TempDir {
    let root = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("etc/passwd", "root:x:0:0::/:/bin/sh\n");
    write("etc/group", "root:x:0:\nnoxrunner:x:977:\n");
    write("etc/tmpfiles.d/noxrunner.conf", rules);
    write("etc/tmpfiles.d/tmp.conf", "q /tmp - - - 0\nq /var/tmp - - - 0\n");
    for tmp in ["tmp", "var/tmp"] {
        write(&format!("{tmp}/noxrunner_sandbox_s.aBcD/workspace/file"), "kept");
        write(&format!("{tmp}/noxrunner-1000/daemon.lock"), "/s");
        write(&format!("{tmp}/strange/file"), "old");
    }
    root
}

#[track_caller]
fn tmpfiles(root: &Path, what: &str) {
    let mut command = tool("systemd-tmpfiles");
    command.arg(what).arg(format!("--root={}", root.display()));
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn left(root: &Path) -> Vec<String> {
    let dirs = ["tmp", "var/tmp"].map(|dir| fs::read_dir(root.join(dir)).unwrap());
    let names = dirs.into_iter().flatten().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn sandboxes_and_locks_stay_however_old_they_are() {
    let with = root(TMPFILES);
    tmpfiles(with.path(), "--clean");
    let kept = ["noxrunner-1000", "noxrunner_sandbox_s.aBcD"];
    assert_eq!(left(with.path()), [kept[0], kept[0], kept[1], kept[1]]);
    for tmp in ["tmp", "var/tmp"] {
        let file = with.path().join(tmp).join("noxrunner_sandbox_s.aBcD/workspace/file");
        assert_eq!(fs::read(file).unwrap(), b"kept");
    }
    // The control: without the rules nothing does.
    let without = root("");
    tmpfiles(without.path(), "--clean");
    assert_eq!(left(without.path()), [""; 0]);
}

#[test]
fn the_group_of_the_socket_is_one_that_the_rules_make() {
    let root = root(TMPFILES);
    fs::write(root.path().join("etc/group"), "root:x:0:\n").unwrap();
    let rules = root.path().join("noxrunner.conf");
    fs::write(&rules, SYSUSERS).unwrap();
    let mut command = tool("systemd-sysusers");
    command.arg("--dry-run").arg(format!("--root={}", root.path().display())).arg(&rules);
    let output = run(&mut command);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(
        output.status.success() && said.contains("Creating group noxrunner")
            || said.contains("Creating group 'noxrunner'"),
        "{said}"
    );
    let socket = include_str!("../../../systemd/system/noxrunnerd.socket");
    assert!(socket.lines().any(|line| line == "SocketGroup=noxrunner"));
    let service = include_str!("../../../systemd/system/noxrunnerd.service");
    assert!(service.contains(" --socket-group noxrunner "));
}

mod root_only {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_directory_of_the_systems_socket_is_the_groups() {
        assert!(nix::unistd::geteuid().is_root(), "leave root_only out where you are not root");
        let root = root(TMPFILES);
        tmpfiles(root.path(), "--create");
        let meta = fs::metadata(root.path().join("run/noxrunner")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o750, 0, 977));
    }
}
