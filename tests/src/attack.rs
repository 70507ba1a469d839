//! Things that hostile code tries, as lines of Python that say `ok` or the name of an error number.
//!
//! The same lines run inside a sandbox and outside, where they succeed: that is what shows that the
//! sandbox is what stopped them.

use std::process::Command;

use crate::{TestDaemon, run, shell_status, text};

/// What every attack starts with: system calls by number, and the name of what went wrong.
const PREAMBLE: &str = r#"
import array, ctypes, errno, fcntl, mmap, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def sc(number, *arguments):
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if done == -1:
        raise OSError(ctypes.get_errno(), 'syscall')
    return done
def child(pid):
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
"#;

/// The Python that runs attacks: the system's own, which is there inside as well.
const PYTHON: &str = "/usr/bin/python3";

fn script(code: &str) -> String {
    let indented: String = code.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "{PREAMBLE}\ntry:\n{indented}    print('ok')\nexcept OSError as e:\n    print(errno.errorcode.get(e.errno, e.errno))\n"
    )
}

/// How it ends inside a sandbox: `ok`, the name of an error number, or `exit N` where it came to neither.
#[track_caller]
pub fn inside(daemon: &TestDaemon, id: &str, code: &str) -> String {
    let result = daemon.exec(id, &[PYTHON, "-c", &script(code)]);
    match result.exit_code {
        0 => result.stdout.trim().to_owned(),
        // What the interpreter says goes to the test's own output.
        n => {
            println!("{}", result.stderr);
            format!("exit {n}")
        }
    }
}

/// How it ends outside, as the test's own user.
#[track_caller]
pub fn outside(code: &str) -> String {
    ends(Command::new(PYTHON).arg("-c").arg(script(code)))
}

/// How it ends outside, as root of new namespaces of every kind: what only a
/// capability allows, it allows there.
#[track_caller]
pub fn in_namespaces(code: &str) -> String {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--uts", "--ipc", "--net", "--pid"]);
    ends(command.args(["--cgroup", "--fork", "--mount-proc", PYTHON, "-c"]).arg(script(code)))
}

fn ends(command: &mut Command) -> String {
    let output = run(command);
    match shell_status(output.status) {
        0 => text(&output.stdout).trim().to_owned(),
        n => {
            println!("{}", String::from_utf8_lossy(&output.stderr));
            format!("exit {n}")
        }
    }
}

/// The params of an exec of an attack that the test goes on beside.
#[track_caller]
pub fn params(id: &str, code: &str) -> noxrunner_protocol::types::ExecParams {
    crate::exec_params(id, &[PYTHON, "-c", &script(code)])
}
