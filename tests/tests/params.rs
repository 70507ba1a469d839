//! What methods take: by name, nothing unknown, nothing out of bounds.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use noxrunner_tests::TestDaemon;
use noxrunner_tests::wire::refusal;
use serde_json::{Value, json};

/// Asserts that a call is refused as `kind`, with all of these in the message.
#[track_caller]
fn refused(daemon: &TestDaemon, method: &str, params: Value, kind: &str, parts: &[&str]) {
    let (found, message) = daemon.refused(method, params.clone());
    assert_eq!(found, kind, "{method} {params}: {message}");
    for part in parts {
        assert!(message.contains(part), "{method} {params}: {part:?} is not in {message:?}");
    }
}

fn exec(more: Value) -> Value {
    let mut params = json!({"sessionId": "s", "cmd": ["touch", "ran"]});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    params
}

#[test]
fn params_go_by_name() {
    let daemon = TestDaemon::start();
    for params in [json!(["s"]), json!([]), json!("s"), json!(1), json!(true)] {
        refused(&daemon, "sandbox.create", params, "invalidArgument", &["name"]);
    }
    let mut wire = daemon.wire();
    wire.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sandbox.get\"}\n");
    let (kind, message) = refusal(&wire.receive());
    assert_eq!(kind, "invalidArgument");
    assert!(message.contains("sessionId"), "{message}");
    assert_eq!(daemon.directories(), [""; 0]);
}

#[test]
fn a_field_that_does_not_exist_is_refused_by_name() {
    let daemon = TestDaemon::start();
    let create = json!({"sessionId": "s", "ttlSecnods": 5});
    refused(&daemon, "sandbox.create", create, "invalidArgument", &["ttlSecnods"]);
    refused(&daemon, "health", json!({"verbose": true}), "invalidArgument", &["verbose"]);
    let twice = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"sandbox.create\",\
                 \"params\":{\"sessionId\":\"a\",\"sessionId\":\"b\"}}\n";
    let mut wire = daemon.wire();
    wire.send(twice);
    let (kind, message) = refusal(&wire.receive());
    assert!(kind == "invalidArgument" && message.contains("sessionId"), "{message}");
    assert_eq!(daemon.directories(), [""; 0]);
}

#[test]
fn a_wrong_type_is_named_with_its_path() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    for (more, path) in [
        (json!({"sessionId": 5}), "sessionId"),
        (json!({"cmd": "ls -l"}), "cmd"),
        (json!({"cmd": ["ls", 2]}), "cmd[1]"),
        (json!({"env": {"A": 1}}), "env.A"),
        (json!({"env": ["A=1"]}), "env"),
        (json!({"timeoutSeconds": "5"}), "timeoutSeconds"),
        (json!({"encoding": "latin1"}), "encoding"),
        (json!({"stdin": 1}), "stdin"),
        (json!({"create": "yes"}), "create"),
        (json!({"maxOutputBytes": -1}), "maxOutputBytes"),
        (json!({"workdir": null}), "workdir"),
    ] {
        refused(&daemon, "sandbox.exec", exec(more), "invalidArgument", &[path]);
    }
    refused(&daemon, "sandbox.exec", json!({"sessionId": "s"}), "invalidArgument", &["cmd"]);
    assert!(!daemon.workspace("s").join("ran").exists());
    assert_eq!(daemon.call("sandbox.exec", exec(json!({}))).unwrap()["exitCode"], 0);
    assert!(daemon.workspace("s").join("ran").exists());
}

#[test]
fn numbers_out_of_bounds_are_refused_naming_the_bound() {
    let daemon = TestDaemon::start();
    for ttl in [json!(0), json!(-1), json!(2_592_001), json!(1.5), json!(1e300), json!("60")] {
        let params = json!({"sessionId": "new", "ttlSeconds": ttl});
        refused(&daemon, "sandbox.create", params, "invalidArgument", &["ttlSeconds"]);
    }
    let params = json!({"sessionId": "new", "ttlSeconds": 0});
    refused(&daemon, "sandbox.create", params, "invalidArgument", &["2592000", "30 days"]);
    assert_eq!(daemon.directories(), [""; 0]);
    let longest = json!({"sessionId": "s", "ttlSeconds": 2_592_000});
    assert_eq!(daemon.call("sandbox.create", longest).unwrap()["created"], true);

    for seconds in [json!(0), json!(-0.5), json!(86_400.5), json!(1e300)] {
        let params = exec(json!({"timeoutSeconds": seconds}));
        refused(&daemon, "sandbox.exec", params, "invalidArgument", &["timeoutSeconds", "86400"]);
    }
    for (encoding, most) in [("utf8", 1 << 20), ("base64", 4 << 20)] {
        let params = exec(json!({"encoding": encoding, "maxOutputBytes": most + 1}));
        let parts = ["maxOutputBytes", &most.to_string()];
        refused(&daemon, "sandbox.exec", params, "invalidArgument", &parts);
        let params = json!({"sessionId": "s", "cmd": ["true"], "encoding": encoding,
            "maxOutputBytes": most, "timeoutSeconds": 86_400});
        assert_eq!(daemon.call("sandbox.exec", params).unwrap()["exitCode"], 0);
    }
    assert!(!daemon.workspace("s").join("ran").exists());
}

#[test]
fn what_is_not_built_yet_says_so() {
    let daemon = TestDaemon::start();
    daemon.create("s");
    for (method, params) in [
        ("sandbox.exec", exec(json!({"tag": "t"}))),
        ("sandbox.exec", exec(json!({"fds": 3}))),
        ("sandbox.create", json!({"sessionId": "new", "lease": "connection"})),
    ] {
        refused(&daemon, method, params, "unsupported", &[]);
    }
    assert!(!daemon.workspace("s").join("ran").exists());
    assert_eq!(daemon.directories().len(), 1);
    // The same without what is not built, or with its default, works.
    assert!(daemon.call("sandbox.exec", exec(json!({"tag": null, "fds": 0}))).is_ok());
    let plain = json!({"sessionId": "new", "lease": "none", "network": "none"});
    assert!(daemon.call("sandbox.create", plain).is_ok());
    for method in [
        "sandbox.hold",
        "sandbox.forward",
        "process.start",
        "process.read",
        "process.subscribe",
        "file.watch",
        "events.subscribe",
        "no.such",
        "Health",
        "",
    ] {
        let answer = daemon.wire().call(1, method, json!({}));
        assert_eq!(refusal(&answer).0, "methodNotFound", "{method}");
        let hint = answer["error"]["data"]["hint"].as_str().unwrap();
        assert!(hint.contains("rpc.discover"), "{hint}");
    }
}

#[test]
fn session_ids_are_compared_exactly() {
    let daemon = TestDaemon::start();
    let longest = "ü".repeat(256);
    let ids =
        ["a/b", "ab", "a_b", "A_B", "..", "../../etc", "日本 語", "é", "e\u{301}", " ", &longest];
    for id in ids {
        assert!(daemon.create(id).created, "{id:?}");
        let mut params = noxrunner_tests::exec_params(id, &["tee", "who"]);
        params.stdin = Some(id.to_owned());
        assert_eq!(daemon.exec_params(params).exit_code, 0, "{id:?}");
    }
    assert_eq!(daemon.directories().len(), ids.len());
    for id in ids {
        assert_eq!(daemon.sh(id, "cat who; ls | wc -l").stdout, format!("{id}1\n"));
        assert_eq!(daemon.sh(id, "echo \"$NOXRUNNER_SESSION\"").stdout, format!("{id}\n"));
    }
    let readable = daemon.directories().iter().map(|name| name.len()).max().unwrap();
    assert!(readable <= "noxrunner_sandbox_".len() + 64 + 16, "{:?}", daemon.directories());
    for (bad, why) in [
        (String::new(), "at least one"),
        ("x".repeat(257), "256"),
        ("a\u{7}".to_owned(), "control"),
        ("a\nb".to_owned(), "control"),
        ("a\u{85}".to_owned(), "control"),
        ("a\0".to_owned(), "control"),
    ] {
        refused(&daemon, "sandbox.create", json!({"sessionId": bad}), "invalidArgument", &[why]);
    }
    assert_eq!(daemon.directories().len(), ids.len());
}

#[test]
fn limits_are_shown_as_they_were_asked_for_and_nonsense_is_refused() {
    let daemon = TestDaemon::start();
    for field in ["cpuLimit", "memoryLimit", "ephemeralStorageLimit"] {
        for nonsense in ["lots", "-1", "0", "", "1.2.3", "1KB", "1 Gi", "0x10", "NaN", "1e999"] {
            let params = json!({"sessionId": "s", field: nonsense});
            refused(&daemon, "sandbox.create", params, "invalidArgument", &[field, "quantity"]);
        }
    }
    for (field, small, least) in [
        ("pidsLimit", json!(0), "4"),
        ("pidsLimit", json!(3), "4"),
        ("memoryLimit", json!("4095Ki"), "4Mi"),
        ("cpuLimit", json!("9m"), "10m"),
    ] {
        let params = json!({"sessionId": "s", field: small});
        refused(&daemon, "sandbox.create", params, "invalidArgument", &[field, least]);
    }
    assert_eq!(daemon.directories(), [""; 0]);

    let params = json!({"sessionId": "s", "cpuLimit": "500m", "memoryLimit": "512Mi",
        "ephemeralStorageLimit": "1G", "pidsLimit": 100, "image": "python:3.12"});
    let made = daemon.call("sandbox.create", params).unwrap();
    let asked = [("cpu", "500m"), ("memory", "512Mi"), ("ephemeralStorage", "1G"), ("pids", "100")];
    for (name, value) in asked {
        assert_eq!(made["limits"][name]["value"], value, "{}", made["limits"]);
    }
    let warnings = made["warnings"].to_string();
    assert!(warnings.contains("image"), "{warnings}");
    // Of what is asked for and cannot be had, the answer says so.
    let loose = made["limits"]["cpu"]["enforcedBy"] == "none";
    assert_eq!(warnings.contains("nothing enforces these limits here: cpu"), loose, "{warnings}");
    let got = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
    assert_eq!((&got["limits"], &got["image"]), (&made["limits"], &json!("python:3.12")));
    let plain = daemon.call("sandbox.create", json!({"sessionId": "plain"})).unwrap();
    assert_eq!(plain["limits"]["cpu"]["value"].is_null(), loose);
    assert_eq!(plain["limits"]["pids"]["value"], "1024");
    assert_eq!(plain.get("warnings"), None);
}

#[test]
fn create_is_idempotent_and_an_exec_leaves_the_time_to_live_alone() {
    let daemon = TestDaemon::start();
    let first = daemon.create_for("s", 100);
    daemon.sh("s", "echo kept > file");
    let second = daemon.create_for("s", 1000);
    assert!(first.created && !second.created);
    assert_eq!(first.sandbox_dir, second.sandbox_dir);
    assert!(second.expires_at > first.expires_at, "{} {}", second.expires_at, first.expires_at);
    let params = exec(json!({"cmd": ["cat", "file"], "create": true}));
    assert_eq!(daemon.call("sandbox.exec", params).unwrap()["stdout"], "kept\n");
    let got = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
    assert_eq!((&got["expiresAt"], &got["ttlSeconds"]), (&json!(second.expires_at), &json!(1000)));
    let touched = daemon.call("sandbox.touch", json!({"sessionId": "s"})).unwrap();
    assert!(touched["expiresAt"].as_str().unwrap() >= second.expires_at.as_str());
}

#[test]
fn an_unknown_sandbox_is_an_error_unless_exec_may_create_it() {
    let daemon = TestDaemon::start();
    for method in ["sandbox.get", "sandbox.touch", "sandbox.delete"] {
        refused(&daemon, method, json!({"sessionId": "s"}), "sandboxNotFound", &["s"]);
    }
    let answer = daemon.wire().call(1, "sandbox.exec", exec(json!({})));
    assert_eq!(refusal(&answer).0, "sandboxNotFound");
    assert!(answer["error"]["data"]["hint"].as_str().unwrap().contains("create"), "{answer}");
    assert_eq!(daemon.directories(), [""; 0]);
    let made = daemon.call("sandbox.exec", exec(json!({"create": true}))).unwrap();
    assert_eq!(made["exitCode"], 0);
    let got = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
    assert_eq!(got["ttlSeconds"], 900);
    let deleted = daemon.call("sandbox.delete", json!({"sessionId": "s"})).unwrap();
    assert_eq!(deleted, json!({"deleted": true}));
    refused(&daemon, "sandbox.delete", json!({"sessionId": "s"}), "sandboxNotFound", &["s"]);
}
