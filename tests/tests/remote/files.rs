//! Archives to and from backends: whoever sends them, nothing gets out of the target.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::mpsc::channel;

use nix::sys::signal::{Signal, kill};
use noxrunner_tests::archive::{built, fed, untar};
use noxrunner_tests::{SOON, Started, eventually, run, shell_status, text};
use serde_json::json;

use super::fake::{Asked, Fake, gzip};
use super::{ask, fails, noxctl, said};

/// A server of this archive.
fn serving(archive: Vec<u8>) -> Fake {
    Fake::new(move |asked| asked.answer(200, "application/x-tar", &archive))
}

/// All names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_uploaded_is_what_is_here_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("sub/empty")).unwrap();
    fs::write(from.join("sub/f"), "hello").unwrap();
    fs::set_permissions(from.join("sub/f"), Permissions::from_mode(0o750)).unwrap();
    symlink("sub/f", from.join("link")).unwrap();
    // Other backends answer with nothing.
    let fake = Fake::new(|asked| asked.answer(200, "text/plain", ""));
    let of = |more: &[&str]| {
        let arguments = [&["upload", "s", "--dir", from.to_str().unwrap()], more].concat();
        let said = ask(&fake.url(), &arguments);
        (said, fake.next())
    };
    let (said, seen) = of(&["--dest", "/workspace/a b"]);
    let done = "✓ Uploaded 2 file(s) to /workspace/a b\n".to_owned();
    assert_eq!(said, (0, done, String::new()));
    assert_eq!(seen.line, "POST /v1/sandboxes/s/files/upload?dest=/workspace/a%20b");
    assert!(seen.headers.contains("content-type: application/x-tar\r\n"), "{seen:?}");
    assert!(seen.body.starts_with(&[0x1f, 0x8b]));
    let to = dir.path().join("to");
    fs::create_dir(&to).unwrap();
    untar(&seen.body, &to);
    assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "hello");
    assert!(to.join("link").is_symlink() && to.join("sub/empty").is_dir());
    assert_eq!(to.join("sub/f").metadata().unwrap().permissions().mode() & 0o777, 0o750);
    // As far as it is known.
    let ((status, stdout, _), _) = of(&["--json"]);
    let stdout: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, stdout), (0, json!({"dest": "/workspace"})));
}

#[test]
fn a_download_is_unpacked_or_kept_as_it_came() {
    let archive = gzip(&built("w", "add('d', type=DIR)\nadd('d/f', b'hello', mode=0o640)"));
    let fake = serving(archive.clone());
    let dir = tempfile::tempdir().unwrap();
    let here = |arguments: &[&str]| {
        let mut command = noxctl(&["--base-url", &fake.url()]);
        said(command.args(arguments).current_dir(&dir))
    };
    let done = |text: &str| (0, format!("✓ {text}\n"), String::new());
    assert_eq!(here(&["download", "s", "--src", "x", "--extract", "to"]), done("Extracted to to"));
    assert_eq!(fake.next().line, "GET /v1/sandboxes/s/files/download?src=x");
    assert_eq!(fs::read_to_string(dir.path().join("to/d/f")).unwrap(), "hello");
    assert_eq!(here(&["download", "s", "--output", "a.tar.gz"]), done("Downloaded to a.tar.gz"));
    assert!(fs::read(dir.path().join("a.tar.gz")).unwrap() == archive);
    // `cp` to standard output is a plain archive, whatever way it came.
    let output = run(noxctl(&["--base-url", &fake.url(), "cp", "s:d", "-"]).current_dir(&dir));
    assert_eq!(shell_status(output.status), 0, "{}", text(&output.stderr));
    assert_eq!(output.stdout.get(257..262), Some(&b"ustar"[..]));
    assert_eq!(names(dir.path()), ["a.tar.gz", "to"]);
}

#[test]
fn nothing_of_a_hostile_archive_gets_out() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let (out, absolute) = (outside.path().display(), secret.display());
    let hostile = built(
        "w",
        &format!(
            "
add('{absolute}', b'overwritten')
add('../secret', b'overwritten')
add('a/../../secret', b'overwritten')
add('out', type=SYM, link='{out}')
add('out/secret', b'overwritten')
add('up', type=SYM, link='..')
add('up/secret', b'overwritten')
add('hard', type=LNK, link='{absolute}')
add('char', type=CHR, devmajor=1, devminor=5)
add('block', type=BLK, devmajor=7, devminor=0)
add('fifo', type=FIFO)
add('setid', b'x', mode=0o6755)
add('good', b'good')"
        ),
    );
    let fake = serving(gzip(&hostile));
    let into = outside.path().join("into");
    fs::create_dir(&into).unwrap();
    let into_text = into.to_str().unwrap();
    let (status, _, stderr) = ask(&fake.url(), &["download", "s", "--extract", into_text]);
    assert_eq!(status, 0, "{stderr}");
    for part in ["left out", "by their last name", "set-user-id"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(names(outside.path()), ["into", "secret"]);
    // The positive control.
    assert_eq!(fs::read_to_string(into.join("good")).unwrap(), "good");
    let mode = into.join("setid").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    for name in names(&into) {
        let kind = into.join(&name).symlink_metadata().unwrap().file_type();
        assert!(kind.is_file() || kind.is_dir(), "{name}");
        assert!(!["char", "block", "fifo", "hard"].contains(&name.as_str()), "{name}");
        assert!(!name.starts_with(".noxctl-"), "{name}");
    }
}

#[test]
fn what_is_no_whole_archive_leaves_nothing() {
    let whole = gzip(&built("w", "import random\nadd('f', random.randbytes(100_000))"));
    let half = whole[..whole.len() / 2].to_vec();
    // 40 MB of holes in a few KB: it unpacks to less than it says, which is noticed at its end.
    let cut_bomb = gzip(&{
        let mut tar = built("w", "add('f', bytes(40_000_000))");
        tar.truncate(30_000_000);
        tar
    });
    type Answer = Box<dyn FnMut(&mut Asked) + Send>;
    let sends = |bytes: &Vec<u8>| -> Answer {
        let bytes = bytes.clone();
        Box::new(move |asked| asked.answer(200, "application/x-tar", &bytes))
    };
    let cut_head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n", whole.len());
    let (in_a_cut, in_no_chunk) = (half.clone(), half.clone());
    let cases: [(Answer, &str); 8] = [
        (sends(&half), "cut off"),
        (sends(&cut_bomb), "cut off"),
        (sends(&b"no archive at all".repeat(100)), "not a tar archive"),
        (sends(&Vec::new()), ""),
        (
            Box::new(move |asked| {
                asked.say(&cut_head);
                asked.say(&in_a_cut);
            }),
            "closed before",
        ),
        (
            Box::new(move |asked| {
                asked.say("HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n");
                asked.say(format!("{:x}\r\n", in_no_chunk.len()));
                asked.say(&in_no_chunk);
            }),
            "closed before",
        ),
        (Box::new(|asked| asked.answer(200, "text/html", "<html>login")), "an HTML page"),
        (Box::new(|asked| asked.json(200, "{}")), "application/json is no archive"),
    ];
    for (answer, part) in cases {
        let fake = Fake::new(answer);
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("new/into");
        let arguments = ["download", "s", "--extract", into.to_str().unwrap()];
        let said = ask(&fake.url(), &arguments);
        assert_eq!(said.0, 1, "{part}: {said:?}");
        fails(said, &[part]);
        assert_eq!(names(dir.path()), [""; 0], "{part}");
    }
    // The positive control.
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("new/into");
    let arguments = ["download", "s", "--extract", into.to_str().unwrap()];
    assert_eq!(ask(&serving(whole).url(), &arguments).0, 0);
    assert_eq!(names(&into), ["f"]);
}

#[test]
fn an_interrupted_download_leaves_nothing() {
    let (arrived, has_arrived) = channel();
    let mut archive = built("w", "add('f', bytes(100_000))");
    archive.truncate(60_000);
    let fake = Fake::new(move |asked| {
        asked.say("HTTP/1.1 200 X\r\ncontent-length: 90000\r\n\r\n");
        asked.say(&archive);
        arrived.send(()).unwrap();
        // Until the other side is gone.
        let _ = asked.stream.read_to_end(&mut Vec::new());
    });
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("into");
    let arguments = ["--base-url", &fake.url(), "download", "s", "--extract"];
    let mut noxctl = Started::new(noxctl(&arguments).arg(&into));
    has_arrived.recv_timeout(SOON).unwrap();
    eventually("it unpacks", SOON, || {
        into.is_dir() && names(&into).iter().any(|name| name.starts_with(".noxctl-"))
    });
    kill(noxctl.pid(), Signal::SIGINT).unwrap();
    assert_eq!(shell_status(noxctl.wait()), 130);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn an_archive_from_standard_input_goes_on_as_it_is() {
    let look = r#"{"exitCode": 0, "stdout": "directory\n755\n/workspace/d\n"}"#;
    let fake = Fake::new(move |asked| match asked.seen.line.ends_with("/exec") {
        true => asked.json(200, look),
        false => asked.json(200, r#"{"written": 3}"#),
    });
    let archive = built("w", "add('f', b'hello')");
    let mut command = noxctl(&["--base-url", &fake.url(), "cp", "-", "s:d"]);
    let output = fed(&mut command, &archive);
    assert_eq!(shell_status(output.status), 0, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Unpacked 3 entries into /workspace/d"));
    let asked = fake.next().json();
    assert_eq!((&asked["cmd"][4], &asked["workdir"]), (&json!("./d"), &json!("/workspace")));
    let seen = fake.next();
    assert_eq!(seen.line, "POST /v1/sandboxes/s/files/upload?dest=/workspace/d");
    assert!(seen.body == archive);
}
