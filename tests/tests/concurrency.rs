//! Many at once: nobody gets another's answer, and what it took is given back.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

/// These load the whole machine, so they run alone.
mod heavy {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::thread;
    use std::time::{Duration, Instant};

    use nix::sys::signal::Signal;
    use noxrunner_tests::life::{
        Pending, Process, alive, children, descriptors, kib, noted, nothing_runs,
        settled_descriptors, workspace, zygote,
    };
    use noxrunner_tests::processes::Numbers;
    use noxrunner_tests::{SOON, TestDaemon, eventually, in_both_tiers, run, text};
    use serde_json::{Value, json};

    const CLIENTS: usize = 64;
    const EXECS: usize = 20;

    /// How much more memory a daemon may keep after a round than before it, in KiB.
    const A_FEW_MB: u64 = 4 * 1024;

    fn resident(daemon: &TestDaemon) -> u64 {
        kib(&format!("/proc/{}/status", daemon.pid()), "VmRSS")
    }

    /// A client's whole life, each step a process of its own.
    fn client(daemon: &TestDaemon, round: usize, n: usize) {
        let session = format!("client-{n}");
        let noxctl = |arguments: &[&str]| {
            let output = run(daemon.noxctl(arguments).env("NOXRUNNER_QUIET", "1"));
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            assert!(output.status.success(), "{arguments:?}: {:?} {stderr}", output.status);
            assert_eq!(stderr, "", "{arguments:?}");
            stdout
        };
        noxctl(&["create", &session]);
        for exec in 0..EXECS {
            let nonce = format!("{round}-{n}-{exec}");
            let script = "cat nonce 2> /dev/null; echo $1 | tee nonce; echo $NOXRUNNER_SESSION";
            let said = noxctl(&["exec", &session, "sh", "-c", script, "sh", &nonce]);
            let before = match exec {
                0 => String::new(),
                _ => format!("{round}-{n}-{}\n", exec - 1),
            };
            assert_eq!(said, format!("{before}{nonce}\n{session}\n"));
        }
        noxctl(&["delete", &session]);
    }

    fn round(daemon: &TestDaemon, number: usize) {
        thread::scope(|scope| {
            for n in 0..CLIENTS {
                scope.spawn(move || client(daemon, number, n));
            }
        });
        assert_eq!(daemon.directories(), [""; 0]);
        nothing_runs(daemon);
    }

    #[test]
    fn sixty_four_clients_with_twenty_commands_each() {
        let daemon = TestDaemon::start();
        round(&daemon, 0);
        let (memory, open) = (resident(&daemon), settled_descriptors(daemon.pid()));
        let started = Instant::now();
        round(&daemon, 1);
        let took = started.elapsed();
        eventually("its descriptors are as before", SOON, || descriptors(daemon.pid()) == open);
        let mut after = 0;
        eventually(&format!("it keeps little more than {memory} KiB"), SOON, || {
            after = resident(&daemon);
            after < memory + A_FEW_MB
        });
        println!(
            "a round took {took:?}; {memory} KiB before, {after} KiB after, {open} descriptors"
        );
    }

    #[test]
    fn a_thousand_live_sandboxes() {
        const COUNT: usize = 1000;
        let daemon = TestDaemon::start();
        daemon.create("warm-up");
        daemon.delete("warm-up");
        nothing_runs(&daemon);
        let (open, memory) = (settled_descriptors(daemon.pid()), resident(&daemon));
        let available = || kib("/proc/meminfo", "MemAvailable");
        let before = available();
        let ids: Vec<String> = (0..COUNT).map(|n| format!("s{n}")).collect();
        let everywhere = |act: &(dyn Fn(&str) + Sync)| {
            let started = Instant::now();
            thread::scope(|scope| {
                for part in ids.chunks(COUNT / 8) {
                    scope.spawn(move || part.iter().for_each(|id| act(id)));
                }
            });
            started.elapsed()
        };

        let creating = everywhere(&|id| drop(daemon.create(id)));
        let idle = before.saturating_sub(available());
        println!(
            "{COUNT} creates: {creating:?}; an idle init and its directory: {} KiB of MemAvailable, {} KiB of the daemon's own",
            idle / COUNT as u64,
            (resident(&daemon) - memory) / COUNT as u64
        );
        let inits = children(zygote(&daemon).pid);
        assert_eq!(inits.len(), COUNT);
        if nix::unistd::geteuid().is_root() {
            // Other programs move MemAvailable too; this is the inits' alone, shared pages divided.
            // They may not be looked into, but by root.
            let own = |init: &Process| kib(&format!("/proc/{}/smaps_rollup", init.pid), "Pss");
            let shares: u64 = inits.iter().map(own).sum();
            println!("an init's own share: {} KiB", shares / COUNT as u64);
        }
        assert_eq!(daemon.directories().len(), COUNT);

        let started = Instant::now();
        let list = daemon.call("sandbox.list", json!({})).unwrap();
        println!("list: {:?}", started.elapsed());
        let name = |s: &Value| s["sessionId"].as_str().unwrap().to_owned();
        let listed: BTreeSet<String> =
            list["sandboxes"].as_array().unwrap().iter().map(name).collect();
        assert_eq!(listed, ids.iter().cloned().collect());

        let executing = everywhere(&|id| {
            let result = daemon.sh(id, "echo $NOXRUNNER_SESSION");
            assert_eq!(result.stdout.trim(), id);
        });
        println!("{COUNT} execs: {executing:?}");
        let deleting = everywhere(&|id| daemon.delete(id));
        println!("{COUNT} deletes: {deleting:?}");
        assert_eq!(daemon.directories(), [""; 0]);
        nothing_runs(&daemon);
        eventually("its descriptors are as before", SOON, || descriptors(daemon.pid()) == open);
        println!("{memory} KiB of the daemon before, {} KiB after", resident(&daemon));
        assert_eq!(settled_descriptors(daemon.pid()), open);
    }

    /// What runs in a session of the next test: sleepers of every kind, and in one of so many two spinners,
    /// since two processors are not many.
    fn crowd(n: usize, spins: usize) -> (String, usize) {
        let mut script = String::from(noxrunner_tests::life::ZOO);
        script.push_str(noxrunner_tests::life::STRAYS);
        let mut size = noxrunner_tests::life::ZOO_SIZE + noxrunner_tests::life::STRAYS_SIZE;
        if n.is_multiple_of(spins) {
            script.push_str("sh -c 'echo $$ > pids/spinner; while :; do :; done' &\n");
            script.push_str("(setsid sh -c 'echo $$ > pids/runaway; while :; do :; done' &)\n");
            size += 2;
        }
        script.push_str("echo $$ > pids/leader; wait; sleep 1000");
        (script, size + 1)
    }

    in_both_tiers!(a_kill_of_the_daemon_during_a_hundred_sessions_again_and_again);

    fn a_kill_of_the_daemon_during_a_hundred_sessions_again_and_again(mut daemon: TestDaemon) {
        const SESSIONS: usize = 100;
        let mut slowest = Duration::ZERO;
        // Where nothing holds the spinners to a quota, each round takes several times as long.
        let health = daemon.call("health", json!({})).unwrap();
        let features = health["isolation"]["features"].as_array().unwrap();
        let is_held = features.iter().any(|f| f.as_str().unwrap().starts_with("cgroup v"));
        let (rounds, spins) = if is_held { (4, 10) } else { (2, 50) };
        for round in 0..rounds {
            let mut lasting = Vec::new();
            let mut running = Vec::new();
            let mut wanted = 0;
            for n in 0..SESSIONS {
                let sandbox = daemon.create(&format!("s{n}"));
                let place = workspace(&sandbox);
                // Of the round before: files are as they were, processes are not.
                if round > 0 {
                    assert!(!sandbox.created, "s{n} is lost");
                    let kept = fs::read_to_string(place.join("kept")).unwrap();
                    assert_eq!(kept, format!("{} {n}", round - 1));
                    fs::remove_dir_all(place.join("pids")).unwrap();
                }
                fs::write(place.join("kept"), format!("{round} {n}")).unwrap();
                let (script, size) = crowd(n, spins);
                wanted += size;
                running.push(Pending::sh(&daemon, &format!("s{n}"), &script));
                lasting.push((place, size));
            }
            let mut noting = Vec::new();
            for (place, size) in &lasting {
                let mut notes = BTreeMap::new();
                eventually("everything runs", 3 * SOON, || {
                    notes = noted(place);
                    notes.len() == *size
                });
                noting.extend(notes.into_values().map(|number| (place, number)));
            }
            let numbers = Numbers::now();
            let process = |(place, number): &(&PathBuf, i32)| numbers.find(place, *number).unwrap();
            let mut all: Vec<Process> = noting.iter().map(process).collect();
            let zygote = zygote(&daemon);
            all.extend(children(zygote.pid));
            assert_eq!(all.len(), wanted + SESSIONS);
            all.push(zygote);
            let brief = daemon.create_for("brief", 1);

            daemon.end_by(Signal::SIGKILL);
            let killed = Instant::now();
            while !alive(&all).is_empty() {
                let left = alive(&all);
                assert!(
                    killed.elapsed() < Duration::from_secs(10),
                    "round {round}: alive: {left:?}"
                );
                thread::sleep(Duration::from_millis(10));
            }
            slowest = slowest.max(killed.elapsed());
            assert_eq!(daemon.processes(), []);
            drop(running);
            // Its second passes while no daemon runs.
            eventually("the brief one is over", SOON, || killed.elapsed() > Duration::from_secs(1));

            daemon.start_again();
            eventually("the expired one is removed", SOON, || {
                !Path::new(&brief.sandbox_dir).exists()
            });
            assert_eq!(daemon.directories().len(), SESSIONS);
        }
        println!("all dead after {slowest:?} at most");
        for n in 0..SESSIONS {
            daemon.delete(&format!("s{n}"));
        }
        assert_eq!(daemon.directories(), [""; 0]);
        nothing_runs(&daemon);
    }
}
