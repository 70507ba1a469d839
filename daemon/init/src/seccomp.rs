//! System calls that no sandboxed code gets, seccomp(2).
//!
//! `seccompiler` makes a filter with one error number. The few answers that need another are
//! put before it by hand: a filter of its own for each would have to be compiled by the kernel
//! for every sandbox. Of most calls the kernel remembers that they pass (since Linux 5.11), so it is
//! not paid for at each.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use nix::errno::Errno;
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

use crate::message::{Layers, Places};

/// A filter ready to be installed.
#[derive(Debug, Clone)]
pub(crate) struct Filter(BpfProgram);

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls numbered alike on every architecture, newer than some libcs.
const MEMFD_SECRET: i64 = 447;
const OPEN_TREE_ATTR: i64 = 467;
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const FILE_SETATTR: i64 = 469;

impl Filter {
    /// Makes the filter of a tier. Allocates: not for where time matters.
    pub(crate) fn compile(layers: Layers, places: Places, no_memfd: bool) -> Result<Self, Errno> {
        let mut denied = privileged();
        denied.extend(namespaces()?);
        denied.insert(
            libc::SYS_ioctl,
            vec![arg(1, Eq, libc::TIOCSTI)?, arg(1, Eq, libc::TIOCLINUX)?],
        );
        denied.insert(libc::SYS_personality, vec![rule(&[(0, Ne, 0), (0, Ne, 0xffff_ffff)])?]);
        denied.insert(libc::SYS_socket, sockets()?);
        denied.insert(libc::SYS_socketpair, vec![arg(0, Ne, word(libc::AF_UNIX))?]);
        if layers == Layers::Landlock {
            without_a_mount_tree(&mut denied)?;
        }
        if places.no_exec || no_memfd {
            // What has no place in the file system is executed by its descriptor, and is nobody's
            // memory while it is not mapped.
            denied.insert(libc::SYS_memfd_create, Vec::new());
            denied.insert(MEMFD_SECRET, Vec::new());
        }
        if no_memfd {
            // Nor is a segment that is not attached. The namespace's own limit of them is root's to set,
            // whom sandboxes do not have (ipc_namespaces(7)).
            denied.insert(libc::SYS_shmget, Vec::new());
        }
        let arch = TargetArch::try_from(ARCH).map_err(|_| Errno::ENOSYS)?;
        let denial = SeccompAction::Errno(Errno::EPERM as u32);
        let filter = SeccompFilter::new(denied, SeccompAction::Allow, denial, arch);
        let filter: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
        let mut program = first_answers(layers);
        program.extend(filter.map_err(|_| Errno::EINVAL)?);
        Ok(Self(program))
    }

    /// Installs it on this process, for ever. Needs no_new_privs.
    pub(crate) fn install(&self) -> Result<(), Errno> {
        apply_filter(&self.0).map_err(|error| errno_of(&error))
    }
}

fn errno_of(error: &Error) -> Errno {
    match error {
        Error::Prctl(e) | Error::Seccomp(e) => {
            e.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
        }
        Error::Backend(_) | Error::EmptyFilter | Error::ThreadSync(_) => Errno::EINVAL,
    }
}

/// What is answered with another number than EPERM. What these let pass goes on to the
/// instructions after them, which begin with a look at the architecture. A call through another
/// one's entry (int 0x80) kills its process there, if it was not refused here by the number it has on this one.
fn first_answers(layers: Layers) -> Vec<sock_filter> {
    let mut program = vec![load(NUMBER)];
    // libc asks for clone3 first and falls back; clone's flags can be looked at, clone3's cannot.
    program.extend([jump(libc::BPF_JEQ, libc::SYS_clone3, 0, 1), answer(Errno::ENOSYS)]);
    if ARCH == "x86_64" {
        // It has its calls a second time, as x32, under numbers from 2^30 up: none of them passes.
        program.extend([jump(libc::BPF_JGE, 1 << 30, 0, 1), answer(Errno::ENOSYS)]);
    }
    if layers == Layers::Full {
        // A family that is not listed is one that this kernel does not have.
        let families = FAMILIES.len() as u8;
        program
            .extend([jump(libc::BPF_JEQ, libc::SYS_socket, 0, families + 2), load(FIRST_ARGUMENT)]);
        let known = FAMILIES.iter().zip((1..=families).rev());
        program
            .extend(known.map(|(family, left)| jump(libc::BPF_JEQ, i64::from(*family), left, 0)));
        program.push(answer(Errno::EAFNOSUPPORT));
    }
    program
}

/// Calls that are refused whatever their arguments.
fn privileged() -> Rules {
    let mut calls = vec![
        // Mounts.
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_open_tree,
        OPEN_TREE_ATTR,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_setns,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        // Files by other means than a path.
        libc::SYS_open_by_handle_at,
        // Keyrings know no namespace.
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        // Large parts of the kernel that few programs need.
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_fanotify_init,
        // The machine itself.
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_reboot,
        libc::SYS_acct,
        libc::SYS_syslog,
        libc::SYS_clock_settime,
        libc::SYS_settimeofday,
        libc::SYS_vhangup,
        libc::SYS_kcmp,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_kexec_file_load, libc::SYS_iopl, libc::SYS_ioperm]);
    #[cfg(target_arch = "aarch64")]
    calls.push(libc::SYS_kexec_file_load);
    calls.into_iter().map(|call| (call, Vec::new())).collect()
}

/// clone(2) and unshare(2) with a flag that makes a namespace.
fn namespaces() -> Result<Rules, Errno> {
    let flags = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    let has = |flag: i32| {
        let flag = u64::from(flag.cast_unsigned());
        rule(&[(0, MaskedEq(flag), flag)])
    };
    let cloned = flags.into_iter().map(has).collect::<Result<Vec<_>, _>>()?;
    let mut unshared = cloned.clone();
    // In clone this bit belongs to the number of a signal.
    unshared.push(has(CLONE_NEWTIME)?);
    Ok(Rules::from([(libc::SYS_clone, cloned), (libc::SYS_unshare, unshared)]))
}

/// From linux/sched.h.
const CLONE_NEWTIME: i32 = 0x80;

const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Bits of a socket's type that are its type, not its flags (`SOCK_TYPE_MASK`).
const TYPE: u64 = 0xf;

/// Raw sockets, and netlink beyond routes, where interfaces and addresses are listed.
fn sockets() -> Result<Vec<SeccompRule>, Errno> {
    let mut rules = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_RAW, SOCK_PACKET] {
            rules.push(rule(&[(0, Eq, word(family)), (1, MaskedEq(TYPE), word(kind))])?);
        }
    }
    let routes = word(libc::NETLINK_ROUTE);
    rules.push(rule(&[(0, Eq, word(libc::AF_NETLINK)), (2, Ne, routes)])?);
    Ok(rules)
}

/// From socket(2): obsolete, and a raw one.
const SOCK_PACKET: i32 = 10;

/// Where a filter finds the number of a call and the lower half of its first argument
/// (`struct seccomp_data`, on the little-endian machines that seccompiler knows).
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

fn load(offset: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

/// Passes over so many instructions where the comparison holds, and where it does not.
fn jump(comparison: u32, with: i64, holds: u8, fails: u8) -> sock_filter {
    let with = u32::try_from(with).unwrap_or(u32::MAX);
    step(libc::BPF_JMP | libc::BPF_K | comparison, holds, fails, with)
}

fn answer(errno: Errno) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn step(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// What Landlock alone leaves open where the host's files, sockets and IPC are in sight.
fn without_a_mount_tree(denied: &mut Rules) -> Result<(), Errno> {
    let mut calls = vec![
        libc::SYS_socket,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        FCHMODAT2,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_utimensat,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_fsetxattr,
        SETXATTRAT,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        libc::SYS_fremovexattr,
        REMOVEXATTRAT,
        FILE_SETATTR,
        libc::SYS_shmget,
        libc::SYS_semget,
        libc::SYS_msgget,
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_futimesat,
    ]);
    denied.extend(calls.into_iter().map(|call| (call, Vec::new())));
    // Limits, places in the queue and processors of others: the user's own processes on the host
    // are no more foreign to the kernel here than a command's own children.
    for call in [
        libc::SYS_prlimit64,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
    ] {
        denied.insert(call, vec![arg(0, Ne, 0)?]);
    }
    denied.insert(libc::SYS_setpriority, vec![arg(0, Ne, PRIO_PROCESS)?, arg(1, Ne, 0)?]);
    denied.insert(libc::SYS_ioprio_set, vec![arg(0, Ne, IOPRIO_WHO_PROCESS)?, arg(1, Ne, 0)?]);
    // Of a pair, too, a datagram socket sends to any address: to path sockets of the host. A raw
    // one is another name for it (unix(7)).
    let pairs = denied.entry(libc::SYS_socketpair).or_default();
    for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW] {
        pairs.push(arg(1, MaskedEq(TYPE), word(kind))?);
    }
    let ioctls = denied.entry(libc::SYS_ioctl).or_default();
    for request in [FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR] {
        ioctls.push(arg(1, Eq, request)?);
    }
    Ok(())
}

/// From linux/resource.h and linux/ioprio.h.
const PRIO_PROCESS: u64 = 0;
const IOPRIO_WHO_PROCESS: u64 = 1;

/// From linux/fs.h.
const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;

fn word(number: i32) -> u64 {
    u64::from(number.cast_unsigned())
}

fn arg(index: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompRule, Errno> {
    rule(&[(index, is, value)])
}

/// A rule that holds where all of its conditions do. Every argument looked at here is an int
/// to the kernel, which does not look at its upper half.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, Errno> {
    let condition = |(index, is, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*index, Dword, is.clone(), *value)
    };
    let conditions = conditions.iter().map(condition).collect::<Result<Vec<_>, _>>();
    conditions.and_then(SeccompRule::new).map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_of_every_tier_compiles() {
        for layers in [Layers::Full, Layers::Landlock] {
            for no_exec in [false, true] {
                let places = Places { no_exec, no_delete: false };
                let filter = Filter::compile(layers, places, no_exec).unwrap();
                assert!(filter.0.len() < 4096, "BPF_MAXINSNS");
            }
        }
    }
}
