//! Every system call that Rust's types cannot vouch for. Nothing else in the
//! project is `unsafe`.

mod handed;
mod identity;
mod mount;
mod peer;

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use nix::unistd::{ForkResult, Pid};
use syscalls::{Sysno, raw_syscall};

use crate::message::{ExecStep, Status, Usage};
pub(crate) use handed::forget_service_manager;
pub use handed::{HandedError, take_handed};
pub(crate) use identity::{
    blank_command_line, drop_bounding_set, drop_capabilities, fork_into, landlock_version,
    lock_securebits, loopback_up,
};
pub(crate) use mount::{Attributes, attach, copy_of, seal};
pub use peer::peer_groups;

/// Takes descriptors that recvmsg(2) has just installed into ownership.
pub(crate) fn adopt(raw: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: the kernel installed these numbers in this process for this one
    // message; nothing else knows them yet.
    raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Closes every descriptor from this one on. Only for where nothing that owns
/// one will be used or dropped any more, or nothing owns one yet.
pub(crate) fn close_from(first: u32) {
    // SAFETY: takes numbers only; that nobody owns them any more is this function's contract.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Forks; the child never returns from `child`.
pub(crate) fn fork(child: impl FnOnce() -> c_int) -> Result<Pid, Errno> {
    // SAFETY: every caller has one thread, so no lock can be held by one that
    // the child lacks, and the child ends in _exit without running the parent's destructors.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => never_return(child),
    }
}

/// What a forked child does, and nothing after it.
fn never_return(child: impl FnOnce() -> c_int) -> ! {
    let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
    // SAFETY: ends the process and touches nothing else.
    unsafe { libc::_exit(status.unwrap_or(101)) }
}

/// A descriptor that names a child, pidfd_open(2).
pub(crate) fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers only, and hands out a new descriptor that nobody owns yet.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0))?;
        Ok(OwnedFd::from_raw_fd(c_int::try_from(fd).map_err(|_| Errno::EOVERFLOW)?))
    }
}

/// Kills the process that a pidfd names, pidfd_send_signal(2); one that has ended is left alone.
pub fn kill_by_pidfd(pidfd: &OwnedFd) {
    let no_info: *const libc::siginfo_t = ptr::null();
    // SAFETY: a descriptor that is open, a number, and a null that the call allows.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, no_info, 0);
    }
}

/// Gives every signal its default disposition again. Those that a parent
/// ignored would otherwise stay ignored in every command, as Rust's own SIGPIPE.
pub(crate) fn reset_signal_dispositions() {
    // Larger than any architecture's sigaction as the kernel has it; all zeroes is SIG_DFL without flags.
    let default = [0_u64; 8];
    // Asked of the kernel: libc keeps some of the real-time signals for itself and refuses them.
    for signal in 1..=SIGNALS {
        // SAFETY: the structure lives through the call, and the default disposition runs no code
        // of ours. SIGKILL and SIGSTOP refuse, which is as well.
        unsafe {
            let no_old: *mut u64 = ptr::null_mut();
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                no_old,
                size_of::<u64>(),
            );
        }
    }
}

/// How many signals there are, signal(7).
const SIGNALS: c_int = 64;

/// What came of reaping.
pub(crate) enum Reaped {
    /// A child that had ended.
    Child(Pid, Status, Usage),
    /// There are children, and none has ended.
    NoneYet,
    /// There is no child.
    NoChild,
}

/// Reaps a child that has ended, if one has.
pub(crate) fn reap() -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: all zeroes is a valid rusage.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to locals that live through the call.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
        if pid == 0 {
            return Reaped::NoneYet;
        }
        if pid < 0 {
            // Nothing waits here, so nothing is interrupted: ECHILD.
            return Reaped::NoChild;
        }
        let status = if libc::WIFEXITED(status) {
            Status::Exited(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Status::Signaled(libc::WTERMSIG(status))
        } else {
            continue;
        };
        return Reaped::Child(Pid::from_raw(pid), status, convert(&usage));
    }
}

fn convert(usage: &libc::rusage) -> Usage {
    let count = |n: c_long| u64::try_from(n).unwrap_or(0);
    let micros = |t: libc::timeval| count(t.tv_sec) * 1_000_000 + count(t.tv_usec);
    Usage {
        user_us: micros(usage.ru_utime),
        sys_us: micros(usage.ru_stime),
        max_rss_kib: count(usage.ru_maxrss),
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
        voluntary_switches: count(usage.ru_nvcsw),
        involuntary_switches: count(usage.ru_nivcsw),
    }
}

/// A stack for a child that shares this process's memory until it executes.
pub(crate) struct Stack {
    base: ptr::NonNull<c_void>,
}

const STACK_BYTES: usize = 64 * 1024;
const GUARD_BYTES: usize = 16 * 1024;

impl Stack {
    pub(crate) fn new() -> Result<Self, Errno> {
        let length = NonZeroUsize::new(STACK_BYTES).ok_or(Errno::EINVAL)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK;
        // SAFETY: a fresh mapping wherever the kernel likes it, and a guard at
        // its low end that nothing uses yet.
        unsafe {
            let base =
                mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)?;
            let stack = Self { base };
            mprotect(base, GUARD_BYTES, ProtFlags::PROT_NONE)?;
            Ok(stack)
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and whoever drops it knows
        // that no child runs on it (see `Launched`).
        let _ = unsafe { munmap(self.base, STACK_BYTES) };
    }
}

/// All that a command's process needs between clone and execve, laid out beforehand.
///
/// The child reads it from its init's memory, so it stays as it is until the child has
/// executed or ended, which end of file on its failure pipe tells.
pub(crate) struct Launch {
    workdir: CString,
    programs: Vec<CString>,
    // What the pointers below point into. A CString's bytes stay where they
    // are when the CString itself is moved.
    _strings: (Vec<CString>, Vec<CString>),
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    descriptors: [RawFd; 3],
    failure: RawFd,
    open_files: [u64; 2],
}

impl Launch {
    /// `failure` is the writing end of the pipe that tells of failure. All
    /// descriptors are to be above 2, and open until [`clone_and_exec`] returns.
    pub(crate) fn new(
        workdir: CString,
        programs: Vec<CString>,
        argv: Vec<CString>,
        env: Vec<CString>,
        descriptors: [RawFd; 3],
        failure: RawFd,
        open_files: u64,
    ) -> Box<Self> {
        let pointers = |strings: &[CString]| {
            strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>()
        };
        let (argv_pointers, env_pointers) = (pointers(&argv), pointers(&env));
        Box::new(Self {
            workdir,
            programs,
            _strings: (argv, env),
            argv: argv_pointers,
            env: env_pointers,
            descriptors,
            failure,
            open_files: [open_files; 2],
        })
    }
}

/// Starts a child that shares this process's memory, on a stack of its own,
/// and goes on at once: CLONE_VM without CLONE_VFORK, since a parent that
/// waits for the child's exec could be held up by whoever stops the child.
pub(crate) fn clone_and_exec(launch: &Launch, stack: &Stack) -> Result<Pid, Errno> {
    let flags = libc::CLONE_VM | libc::SIGCHLD;
    // SAFETY: the stack is a mapping of STACK_BYTES whose top this is, and grows
    // down on every architecture of ours. The caller keeps `launch` and `stack`
    // until the child is done with them. The child runs `child` only.
    let pid = unsafe {
        let top = stack.base.as_ptr().byte_add(STACK_BYTES);
        libc::clone(child, top, flags, ptr::from_ref(launch).cast_mut().cast())
    };
    Errno::result(pid).map(Pid::from_raw)
}

/// What a child that could not execute writes into its failure pipe.
pub(crate) const FAILURE_BYTES: usize = 8;

/// Reads what [`child`] wrote.
pub(crate) fn decode_failure(bytes: [u8; FAILURE_BYTES]) -> (ExecStep, i32) {
    let [a, b, c, d, step, ..] = bytes;
    let step = match step {
        SESSION => ExecStep::Session,
        WORKDIR => ExecStep::Workdir,
        DESCRIPTOR => ExecStep::Descriptor,
        _ => ExecStep::Execve,
    };
    (step, i32::from_ne_bytes([a, b, c, d]))
}

const SESSION: u8 = 1;
const WORKDIR: u8 = 2;
const DESCRIPTOR: u8 = 3;
const EXECVE: u8 = 4;

/// The child's way from clone to execve. It shares its parent's memory, thread
/// locals and all, while the parent runs on: so raw system calls only (libc's
/// would write the parent's errno), no allocation, no lock, no panic.
extern "C" fn child(launch: *mut c_void) -> c_int {
    // SAFETY: `clone_and_exec` passed a Launch that outlives this child's use of it.
    let launch = unsafe { &*launch.cast_const().cast::<Launch>() };
    let (step, errno) = run(launch);
    let [a, b, c, d] = errno.to_ne_bytes();
    let failure: [u8; FAILURE_BYTES] = [a, b, c, d, step, 0, 0, 0];
    // SAFETY: raw calls on a local buffer and numbers.
    unsafe {
        raw_syscall!(Sysno::write, launch.failure, failure.as_ptr(), failure.len());
        raw_syscall!(Sysno::exit_group, 127);
    }
    127
}

/// Returns only on failure: the step and its errno.
fn run(launch: &Launch) -> (u8, i32) {
    // The kernel answers -errno in the last page of the address space.
    let failed =
        |result: usize| (result > usize::MAX - 4096).then(|| (result as i32).wrapping_neg());
    let empty_mask = 0_u64;
    // SAFETY: raw calls; every pointer is to a local or into `launch`, whose
    // strings end in NUL and whose arrays end in null.
    unsafe {
        if let Some(errno) = failed(raw_syscall!(Sysno::setsid)) {
            return (SESSION, errno);
        }
        if let Some(errno) = failed(raw_syscall!(Sysno::chdir, launch.workdir.as_ptr())) {
            return (WORKDIR, errno);
        }
        for (to, from) in launch.descriptors.iter().enumerate() {
            if let Some(errno) = failed(raw_syscall!(Sysno::dup3, *from, to, 0)) {
                return (DESCRIPTOR, errno);
            }
        }
        // Soft and hard, as the kernel's rlimit64 has them. More than the init's own hard limit is
        // refused, and then that one holds.
        raw_syscall!(
            Sysno::prlimit64,
            0,
            libc::RLIMIT_NOFILE,
            launch.open_files.as_ptr(),
            ptr::null::<u64>()
        );
        // Marked rather than closed: the failure pipe is among them.
        raw_syscall!(Sysno::close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        raw_syscall!(
            Sysno::rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty_mask,
            ptr::null::<u64>(),
            size_of::<u64>()
        );
        let (argv, env) = (launch.argv.as_ptr(), launch.env.as_ptr());
        let mut worst = libc::ENOENT;
        for program in &launch.programs {
            let errno = failed(raw_syscall!(Sysno::execve, program.as_ptr(), argv, env));
            match errno.unwrap_or(libc::ENOEXEC) {
                // As execvp(3): look further, but remember what was there and refused.
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => worst = libc::EACCES,
                other => return (EXECVE, other),
            }
        }
        (EXECVE, worst)
    }
}

/// Moves a descriptor to a number of its own choosing, for a process that will
/// then close everything above it.
pub(crate) fn move_to(descriptor: &OwnedFd, number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: the number's former owner, if any, is never used again: the
    // callers are children that own nothing else (see `close_from`). dup3 would
    // refuse equal numbers, where the descriptor is already in place.
    unsafe {
        if descriptor.as_raw_fd() != number {
            Errno::result(libc::dup3(descriptor.as_raw_fd(), number, libc::O_CLOEXEC))?;
        }
        Ok(OwnedFd::from_raw_fd(number))
    }
}

/// Sends the standard three descriptors to /dev/null.
pub(crate) fn null_standard_descriptors() -> Result<(), Errno> {
    let path: &CStr = c"/dev/null";
    // SAFETY: a literal path and numbers; nothing in this crate's processes
    // owns descriptors 0 to 2.
    unsafe {
        let null = Errno::result(libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC))?;
        for number in 0..3 {
            Errno::result(libc::dup2(null, number))?;
        }
        if null > 2 {
            libc::close(null);
        }
    }
    Ok(())
}
