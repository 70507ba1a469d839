//! The AppArmor profile is one that AppArmor's own parser takes.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use noxrunner_tests::{run, text};

const PROFILE: &str = include_str!("../../systemd/apparmor/noxrunnerd");

/// Not in every user's PATH.
const PARSER: &str = "/sbin/apparmor_parser";

/// What the parser makes of a profile. It loads and keeps nothing.
fn parse(profile: &str, options: &[&str]) -> Output {
    assert!(Path::new(PARSER).exists(), "{PARSER} is missing: apt-get install apparmor");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("noxrunnerd");
    fs::write(&file, profile).unwrap();
    let mut parser = Command::new(PARSER);
    parser.args(["--skip-kernel-load", "--skip-cache"]).args(options).arg(&file);
    run(parser.stdin(Stdio::null()))
}

#[track_caller]
fn refused(profile: &str, options: &[&str], why: &str) {
    let output = parse(profile, options);
    let stderr = text(&output.stderr);
    assert!(!output.status.success() && stderr.contains(why), "{stderr}");
}

/// The profile as far as the parser of this machine can know it. Version 3,
/// Debian 12's, knows neither the rule `userns` nor the ABI in which it is; so
/// for that one, and only for that one, the ABI is its own and the rule is left out.
fn as_known_here() -> String {
    let version = run(Command::new(PARSER).arg("--version").stdin(Stdio::null()));
    let version = text(&version.stdout);
    let major = version.split("version ").nth(1).and_then(|v| v.split('.').next()).unwrap();
    if major.parse::<u32>().unwrap() > 3 {
        return PROFILE.to_owned();
    }
    // The day that this one does take it, nothing is to be left out any more.
    refused(PROFILE, &[], "abi/4.0");
    let lines = PROFILE.lines().map(|line| match line {
        "abi <abi/4.0>," => "abi <abi/3.0>,",
        "  userns," => "",
        line => line,
    });
    let known: Vec<&str> = lines.collect();
    let changed = known.iter().zip(PROFILE.lines()).filter(|(a, b)| **a != *b).count();
    assert_eq!(changed, 2);
    known.join("\n") + "\n"
}

#[test]
fn it_parses() {
    let profile = as_known_here();
    let output = parse(&profile, &["--names"]);
    assert_eq!(text(&output.stdout), "noxrunnerd\n", "{}", text(&output.stderr));
    let output = parse(&profile, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The control: a parser that took anything would prove nothing.
#[test]
fn with_a_mistake_it_does_not() {
    let profile = as_known_here();
    for (right, wrong, why) in [
        ("(unconfined)", "(unconfind)", "Invalid profile flag"),
        ("<tunables/global>", "<tunables/globul>", "Could not open"),
        ("include if exists", "include if exist", "Could not open"),
        ("bin}", "bin", "Invalid"),
        ("\n}\n", "\n", "syntax error"),
    ] {
        assert_eq!(profile.matches(right).count(), 1, "{right}");
        refused(&profile.replace(right, wrong), &[], why);
    }
}

#[test]
fn what_the_machine_adds_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("local")).unwrap();
    let include = format!("--Include={}", dir.path().display());
    let local = dir.path().join("local/noxrunnerd");
    let profile = as_known_here();
    fs::write(&local, "/usr/bin/true ix,\n").unwrap();
    assert!(parse(&profile, &[&include]).status.success());
    fs::write(&local, "no rule at all\n").unwrap();
    refused(&profile, &[&include], "local/noxrunnerd");
}
