//! Ends of groups.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::super::{Caps, Version};
use super::fixture::{Fixture, Program, SOON, eventually, lives};

/// Starts a child that leaves the session, its grandchild that is orphaned, one
/// that ignores signals and one that has stopped itself; prints their pids and stays.
const HYDRA: &str = r#"
    use POSIX ();
    sub start { my $act = shift; my $p = fork // die; if (!$p) { $act->(); sleep 100; exit } $p }
    my @pids = ($$, start(sub { POSIX::setsid(); print start(sub { }), "\n" }));
    push @pids, start(sub { $SIG{$_} = "IGNORE" for qw(TERM INT HUP) });
    push @pids, start(sub { kill "STOP", $$ });
    print "$_\n" for @pids;
    print "all\n";
    sleep 100"#;

fn pids_of(program: &mut Program, count: usize) -> Vec<Pid> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let line = program.line();
        if line != "all" {
            lines.push(Pid::from_raw(line.parse().unwrap()));
        }
    }
    lines
}

pub(super) fn everything_is_killed_whatever_it_does(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    let mut bystander = Program::perl("print \"here\\n\"; sleep 100");
    bystander.go();
    assert_eq!(bystander.line(), "here");
    let mut hydra = Program::inside(&group, HYDRA);
    let pids = pids_of(&mut hydra, 5);
    assert!(pids.iter().all(|pid| lives(*pid)), "{pids:?}");
    assert_eq!(group.usage().unwrap().processes, Some(5));
    group.kill(SOON).unwrap();
    // Out of the group, and on their last steps.
    eventually("none of them lives", || !pids.iter().any(|pid| lives(*pid)));
    assert_eq!(hydra.end(), Err(Signal::SIGKILL));
    assert!(lives(bystander.pid()));
    // Empty already, which is no error.
    group.kill(SOON).unwrap();
    group.remove(SOON).unwrap();
}

pub(super) fn a_fork_bomb_is_killed_and_the_group_works_on(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    group.apply(&Caps { pids: Some(100), cpu_millis: Some(1000), ..Caps::default() }).unwrap();
    let mut bomb = Program::inside(&group, "while (1) { fork }");
    eventually("it hits the limit", || group.events().unwrap().pids_refused > 0);
    group.kill(SOON).unwrap();
    assert_eq!(bomb.end(), Err(Signal::SIGKILL));
    eventually("nobody is left", || group.usage().unwrap().processes == Some(0));
    // The limit is what it was, not what killing needed.
    let forks = "my $p = fork; defined $p or exit 1; exit 0 if !$p; waitpid $p, 0; exit 0";
    assert_eq!(Program::inside(&group, forks).end(), Ok(0));
    let limit = group.paths().into_iter().map(|path| path.join("pids.max"));
    let limit = limit.filter_map(|path| std::fs::read_to_string(path).ok()).next().unwrap();
    assert_eq!(limit, "100\n");
    group.remove(SOON).unwrap();
}

pub(super) fn the_slowest_group_is_killed_at_once(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    let mut forker = Program::inside(
        &group,
        r#"for (1..300) { fork or do { sleep 100; exit } } for (1..30) { fork or do { 1 while 1 } }
        print "forked\n"; sleep 100"#,
    );
    assert_eq!(forker.line(), "forked");
    // A millisecond of each hundred for all of them.
    group.apply(&Caps { cpu_millis: Some(10), ..Caps::default() }).unwrap();
    let since = Instant::now();
    group.kill(SOON).unwrap();
    let took = since.elapsed();
    // Each needs some of that millisecond to die, or of all that there is.
    assert!(took < Duration::from_secs(6), "it took {took:?}");
    let limits = ["cpu.max", "cpu.cfs_quota_us"];
    let limits =
        limits.iter().flat_map(|file| group.paths().into_iter().map(move |p| p.join(file)));
    let limit = limits.filter_map(|path| std::fs::read_to_string(path).ok()).next().unwrap();
    assert!(["1000\n", "1000 100000\n"].contains(&limit.as_str()), "{limit}");
    group.remove(SOON).unwrap();
}

pub(super) fn a_group_with_somebody_in_it_is_not_removed(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    let sleeper = Program::inside(&group, "sleep 100");
    let refused = group.remove(Duration::from_millis(30)).unwrap_err();
    assert_eq!(refused.error.errno(), Some(Errno::EBUSY));
    assert!(lives(sleeper.pid()));
    let paths = refused.group.paths();
    assert!(paths.iter().all(|path| path.exists()));
    refused.group.kill(SOON).unwrap();
    refused.group.remove(SOON).unwrap();
    assert!(!paths.iter().any(|path| path.exists()));
}

pub(super) fn nothing_is_left(fx: &Fixture) {
    let own = fx.own().into_iter().map(directories).collect::<Vec<_>>();
    let handed = fx.own()[0].join("cgroup.subtree_control");
    let hierarchy = fx.establish();
    if hierarchy.version() == Version::V2 {
        assert_eq!(std::fs::read_to_string(&handed).unwrap(), "cpu memory pids\n");
    }
    let groups: Vec<_> = (0..20).map(|_| hierarchy.make().unwrap()).collect();
    let paths: Vec<_> = groups.iter().flat_map(|group| group.paths()).collect();
    assert!(paths.iter().all(|path| path.is_dir()));
    for group in groups {
        group.remove(SOON).unwrap();
    }
    assert!(!paths.iter().any(|path| path.exists()));
    assert!(fx.parents().iter().all(|parent| parent.is_dir()));
    drop(hierarchy);
    assert!(!fx.parents().iter().any(|parent| parent.exists()));
    assert_eq!(fx.own().into_iter().map(directories).collect::<Vec<_>>(), own);
    if handed.exists() {
        assert_eq!(std::fs::read_to_string(&handed).unwrap().trim(), "");
    }
}

fn directories(path: &std::path::Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    // Others' tests make and remove their own here.
    let foreign = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("noxrunner-");
    let names = entries.filter(|e| e.file_type().unwrap().is_dir()).map(|e| e.file_name());
    names.filter(|name| !foreign(name)).collect()
}

pub(super) fn dropping_a_group_removes_it(fx: &Fixture) {
    let group = fx.establish().make().unwrap();
    let paths = group.paths();
    assert!(paths.iter().all(|path| path.is_dir()));
    drop(group);
    assert!(!paths.iter().any(|path| path.exists()));
    assert!(!fx.parents().iter().any(|parent| parent.exists()));
}

pub(super) fn a_dead_process_cannot_be_added(fx: &Fixture) {
    let hierarchy = fx.establish();
    let group = hierarchy.make().unwrap();
    let mut ended = Program::perl("exit 0");
    let pid = ended.pid();
    ended.go();
    ended.end().unwrap();
    assert_eq!(group.add(pid).unwrap_err().errno(), Some(Errno::ESRCH));
    group.remove(SOON).unwrap();
}
