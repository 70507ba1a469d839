//! What commands write: kept to a bound, counted beyond it, in the encoding that was asked for.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;

use noxrunner_protocol::types::{Encoding, ExecResult};
use noxrunner_tests::{TestDaemon, exec_params};

const MEBIBYTE: u64 = 1024 * 1024;

#[track_caller]
fn sh(daemon: &TestDaemon, script: &str, encoding: Encoding, most: u64) -> ExecResult {
    let mut params = exec_params("s", &["sh", "-c", script]);
    params.create = true;
    (params.encoding, params.max_output_bytes) = (encoding, most);
    daemon.exec_params(params)
}

#[test]
fn bytes_are_text_or_base64() {
    let daemon = TestDaemon::start();
    let bytes = r"printf 'a\377\000b\n'; printf '\303' >&2";
    let result = sh(&daemon, bytes, Encoding::Utf8, MEBIBYTE);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("a\u{fffd}\0b\n", "\u{fffd}"));
    assert_eq!((result.stdout_bytes, result.stderr_bytes), (5, 1));
    assert_eq!(result.encoding, Encoding::Utf8);
    let result = sh(&daemon, bytes, Encoding::Base64, MEBIBYTE);
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("Yf8AYgo=", "ww=="));
    assert_eq!(result.encoding, Encoding::Base64);
}

#[test]
fn a_mebibyte_is_whole_and_one_byte_more_is_cut() {
    let daemon = TestDaemon::start();
    let write = |bytes: u64| {
        let script = format!("head -c {bytes} /dev/zero | tr '\\0' x | tee /dev/stderr");
        sh(&daemon, &script, Encoding::Utf8, MEBIBYTE)
    };
    let whole = write(MEBIBYTE);
    assert_eq!((whole.stdout.len() as u64, whole.stdout_bytes), (MEBIBYTE, MEBIBYTE));
    assert!(!whole.stdout_truncated && !whole.stderr_truncated);
    let cut = write(MEBIBYTE + 1);
    assert_eq!((cut.stdout.len() as u64, cut.stdout_bytes), (MEBIBYTE, MEBIBYTE + 1));
    assert_eq!((cut.stderr.len() as u64, cut.stderr_bytes), (MEBIBYTE, MEBIBYTE + 1));
    assert!(cut.stdout_truncated && cut.stderr_truncated && cut.exit_code == 0);
}

#[test]
fn a_bound_counts_raw_bytes_and_drops_half_a_character() {
    let daemon = TestDaemon::start();
    let euro = |most, encoding| sh(&daemon, r"printf 'x\342\202\254'", encoding, most);
    for (most, kept, cut) in
        [(4, "x€", false), (3, "x", true), (2, "x", true), (1, "x", true), (0, "", true)]
    {
        let result = euro(most, Encoding::Utf8);
        assert_eq!((result.stdout.as_str(), result.stdout_truncated), (kept, cut), "{most}");
        assert_eq!(result.stdout_bytes, 4);
    }
    assert_eq!(euro(3, Encoding::Base64).stdout, "eOKC");
    // Bytes that are no character are not taken for half a one.
    let result = sh(&daemon, r"printf 'x\377yz'", Encoding::Utf8, 2);
    assert_eq!(result.stdout, "x\u{fffd}");
}

#[test]
fn four_mebibytes_of_base64_come_whole() {
    let daemon = TestDaemon::start();
    let most = 4 * MEBIBYTE;
    let script = format!("head -c {most} /dev/zero; head -c {} /dev/zero >&2", most + 1);
    let result = sh(&daemon, &script, Encoding::Base64, most);
    assert_eq!((result.stdout_bytes, result.stdout_truncated), (most, false));
    assert_eq!((result.stderr_bytes, result.stderr_truncated), (most + 1, true));
    assert_eq!(
        (result.stdout.len() as u64, result.stderr.len()),
        (most.div_ceil(3) * 4, result.stdout.len())
    );
}

#[test]
fn control_characters_make_an_answer_long_and_it_still_arrives() {
    let daemon = TestDaemon::start();
    // Six bytes of JSON each.
    let script = format!("head -c {MEBIBYTE} /dev/zero | tee /dev/stderr");
    let result = sh(&daemon, &script, Encoding::Utf8, MEBIBYTE);
    assert_eq!((result.stdout.len(), result.stderr.len()), (MEBIBYTE as usize, MEBIBYTE as usize));
}

#[test]
fn much_output_is_counted_and_costs_no_memory() {
    let daemon = TestDaemon::start();
    let result = sh(&daemon, "head -c 200000000 /dev/zero", Encoding::Base64, 1000);
    assert_eq!((result.exit_code, result.stdout_bytes), (0, 200_000_000));
    assert!(result.stdout_truncated && result.stdout.len() < 1400);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(kib < 48 * 1024, "the daemon needed {kib} KiB");
}
