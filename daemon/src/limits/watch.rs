//! Looks now and then at what the kernel does not limit, for as long as anything runs in a sandbox.
//!
//! It begins when a command takes longer than a few milliseconds or leaves something behind, and ends
//! when nothing runs any more: a quick command costs nothing, and a quiet sandbox wakes nobody.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::sys::statvfs::fstatvfs;
use nix::time::{ClockId, clock_gettime};
use noxrunner_protocol::types::{EnforcedBy, LimitName};
use tokio::task::spawn_blocking;

use super::{Enforcers, Stop, processes};
use crate::engine::Init;
use crate::sandbox::Sandbox;
use crate::tree;

/// How often processes are looked at while somebody waits for a command.
const OFTEN: Duration = Duration::from_millis(50);

/// How seldom at the most, while only background processes run.
const SELDOM: Duration = Duration::from_secs(1);

/// How often files are looked at, at the most.
const FILES: Duration = Duration::from_millis(250);

/// All looks together take at most one part in so many of a processor.
const SHARE: u32 = 20;

/// Watches a sandbox in which something runs, unless that is done already.
pub fn start(sandbox: &Arc<Sandbox>, init: &Arc<Init>, keep_free: u64) {
    // A watch of an earlier init notices and ends.
    if sandbox.confines.watched.swap(init.pid(), Ordering::SeqCst) == init.pid() {
        return;
    }
    sandbox.confines.enforcers().watches.fetch_add(1, Ordering::Relaxed);
    let watch = Watch {
        enforcers: sandbox.confines.shared_enforcers(),
        sandbox: Arc::downgrade(sandbox),
        init: Arc::downgrade(init),
        pid: init.pid(),
        keep_free,
        files: Instant::now(),
        disk: None,
    };
    tokio::spawn(run(watch));
}

/// One watch, from look to look. It keeps neither the sandbox nor the init.
struct Watch {
    /// Where it is counted.
    enforcers: Arc<Enforcers>,
    sandbox: Weak<Sandbox>,
    init: Weak<Init>,
    pid: i32,
    /// Bytes to leave free on the disk.
    keep_free: u64,
    /// When to look at the files again.
    files: Instant,
    /// What they took up at the last look.
    disk: Option<(u64, u64)>,
}

async fn run(mut watch: Watch) {
    let mut pause = OFTEN;
    loop {
        tokio::time::sleep(pause).await;
        let looking = spawn_blocking(move || {
            let before = worked();
            let stop = watch.look();
            (watch, stop, worked().saturating_sub(before))
        });
        let Ok((looked, stop, spent)) = looking.await else { return };
        watch = looked;
        let (Some(sandbox), Some(init)) = (watch.sandbox.upgrade(), watch.init.upgrade()) else {
            return;
        };
        if let Some(why) = stop {
            tracing::warn!(session = %sandbox.key.id, ?why, "a sandbox is stopped for what it uses");
            sandbox.confines.stop(watch.pid, why);
            init.kill();
        }
        if stop.is_some() || !init.is_alive() || (sandbox.execs() == 0 && init.is_quiet()) {
            let watched = &sandbox.confines.watched;
            let _ = watched.compare_exchange(watch.pid, 0, Ordering::SeqCst, Ordering::SeqCst);
            // Something may have begun before that was said.
            if init.is_alive() && !init.is_quiet() && stop.is_none() {
                start(&sandbox, &init, watch.keep_free);
            }
            return;
        }
        let idle = if sandbox.execs() == 0 { (pause * 2).min(SELDOM) } else { OFTEN };
        let watches = sandbox.confines.enforcers().watches.load(Ordering::Relaxed);
        pause = idle.max(spent * SHARE * watches);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.enforcers.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Processor time of this thread so far. What keeps processors busy must not put the next look off.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

impl Watch {
    /// What the sandbox is to be stopped for. Touches the disk.
    fn look(&mut self) -> Option<Stop> {
        let sandbox = self.sandbox.upgrade()?;
        self.look_at_processes(&sandbox).or_else(|| self.look_at_files(&sandbox))
    }

    fn look_at_processes(&mut self, sandbox: &Sandbox) -> Option<Stop> {
        let confines = &sandbox.confines;
        let (enforcers, bounds) = (confines.enforcers(), confines.bounds());
        let by_group = |name| enforcers.by(name) == EnforcedBy::Cgroup;
        if by_group(LimitName::Pids) && confines.refused_forks() {
            return Some(Stop::Processes);
        }
        if by_group(LimitName::Pids) && by_group(LimitName::Memory) {
            return None;
        }
        let pids = processes::all(self.pid);
        let used = processes::used(&pids);
        // Those of a fork bomb end between their listing and their turn, and others take their places.
        let count = used.threads.max(pids.len() as u64);
        if !by_group(LimitName::Pids) && count >= bounds.pids {
            return Some(Stop::Processes);
        }
        if by_group(LimitName::Memory) {
            return None;
        }
        let shm = if enforcers.has_shm { processes::shm(self.pid) } else { 0 };
        let too_much = used.resident + shm > bounds.memory
            && processes::shared_once(&pids) + shm > bounds.memory;
        too_much.then_some(Stop::Memory)
    }

    fn look_at_files(&mut self, sandbox: &Sandbox) -> Option<Stop> {
        let started = Instant::now();
        if started < self.files {
            return None;
        }
        let bounds = sandbox.confines.bounds();
        let disk = tree::usage(sandbox.dir.fd()).ok()?;
        // What it takes of a processor puts the next look off. By the clock it is half of the time at most,
        // for slow disks, and no less: what keeps processors busy must not win time by that.
        self.files = Instant::now() + FILES.max(started.elapsed());
        let (bytes, inodes) = (disk.disk_bytes, disk.inodes);
        let before = self.disk.replace((bytes, inodes));
        // Who is over it already may tidy up: only what grows is stopped. A first look has nothing
        // to compare with and counts everything, but for a sandbox that has been stopped before.
        let known = before.or(sandbox.confines.over.get());
        let before = known.unwrap_or_default();
        let full = fstatvfs(sandbox.dir.fd().as_fd()).is_ok_and(|stat| {
            stat.blocks_available().saturating_mul(stat.fragment_size()) < self.keep_free
        });
        let why = if bytes > bounds.storage && bytes > before.0 {
            Some(Stop::Storage)
        } else if inodes > bounds.inodes && inodes > before.1 {
            Some(Stop::Inodes)
        } else if full && known.is_some_and(|(known, _)| bytes > known) {
            // The disk is not full for what this one had before.
            Some(Stop::DiskFull)
        } else {
            None
        };
        let over = bytes > bounds.storage || inodes > bounds.inodes || full;
        sandbox.confines.over.set(over.then_some((bytes, inodes)));
        why
    }
}
