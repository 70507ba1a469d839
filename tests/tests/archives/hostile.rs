//! Archives that mean harm: nothing outside is touched, and a second client is served meanwhile.

use std::fs;
use std::os::unix::fs::MetadataExt;

use noxrunner_tests::archive::{Door, built};
use noxrunner_tests::meanwhile::Meanwhile;
use noxrunner_tests::{ON_TCP, TestDaemon, Tier, in_both_tiers};
use serde_json::json;

use super::{listing, nothing_staged, with_sandbox};

in_both_tiers!(with ON_TCP;
    members_that_name_places_outside_are_put_inside_by_their_last_name,
    links_that_lead_out_are_left_out_and_nothing_is_written_through_any,
    devices_pipes_and_set_id_bits_are_dropped_and_counted,
);

fn members_that_name_places_outside_are_put_inside_by_their_last_name(daemon: TestDaemon) {
    let (daemon, workspace) = with_sandbox(daemon);
    let around = listing(&daemon.base);
    assert!(!around.is_empty());
    let archive = built(
        "w",
        "add('../up', b'1')\nadd('../../../../../../../../tmp/noxtest-escaped', b'2')\n\
         add('/absolute', b'3')\nadd('a/../../b', b'4')\nadd('/etc/sub/', type=DIR)\n\
         add('./fine/./x', b'5')\nadd('..', b'6')\nadd('/', type=DIR)\nadd('../manifest.json', b'7')",
    );
    for door in Door::ALL {
        let dest = format!("{door:?}");
        let result = door.upload(&daemon, "s", &dest, &archive).unwrap();
        assert_eq!((&result["rerooted"], &result["redirected"]), (&json!(6), &json!(false)));
        assert_eq!(
            listing(&workspace.join(&dest)),
            [
                "absolute: 3",
                "b: 4",
                "fine/",
                "fine/x: 5",
                "manifest.json: 7",
                "noxtest-escaped: 2",
                "sub/",
                "up: 1"
            ]
        );
        assert!(!result["warnings"].as_array().unwrap().is_empty(), "{result}");
        fs::remove_dir_all(workspace.join(dest)).unwrap();
    }
    nothing_staged(&workspace);
    fs::remove_dir(workspace.with_file_name("staging")).unwrap();
    assert_eq!(listing(&daemon.base), around);
    assert!(!fs::exists("/tmp/noxtest-escaped").unwrap());
}

fn links_that_lead_out_are_left_out_and_nothing_is_written_through_any(daemon: TestDaemon) {
    let (daemon, workspace) = with_sandbox(daemon);
    let outside = daemon.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched").unwrap();
    let target = outside.to_str().unwrap();
    // By its relative way it is reached from the workspace and from nowhere else.
    let code = format!(
        "add('abs', type=SYM, link='{target}')\nadd('abs/victim', b'x')\n\
         add('rel', type=SYM, link='../../../outside')\nadd('rel/victim', b'x')\n\
         add('one', type=SYM, link='.')\nadd('two', type=SYM, link='one/../../../../outside')\n\
         add('two/victim', b'x')\n\
         add('hard', type=LNK, link='../../../outside/victim')\nadd('hard', b'x')\n\
         add('hard2', type=LNK, link='{target}/victim')\n\
         add('dir', type=SYM, link='../../../outside')\nadd('dir', type=DIR)\nadd('dir/victim', b'x')\n\
         add('inner', b'1')\nadd('tolink', type=SYM, link='inner')\nadd('tolink', b'2')\n\
         add('sub/', type=DIR)\nadd('tosub', type=SYM, link='sub')\nadd('tosub/x', b'3')\n\
         add('hl', type=LNK, link='inner')\nadd('hl', b'4')\nadd('none', type=LNK, link='missing')"
    );
    let archive = built("w:gz", &code);
    // In a mount tree, what begins with /tmp stays in the sandbox's own.
    let own_tmp = daemon.tier == Tier::Full && outside.starts_with("/tmp");
    let leave = if own_tmp { 6 } else { 7 };
    for door in Door::ALL {
        let dest = format!("{door:?}");
        let result = door.upload(&daemon, "s", &dest, &archive).unwrap();
        assert_eq!(
            listing(&workspace.join(&dest)),
            [
                "abs/",
                "abs/victim: x",
                "dir/",
                "dir/victim: x",
                "hard: x",
                "hl: 4",
                "inner: 1",
                "one -> .",
                "rel/",
                "rel/victim: x",
                "sub/",
                "tolink: 2",
                "tosub/",
                "tosub/x: 3",
                "two/",
                "two/victim: x",
            ],
            "{result}"
        );
        assert_eq!(result["skipped"], leave, "{result}");
        assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "untouched");
        assert_eq!(fs::metadata(outside.join("victim")).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
    nothing_staged(&workspace);
}

fn devices_pipes_and_set_id_bits_are_dropped_and_counted(daemon: TestDaemon) {
    let (daemon, workspace) = with_sandbox(daemon);
    let archive = built(
        "w",
        "add('null', type=CHR, devmajor=1, devminor=3)\nadd('disk', type=BLK, devmajor=8)\n\
         add('pipe', type=FIFO)\nadd('suid', b'#!', mode=0o6755)\nadd('sticky', type=DIR, mode=0o1777)\n\
         add('fine', b'x', uid=0, gid=0, uname='root')",
    );
    for door in Door::ALL {
        let dest = format!("{door:?}");
        let result = door.upload(&daemon, "s", &dest, &archive).unwrap();
        assert_eq!((&result["skipped"], &result["setIdCleared"]), (&json!(3), &json!(2)));
        let dir = workspace.join(&dest);
        assert_eq!(listing(&dir), ["fine: x", "sticky/", "suid: #!"]);
        let owner = fs::metadata(&workspace).unwrap().uid();
        for (name, mode) in [("suid", 0o755), ("sticky", 0o777), ("fine", 0o644)] {
            let meta = fs::metadata(dir.join(name)).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.uid()), (mode, owner), "{name}");
        }
    }
}

mod heavy {
    use super::*;

    #[test]
    fn two_hundred_thousand_members_keep_nobody_waiting() {
        let (daemon, workspace) = with_sandbox(TestDaemon::start_with(&ON_TCP));
        let archive = built(
            "w:gz",
            "i = tarfile.TarInfo('x')\nfor n in range(200000):\n    i.name = 'd%d/%d' % (n % 100, n)\n    t.addfile(i)",
        );
        assert!(archive.len() < 4 << 20, "{}", archive.len());
        let other = Meanwhile::of(&daemon);
        let result = Door::Http.upload(&daemon, "s", "many", &archive).unwrap();
        other.noticed_nothing();
        assert_eq!(result["written"], 200_000);
        let count = daemon.sh("s", "find many -type f | wc -l");
        assert_eq!(count.stdout, "200000\n");
        let other = Meanwhile::of(&daemon);
        let params = json!({"sessionId": "s", "path": "many", "recursive": true});
        daemon.call("file.remove", params).unwrap();
        other.noticed_nothing();
        assert_eq!(listing(&workspace), [""; 0]);
        nothing_staged(&workspace);
    }
}
