//! System calls that are refused, by number. x86-64 has the numbers used here.
#![cfg(target_arch = "x86_64")]

use noxrunner_tests::attack::{in_namespaces, inside, outside};

use super::Control::{InNamespaces, Outside};
use super::{Attack, denied, full};

const FLAGS: [(&str, u32); 7] = [
    ("NEWNS", 0x0002_0000),
    ("NEWCGROUP", 0x0200_0000),
    ("NEWUTS", 0x0400_0000),
    ("NEWIPC", 0x0800_0000),
    ("NEWUSER", 0x1000_0000),
    ("NEWPID", 0x2000_0000),
    ("NEWNET", 0x4000_0000),
];

#[test]
fn no_namespace_can_be_made() {
    let daemon = full();
    for (name, flag) in FLAGS {
        let unshare = format!("sc(272, {flag})");
        denied(&daemon, &[(&format!("unshare {name}"), &unshare, InNamespaces, "EPERM")]);
        let clone = format!("child(sc(56, {flag} | 17, 0, 0, 0, 0))");
        denied(&daemon, &[(&format!("clone {name}"), &clone, InNamespaces, "EPERM")]);
    }
    denied(
        &daemon,
        &[
            ("unshare NEWTIME", "sc(272, 0x80)", InNamespaces, "EPERM"),
            ("user namespaces without privilege", "sc(272, 0x10000000)", Outside, "EPERM"),
            ("setns", "sc(308, os.open('/proc/self/ns/uts', 0), 0)", InNamespaces, "EPERM"),
            // libc takes that for an old kernel and asks again by clone.
            (
                "clone3",
                "child(sc(435, struct.pack('4QQ3Q', 0, 0, 0, 0, 17, 0, 0, 0), 64))",
                Outside,
                "ENOSYS",
            ),
        ],
    );
    // What has no namespace in it goes on to work.
    assert_eq!(inside(&daemon, "s", "child(os.fork()); sc(272, 0x400)"), "ok");
    assert_eq!(
        inside(&daemon, "s", "import threading; threading.Thread(target=print).start()"),
        "ok"
    );
}

#[test]
fn nothing_can_be_mounted() {
    let attacks: &[Attack<'_>] = &[
        ("mount", "sc(165, b't', b'/tmp', b't' b'mpfs', 0, 0)", InNamespaces, "EPERM"),
        ("bind", "sc(165, b'/usr', b'/tmp', 0, 4096, 0)", InNamespaces, "EPERM"),
        (
            "remount",
            "sc(165, b'/usr', b'/usr', 0, 4096, 0); sc(165, 0, b'/usr', 0, 32 | 4096, 0)",
            InNamespaces,
            "EPERM",
        ),
        (
            "umount",
            "sc(165, b't', b'/tmp', b'tmpfs', 0, 0) if os.getuid() == 0 else 0; sc(166, b'/tmp', 2)",
            InNamespaces,
            "EPERM",
        ),
        ("open_tree", "sc(428, -100, b'/usr', 1)", InNamespaces, "EPERM"),
        ("fsopen", "sc(430, b'tmpfs', 0)", InNamespaces, "EPERM"),
        (
            "fspick",
            "sc(165, b't', b'/tmp', b'tmpfs', 0, 0) if os.getuid() == 0 else 0; sc(433, -100, b'/tmp', 0)",
            InNamespaces,
            "EPERM",
        ),
        (
            "mount_setattr",
            "sc(442, -100, b'/', 0x8000, struct.pack('4Q', 0, 0, 1 << 19, 0), 32)",
            InNamespaces,
            "EPERM",
        ),
        (
            "pivot_root",
            "sc(165, b't', b'/tmp', b'tmpfs', 0, 0) if os.getuid() == 0 else 0; os.chdir('/tmp'); sc(155, b'.', b'.')",
            InNamespaces,
            "EPERM",
        ),
        ("chroot", "os.chroot('/usr')", InNamespaces, "EPERM"),
    ];
    denied(&full(), attacks);
}

#[test]
fn large_parts_of_the_kernel_are_out_of_reach() {
    let attacks: &[Attack<'_>] = &[
        ("keyctl", "sc(250, 0, -3, 1)", Outside, "EPERM"),
        ("add_key", "sc(248, b'user', b'noxtest', b'x', 1, -1)", Outside, "EPERM"),
        ("userfaultfd", "sc(323, 1)", Outside, "EPERM"),
        ("io_uring", "sc(425, 1, bytes(120))", Outside, "EPERM"),
        (
            "perf",
            // A software event, of this process, in user mode alone.
            "sc(298, struct.pack('IIQQQQQ', 1, 112, 0, 0, 0, 0, 0x60) + bytes(64), 0, -1, -1, 0)",
            Outside,
            "EPERM",
        ),
        ("personality", "sc(135, 0x0040000)", Outside, "EPERM"),
        ("sethostname", "sc(170, b'x', 1)", InNamespaces, "EPERM"),
        ("kcmp", "sc(312, os.getpid(), os.getpid(), 2, 0, 0)", Outside, "EPERM"),
    ];
    let daemon = full();
    denied(&daemon, attacks);
    // To ask is free.
    assert_eq!(inside(&daemon, "s", "sc(135, 0xffffffff); sc(135, 0)"), "ok");
}

#[test]
fn nothing_is_typed_into_a_terminal() {
    let code = "os.setsid(); master, slave = os.openpty(); fcntl.ioctl(slave, 0x540e, 0)\nfcntl.ioctl(slave, REQUEST, b'x' * 16)";
    let tiocsti = format!(
        "if os.fork():\n    raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))\n{code}"
    );
    let tiocsti = tiocsti.replace("REQUEST", "0x5412");
    denied(
        &full(),
        &[
            ("TIOCSTI", &tiocsti, Outside, "EPERM"),
            // The kernel looks at the lower half of a request only.
            (
                "TIOCSTI with more bits",
                &tiocsti.replace("fcntl.ioctl(slave, 0x5412,", "sc(16, slave, 0xdead00005412,"),
                Outside,
                "EPERM",
            ),
        ],
    );
}

/// Machine code that enters the kernel as a 32-bit program does, and asks for its process id.
const INT80: &str =
    "code = mmap.mmap(-1, 4096, prot=7); code.write(bytes.fromhex('b814000000cd80c3'))
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
pid = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
if pid != os.getpid(): raise OSError(pid, 'int80')";

#[test]
fn the_kernel_has_one_entry() {
    let daemon = full();
    assert_eq!(outside(INT80), "ok");
    // SIGSYS, as seccomp(2) has it for a foreign architecture.
    assert_eq!(inside(&daemon, "s", INT80), "exit 159");
    // The numbers of x32. Few kernels have them outside either.
    assert_eq!(inside(&daemon, "s", "sc(0x40000000 + 165, 0, 0, 0, 0, 0)"), "ENOSYS");
}

#[test]
fn sockets_are_of_few_families() {
    let daemon = full();
    let open = |family: i32| {
        format!(
            "for kind in (1, 2, 3, 5):\n    try: socket.socket({family}, kind); break\n    except OSError as e: failed = e\nelse: raise failed"
        )
    };
    let mut refused = Vec::new();
    for family in 0..48 {
        if in_namespaces(&open(family)) != "ok" {
            continue;
        }
        let inside = inside(&daemon, "s", &open(family));
        match family {
            1 | 2 | 10 | 16 => assert_eq!(inside, "ok", "family {family}"),
            _ => {
                assert_eq!(inside, "EAFNOSUPPORT", "family {family}");
                refused.push(family);
            }
        }
    }
    // Pairs are of one family.
    assert_eq!(inside(&daemon, "s", "socket.socketpair(1, 2)"), "ok");
    assert_eq!(outside("socket.socketpair(2, 1)"), "ENOTSUP");
    assert_eq!(inside(&daemon, "s", "socket.socketpair(2, 1)"), "EPERM");
    // AF_PACKET is in every kernel.
    assert!(refused.contains(&17), "{refused:?}");
    denied(
        &daemon,
        &[
            ("raw IPv4", "socket.socket(2, 3, 1)", InNamespaces, "EPERM"),
            ("raw IPv6", "socket.socket(10, 3, 58)", InNamespaces, "EPERM"),
            ("raw, with flags", "sc(41, 2, 3 | 0o4000, 1)", InNamespaces, "EPERM"),
            ("uevents", "socket.socket(16, 3, 15)", Outside, "EPERM"),
            ("netfilter", "socket.socket(16, 3, 12)", Outside, "EPERM"),
        ],
    );
    assert_eq!(inside(&daemon, "s", "socket.socket(16, 3, 0); socket.if_nameindex()"), "ok");
}

/// What only root may do anywhere needs root for its control.
mod root_only {
    use super::*;

    #[test]
    fn what_only_root_may_is_refused_too() {
        let attacks: &[Attack<'_>] = &[
            // BPF_MAP_CREATE of an array of one.
            ("bpf", "sc(321, 0, struct.pack('IIII', 2, 4, 4, 1) + bytes(64), 80)", Outside, "EPERM"),
            (
                "open_by_handle_at",
                "handle = ctypes.create_string_buffer(struct.pack('Ii', 128, 0) + bytes(128)); mount = ctypes.c_int()
sc(303, -100, b'/usr', handle, ctypes.byref(mount), 0)
sc(304, os.open('/usr', 0), handle, 0)",
                Outside,
                "EPERM",
            ),
            ("syslog", "sc(103, 10, 0, 0)", Outside, "EPERM"),
            ("fanotify", "sc(300, 0, 0)", Outside, "EPERM"),
            ("swapoff", "\ntry: sc(168, b'/nowhere')\nexcept OSError as e:\n    if e.errno != errno.ENOENT: raise", Outside, "EPERM"),
            ("delete_module", "\ntry: sc(176, b'nowhere', 0)\nexcept OSError as e:\n    if e.errno not in (errno.ENOENT, errno.ENOSYS): raise", Outside, "EPERM"),
        ];
        denied(&full(), attacks);
    }
}
