//! Delete: whatever is in a sandbox goes, nothing else does, and the answer comes afterwards.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkfifo;
use noxrunner_tests::life::{
    Pending, Process, STRAYS, STRAYS_SIZE, ZOO, ZOO_SIZE, alive, init_of, nothing_runs,
    wait_for_noted, workspace,
};
use noxrunner_tests::{SOON, TestDaemon, eventually, in_both_tiers};
use serde_json::json;

in_both_tiers!(
    background_processes_that_keep_writing,
    delete_answers_when_nothing_is_left,
    delete_of_a_sandbox_whose_init_is_stopped,
    everybody_creates_and_deletes_the_same_name,
);

/// Deletes, and checks that nothing was left when the answer came.
#[track_caller]
fn delete_all(daemon: &TestDaemon, id: &str, directory: &str) {
    daemon.delete(id);
    assert!(fs::symlink_metadata(directory).is_err(), "{directory} is there after the answer");
    nothing_runs(daemon);
}

#[test]
fn a_tree_deeper_than_any_path() {
    let daemon = TestDaemon::start();
    let sandbox = daemon.create("s");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut here: OwnedFd = open(&workspace(&sandbox), flags, Mode::empty()).unwrap();
    let name = "a-directory";
    for _ in 0..3000 {
        mkdirat(&here, name, Mode::S_IRWXU).unwrap();
        here = openat(&here, name, flags, Mode::empty()).unwrap();
    }
    drop(openat(&here, "f", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRUSR).unwrap());
    drop(here);
    let started = Instant::now();
    delete_all(&daemon, "s", &sandbox.sandbox_dir);
    println!("3,000 nested directories: {:?}", started.elapsed());
}

#[test]
fn a_hundred_thousand_files() {
    let daemon = TestDaemon::start();
    let sandbox = daemon.create("s");
    let place = workspace(&sandbox);
    for directory in ["one", "two", "two/three"] {
        fs::create_dir(place.join(directory)).unwrap();
    }
    for n in 0..100_000 {
        let directory = ["one", "two", "two/three", "."][usize::from(n % 50 == 0) * (n / 50 % 4)];
        File::create(place.join(directory).join(format!("file-{n}"))).unwrap();
    }
    let started = Instant::now();
    // Somebody else's calls do not wait for it.
    let deleting = Pending::call(&daemon, "sandbox.delete", &json!({"sessionId": "s"}));
    let other = daemon.create("other");
    assert_eq!(daemon.sh("other", "echo x").stdout, "x\n");
    deleting.answer_within(3 * SOON).unwrap();
    println!("100,000 files: {:?}", started.elapsed());
    assert!(!Path::new(&sandbox.sandbox_dir).exists());
    assert_eq!(daemon.directories(), [other.pod_name]);
}

/// To root they are like any other; an ordinary user's daemon has to open them up first.
#[test]
fn directories_that_nobody_may_read() {
    let daemon = TestDaemon::start();
    let sandbox = daemon.create("s");
    let place = workspace(&sandbox);
    for (n, mode) in [0o000, 0o100, 0o400, 0o500, 0o600].into_iter().enumerate() {
        let outer = place.join(format!("outer-{n}"));
        let inner = outer.join("inner");
        fs::create_dir_all(inner.join("innermost")).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
        fs::write(inner.join("innermost/file"), "x").unwrap();
        for path in [inner.join("innermost"), inner, outer] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
    }
    fs::set_permissions(&place, Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(&sandbox.sandbox_dir, Permissions::from_mode(0o500)).unwrap();
    delete_all(&daemon, "s", &sandbox.sandbox_dir);
}

#[test]
fn every_kind_of_file_goes_and_no_link_is_followed() {
    let daemon = TestDaemon::start();
    let outside = daemon.dir.path().join("outside");
    fs::create_dir_all(outside.join("deep")).unwrap();
    fs::write(outside.join("deep/file"), "survives").unwrap();
    let sandbox = daemon.create("s");
    let place = workspace(&sandbox);
    mkfifo(&place.join("fifo"), Mode::S_IRWXU).unwrap();
    let listener = UnixListener::bind(place.join("socket")).unwrap();
    symlink(&outside, place.join("link")).unwrap();
    symlink(outside.join("deep/file"), place.join("link-to-file")).unwrap();
    symlink("nowhere", place.join("dangling")).unwrap();
    symlink("loop", place.join("loop")).unwrap();
    fs::hard_link(outside.join("deep/file"), place.join("hard")).unwrap();
    let odd = "-rf \n\t*'\"\\ \u{202e}";
    fs::create_dir_all(place.join(odd).join(odd)).unwrap();
    fs::write(place.join(".hidden"), "x").unwrap();
    // What code inside may have made of the sandbox's own places.
    let top = Path::new(&sandbox.sandbox_dir);
    fs::remove_dir(top.join("home")).unwrap();
    symlink(&outside, top.join("home")).unwrap();
    fs::remove_dir(top.join("tmp")).unwrap();
    fs::remove_file(top.join("manifest.json")).unwrap();
    symlink(outside.join("deep/file"), top.join("manifest.json")).unwrap();
    symlink(outside.join("deep/file"), top.join("manifest.json.new")).unwrap();
    delete_all(&daemon, "s", &sandbox.sandbox_dir);
    drop(listener);
    assert_eq!(fs::read_to_string(outside.join("deep/file")).unwrap(), "survives");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_manifest_that_is_a_directory_is_no_obstacle() {
    let daemon = TestDaemon::start();
    let sandbox = daemon.create("s");
    let manifest = Path::new(&sandbox.sandbox_dir).join("manifest.json");
    fs::remove_file(&manifest).unwrap();
    fs::create_dir_all(manifest.join("deep/er")).unwrap();
    fs::create_dir_all(manifest.with_extension("json.new").join("deep")).unwrap();
    delete_all(&daemon, "s", &sandbox.sandbox_dir);
}

fn background_processes_that_keep_writing(daemon: TestDaemon) {
    let sandbox = daemon.create("s");
    // Three writers in sessions of their own, and a chain that never holds still.
    let script = r#"
        mkdir -p pids
        for w in 1 2 3; do
            (W=$w setsid sh -c 'echo $$ > pids/$W; n=0
                while :; do n=$((n+1)); mkdir -p $W/$n/x; echo $n > $W/$n/x/f; done' &)
        done
        (setsid sh ./chain.sh &)
    "#;
    let place = workspace(&sandbox);
    let chain = "mkdir -p chain; echo $$ > chain/$$; setsid sh ./chain.sh & exit\n";
    fs::write(place.join("chain.sh"), chain).unwrap();
    daemon.sh("s", &format!("exec >&- 2>&-; {script}"));
    let writers: Vec<Process> = wait_for_noted(&place, 3).into_values().collect();
    let entries = |name: &str| fs::read_dir(place.join(name)).map_or(0, Iterator::count);
    eventually("all of them write", SOON, || {
        entries("1") > 50 && entries("2") > 50 && entries("3") > 50 && entries("chain") > 50
    });
    daemon.delete("s");
    assert_eq!(alive(&writers), []);
    assert_eq!(daemon.directories(), [""; 0]);
    nothing_runs(&daemon);
}

fn delete_answers_when_nothing_is_left(daemon: TestDaemon) {
    for round in 0..20 {
        let sandbox = daemon.create("s");
        let place = workspace(&sandbox);
        let running = Pending::sh(&daemon, "s", &format!("{ZOO} {STRAYS} wait"));
        let zoo = wait_for_noted(&place, ZOO_SIZE + STRAYS_SIZE);
        daemon.delete("s");
        let zoo: Vec<Process> = zoo.into_values().collect();
        assert_eq!(alive(&zoo), [], "alive after the answer, round {round}");
        assert!(!Path::new(&sandbox.sandbox_dir).exists());
        // Whoever waited for the command learns of its end.
        assert_eq!(running.result_within(SOON).exit_code, 137);
    }
    nothing_runs(&daemon);
}

/// An init that cannot act is killed, and what ran below it ends another way:
/// also that is over when the answer comes.
fn delete_of_a_sandbox_whose_init_is_stopped(daemon: TestDaemon) {
    let mut quickest = Duration::MAX;
    for round in 0..5 {
        let sandbox = daemon.create("s");
        let script =
            "mkdir -p pids; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            (N=$n setsid sh -c 'echo $$ > pids/$N; while :; do echo $N > f-$N; done' &) done";
        daemon.sh("s", &format!("exec >&- 2>&-; {script}"));
        let orphans: Vec<Process> =
            wait_for_noted(&workspace(&sandbox), 20).into_values().collect();
        init_of(&daemon, "s").signal(Signal::SIGSTOP);
        let started = Instant::now();
        daemon.delete("s");
        let took = started.elapsed();
        assert_eq!(alive(&orphans), [], "alive after the answer, round {round}");
        assert!(!Path::new(&sandbox.sandbox_dir).exists());
        assert!(took < Duration::from_secs(15), "{took:?}");
        quickest = quickest.min(took);
    }
    assert!(quickest < Duration::from_secs(6), "{quickest:?}");
    nothing_runs(&daemon);
}

#[test]
fn the_name_is_free_afterwards_and_unknown_names_are_not_found() {
    let daemon = TestDaemon::start();
    let not_found = |id: &str| {
        let error = daemon.call("sandbox.delete", json!({"sessionId": id})).unwrap_err();
        assert_eq!(error.kind.name(), "sandboxNotFound");
    };
    not_found("s");
    let first = daemon.create("s");
    let other = daemon.create("S");
    fs::write(workspace(&first).join("old"), "x").unwrap();
    daemon.delete("s");
    not_found("s");
    let second = daemon.create("s");
    assert!(second.created);
    assert_ne!(second.sandbox_dir, first.sandbox_dir);
    assert_eq!(daemon.sh("s", "ls -A . \"$HOME\" \"$TMPDIR\" | grep -v :").stdout.trim(), "");
    assert!(Path::new(&other.sandbox_dir).exists(), "another sandbox went with it");
}

/// Creates, deletes and execs of one name from all sides: each gets an answer
/// that makes sense, and in the end there is one sandbox or none.
fn everybody_creates_and_deletes_the_same_name(daemon: TestDaemon) {
    thread::scope(|scope| {
        for worker in 0..6 {
            let daemon = &daemon;
            scope.spawn(move || {
                for round in 0..60 {
                    let (method, params) = match (worker + round) % 3 {
                        0 => ("sandbox.create", json!({"sessionId": "s"})),
                        1 => ("sandbox.delete", json!({"sessionId": "s"})),
                        _ => {
                            let script = "echo nonce; (setsid sleep 1000 >&- 2>&- <&- &)";
                            let cmd = json!(["sh", "-c", script]);
                            (
                                "sandbox.exec",
                                json!({"sessionId": "s", "cmd": cmd, "create": round % 2 == 0}),
                            )
                        }
                    };
                    match daemon.call(method, params) {
                        Ok(result) if method == "sandbox.exec" => {
                            let killed = result["exitCode"] == 137 && result["cause"] == "signaled";
                            assert!(killed || result["stdout"] == "nonce\n", "{result}");
                        }
                        Ok(_) => {}
                        Err(error) => {
                            assert_eq!(error.kind.name(), "sandboxNotFound", "{method}: {error:?}");
                        }
                    }
                }
            });
        }
    });
    let last = daemon.create("s");
    assert_eq!(daemon.directories(), [last.pod_name]);
    assert_eq!(daemon.sh("s", "echo well").stdout, "well\n");
    daemon.delete("s");
    assert_eq!(daemon.directories(), [""; 0]);
    nothing_runs(&daemon);
}

#[test]
fn two_who_delete_at_once_share_one_delete() {
    let daemon = TestDaemon::start();
    for _ in 0..20 {
        daemon.create("s");
        let both = [(); 2]
            .map(|()| Pending::call(&daemon, "sandbox.delete", &json!({"sessionId": "s"})))
            .map(|pending| pending.answer_within(SOON));
        assert!(both.iter().any(Result::is_ok), "{both:?}");
        for error in both.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind.name(), "sandboxNotFound");
        }
        assert_eq!(daemon.directories(), [""; 0]);
    }
}
