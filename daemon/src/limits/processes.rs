//! What the processes of a sandbox use, as /proc tells it.

use std::fs;

use nix::sys::statvfs::statvfs;
use nix::unistd::{Pid, SysconfVar, sysconf};

/// What everything below an init uses, itself included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Threads of all of them.
    pub(super) threads: u64,
    /// Memory in bytes. Where several share it, it counts for each.
    pub(super) resident: u64,
}

/// Everything below an init, itself included.
pub(super) fn all(init: i32) -> Vec<i32> {
    let pids = noxrunner_init::trees([Pid::from_raw(init)]);
    pids.into_iter().map(Pid::as_raw).collect()
}

/// What they use. Those that end meanwhile use nothing.
pub(super) fn used(pids: &[i32]) -> Used {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096);
    let mut used = Used::default();
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The fields after the name, which is in brackets and may hold anything, begin with the third.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let field = |number: usize| -> u64 {
            rest.split(' ').nth(number - 3).and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        used.threads += field(20);
        used.resident += field(24) * page;
    }
    used
}

/// Processes and threads of the user of this process, as RLIMIT_NPROC counts them.
pub(super) fn of_this_user() -> u64 {
    let uid = nix::unistd::getuid().as_raw();
    let tasks = |pid: &str| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        (field("Uid:")? == u64::from(uid)).then(|| field("Threads:")).flatten()
    };
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|b| b.is_ascii_digit())).filter_map(|n| tasks(&n)).sum()
}

/// The memory that they use together, in bytes: what several share counts once
/// (`Pss` of proc_pid_smaps(5)). It is looked at page by page, so only where it matters.
pub(super) fn shared_once(pids: &[i32]) -> u64 {
    let own = |pid: &i32| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
    };
    // Who may not be looked at counts whole.
    pids.iter().map(|pid| own(pid).unwrap_or_else(|| used(&[*pid]).resident)).sum()
}

/// Bytes in the /dev/shm of an init with a mount tree of its own; 0 where it cannot be looked at.
pub(super) fn shm(init: i32) -> u64 {
    let Ok(stat) = statvfs(format!("/proc/{init}/root/dev/shm").as_str()) else { return 0 };
    stat.blocks().saturating_sub(stat.blocks_free()).saturating_mul(stat.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_counted_with_its_threads() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let used = used(&[pid]);
        assert!(used.threads >= 2, "a test has a thread of its own: {used:?}");
        assert!(used.resident > 100_000 && shared_once(&[pid]) <= used.resident);
        assert_eq!(super::used(&[i32::MAX]), Used::default());
    }
}
