//! What the daemon says of itself and of its methods.
#![allow(clippy::unwrap_used)] // Whatever fails in here fails a test.

use std::collections::BTreeSet;

use noxrunner_protocol::{ErrorKind, method};
use noxrunner_tests::wire::refusal;
use noxrunner_tests::{SOON, TestDaemon, Tier, eventually, in_both_tiers, number_in};
use serde_json::{Value, json};

in_both_tiers!(
    health_says_what_isolates_and_what_does_not,
    the_daemon_describes_itself,
    a_shutdown_answers_first_and_then_does_as_a_signal_does,
);

fn discover(daemon: &TestDaemon) -> Value {
    daemon.call("rpc.discover", json!({})).unwrap()
}

/// Every `$ref` in a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
        found.insert(reference.to_owned());
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => members.values().for_each(|member| references(member, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_document_lists_every_method_and_each_can_be_called() {
    let daemon = TestDaemon::start();
    let document = discover(&daemon);
    let methods = document["methods"].as_array().unwrap();
    let names: Vec<&str> = methods.iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, method::NAMES);
    let listed = "health rpc.discover sandbox.create sandbox.get sandbox.list sandbox.touch sandbox.delete \
        sandbox.exec file.read file.write file.list file.stat file.mkdir file.remove file.rename file.upload \
        file.download policy.get policy.check daemon.info daemon.shutdown";
    assert_eq!(
        names.iter().collect::<BTreeSet<_>>(),
        listed.split(' ').collect::<Vec<_>>().iter().collect()
    );
    for method in methods {
        assert_eq!(method["paramStructure"], "by-name", "{method}");
        assert!(!method["summary"].as_str().unwrap().is_empty());
        let name = method["name"].as_str().unwrap();
        // Known, and not carried out.
        let (kind, message) = daemon.refused(name, json!({"nosuch": 1}));
        assert!(kind == "invalidArgument" && message.contains("nosuch"), "{name}: {message}");
    }
    assert_eq!(daemon.call("health", json!({})).unwrap()["status"], "ok");
}

#[test]
fn the_document_names_the_params_that_methods_take() {
    let daemon = TestDaemon::start();
    let document = discover(&daemon);
    let mut taken = Vec::new();
    for method in document["methods"].as_array().unwrap() {
        let name = method["name"].as_str().unwrap();
        let params = method["params"].as_array().unwrap();
        let required: Vec<bool> = params.iter().map(|p| p["required"] == true).collect();
        assert!(required.is_sorted_by(|a, b| a >= b), "{name}: what is required comes first");
        for param in params {
            let param = param["name"].as_str().unwrap();
            // No param of any method is a list of lists: a wrong type, not an unknown name.
            let (kind, message) = daemon.refused(name, json!({param: [[1]]}));
            assert_eq!(kind, "invalidArgument");
            assert!(message.starts_with(param), "{name} {param}: {message}");
            taken.push(format!("{name}:{param}"));
        }
    }
    for expected in [
        "sandbox.exec:cmd",
        "sandbox.exec:timeoutSeconds",
        "sandbox.create:ttlSeconds",
        "sandbox.get:sessionId",
        "policy.check:pathBase64",
        "file.read:pathBase64",
        "file.rename:toBase64",
    ] {
        assert!(taken.iter().any(|t| t == expected), "{expected}: {taken:?}");
    }
    assert!(!taken.iter().any(|t| t.starts_with("health:")));
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let document = discover(&TestDaemon::start());
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference}"));
        assert!(document.pointer(pointer).is_some_and(|v| !v.is_null()), "{reference}");
    }
    let errors = document["components"]["errors"].as_object().unwrap();
    assert_eq!(errors.len(), ErrorKind::ALL.len());
    for kind in ErrorKind::ALL {
        assert_eq!(errors[kind.name()]["code"], kind.code());
    }
}

#[test]
fn the_page_and_the_table_of_errors_agree() {
    for (name, code, http) in [
        ("parseError", -32700, 400),
        ("invalidRequest", -32600, 400),
        ("methodNotFound", -32601, 404),
        ("invalidArgument", -32602, 400),
        ("internal", -32603, 500),
        ("sandboxNotFound", -32041, 404),
        ("processNotFound", -32042, 404),
        ("fileNotFound", -32043, 404),
        ("pathDenied", -32044, 403),
        ("conflict", -32045, 409),
        ("limitExceeded", -32046, 429),
        ("payloadTooLarge", -32047, 413),
        ("badArchive", -32048, 400),
        ("storageFull", -32049, 507),
        ("notReady", -32050, 503),
        ("unauthorized", -32051, 401),
        ("unsupported", -32052, 501),
        ("upstream", -32053, 502),
        ("commandDenied", -32054, 403),
        ("commandNotFound", -32055, 404),
    ] {
        let kind = ErrorKind::from_code(code).unwrap();
        assert_eq!((kind.name(), kind.http_status()), (name, http));
    }
    assert_eq!(ErrorKind::ALL.len(), 20);
}

fn health_says_what_isolates_and_what_does_not(daemon: TestDaemon) {
    daemon.create("s");
    let health = daemon.call("health", json!({})).unwrap();
    assert_eq!((&health["status"], &health["backend"]), (&json!("ok"), &json!("local")));
    assert_eq!(
        (&health["sandboxes"], &health["version"]),
        (&json!(1), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert!(health["uptimeSeconds"].is_u64());
    let isolation = &health["isolation"];
    assert_eq!(isolation["tier"], daemon.tier.name());
    let features: Vec<&str> =
        isolation["features"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    // Where commands have another user than a root daemon, that is in use in every tier.
    let mut expected: Vec<&str> = Vec::new();
    if nix::unistd::geteuid().is_root() {
        expected.push("host uid per sandbox");
    }
    if daemon.tier == Tier::Full {
        expected.extend([
            "user namespace",
            "mount namespace",
            "overlay",
            "pid namespace",
            "network namespace",
        ]);
        expected.extend(["ipc namespace", "uts namespace", "cgroup namespace", "seccomp"]);
    }
    for feature in &expected {
        assert!(features.contains(feature), "{feature}: {features:?}");
    }
    let missing = isolation["missing"].as_array().unwrap();
    let has_groups = features.iter().any(|feature| feature.starts_with("cgroup v"));
    assert_eq!(missing.iter().any(|missing| missing["feature"] == "cgroup"), !has_groups);
    if daemon.tier == Tier::None {
        let others: Vec<&str> =
            features.iter().copied().filter(|name| !name.starts_with("cgroup v")).collect();
        assert_eq!(others, expected);
        assert!(!missing.is_empty());
    }
    for missing in missing {
        for member in ["feature", "why", "mend"] {
            assert!(!missing[member].as_str().unwrap().is_empty(), "{missing}");
        }
    }
    let unsupported: Vec<_> = health["unsupported"].as_array().unwrap().iter().collect();
    for name in ["sandbox.hold", "sandbox.exec:tag", "sandbox.exec:fds", "sandbox.create:lease"] {
        assert!(unsupported.contains(&&json!(name)), "{name}: {unsupported:?}");
    }
    let made = daemon.call("sandbox.create", json!({"sessionId": "s"})).unwrap();
    assert_eq!(&made["isolation"], isolation);
}

fn the_daemon_describes_itself(daemon: TestDaemon) {
    daemon.create("s");
    let mut wire = daemon.wire();
    let _other = {
        let mut other = daemon.wire();
        other.call(1, "health", json!({}));
        other
    };
    let answer = wire.call(1, "daemon.info", json!({}));
    let info = &answer["result"];
    let base = daemon.base.canonicalize().unwrap();
    let expected = json!({"pid": daemon.pid().as_raw(), "uid": nix::unistd::geteuid().as_raw(),
        "socket": daemon.socket, "baseDir": base, "sandboxes": 1, "tier": daemon.tier.name(), "ephemeral": false,
        "version": env!("CARGO_PKG_VERSION")});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&info[name], value, "{name}");
    }
    // Those of this test; one that has just closed may still count.
    assert!(info["connections"].as_u64().unwrap() >= 2, "{info}");
    assert!(info["startedAt"].as_str().unwrap().ends_with('Z'), "{info}");
}

#[test]
fn list_and_get_agree() {
    let daemon = TestDaemon::start();
    assert_eq!(daemon.call("sandbox.list", json!({})).unwrap(), json!({"sandboxes": []}));
    ["b", "a", "c"].iter().for_each(|id| drop(daemon.create(id)));
    let list = daemon.call("sandbox.list", json!({})).unwrap();
    let sandboxes = list["sandboxes"].as_array().unwrap();
    let ids: Vec<_> = sandboxes.iter().map(|s| s["sessionId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    for sandbox in sandboxes {
        let got = daemon.call("sandbox.get", json!({"sessionId": sandbox["sessionId"]})).unwrap();
        for member in [
            "podName",
            "state",
            "createdAt",
            "expiresAt",
            "ttlSeconds",
            "sandboxDir",
            "leased",
            "isolation",
            "limits",
            "execs",
        ] {
            assert!(!got[member].is_null(), "{member}: {got}");
            assert_eq!(got[member], sandbox[member], "{member}");
        }
        for member in ["diskBytes", "inodes", "memoryBytes", "processes"] {
            assert!(got["usage"][member].is_u64(), "{member}: {got}");
        }
        assert_eq!((&got["state"], &got["leased"]), (&json!("ready"), &json!(false)));
    }
}

fn a_shutdown_answers_first_and_then_does_as_a_signal_does(mut daemon: TestDaemon) {
    daemon.create("s");
    let mut busy = daemon.wire();
    let cmd = json!(["sh", "-c", "echo $$ > pid; exec sleep 1000"]);
    busy.request(1, "sandbox.exec", json!({"sessionId": "s", "cmd": cmd}));
    let process = daemon.process_in("s", "pid");
    let number = number_in(&daemon.workspace("s").join("pid"));
    let mut wire = daemon.wire();
    assert_eq!(wire.call(1, "daemon.shutdown", json!({}))["result"], json!({"stopping": true}));
    assert_eq!(daemon.wait_for_end(SOON).code(), Some(0));
    wire.closed();
    eventually("the command is dead", SOON, || !process.is_alive());
    assert!(!daemon.socket.exists());
    assert_eq!(daemon.directories().len(), 1);
    daemon.start_again();
    assert_eq!(daemon.sh("s", "cat pid").stdout.trim(), number.to_string());
    let answer = daemon.wire().call(1, "sandbox.get", json!({"sessionId": "other"}));
    assert_eq!(refusal(&answer).0, "sandboxNotFound");
}
