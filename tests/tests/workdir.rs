//! Where commands run: inside, whatever was asked for.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::os::unix::fs::symlink;

use noxrunner_protocol::types::ExecResult;
use noxrunner_tests::{TestDaemon, Tier, exec_params, in_both_tiers};
use serde_json::json;

in_both_tiers!(
    a_directory_is_found_by_the_sandboxes_own_names,
    what_is_outside_is_redirected_and_said,
    links_may_lead_around_inside_but_not_out,
);

/// A line with the path that a command sees where the answer names this one: the same with a
/// mount tree, else the host's.
fn seen(daemon: &TestDaemon, named: &str) -> String {
    if daemon.tier == Tier::Full {
        return format!("{named}\n");
    }
    let dir = daemon.workspace("s").parent().unwrap().to_owned();
    let places = [("/workspace", "workspace"), ("/home/nox", "home"), ("/tmp", "tmp")];
    let there = |(name, place): (&str, &str)| {
        let rest = std::path::Path::new(named).strip_prefix(name).ok()?;
        // Joining nothing would end it with a slash.
        Some(if rest == std::path::Path::new("") {
            dir.join(place)
        } else {
            dir.join(place).join(rest)
        })
    };
    format!("{}\n", places.into_iter().find_map(there).unwrap().display())
}

#[track_caller]
fn pwd(daemon: &TestDaemon, workdir: &str) -> ExecResult {
    let mut params = exec_params("s", &["pwd", "-P"]);
    params.workdir = workdir.to_owned();
    daemon.exec_params(params)
}

fn refused(daemon: &TestDaemon, workdir: &str) -> (String, String) {
    let params = json!({"sessionId": "s", "cmd": ["touch", "ran"], "workdir": workdir});
    daemon.refused("sandbox.exec", params)
}

fn a_directory_is_found_by_the_sandboxes_own_names(daemon: TestDaemon) {
    daemon.create("s");
    let dir = daemon.workspace("s").parent().unwrap().to_owned();
    assert_eq!(daemon.exec("s", &["pwd", "-P"]).workdir, "/workspace");
    fs::create_dir(dir.join("workspace/sub")).unwrap();
    let own = dir.join("workspace/sub");
    for (asked, named) in [
        ("/workspace", "/workspace"),
        ("", "/workspace"),
        (".", "/workspace"),
        ("sub", "/workspace/sub"),
        ("/workspace//./sub/", "/workspace/sub"),
        ("sub/../sub/x/..", "/workspace/sub"),
        ("/tmp", "/tmp"),
        ("/home/nox", "/home/nox"),
    ] {
        let result = pwd(&daemon, asked);
        assert_eq!(result.stdout, seen(&daemon, named), "{asked}");
        assert_eq!((result.workdir.as_str(), result.redirected), (named, false), "{asked}");
        assert_eq!(result.warnings.len(), 1, "{asked}: {:?}", result.warnings);
    }
    // This machine's name for it is one only to commands that see this machine's tree.
    let result = pwd(&daemon, own.to_str().unwrap());
    assert!(own.starts_with("/tmp"), "a path below the sandbox's own /tmp is wanted here: {own:?}");
    if daemon.tier == Tier::Full {
        assert_eq!(result.stdout, format!("{}\n", own.display()));
        assert!(dir.join("tmp").join(own.strip_prefix("/tmp").unwrap()).is_dir());
    } else {
        assert_eq!(result.stdout, seen(&daemon, "/workspace/sub"));
        assert_eq!((result.workdir.as_str(), result.redirected), ("/workspace/sub", false));
    }
}

fn what_is_outside_is_redirected_and_said(daemon: TestDaemon) {
    daemon.create("s");
    for outside in
        ["/", "/etc", "..", "../..", "/workspace/../etc", "/workspace2", "/home", "/tmp/.."]
    {
        let result = pwd(&daemon, outside);
        assert_eq!(result.stdout, seen(&daemon, "/workspace"), "{outside}");
        assert_eq!((result.workdir.as_str(), result.redirected), ("/workspace", true), "{outside}");
    }
}

#[test]
fn a_missing_directory_is_made_and_said() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    for missing in ["a/b c/d", "/tmp/x", "/home/nox/.cache/y"] {
        let result = pwd(&daemon, missing);
        assert_eq!((result.exit_code, result.redirected), (0, false), "{missing}");
        assert!(result.warnings.iter().any(|w| w.contains("created")), "{:?}", result.warnings);
        assert_eq!(pwd(&daemon, missing).warnings.len(), 1, "{missing}: said again");
    }
    assert!(daemon.workspace("s").join("a/b c/d").is_dir());
}

#[test]
fn a_file_in_the_way_is_a_conflict() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    fs::write(daemon.workspace("s").join("file"), "").unwrap();
    for workdir in ["file", "file/sub"] {
        let (kind, message) = refused(&daemon, workdir);
        assert!(kind == "conflict" && message.contains("/workspace/file"), "{kind}: {message}");
    }
}

fn links_may_lead_around_inside_but_not_out(daemon: TestDaemon) {
    daemon.create("s");
    let workspace = daemon.workspace("s");
    let outside = daemon.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, workspace.join("absolute")).unwrap();
    symlink("../../../outside", workspace.join("relative")).unwrap();
    symlink("/proc/self/cwd", workspace.join("magic")).unwrap();
    symlink("loop", workspace.join("loop")).unwrap();
    fs::create_dir(workspace.join("real")).unwrap();
    symlink("real", workspace.join("inside")).unwrap();
    for link in ["absolute", "relative", "magic", "absolute/new", "relative/new", "loop"] {
        let (kind, message) = refused(&daemon, link);
        // In a mount tree, what begins with /tmp is below the sandbox's own, where this leads to nothing.
        let to_nothing = daemon.tier == Tier::Full
            && link.starts_with("absolute")
            && outside.starts_with("/tmp");
        let expected = if to_nothing { "conflict" } else { "pathDenied" };
        assert_eq!(kind, expected, "{link}: {message}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let control = pwd(&daemon, "inside");
    assert_eq!(control.stdout, seen(&daemon, "/workspace/real"));
    assert_eq!(pwd(&daemon, "inside/new").exit_code, 0);
    assert!(workspace.join("real/new").is_dir());
}

#[test]
fn a_denied_command_and_a_refused_one_make_no_directory() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    let mut params = exec_params("s", &["rm", "x"]);
    params.workdir = "new".to_owned();
    assert!(daemon.exec_params(params).denial.is_some());
    let bad = json!({"sessionId": "s", "cmd": ["a\u{0}"], "workdir": "new"});
    assert_eq!(daemon.refused("sandbox.exec", bad).0, "invalidArgument");
    assert!(!daemon.workspace("s").join("new").exists());
    assert_eq!(pwd(&daemon, "new").exit_code, 0);
    assert!(daemon.workspace("s").join("new").exists());
}
