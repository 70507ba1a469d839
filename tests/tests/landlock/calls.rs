//! System calls that are refused, by number. x86-64 has the numbers used here.
#![cfg(target_arch = "x86_64")]

use noxrunner_tests::attack::{in_namespaces, inside, outside};

use super::{Attack, denied, landlock};

#[test]
fn no_socket_can_be_made_but_pairs() {
    let daemon = landlock();
    let attacks: &[Attack<'_>] = &[
        ("unix stream", "socket.socket(1, 1)", "EPERM"),
        ("unix datagram", "socket.socket(1, 2)", "EPERM"),
        ("TCP", "socket.socket(2, 1)", "EPERM"),
        ("UDP", "socket.socket(2, 2)", "EPERM"),
        ("IPv6", "socket.socket(10, 1)", "EPERM"),
        ("netlink", "socket.socket(16, 3, 0)", "EPERM"),
    ];
    denied(&daemon, attacks, || ());
    // Of families that this kernel does not have, too: nothing is told apart.
    assert_eq!(inside(&daemon, "s", "sc(41, 46, 1, 0)"), "EPERM");
    for kind in [1, 5] {
        let pair = format!("a, b = socket.socketpair(1, {kind}); a.send(b'x'); b.recv(1)");
        assert_eq!(inside(&daemon, "s", &pair), "ok");
    }
    assert_eq!(inside(&daemon, "s", "sc(53, 2, 1, 0, bytes(8))"), "EPERM");
    let python = "import asyncio; asyncio.run(asyncio.sleep(0))";
    assert_eq!(inside(&daemon, "s", python), "ok");
}

#[test]
fn metadata_cannot_be_changed_not_even_of_ones_own_files() {
    let attacks: &[Attack<'_>] = &[
        ("chmod", "sc(90, b'f', 0o600)", "EPERM"),
        ("fchmod", "sc(91, fd, 0o600)", "EPERM"),
        ("fchmodat", "sc(268, -100, b'f', 0o600)", "EPERM"),
        (
            "fchmodat2",
            "\ntry: sc(452, -100, b'f', 0o600, 0)\nexcept OSError as e:\n    if e.errno != errno.ENOSYS: raise",
            "EPERM",
        ),
        ("chown", "sc(92, b'f', -1, -1)", "EPERM"),
        ("fchown", "sc(93, fd, -1, -1)", "EPERM"),
        ("lchown", "sc(94, b'f', -1, -1)", "EPERM"),
        ("fchownat", "sc(260, -100, b'f', -1, -1, 0)", "EPERM"),
        ("utime", "sc(132, b'f', 0)", "EPERM"),
        ("utimes", "sc(235, b'f', 0)", "EPERM"),
        ("futimesat", "sc(261, -100, b'f', 0)", "EPERM"),
        ("utimensat", "sc(280, -100, b'f', 0, 0)", "EPERM"),
        ("setxattr", "sc(188, b'f', b'user.x', b'x', 1, 0)", "EPERM"),
        ("lsetxattr", "sc(189, b'f', b'user.x', b'x', 1, 0)", "EPERM"),
        ("fsetxattr", "sc(190, fd, b'user.x', b'x', 1, 0)", "EPERM"),
    ];
    let own = "fd = os.open('f', os.O_CREAT | os.O_RDWR, 0o666)\n";
    let code: Vec<String> = attacks.iter().map(|(_, code, _)| own.to_owned() + code).collect();
    let attacks: Vec<Attack<'_>> = std::iter::zip(attacks, &code)
        .map(|((name, _, want), c)| (*name, c.as_str(), *want))
        .collect();
    let daemon = landlock();
    denied(&daemon, &attacks, || ());
    for (name, call) in [("removexattr", 197), ("lremovexattr", 198), ("fremovexattr", 199)] {
        let file = if call == 199 { "fd" } else { "b'f'" };
        let remove = format!("{own}sc({call}, {file}, b'user.x')");
        assert_eq!(inside(&daemon, "s", &remove), "EPERM", "{name}");
    }
}

#[test]
fn namespaces_and_mounts_are_refused() {
    let daemon = landlock();
    for (name, code) in [
        ("unshare NEWUSER", "sc(272, 0x10000000)"),
        ("unshare NEWNS", "sc(272, 0x20000)"),
        ("clone NEWUSER", "child(sc(56, 0x10000000 | 17, 0, 0, 0, 0))"),
        ("setns", "sc(308, os.open('/proc/self/ns/uts', 0), 0)"),
        ("mount", "sc(165, b't', b'/tmp', b'tmpfs', 0, 0)"),
        ("open_tree", "sc(428, -100, b'/usr', 1)"),
        ("fsopen", "sc(430, b'tmpfs', 0)"),
    ] {
        assert_eq!(in_namespaces(code), "ok", "{name}");
        assert_eq!(inside(&daemon, "s", code), "EPERM", "{name}");
    }
    let clone3 = "child(sc(435, struct.pack('4QQ3Q', 0, 0, 0, 0, 17, 0, 0, 0), 64))";
    assert_eq!(outside(clone3), "ok");
    assert_eq!(inside(&daemon, "s", clone3), "ENOSYS");
    let threads = "import threading; threading.Thread(target=print).start(); child(os.fork())";
    assert_eq!(inside(&daemon, "s", threads), "ok");
}

/// Machine code that enters the kernel as a 32-bit program does, and asks for its process id.
const INT80: &str =
    "code = mmap.mmap(-1, 4096, prot=7); code.write(bytes.fromhex('b814000000cd80c3'))
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
pid = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
if pid != os.getpid(): raise OSError(pid, 'int80')";

#[test]
fn the_filter_is_the_one_of_the_tier_full() {
    let daemon = landlock();
    assert_eq!(outside(INT80), "ok");
    // SIGSYS, as seccomp(2) has it for a foreign architecture.
    assert_eq!(inside(&daemon, "s", INT80), "exit 159");
    assert_eq!(inside(&daemon, "s", "sc(0x40000000 + 165, 0, 0, 0, 0, 0)"), "ENOSYS");
    let attacks: &[Attack<'_>] = &[
        ("keyctl", "sc(250, 0, -3, 1)", "EPERM"),
        ("userfaultfd", "sc(323, 1)", "EPERM"),
        ("io_uring", "sc(425, 1, bytes(120))", "EPERM"),
        ("kcmp", "sc(312, os.getpid(), os.getpid(), 2, 0, 0)", "EPERM"),
    ];
    denied(&daemon, attacks, || ());
    assert_eq!(inside(&daemon, "s", "sc(321, 0, bytes(80), 80)"), "EPERM");
    let status = daemon
        .sh("s", "grep -E '^(NoNewPrivs|Seccomp|Cap(Eff|Prm|Bnd)):' /proc/self/status")
        .stdout;
    let lines: Vec<(&str, &str)> =
        status.lines().map(|l| l.split_once(':').unwrap()).map(|(a, b)| (a, b.trim())).collect();
    assert!(lines.contains(&("NoNewPrivs", "1")) && lines.contains(&("Seccomp", "2")), "{status}");
    for set in ["CapEff", "CapPrm"] {
        assert!(lines.contains(&(set, "0000000000000000")), "{status}");
    }
}

#[test]
fn ipc_of_the_host_is_refused() {
    let made = 0x6e10_0000 + i64::from(std::process::id());
    let (shm, sem, msg) = (
        format!("sc(31, sc(29, {made}, 4096, 0o1600), 0, 0)"),
        format!("sc(66, sc(64, {made}, 1, 0o1600), 0, 0)"),
        format!("sc(71, sc(68, {made}, 0o1600), 0, 0)"),
    );
    let name = format!("noxtest-landlock-{}", std::process::id());
    let queue = format!("sc(240, b'{name}', 0o102, 0o600, 0); sc(241, b'{name}')");
    let daemon = landlock();
    let attacks: &[Attack<'_>] = &[
        ("shmget", &shm, "EPERM"),
        ("semget", &sem, "EPERM"),
        ("msgget", &msg, "EPERM"),
        ("mq_open", &queue, "EPERM"),
    ];
    denied(&daemon, attacks, || ());
    assert_eq!(inside(&daemon, "s", &format!("sc(241, b'{name}')")), "EPERM");
    assert_eq!(inside(&daemon, "s", "open('/dev/shm/noxtest', 'w')"), "EACCES");
}
