//! noxctl upload, download and cp against the real daemon.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use noxrunner_tests::{TestDaemon, in_both_tiers, run, shell_status, text};
use serde_json::Value;
use tempfile::TempDir;

/// Runs noxctl in a directory: its status and both of its streams.
#[track_caller]
fn noxctl(daemon: &TestDaemon, dir: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let output = run(daemon.noxctl(arguments).current_dir(dir));
    (shell_status(output.status), text(&output.stdout), text(&output.stderr))
}

/// The same where it succeeds: what it prints.
#[track_caller]
fn done(daemon: &TestDaemon, dir: &TempDir, arguments: &[&str]) -> String {
    let (status, stdout, stderr) = noxctl(daemon, dir, arguments);
    assert_eq!(status, 0, "{arguments:?}: {stderr}");
    stdout
}

/// A directory with a tree `src` in it; `bytes` of it are in one file that cannot be compressed.
fn with_tree(bytes: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    fs::create_dir_all(src.join("sub/empty")).unwrap();
    fs::write(src.join("run.sh"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(src.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(src.join("sub/grüße\n"), "odd").unwrap();
    symlink("run.sh", src.join("link")).unwrap();
    let script = "head -c $1 /dev/urandom > $2";
    let mut random = Command::new("sh");
    random.args(["-c", script, "-", &bytes.to_string()]).arg(src.join("data"));
    assert!(run(&mut random).status.success());
    dir
}

fn same(one: &Path, other: &Path) {
    let output = run(Command::new("diff").args(["-r", "--no-dereference"]).arg(one).arg(other));
    assert!(output.status.success(), "{}", text(&output.stdout));
    let mode = |dir: &Path| fs::metadata(dir.join("run.sh")).unwrap().permissions().mode();
    assert_eq!(mode(one), mode(other));
}

in_both_tiers!(a_tree_goes_up_and_comes_down);

fn a_tree_goes_up_and_comes_down(daemon: TestDaemon) {
    daemon.create("s");
    // The small one fits a line of JSON-RPC, the other goes over HTTP.
    for bytes in [1000, 5 << 20] {
        let dir = with_tree(bytes);
        let said = done(&daemon, &dir, &["upload", "s", "--dir", "src", "--dest", "up/here"]);
        assert_eq!(said, "✓ Uploaded 4 file(s) to /workspace/up/here\n");
        assert_eq!(daemon.sh("s", "cd up/here && ./link").stdout, "ran\n");
        let size = daemon.sh("s", "stat -c %s up/here/data").stdout;
        assert_eq!(size, format!("{bytes}\n"));
        let said = done(&daemon, &dir, &["download", "s", "--src", "up/here", "--extract", "back"]);
        assert_eq!(said, "✓ Extracted to back\n");
        same(&dir.path().join("src"), &dir.path().join("back"));
        done(&daemon, &dir, &["download", "s", "--src", "up", "--output", "all.tar.gz"]);
        let listed = run(Command::new("tar").arg("-tzf").arg(dir.path().join("all.tar.gz")));
        assert!(text(&listed.stdout).contains("here/sub/empty/\n"), "{listed:?}");
        // As docker's: a directory into one that exists, a file by another name, and back.
        done(&daemon, &dir, &["cp", "src", "s:/tmp"]);
        done(&daemon, &dir, &["cp", "src/run.sh", "s:other.sh"]);
        assert_eq!(daemon.sh("s", "./other.sh; cd $TMPDIR/src && ./link").stdout, "ran\nran\n");
        done(&daemon, &dir, &["cp", "s:/tmp/src", "copied"]);
        same(&dir.path().join("src"), &dir.path().join("copied"));
        done(&daemon, &dir, &["cp", "s:other.sh", "."]);
        assert!(dir.path().join("other.sh").is_file());
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 5, "{left:?}");
    }
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_left() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let dir = with_tree(3 << 20);
    fs::create_dir(dir.path().join("src/data2")).unwrap();
    fs::write(dir.path().join("data"), "").unwrap();
    for (arguments, status, part) in [
        (&["upload", "none", "data"][..], 1, "no sandbox"),
        (&["upload", "none", "src/data"], 1, "no sandbox"),
        (&["upload", "s", "src"], 1, "--dir"),
        (&["upload", "s", "missing"], 1, "missing"),
        (&["upload", "s", "data", "src/data"], 2, "data"),
        (&["download", "none"], 1, "no sandbox"),
        (&["download", "s", "--src", "missing"], 1, "/workspace/missing"),
        (&["cp", "s:missing", "."], 1, "missing"),
        (&["cp", "data", "src/x"], 2, "SESSION"),
    ] {
        let (got, stdout, stderr) = noxctl(&daemon, &dir, arguments);
        assert!(got == status && stderr.contains(part), "{arguments:?}: {got} {stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
    }
    assert_eq!(daemon.sh("s", "ls -A").stdout, "");
    let mut left: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["data", "src"]);
    // With --json the kind is there, whichever way it went.
    for file in ["data", "src/data"] {
        let (status, _, stderr) = noxctl(&daemon, &dir, &["--json", "upload", "none", file]);
        let error: Value = serde_json::from_str(&stderr).unwrap();
        assert_eq!(
            (status, &error["error"]["data"]["kind"]),
            (1, &"sandboxNotFound".into()),
            "{error}"
        );
    }
}

#[test]
fn a_download_from_a_sandbox_that_means_harm_stays_in_its_directory() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let made = daemon.sh(
        "s",
        "ln -s /etc/passwd absolute; ln -s ../../.. up; mkdir d; ln -s .. d/fine; mkfifo pipe; \
         printf x > 'evil\x1b[31m'; python3 -c 'import os; os.chmod(\"evil\\x1b[31m\", 0o4755)'",
    );
    assert_eq!(made.exit_code, 0, "{}", made.stderr);
    let dir = tempfile::tempdir().unwrap();
    // What is there already is replaced and never followed.
    let outside = dir.path().join("outside");
    fs::create_dir_all(dir.path().join("out")).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink("../outside", dir.path().join("out/d")).unwrap();
    let (status, _, stderr) = noxctl(&daemon, &dir, &["download", "s", "--extract", "out"]);
    assert_eq!(status, 0, "{stderr}");
    let mut names: Vec<_> = fs::read_dir(dir.path().join("out"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["d", "evil\u{1b}[31m"]);
    let evil = fs::metadata(dir.path().join("out/evil\u{1b}[31m")).unwrap();
    assert_eq!(evil.permissions().mode() & 0o7777, 0o755);
    assert!(!dir.path().join("out/d").is_symlink());
    assert_eq!(fs::read_link(dir.path().join("out/d/fine")).unwrap().as_os_str(), "..");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn a_bar_is_shown_on_a_terminal_alone() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let dir = with_tree(40 << 20);
    let command = |quiet: &str| {
        let (noxctl, socket) = (noxrunner_tests::program("noxctl"), daemon.socket.display());
        format!("{} --socket {socket} {quiet} upload s --dir src", noxctl.display())
    };
    let mut on_terminal = Command::new("script");
    on_terminal.args(["-qec", &command(""), "/dev/null"]).current_dir(&dir).env("TERM", "xterm");
    let shown = run(&mut on_terminal);
    assert!(text(&shown.stdout).contains("MiB"), "{shown:?}");
    let mut quiet = Command::new("script");
    quiet.args(["-qec", &command("--quiet"), "/dev/null"]).current_dir(&dir).env("TERM", "xterm");
    assert!(!text(&run(&mut quiet).stdout).contains("MiB"));
    let (status, _, stderr) = noxctl(&daemon, &dir, &["upload", "s", "--dir", "src"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
}
