//! User namespaces around a daemon, in which the kernel lets nobody make more of them.

/// Enters a user namespace in which everybody has the number that they have outside, and becomes
/// what the arguments say. As root that takes a process which stays outside to write the maps.
const ENTER: &str = r#"
import ctypes, os, sys
def write(file, text):
    with open(file, 'w') as file:
        file.write(text)
uid, gid = os.getuid(), os.getgid()
entered, mapped = os.pipe(), os.pipe()
outside = os.fork()
if outside == 0:
    os.read(entered[0], 1)
    if uid == 0:
        write(f'/proc/{os.getppid()}/uid_map', '0 0 4294967295')
        write(f'/proc/{os.getppid()}/gid_map', '0 0 4294967295')
    os._exit(0)
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000) != 0:
    raise OSError(ctypes.get_errno(), 'unshare')
os.write(entered[1], b'x')
if os.waitpid(outside, 0)[1] != 0:
    sys.exit('no maps')
if uid != 0:
    write('/proc/self/setgroups', 'deny')
    write('/proc/self/uid_map', f'{uid} {uid} 1')
    write('/proc/self/gid_map', f'{gid} {gid} 1')
"#;

/// What makes the namespace that was entered the last one.
const LAST: &str = "write('/proc/sys/user/max_user_namespaces', '0')\n";

/// Hands over to the command, whose number is that of this process.
const HAND_OVER: &str = "os.execv(sys.argv[1], sys.argv[1:])\n";

/// What runs a command where user namespaces are forbidden, as root as well: see [`crate::under`].
pub fn forbidden() -> [String; 4] {
    wrapper(&[ENTER, LAST, HAND_OVER])
}

/// The same where they are not.
pub fn allowed() -> [String; 4] {
    wrapper(&[ENTER, HAND_OVER])
}

fn wrapper(script: &[&str]) -> [String; 4] {
    ["/usr/bin/python3", "-I", "-c", &script.concat()].map(str::to_owned)
}
