//! Processes of the host, of other sandboxes and the init: unseen, unsignalled, untraced.
#![cfg(target_arch = "x86_64")]

use noxrunner_tests::attack::{inside, outside};
use noxrunner_tests::life::{Pending, init_of, wait_for_noted, workspace};
use noxrunner_tests::{Started, TestDaemon};
use serde_json::json;

use super::Control::Outside;
use super::{denied, full};

/// PTRACE_SEIZE, which does not stop what it traces.
fn seize(pid: &str) -> String {
    format!("sc(101, 0x4206, {pid}, 0, 0)")
}

/// process_vm_readv of a word.
fn read_memory(pid: &str) -> String {
    format!(
        "word = ctypes.create_string_buffer(8); there = ctypes.addressof(word)
io = lambda at: struct.pack('QQ', at, 8)
sc(310, {pid}, io(there), 1, io(there), 1, 0)"
    )
}

#[test]
fn processes_of_the_host_do_not_exist() {
    let daemon = full();
    let mut host = Started::new(std::process::Command::new("sleep").arg("1000"));
    let pid = host.pid().as_raw();
    for code in [
        format!("os.kill({pid}, 0)"),
        format!("os.kill({pid}, 9)"),
        format!("sc(434, {pid}, 0)"),
        format!("os.getpgid({pid})"),
        format!("os.sched_getaffinity({pid})"),
        format!("os.getpriority(0, {pid})"),
        seize(&pid.to_string()),
    ] {
        assert_eq!(inside(&daemon, "s", &code), "ESRCH", "{code}");
    }
    assert_eq!(inside(&daemon, "s", &format!("os.stat('/proc/{pid}')")), "ENOENT");
    let control =
        format!("os.kill({pid}, 0); sc(434, {pid}, 0); os.getpgid({pid}); os.stat('/proc/{pid}')");
    assert_eq!(outside(&control), "ok");
    let seen = daemon.sh("s", "cd /proc; ls -d [0-9]*").stdout;
    let numbers: Vec<i32> = seen.lines().map(|n| n.parse().unwrap()).collect();
    assert!(numbers.contains(&1) && numbers.len() <= 4, "{numbers:?}");
    // Everybody that it may reach, it reaches; none of them is outside.
    assert_eq!(daemon.sh("s", "kill -TERM -1; echo on").exit_code, 0);
    nix::sys::signal::kill(host.pid(), None).unwrap();
    nix::sys::signal::kill(host.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
    host.wait();
}

#[test]
fn sandboxes_do_not_see_each_other() {
    let daemon = full();
    let other = workspace(&daemon.create("other"));
    let _running =
        Pending::sh(&daemon, "other", "mkdir pids; echo $$ > pids/other; exec sleep 1000");
    let bystander = wait_for_noted(&other, 1)["other"];
    for code in [format!("os.kill({}, 0)", bystander.pid), seize(&bystander.pid.to_string())] {
        assert_eq!(inside(&daemon, "s", &code), "ESRCH", "{code}");
    }
    // Whatever has those numbers here is not the other's.
    daemon.sh("s", "kill -KILL -1");
    assert!(bystander.is_alive());
    let secret = "open('/workspace/secret', 'w').write('x'); open('/dev/shm/secret', 'w').write('x'); open('/tmp/secret', 'w').write('x'); open('/home/nox/secret', 'w').write('x')";
    assert_eq!(inside(&daemon, "other", secret), "ok");
    for place in ["/workspace", "/dev/shm", "/tmp", "/home/nox"] {
        let read = format!("open('{place}/secret').read()");
        assert_eq!(inside(&daemon, "other", &read), "ok", "{place}");
        assert_eq!(inside(&daemon, "s", &read), "ENOENT", "{place}");
    }
    let theirs = daemon.call("sandbox.get", json!({"sessionId": "other"})).unwrap();
    let path = format!("os.stat({:?})", theirs["sandboxDir"].as_str().unwrap());
    denied(&daemon, &[("the other's directory", &path, Outside, "ENOENT")]);
}

#[test]
fn an_init_cannot_be_signalled_or_traced() {
    let daemon = full();
    let init = init_of(&daemon, "s");
    // The kernel takes no signal for process 1 from its own namespace that it does not ask for.
    for signal in [9, 19, 15, 6, 11] {
        assert_eq!(inside(&daemon, "s", &format!("os.kill(1, {signal})")), "ok", "signal {signal}");
    }
    assert_eq!(init_of(&daemon, "s"), init);
    assert!(init.is_alive() && !noxrunner_tests::life::is_stopped(init.pid));
    // A child of one's own may be traced; that is what debuggers are for.
    let child = "pid = os.fork()\nif pid == 0: signal.pause()\ntry:\n    ACT\nfinally:\n    os.kill(pid, 9)";
    for (act, mine) in [(seize("1"), seize("pid")), (read_memory("1"), read_memory("pid"))] {
        let act = act.replace('\n', "; ");
        assert_eq!(inside(&daemon, "s", &act.replace("; ", "\n")), "EPERM", "{act}");
        let mine = mine.replace('\n', "\n    ");
        assert_eq!(inside(&daemon, "s", &child.replace("ACT", &mine)), "ok", "{mine}");
    }
}

/// Between its clone and its execve a command shares the memory of its init.
#[test]
fn a_command_that_has_not_executed_yet_cannot_be_traced() {
    let daemon = full();
    let hunter = "import time\nend = time.time() + 3\ntried = caught = 0
while time.time() < end:
    newest = max(int(n) for n in os.listdir('/proc') if n.isdigit())
    for pid in range(newest, newest + 40):
        try:
            if open(f'/proc/{pid}/comm').read() != 'nox-init\\n': continue
            tried += 1
            sc(101, 0x4206, pid, 0, 0)
            # Caught a moment later, it is a command like any other.
            if open(f'/proc/{pid}/comm').read() == 'nox-init\\n': caught += 1
            sc(101, 17, pid, 0, 0)
        except OSError: pass
if caught: raise OSError(caught, 'caught')";
    let hunting = Pending::exec(&daemon, &noxrunner_tests::attack::params("s", hunter));
    for _ in 0..200 {
        daemon.exec("s", &["/bin/true"]);
    }
    let result = hunting.result_within(noxrunner_tests::SOON);
    assert_eq!(result.stdout.trim(), "ok", "{result:?}");
}

#[test]
fn nothing_of_the_daemon_is_left_open_or_set() {
    let daemon = full();
    let open = inside(
        &daemon,
        "s",
        "print(*[(n, os.readlink('/proc/self/fd/' + n)) for n in sorted(os.listdir('/proc/self/fd')) if n not in '012' and os.path.exists('/proc/self/fd/' + n)])",
    );
    assert_eq!(open, "\nok".trim_start(), "{open}");
    let status = daemon.sh("s", "grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp|Sig(Blk|Ign)|Groups):' /proc/self/status").stdout;
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    assert_eq!((value("NoNewPrivs").as_str(), value("Seccomp:").as_str()), ("1", "2"));
    assert_eq!(value("SigIgn"), "0000000000000000");
    let init = daemon.sh("s", "cat /proc/1/cmdline | tr -d '\\0'").stdout;
    assert_eq!(init, "", "the daemon's command line shows");
    assert_eq!(daemon.sh("s", "id -u; id -un; pwd").stdout, "1000\nnox\n/workspace\n");
}

/// What each tier lets its init's user do to it differs; the tier is what `health` says.
#[test]
fn without_walls_the_same_acts_succeed() {
    let daemon = TestDaemon::start_with(&["--isolation", "none"]);
    daemon.create("s");
    assert_eq!(
        inside(
            &daemon,
            "s",
            &format!("os.kill({}, 0)", daemon.sh("s", "echo $PPID").stdout.trim())
        ),
        "ok"
    );
    assert_eq!(inside(&daemon, "s", "sc(272, 0x10000000)"), "ok");
    assert_eq!(
        inside(&daemon, "s", "os.stat('/run'); sc(425, 1, bytes(120)); socket.socket(16, 3, 15)"),
        "ok"
    );
}
