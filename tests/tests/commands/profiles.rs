//! `exec = "system-only"` and `delete = "never"`.

use noxrunner_tests::attack::inside;

use super::*;

const EXEC: &str = "commands = \"direct\"\nexec = \"system-only\"\n";
const DELETE: &str = "commands = \"direct\"\ndelete = \"never\"\n";
const NEITHER: &str = "commands = \"direct\"\n";

const IN_MEMORY: &str = "memory alone";

/// A name, lines of Python, and what they come to under the profile. Without it they come to `ok`.
type Attack = (&'static str, String, &'static str);

#[track_caller]
fn denied(tier: Tier, policy: &str, attacks: &[Attack]) {
    let (strict, free) = (under(tier, policy), under(tier, NEITHER));
    let mut wrong = Vec::new();
    let features = free.call("health", json!({})).unwrap()["isolation"]["features"].to_string();
    // Without control groups the limits refuse it to everybody: see `limits`.
    let control = |name: &str| match name == IN_MEMORY && !features.contains("cgroup v") {
        true => "EPERM",
        false => "ok",
    };
    for (name, code, want) in attacks {
        let (allowed, refused) = (inside(&free, "s", code), inside(&strict, "s", code));
        if allowed != control(name) || refused != *want {
            wrong.push(format!("{name}: without {allowed}, with {refused} and not {want}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The writable places as commands find them.
const PLACES: &str =
    "import shutil, subprocess\nplaces = [os.getcwd(), os.environ['HOME'], os.environ['TMPDIR']]\n";

fn running(place: &str) -> String {
    format!(
        "{PLACES}own = {place} + '/own'\nshutil.copy('/bin/true', own)\nsubprocess.run([own])\n"
    )
}

fn executions() -> Vec<Attack> {
    let nameless = "f = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o755)\n\
        os.write(f, open('/bin/true', 'rb').read())\n\
        r = os.open('/proc/self/fd/%d' % f, os.O_RDONLY)\nos.close(f)\n\
        pid = os.fork()\n\
        if pid == 0:\n    \
            try: os.execve(r, ['x'], os.environ)\n    \
            except OSError as e: os._exit(e.errno)\n\
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n\
        if status: raise OSError(status, 'exec')\n";
    let script = "import subprocess\nopen('s', 'w').write('#!/bin/sh\\n')\n\
        os.chmod('s', 0o755)\nsubprocess.run(['./s'])\n";
    vec![
        ("in the workspace", running("places[0]"), "EACCES"),
        ("at home", running("places[1]"), "EACCES"),
        ("in /tmp", running("places[2]"), "EACCES"),
        ("in /dev/shm", running("'/dev/shm'"), "EACCES"),
        ("without a name", nameless.to_owned(), "EACCES"),
        ("a script by its first line", script.to_owned(), "EACCES"),
    ]
}

/// What is executed without execve(2) of a file, and what comes of the last two.
fn by_other_means(mapped: &'static str, loaded: &'static str) -> Vec<Attack> {
    let copy = "import shutil, subprocess\nshutil.copyfile('/bin/true', 'm')\n";
    let map = "f = open('m')\n\
        mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)\n";
    let load = format!(
        "done = subprocess.run(['{}', './m'])\n\
         if done.returncode: raise OSError(done.returncode, 'loader')\n",
        loader()
    );
    vec![
        (IN_MEMORY, "os.memfd_create('x')\n".to_owned(), "EPERM"),
        ("mapped", format!("{copy}{map}"), mapped),
        ("by the loader", format!("{copy}{load}"), loaded),
    ]
}

#[test]
fn nothing_of_its_own_executes() {
    denied(Tier::Full, EXEC, &executions());
    // The loader's own status is 127, which is that error's number, once the kernel refused it the file.
    denied(Tier::Full, EXEC, &by_other_means("EPERM", "EKEYEXPIRED"));
    let daemon = under(Tier::Full, EXEC);
    assert_eq!(gaps(&daemon), []);
    // What an interpreter reads is data to the kernel.
    let read = daemon.sh("s", "echo 'echo run' > s.sh; sh s.sh; python3 -c 'print(6 * 7)'");
    assert_eq!((read.stdout.as_str(), read.exit_code), ("run\n42\n", 0), "{read:?}");
    let policy = daemon.call("policy.get", json!({})).unwrap();
    assert_eq!((&policy["exec"], &policy["delete"]), (&json!("system-only"), &json!("allowed")));
}

#[test]
fn nothing_of_its_own_executes_in_the_tier_landlock_but_by_the_loader() {
    denied(Tier::Landlock, EXEC, &by_other_means("ok", "ok"));
    for (policy, want) in [(NEITHER, "ok"), (EXEC, "EACCES")] {
        let daemon = under(Tier::Landlock, policy);
        // Nobody inside can change a mode in this tier.
        fs::copy("/bin/true", daemon.workspace("s").join("own")).unwrap();
        assert_eq!(inside(&daemon, "s", "import subprocess\nsubprocess.run(['./own'])"), want);
    }
    let gaps = gaps(&under(Tier::Landlock, EXEC));
    assert!(
        gaps.iter().any(|(setting, why)| setting == "exec" && why.contains("ld.so")),
        "{gaps:?}"
    );
}

fn deletions() -> Vec<Attack> {
    let made = "os.makedirs('d/e', exist_ok=True)\nfor f in 'abc': open(f, 'w').write('x')\n";
    let acts = [
        ("unlink", "os.unlink('a')"),
        ("rmdir", "os.rmdir('d/e')"),
        ("rename", "os.rename('a', 'new')"),
        ("rename over", "os.rename('b', 'c')"),
        ("rename to elsewhere", "os.rename('a', 'd/a')"),
        ("rename a directory", "os.rename('d', 'f')"),
        (
            "exchange",
            "sc(316 if os.uname().machine == 'x86_64' else 276, -100, b'b', -100, b'c', 2)",
        ),
    ];
    acts.map(|(name, act)| {
        let undo = "import shutil\n[shutil.rmtree(d, ignore_errors=True) for d in 'df']\n";
        let undo = if name == "rename a directory" { undo } else { "" };
        (name, format!("{undo}{made}{act}\n"), "EACCES")
    })
    .to_vec()
}

/// What the profile leaves: it is said, and so it is shown.
const STILL: &str = "open('k', 'w').write('kept')\nopen('k', 'w').close()\n\
    assert os.path.getsize('k') == 0\nos.truncate('k', 5)\nos.link('k', 'k%d' % os.getpid())\n";

#[test]
fn nothing_is_deleted() {
    for tier in [Tier::Full, Tier::Landlock] {
        denied(tier, DELETE, &deletions());
        let daemon = under(tier, DELETE);
        assert!(gaps(&daemon).iter().all(|(setting, _)| setting != "delete"));
        assert_eq!(inside(&daemon, "s", STILL), "ok", "{tier}");
        let policy = daemon.call("policy.get", json!({})).unwrap();
        assert_eq!((&policy["exec"], &policy["delete"]), (&json!("anywhere"), &json!("never")));
        // The caller's own requests are no commands.
        let removed = daemon.call("file.remove", json!({"sessionId": "s", "path": "k"}));
        assert!(removed.is_ok(), "{removed:?}");
        assert!(!daemon.workspace("s").join("k").exists());
        daemon.delete("s");
        assert_eq!(daemon.directories(), [""; 0]);
    }
}

/// In each place that commands can write to.
#[test]
fn nothing_is_deleted_anywhere() {
    for (policy, want) in [(NEITHER, "ok"), (DELETE, "EACCES")] {
        let daemon = under(Tier::Full, policy);
        for place in ["/workspace", "/home/nox", "/tmp", "/dev/shm"] {
            let code = format!("open('{place}/x', 'w').close()\nos.unlink('{place}/x')\n");
            assert_eq!(inside(&daemon, "s", &code), want, "{place}");
        }
    }
}

#[test]
fn where_nothing_holds_them_the_profiles_are_said_to_hold_nothing() {
    let daemon = under(Tier::None, "exec = \"system-only\"\ndelete = \"never\"\n");
    let settings: Vec<_> = gaps(&daemon).into_iter().map(|(setting, _)| setting).collect();
    assert_eq!(settings, ["commands", "exec", "delete"]);
    for setting in settings {
        let says = format!("`{setting}` is not enforced in full");
        assert!(daemon.log().contains(&says), "{says}: {}", daemon.log());
    }
}
