//! health, create, touch, delete.

use serde_json::json;

use super::{By, Pair, by_both_ways, intended, notes_to_stderr};

by_both_ways!(
    health_is_one_line,
    a_sandbox_is_made_kept_and_deleted,
    create_takes_every_option,
    each_deletes_what_the_other_made
);

fn health_is_one_line(by: By) {
    Pair::start(by).alike(&["health"], &[]);
}

fn a_sandbox_is_made_kept_and_deleted(by: By) {
    let pair = Pair::start(by);
    pair.alike(&["create", "SESSION"], &[]);
    let existed = || {
        intended("that the sandbox existed is worth knowing", |said| {
            said.stderr.insert_str(0, "ℹ It existed; its time to live starts anew\n");
        })
    };
    pair.alike(&["create", "SESSION", "--ttl", "100"], &[existed()]);
    pair.alike(&["create", "--ttl=100", "SESSION"], &[existed()]);
    pair.alike(&["touch", "SESSION"], &[]);
    pair.alike(&["delete", "SESSION"], &[]);
    for (verb, action) in [("touch", "/touch"), ("delete", "")] {
        pair.alike(&[verb, "SESSION"], &[pair.in_words(action)]);
    }
    assert_eq!(pair.daemon.directories(), [""; 0]);
}

fn create_takes_every_option(by: By) {
    let pair = Pair::start(by);
    let options =
        ["--ttl", "60", "--image", "x", "--cpu", "500m", "--mem", "512Mi", "--storage", "1Gi"];
    let wait = ["--wait", "--wait-timeout", "5"];
    let params = json!({"sessionId": "asked", "image": "x", "cpuLimit": "500m", "memoryLimit": "512Mi",
        "ephemeralStorageLimit": "1Gi"});
    let warnings = pair.daemon.call("sandbox.create", params).unwrap()["warnings"].clone();
    let warnings: Vec<_> =
        warnings.as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert!(warnings.iter().any(|warning| warning.contains("image")), "{warnings:?}");
    let warned = intended("what is asked for and cannot be had is not left unsaid", |said| {
        let lines: String = warnings.iter().map(|warning| format!("⚠ {warning}\n")).collect();
        said.stderr.insert_str(0, &lines);
    });
    pair.alike(
        &[&["create", "SESSION"], &options[..], &wait].concat(),
        &[notes_to_stderr(), warned],
    );
    for tool in super::BOTH {
        let info = pair.daemon.call("sandbox.get", json!({"sessionId": tool.session()})).unwrap();
        assert_eq!((&info["ttlSeconds"], &info["image"]), (&json!(60), &json!("x")), "{tool:?}");
        assert_eq!(info["limits"]["memory"]["value"], "512Mi", "{tool:?}: {info}");
    }
    let why = "what cannot be right is found before anything is asked, as other usage errors are";
    for (option, value, told) in [
        ("--ttl", "0", "ttlSeconds"),
        ("--mem", "lots", "memoryLimit"),
        ("--cpu", "-1", "cpuLimit"),
    ] {
        let arguments = ["create", option, value, "SESSION"];
        pair.both_fail(&arguments, (1, told), (2, value), why);
    }
    pair.both_fail(
        &["create"],
        (2, "session_id"),
        (2, "SESSION_ID"),
        "argparse's words and clap's",
    );
    pair.both_fail(&["create", "--ttl", "x", "SESSION"], (2, "--ttl"), (2, "--ttl"), "the same");
}

fn each_deletes_what_the_other_made(by: By) {
    let pair = Pair::start(by);
    for (maker, other) in [(super::BOTH[0], super::BOTH[1]), (super::BOTH[1], super::BOTH[0])] {
        assert!(pair.output(maker, &["create", "shared"]).status.success());
        let seen = pair.output(other, &["exec", "shared", "echo", "seen"]);
        assert_eq!(seen.stdout, b"seen\n");
        assert!(pair.output(other, &["delete", "shared"]).status.success());
        assert_eq!(pair.output(maker, &["touch", "shared"]).status.code(), Some(1));
    }
}
