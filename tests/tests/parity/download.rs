//! download.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use noxrunner_tests::{run, text};

use super::{BOTH, By, Pair, Tool, by_both_ways, no_note, same};

by_both_ways!(trees_and_files_come, the_archive_itself, what_cannot_be_had);

const DOWNLOADING: &str = "Downloading files...";

/// Files of every kind in both sandboxes.
fn fill(pair: &Pair) {
    for tool in BOTH {
        let workspace = pair.daemon.workspace(tool.session());
        fs::create_dir_all(workspace.join("d/e")).unwrap();
        fs::create_dir(workspace.join("empty")).unwrap();
        for (name, content) in [("one", "1"), ("d/e/two", "2"), ("o d d", "ü"), ("bin", "\0\u{1}")]
        {
            fs::write(workspace.join(name), content).unwrap();
        }
        symlink("one", workspace.join("link")).unwrap();
        for (name, mode) in [("one", 0o750), ("d/e/two", 0o600), ("d", 0o700)] {
            fs::set_permissions(workspace.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn trees_and_files_come(by: By) {
    let pair = Pair::with_sandboxes(by);
    fill(&pair);
    for arguments in [
        &[][..],
        &["--extract", "new/dir"],
        &["--src", "d", "--extract=part"],
        &["--src", "/workspace/d/e/two", "--extract", "part"],
        &["--src=/workspace/empty", "--extract", "nothing"],
    ] {
        pair.alike(&[&["download", "SESSION"], arguments].concat(), &[no_note(DOWNLOADING)]);
        assert!(!pair.local()[0].is_empty(), "{arguments:?}");
        same(pair.local());
    }
    // Over what is there.
    for tool in BOTH {
        fs::write(pair.daemon.workspace(tool.session()).join("one"), "other\n").unwrap();
    }
    pair.alike(&["download", "SESSION"], &[no_note(DOWNLOADING)]);
    same(pair.local());
    assert!(pair.local()[1].contains(&"one 750: other\n".to_owned()));
}

fn the_archive_itself(by: By) {
    let pair = Pair::with_sandboxes(by);
    fill(&pair);
    pair.alike(&["download", "SESSION", "--output", "all.tar.gz"], &[no_note(DOWNLOADING)]);
    let names = BOTH.map(|tool| {
        let file = pair.dir_of(tool).join("all.tar.gz");
        assert!(fs::read(&file).unwrap().starts_with(b"\x1f\x8b"), "{tool:?}: no gzip");
        let listed = run(Command::new("tar").arg("-tzf").arg(file));
        let mut names: Vec<_> = text(&listed.stdout).lines().map(str::to_owned).collect();
        names.sort();
        names
    });
    assert_eq!(names[0].len(), 8, "{names:?}");
    same(names);
}

fn what_cannot_be_had(by: By) {
    let pair = Pair::with_sandboxes(by);
    pair.alike(
        &["download", "SESSION", "--src", "none"],
        &[no_note(DOWNLOADING), pair.in_words("/files/download")],
    );
    pair.alike(
        &["download", "SESSION", "--src=none", "--extract", "out"],
        &[no_note(DOWNLOADING), pair.in_words("/files/download")],
    );
    let why = "Python's words and the system's";
    pair.both_fail(
        &["download", "SESSION", "--output", "no/where"],
        (1, "No such file or directory"),
        (1, "No such file or directory"),
        why,
    );
    assert_eq!(pair.local(), [Vec::<String>::new(), Vec::new()]);
    // The old tool takes --output and forgets the other.
    let both = ["download", "SESSION", "--output", "f", "--extract", "d"];
    assert_eq!(pair.said(Tool::New, &both).status, 2);
    BOTH.iter().for_each(|tool| pair.daemon.delete(tool.session()));
    pair.alike(&["download", "SESSION"], &[no_note(DOWNLOADING), pair.in_words("/files/download")]);
    assert_eq!(pair.local(), [Vec::<String>::new(), Vec::new()]);
}
