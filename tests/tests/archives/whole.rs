//! A tree with everything in it survives: up, seen from inside, and down again.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use noxrunner_tests::archive::{Door, http_download, tarred, untar};
use noxrunner_tests::{ON_TCP, TestDaemon, exec_params, in_both_tiers, run, text};

use super::{nothing_staged, with_sandbox};

in_both_tiers!(with ON_TCP; a_tree_with_everything_in_it_survives);

/// Makes the tree: modes, times to the nanosecond, links, empty directories, odd and long names,
/// a sparse file, hard links.
const TREE: &str = r#"
import os, sys
os.chdir(sys.argv[1])
def put(name, data, mode=0o644, ns=1234567890123456789):
    d = os.path.dirname(name)
    if d: os.makedirs(d, exist_ok=True)
    with open(name, 'wb') as f: f.write(data)
    os.chmod(name, mode); os.utime(name, ns=(ns, ns))
put(b'plain', b'plain\n')
put(b'run.sh', b'#!/bin/sh\necho ran\n', 0o755)
put(b'private', b'p', 0o600)
put(b'read only', b'r', 0o444)
put(b'empty', b'')
put(b'old', b'o', ns=-5_000_000_001)
put(b'caf\xe9', b'latin1')
put(b'new\nline', b'n')
put('grüße/日本'.encode(), b'unicode')
put(b'x' * 255, b'long name')
put(b'/'.join([b'deep' * 20] * 12) + b'/bottom', b'long path')
put(b'\xff' * 200 + b'/' + b'\xfe' * 200, b'long and odd')
os.mkdir(b'empty-dir'); os.chmod(b'empty-dir', 0o711)
os.mkdir(b'ro-dir'); put(b'ro-dir/f', b'f'); os.chmod(b'ro-dir', 0o555)
os.symlink(b'plain', b'link'); os.symlink(b'../plain', b'empty-dir/up')
os.symlink(b'nothing', b'dangling'); os.symlink(b'caf\xe9', b'odd-link')
os.symlink(b'ro-dir', b'dir-link'); os.symlink(b'y' * 200, b'long-link')
os.link(b'plain', b'hard'); os.link(b'plain', b'empty-dir/hard')
with open(b'sparse', 'wb') as f:
    f.truncate(64 << 20)
    f.seek(10 << 20); f.write(b'island'); f.seek(50 << 20); f.write(b'another')
with open(b'hole', 'wb') as f: f.truncate(8 << 20)
for name in (b'empty-dir', b'ro-dir', 'grüße'.encode()):
    os.utime(name, ns=(987654321, 1000000000987654321))
os.utime(b'link', ns=(5, 1111111111222222222), follow_symlinks=False)
"#;

/// Describes a tree, the same way inside and out: kind, mode, times, size, links, contents.
const DESCRIBE: &str = r#"
import hashlib, os, stat, sys
os.chdir(sys.argv[1])
seen = {}
def walk(d):
    for name in sorted(os.listdir(d)):
        p = os.path.join(d, name); s = os.lstat(p)
        row = [repr(p), stat.filemode(s.st_mode), s.st_mtime_ns]
        if stat.S_ISLNK(s.st_mode): row.append(repr(os.readlink(p)))
        if stat.S_ISREG(s.st_mode):
            first = seen.setdefault(s.st_ino, p)
            row += [s.st_size, s.st_nlink, repr(first), hashlib.sha256(open(p, 'rb').read()).hexdigest()]
        print(*row)
        if stat.S_ISDIR(s.st_mode): walk(p)
walk(b'.')
"#;

fn describe(dir: &Path) -> String {
    let output = run(Command::new("/usr/bin/python3").args(["-c", DESCRIBE]).arg(dir));
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn a_tree_with_everything_in_it_survives(daemon: TestDaemon) {
    let (daemon, workspace) = with_sandbox(daemon);
    let home = tempfile::tempdir().unwrap();
    let (source, back) = (home.path().join("source"), home.path().join("back"));
    fs::create_dir(&source).unwrap();
    let made = run(Command::new("/usr/bin/python3").args(["-c", TREE]).arg(&source));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let expected = describe(&source);
    assert!(expected.lines().count() > 30, "{expected}");
    for (round, (door, flags)) in [
        (Door::Tcp, &["--format=pax", "--sparse"][..]),
        (Door::Http, &["--format=gnu", "-z", "--sparse"]),
    ]
    .into_iter()
    .enumerate()
    {
        let dest = format!("tree{round}");
        let archive = tarred(&source, flags);
        let result = door.upload(&daemon, "s", &dest, &archive).unwrap();
        assert_eq!((&result["skipped"], &result["rerooted"]), (&0.into(), &0.into()), "{result}");
        // GNU's own format knows no parts of a second.
        let whole_seconds = |described: &str| -> String {
            let cut = |word: &str| match word.parse::<i64>() {
                Ok(ns) if word.len() > 9 => ns.div_euclid(1_000_000_000).to_string(),
                _ => word.to_owned(),
            };
            let line = |line: &str| line.split(' ').map(cut).collect::<Vec<_>>().join(" ") + "\n";
            described.lines().map(line).collect()
        };
        let at = workspace.join(&dest);
        let (seen, wanted) = match round {
            0 => (describe(&at), expected.clone()),
            _ => (whole_seconds(&describe(&at)), whole_seconds(&expected)),
        };
        assert_same(&seen, &wanted, "on the host");
        // From inside, by a command of the sandbox.
        let mut params = exec_params("s", &["python3", "-c", DESCRIBE, "."]);
        params.workdir = dest.clone();
        let inside = daemon.exec_params(params).stdout;
        let inside = if round == 0 { inside } else { whole_seconds(&inside) };
        assert_same(&inside, &wanted, "inside");
        let found =
            daemon.sh("s", &format!("cd {dest} && find . | wc -l; stat -c %a run.sh; ./run.sh"));
        assert!(found.stdout.ends_with("\n755\nran\n"), "{found:?}");
        assert!(blocks(&at.join("sparse")) < 1024, "the holes are gone");
        for query in [format!("src={dest}"), format!("src={dest}&format=tar")] {
            let (status, archive) = door.download(&daemon, "s", &query).unwrap();
            assert_eq!(status, 200);
            assert!(archive.len() < 4 << 20, "holes were sent: {}", archive.len());
            fs::create_dir(&back).unwrap();
            untar(&archive, &back);
            let down = describe(&back);
            let down = if round == 0 { down } else { whole_seconds(&down) };
            assert_same(&down, &wanted, "downloaded");
            assert!(blocks(&back.join("sparse")) < 1024, "the holes are gone");
            remove(&back);
        }
    }
    remove(&source);
    nothing_staged(&workspace);
    // With what has no rights in it: who is not root could not remove it otherwise.
    daemon.delete("s");
}

/// In units of 512 bytes, as stat(2) counts.
fn blocks(file: &Path) -> u64 {
    fs::metadata(file).unwrap().blocks()
}

/// Also what has no rights.
fn remove(dir: &Path) {
    let script = "chmod -R u+rwX \"$1\" && rm -rf \"$1\"";
    assert!(run(Command::new("sh").args(["-c", script, "-"]).arg(dir)).status.success());
}

#[track_caller]
fn assert_same(seen: &str, wanted: &str, place: &str) {
    for (seen, wanted) in seen.lines().zip(wanted.lines()) {
        assert_eq!(seen, wanted, "{place}");
    }
    assert_eq!(seen.lines().count(), wanted.lines().count(), "{place}");
}

#[test]
fn a_file_alone_comes_by_its_name() {
    let (daemon, _) = with_sandbox(TestDaemon::start());
    let made = daemon.sh("s", "mkdir d; echo 1 > d/f; ln -s d/f link; ln -s d to_d");
    assert_eq!(made.exit_code, 0);
    let dir = tempfile::tempdir().unwrap();
    for (src, listing) in [
        ("d/f", vec!["f: 1\n"]),
        ("link", vec!["link: 1\n"]),
        ("to_d/f", vec!["f: 1\n"]),
        ("to_d", vec!["f: 1\n"]),
        ("/etc", vec!["d/", "d/f: 1\n", "link -> d/f", "to_d -> d"]),
    ] {
        let (status, archive) = http_download(&daemon, "s", &format!("src={src}")).unwrap();
        assert_eq!(status, 200, "{src}");
        let into = dir.path().join("into");
        fs::create_dir(&into).unwrap();
        untar(&archive, &into);
        assert_eq!(super::listing(&into), listing, "{src}");
        fs::remove_dir_all(into).unwrap();
    }
}
