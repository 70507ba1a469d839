//! upload.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{By, Pair, by_both_ways, no_note, reworded, same};

by_both_ways!(files_and_directories_arrive, what_the_old_tool_loses_is_kept, what_cannot_be_sent);

/// Files of every kind that the old tool knows.
fn files(dir: &Path) {
    fs::write(dir.join("a.txt"), "grüße\n").unwrap();
    fs::write(dir.join("b.bin"), [0, 255, 10]).unwrap();
    fs::create_dir_all(dir.join("tree/sub/deep")).unwrap();
    fs::write(dir.join("tree/one"), "1").unwrap();
    fs::write(dir.join("tree/sub/deep/two"), "2").unwrap();
    fs::write(dir.join("tree/sub/a.txt"), "another").unwrap();
    fs::create_dir(dir.join("nothing")).unwrap();
}

fn files_and_directories_arrive(by: By) {
    let pair = Pair::with_sandboxes(by);
    pair.prepare(files);
    for (arguments, note) in [
        (&["a.txt", "b.bin"][..], "Uploading 2 file(s)..."),
        (&["tree/one", "--dest", "/workspace/elsewhere/x"], "Uploading 1 file(s)..."),
        (&["--dir", "tree"], "Uploading 3 file(s)..."),
        (&["--dir", "tree/sub", "--dest", "/workspace/sub"], "Uploading 2 file(s)..."),
        // Over what is there.
        (&["tree/sub/a.txt"], "Uploading 1 file(s)..."),
    ] {
        pair.alike(&[&["upload", "SESSION"], arguments].concat(), &[no_note(note)]);
        same(pair.workspaces());
    }
    pair.alike(
        &["upload", "--dest=rel", "SESSION", "a.txt"],
        &[
            no_note("Uploading 1 file(s)..."),
            super::intended("where it is, is said in full", |said| {
                said.stdout = said.stdout.replace(" to rel\n", " to /workspace/rel\n");
            }),
        ],
    );
    same(pair.workspaces());
}

fn what_the_old_tool_loses_is_kept(by: By) {
    let pair = Pair::with_sandboxes(by);
    pair.prepare(|dir| {
        files(dir);
        fs::set_permissions(dir.join("a.txt"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("one", dir.join("tree/link")).unwrap();
        fs::create_dir(dir.join("tree/empty")).unwrap();
    });
    pair.alike(&["upload", "SESSION", "a.txt"], &[no_note("Uploading 1 file(s)...")]);
    let [old, new] = pair.workspaces();
    assert_eq!(
        (old, new),
        (vec!["a.txt 644: grüße\n".to_owned()], vec!["a.txt 750: grüße\n".to_owned()])
    );
    pair.alike(
        &["upload", "SESSION", "--dir", "tree", "--dest", "/workspace/t"],
        &[no_note("Uploading 4 file(s)...")],
    );
    let [mut old, mut new] = pair.workspaces();
    assert!(old.contains(&"t/link 644: 1".to_owned()), "{old:?}");
    assert!(new.contains(&"t/link -> one".to_owned()), "{new:?}");
    assert!(new.contains(&"t/empty/ 755".to_owned()), "{new:?}");
    let differs =
        |line: &String| !["t/link", "t/empty/", "a.txt"].iter().any(|name| line.starts_with(name));
    [&mut old, &mut new].into_iter().for_each(|listing| listing.retain(differs));
    same([old, new]);
}

fn what_cannot_be_sent(by: By) {
    let pair = Pair::with_sandboxes(by);
    pair.prepare(files);
    let before = pair.workspaces();
    for arguments in [&["none"][..], &["a.txt", "none"]] {
        pair.alike(&[&["upload", "SESSION"], arguments].concat(), &[]);
    }
    pair.alike(&["upload", "SESSION", "--dir", "a.txt"], &[]);
    pair.alike(
        &["upload", "SESSION", "--dir", "none"],
        &[reworded(
            "that it is not there says more than that it is no directory",
            "Not a directory",
            "File not found",
        )],
    );
    pair.alike(
        &["upload", "SESSION", "tree"],
        &[super::intended("what to do instead is said in a line of its own", |said| {
            said.stderr = said.stderr.replace(" (use --dir)", "");
            said.stderr += "ℹ upload what is in it with --dir, or copy it with cp\n";
        })],
    );
    pair.alike(
        &["upload", "SESSION", "--dir", "nothing"],
        &[reworded(
            "where there are none is said",
            "No files to upload",
            "No files to upload in nothing",
        )],
    );
    let why = "a usage error";
    pair.both_fail(&["upload", "SESSION"], (1, "No files"), (2, "FILES"), why);
    // The old tool sends one of the two, or forgets the files beside a directory.
    for arguments in [&["a.txt", "tree/sub/a.txt"][..], &["b.bin", "--dir", "tree"]] {
        let arguments = [&["upload", "SESSION"], arguments].concat();
        let new = pair.said(super::Tool::New, &arguments);
        assert_eq!((new.status, new.stdout.as_str()), (2, ""), "{new:?}");
    }
    assert_eq!(pair.workspaces(), before);
    pair.daemon.delete(super::Tool::Old.session());
    pair.daemon.delete(super::Tool::New.session());
    pair.alike(
        &["upload", "SESSION", "a.txt"],
        &[no_note("Uploading 1 file(s)..."), pair.in_words("/files/upload")],
    );
}
