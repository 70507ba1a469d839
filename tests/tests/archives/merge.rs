//! Into a tree that has files: all that is staged, or nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use noxrunner_tests::archive::{Door, built};
use noxrunner_tests::{TestDaemon, in_both_tiers};
use serde_json::json;

use super::{listing, nothing_staged, with_sandbox};

in_both_tiers!(files_and_links_are_replaced_and_never_followed);

fn files_and_links_are_replaced_and_never_followed(daemon: TestDaemon) {
    let (daemon, workspace) = with_sandbox(daemon);
    let outside = daemon.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("f"), "untouched").unwrap();
    let made = daemon.sh(
        "s",
        "mkdir -p d/kept; echo old > d/f; echo old > other; ln other d/hard; ln -s ../other d/link; \
         ln -s ../../../outside out; ln -s ../../../outside/f d/outfile",
    );
    assert_eq!(made.exit_code, 0, "{}", made.stderr);
    let archive = built(
        "w",
        "add('d/f', b'new')\nadd('d/hard', b'new')\nadd('d/link', b'new')\nadd('out/f', b'new')\n\
         add('d/outfile', b'new')\nadd('d/new/deep', b'new')\nadd('other2', type=SYM, link='d/f')",
    );
    let result = Door::Http.upload(&daemon, "s", ".", &archive).unwrap();
    assert_eq!((&result["written"], &result["dest"]), (&json!(7), &json!("/workspace")));
    assert_eq!(
        listing(&workspace),
        [
            "d/",
            "d/f: new",
            "d/hard: new",
            "d/kept/",
            "d/link: new",
            "d/new/",
            "d/new/deep: new",
            "d/outfile: new",
            "other2 -> d/f",
            "other: old\n",
            "out/",
            "out/f: new",
        ]
    );
    assert_eq!(fs::read_to_string(outside.join("f")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // Whose they are: a command can go on with them.
    let owner = fs::metadata(&workspace).unwrap().uid();
    assert_eq!(fs::metadata(workspace.join("d/new/deep")).unwrap().uid(), owner);
    assert_eq!(daemon.sh("s", "echo more >> d/new/deep && mv d/new d2").exit_code, 0);
    nothing_staged(&workspace);
}

#[test]
fn what_is_in_the_way_is_found_before_anything_is_moved() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start());
    let made = daemon.sh("s", "mkdir -p z/dir; touch z/file");
    assert_eq!(made.exit_code, 0);
    let before = listing(&workspace);
    for code in ["add('a', b'x')\nadd('z/dir', b'x')", "add('a', b'x')\nadd('z/file/x', b'x')"] {
        for door in Door::BOTH {
            let archive = built("w", code);
            let (kind, message) = door.upload(&daemon, "s", ".", &archive).unwrap_err();
            assert!(kind == "conflict" && message.contains("z/"), "{kind}: {message}");
            assert_eq!(listing(&workspace), before);
        }
    }
    // The same where the destination itself is a file, or leads out.
    symlink("../../../outside", workspace.join("out")).unwrap();
    let archive = built("w", "add('a', b'x')");
    for (dest, kind) in
        [("z/file", "conflict"), ("z/file/below", "conflict"), ("out", "pathDenied")]
    {
        for door in Door::BOTH {
            let (got, message) = door.upload(&daemon, "s", dest, &archive).unwrap_err();
            assert_eq!(got, kind, "{dest}: {message}");
        }
    }
    nothing_staged(&workspace);
    let control = Door::Rpc.upload(&daemon, "s", "/etc/x", &archive).unwrap();
    assert_eq!((&control["redirected"], &control["dest"]), (&json!(true), &json!("/workspace")));
    assert_eq!(fs::read_to_string(workspace.join("a")).unwrap(), "x");
}

#[test]
fn directories_that_forbid_it_come_in_and_are_joined() {
    let (daemon, workspace) = with_sandbox(TestDaemon::start());
    let code = "add('ro', type=DIR, mode=0o555, mtime=1000)\nadd('ro/f', b'1', mode=0o400)\n\
        add('none', type=DIR, mode=0, mtime=2000)\nadd('none/f', b'1')";
    for data in ["1", "2"] {
        let archive = built("w", &code.replace("b'1'", &format!("b'{data}'")));
        Door::Rpc.upload(&daemon, "s", ".", &archive).unwrap();
        let stat = daemon.sh("s", "stat -c '%a %Y' ro ro/f none");
        assert!(stat.stdout.starts_with("555 1000\n400 "), "{stat:?}");
        assert!(stat.stdout.ends_with("\n0 2000\n"), "{stat:?}");
        assert_eq!(daemon.sh("s", "cat ro/f").stdout, data);
    }
    nothing_staged(&workspace);
    // Who is not root could not remove it otherwise.
    daemon.delete("s");
}
