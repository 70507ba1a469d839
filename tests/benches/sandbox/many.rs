//! Many sandboxes that only wait: what they do to an exec, and what each of them takes.

use std::thread::sleep;
use std::time::Duration;

use noxrunner_tests::TestDaemon;
use noxrunner_tests::life::kib;
use serde_json::{Value, json};

use crate::options::Options;
use crate::sandbox::exec;
use crate::table::{FLOOR, Table};

/// An exec in one sandbox while so many others live.
pub(crate) fn among_many(daemon: &TestDaemon, options: &Options) -> Value {
    let (mut rows, mut live, mut idle_kib) = (Vec::new(), 0, None);
    for &count in options.scale.live {
        let name = format!("exec among {count} sandboxes");
        if !options.wants(&name) {
            continue;
        }
        let before = available_kib();
        for n in live..count {
            daemon.create(&format!("m{n}"));
        }
        let taken = before - available_kib();
        let mut connection = daemon.connect();
        rows.extend(
            Table::new("among many", options)
                .arm(&name, FLOOR, |nonce| exec(&mut connection, "bench", nonce))
                .run(options.scale.samples),
        );
        if live == 0 {
            let each = taken / count as f64;
            println!("{:36} {each:>9.0} KiB less in MemAvailable, over {count}", "an idle sandbox");
            idle_kib = Some(each);
        }
        live = count;
    }
    for n in 0..live {
        daemon.delete(&format!("m{n}"));
    }
    json!({"rows": rows, "idleKib": idle_kib})
}

/// MemAvailable (proc_meminfo(5)): whatever a sandbox takes is missing there, in the kernel too.
fn available_kib() -> f64 {
    // What was just freed or taken by the processor is not in the sum at once.
    sleep(Duration::from_millis(500));
    kib("/proc/meminfo", "MemAvailable") as f64
}
