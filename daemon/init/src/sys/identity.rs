//! Who a process is: capabilities, and a clone that starts a new set of namespaces.

use std::ffi::{c_int, c_ulong};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

/// Forks a child that starts in new namespaces, clone(2). The child never returns from `child`.
pub(crate) fn fork_into(
    namespaces: CloneFlags,
    child: impl FnOnce() -> c_int,
) -> Result<(Pid, OwnedFd), Errno> {
    let mut pidfd: c_int = -1;
    let flags = namespaces.bits() | libc::SIGCHLD | libc::CLONE_PIDFD;
    let no_stack: *mut u8 = ptr::null_mut();
    // SAFETY: without CLONE_VM and without a stack this is fork(2): the child has a copy of
    // everything. Every caller has one thread, so no lock is held by one that the child lacks.
    // The pidfd is written to a local before the call returns to the parent.
    // (The order of the last two arguments differs between architectures; both are unused.)
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            c_ulong::try_from(flags).unwrap_or(0),
            no_stack,
            &raw mut pidfd,
            0,
            0,
        )
    };
    if Errno::result(pid)? == 0 {
        super::never_return(child);
    }
    let pid = Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?);
    // SAFETY: the kernel has just installed it, and nothing else knows it.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Gives up the chance to get a capability at an execve, capabilities(7). Needs CAP_SETPCAP.
pub(crate) fn drop_bounding_set() -> Result<(), Errno> {
    // Asked for one by one until the kernel knows no more of them.
    for capability in 0.. {
        // SAFETY: numbers only.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Ok(_) => {}
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    // SAFETY: numbers only.
    let cleared =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(cleared).map(drop)
}

/// Takes from user id 0 whatever it means, for ever, capabilities(7). Needs CAP_SETPCAP.
pub(crate) fn lock_securebits() -> Result<(), Errno> {
    // SAFETY: numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, LOCKED_SECUREBITS, 0, 0, 0) };
    Errno::result(done).map(drop)
}

/// Gives up every capability, capset(2).
pub(crate) fn drop_capabilities() -> Result<(), Errno> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [0_u32; 6];
    // SAFETY: both structures are laid out as capset(2) has them and live through the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    Errno::result(done).map(drop)
}

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: two sets of three words.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

/// NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each with its lock, and the lock of
/// KEEP_CAPS (linux/securebits.h): no user id means anything any more.
const LOCKED_SECUREBITS: c_ulong = 0b1110_1111;

/// Blanks the command line that /proc shows of this process and of those it forks
/// (proc_pid_cmdline(5)). Sandboxes see their init's, and the daemon's paths are none of their business.
pub(crate) fn blank_command_line() -> std::io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // After the name, which may hold anything, come the fields from the third on (proc_pid_stat(5)).
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = |number: usize| fields.split(' ').nth(number - 3)?.parse::<usize>().ok();
    if let (Some(start), Some(end)) = (field(48), field(49))
        && start != 0
    {
        let start: *mut u8 = ptr::with_exposed_provenance_mut(start);
        // SAFETY: the kernel laid the arguments out there at execve, in writable memory of this
        // process's own. This is a forked child with one thread that never reads its arguments.
        unsafe { ptr::write_bytes(start, 0, end.saturating_sub(start.addr())) };
    }
    Ok(())
}

/// Brings up the loopback interface of this network namespace, netdevice(7).
pub(crate) fn loopback_up() -> Result<(), Errno> {
    // SAFETY: numbers only, and a new descriptor that nobody owns yet.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        OwnedFd::from_raw_fd(Errno::result(fd)?)
    };
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: the request lives through the call and is what SIOCSIFFLAGS takes.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    Errno::result(done).map(drop)
}

/// The version of Landlock that the kernel has, landlock_create_ruleset(2); 0 where it has none.
pub(crate) fn landlock_version() -> u32 {
    let nothing: *const u8 = ptr::null();
    // SAFETY: the null and the length 0 are what the call takes with this flag.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            nothing,
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// From linux/landlock.h.
const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
