//! The kernel's files, read.

use nix::unistd::Pid;

/// The value of a key in a "flat keyed" file (cgroup-v2.rst): `key value`, one a line.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    values.next()?.trim().parse().ok()
}

/// The pids in a `cgroup.procs`. Processes of a pid namespace that we do not
/// see stand there as 0.
pub(super) fn pids(text: &str) -> impl Iterator<Item = Pid> {
    text.lines().filter_map(|line| line.trim().parse().ok()).map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_taken_for_a_longer_one() {
        let text = "oom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "oom"), Some(3));
        assert_eq!(keyed(text, "oom_"), None);
        assert_eq!(keyed("max x\n", "max"), None);
        assert_eq!(keyed("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", "oom_kill"), Some(7));
    }

    #[test]
    fn pids_are_read() {
        assert_eq!(pids("12\n0\n7\n").map(Pid::as_raw).collect::<Vec<_>>(), [12, 0, 7]);
        assert_eq!(pids("").count(), 0);
    }
}
