//! Code that exchanges a directory and a link as fast as it can, while the daemon works there.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use noxrunner_tests::{TestDaemon, Tier, exec_params};
use serde_json::{Value, json};

use super::with_sandbox;

/// Exchanges `d` and `l` by renameat2(2) (316 on x86-64, 276 on aarch64) with `RENAME_EXCHANGE`.
const SWAP: &str = "
import ctypes, os, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
number = {'x86_64': 316, 'aarch64': 276}[platform.machine()]
swap = lambda: libc.syscall(number, -100, b'd', -100, b'l', 2)
done = tries = 0
while done < int(sys.argv[1]):
    tries += 1
    # The daemon takes one away now and then: what is missing is made again.
    if swap() == 0:
        done += 1
        continue
    for name in ('d', 'l'):
        try:
            os.mkdir(name)
            open(name + '/inside', 'w').close()
        except OSError:
            pass
    if not any(os.path.islink(name) for name in ('d', 'l')):
        os.rename('l', 'gone%d' % tries)
        os.symlink(sys.argv[2], 'l')
print(done)
";

const SWAPS: u64 = 1_000_000;

/// What lies outside, where the link leads.
const SECRET: &str = "the-secret-of-the-host";

mod heavy {
    use super::*;

    #[test]
    fn a_million_swaps_reach_nothing_outside_full() {
        a_million_swaps_reach_nothing_outside(TestDaemon::of_tier(Tier::Full));
    }

    #[test]
    fn a_million_swaps_reach_nothing_outside_none() {
        a_million_swaps_reach_nothing_outside(TestDaemon::of_tier(Tier::None));
    }
}

fn a_million_swaps_reach_nothing_outside(daemon: TestDaemon) {
    let daemon = with_sandbox(daemon);
    let outside = daemon.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), SECRET).unwrap();
    fs::create_dir(outside.join("sub")).unwrap();
    let before = listing(&outside);
    let done = AtomicBool::new(false);
    let (followed, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let workspace = daemon.workspace("s");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut params =
                exec_params("s", &["python3", "-c", SWAP, &SWAPS.to_string(), "../../../outside"]);
            params.timeout_seconds = 150.0.try_into().unwrap();
            let swapped = daemon.exec_params(params);
            done.store(true, Ordering::SeqCst);
            assert_eq!(swapped.stdout, format!("{SWAPS}\n"), "{swapped:?}");
        });
        // The control: by its path, the secret is there time and again.
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                if fs::read_to_string(workspace.join("d/secret")).is_ok_and(|read| read == SECRET) {
                    followed.fetch_add(1, Ordering::SeqCst);
                }
                // Half of the time is enough for a control.
                thread::yield_now();
            }
        });
        let below = archive("");
        // Its directory is the very one that is exchanged.
        let around = archive("d/");
        let mut wire = daemon.wire();
        let mut id = 0;
        while !done.load(Ordering::SeqCst) {
            for (method, params) in deeds(&below, &around, id) {
                id += 1;
                let answer = wire.call(id, method, params).to_string();
                assert!(!answer.contains(SECRET), "{method}: {answer}");
                if method == "file.download" {
                    assert!(!unpacked(&answer).contains(SECRET), "a download has the secret");
                }
                answered.fetch_add(u64::from(answer.contains("\"result\"")), Ordering::SeqCst);
            }
        }
    });
    let (followed, answered) = (followed.into_inner(), answered.into_inner());
    println!("{followed} reads by path found the secret, {answered} calls succeeded");
    assert!(followed > 0, "the control never saw the secret: nothing was shown");
    assert!(answered > 100, "only {answered} calls succeeded: nothing was shown");
    assert_eq!(listing(&outside), before);
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), SECRET);
    let staging = workspace.with_file_name("staging");
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
}

/// One round of everything that the daemon does with files.
fn deeds(below: &str, around: &str, round: u64) -> Vec<(&'static str, Value)> {
    let with = |mut params: Value| {
        params["sessionId"] = json!("s");
        params
    };
    vec![
        ("file.read", with(json!({"path": "d/secret"}))),
        ("file.list", with(json!({"path": "d"}))),
        ("file.stat", with(json!({"path": "d/secret"}))),
        ("file.write", with(json!({"path": "d/written", "data": "x"}))),
        ("file.write", with(json!({"path": "d/secret", "data": "x", "append": true}))),
        ("file.mkdir", with(json!({"path": format!("d/new/{}", round % 8)}))),
        ("file.upload", with(json!({"dest": "d", "archive": below}))),
        ("file.upload", with(json!({"dest": "d/deep/er", "archive": below}))),
        ("file.upload", with(json!({"archive": around}))),
        ("file.rename", with(json!({"from": "d/secret", "to": "stolen"}))),
        ("file.rename", with(json!({"from": "d/written", "to": "d/sub/w"}))),
        ("file.download", with(json!({"src": "d"}))),
        ("file.download", with(json!({}))),
        ("file.remove", with(json!({"path": "d/secret"}))),
        ("file.remove", with(json!({"path": "d/sub", "recursive": true}))),
        ("file.remove", with(json!({"path": "d/new", "recursive": true}))),
        ("sandbox.exec", {
            // Kept rare: it is not the point, and costs more than all others.
            with(json!({"cmd": ["true"], "workdir": "d/work"}))
        }),
    ]
}

/// An archive with a file, a directory that is there outside too, and one file in that; all of
/// it below another directory, or not.
fn archive(prefix: &str) -> String {
    use base64::Engine as _;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(prefix).join("sub")).unwrap();
    for name in ["uploaded", "sub/uploaded", "secret"] {
        fs::write(dir.path().join(prefix).join(name), "uploaded").unwrap();
    }
    let mut tar = std::process::Command::new("tar");
    let packed = noxrunner_tests::run(tar.arg("-czC").arg(dir.path()).arg("."));
    assert!(packed.status.success(), "{packed:?}");
    base64::engine::general_purpose::STANDARD.encode(packed.stdout)
}

/// The text of a download's archive, decompressed.
fn unpacked(answer: &str) -> String {
    use base64::Engine as _;
    use std::io::Write;
    let answer: Value = serde_json::from_str(answer).unwrap();
    let Some(archive) = answer["result"]["archive"].as_str() else { return String::new() };
    let bytes = base64::engine::general_purpose::STANDARD.decode(archive).unwrap();
    let mut gzip = std::process::Command::new("gzip");
    gzip.arg("-dc").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut gzip = gzip.spawn().unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let writing = thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let output = gzip.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Names and contents of everything in a directory.
fn listing(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let below =
                if entry.file_type().unwrap().is_dir() { listing(&entry.path()) } else { vec![] };
            format!("{:?} {below:?}", entry.file_name())
        })
        .collect();
    names.sort();
    names
}
