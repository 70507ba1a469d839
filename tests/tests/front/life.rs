//! What clients of this machine do, with a real backend behind it.

use std::io::Write;
use std::process::Stdio;

use noxrunner_protocol::types::Cause;
use noxrunner_tests::archive::http_download;
use noxrunner_tests::{SOON, Started, eventually, exec_params, run, text};
use serde_json::{Value, json};

use super::Both;

/// Runs noxctl at the front, and gives its status and what it prints.
#[track_caller]
fn noxctl(both: &Both, arguments: &[&str]) -> (i32, String, String) {
    let output = run(&mut both.front.noxctl(arguments));
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn noxctl_does_its_work_there() {
    let both = Both::start();
    let (status, out, err) = noxctl(&both, &["create", "s", "--ttl", "600"]);
    assert!(status == 0 && out.contains("noxrunner_sandbox_s"), "{out} {err}");
    assert_eq!(both.backend.directories().len(), 1);
    let (status, out, err) =
        noxctl(&both, &["exec", "--env", "A=b c", "s", "sh", "-c", "echo $A; echo e >&2; exit 7"]);
    assert_eq!((status, out.as_str()), (7, "b c\n"));
    assert!(err.contains("e\n"), "{err}");
    // `exec` makes a sandbox that is not there.
    let (status, out, _) = noxctl(&both, &["exec", "new", "pwd"]);
    assert_eq!((status, out.as_str()), (0, "/workspace\n"));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f");
    std::fs::write(&file, "content").unwrap();
    let (status, _, err) = noxctl(&both, &["upload", "s", file.to_str().unwrap()]);
    assert_eq!((status, both.backend.sh("s", "cat f").stdout.as_str()), (0, "content"), "{err}");
    let (status, _, err) = noxctl(&both, &["cp", file.to_str().unwrap(), "s:/workspace/d/"]);
    assert_ne!(status, 0, "{err}");
    both.front.sh("s", "mkdir d");
    let (status, _, err) = noxctl(&both, &["cp", file.to_str().unwrap(), "s:/workspace/d/"]);
    assert_eq!((status, both.backend.sh("s", "cat d/f").stdout.as_str()), (0, "content"), "{err}");
    let back = dir.path().join("back");
    let (status, _, err) = noxctl(&both, &["cp", "s:d/f", back.to_str().unwrap()]);
    assert_eq!(
        (status, std::fs::read_to_string(&back).ok().as_deref()),
        (0, Some("content")),
        "{err}"
    );
    let tar = dir.path().join("a.tar.gz");
    let (status, _, err) = noxctl(&both, &["download", "s", "--output", tar.to_str().unwrap()]);
    assert!(status == 0 && tar.metadata().unwrap().len() > 0, "{err}");

    let (status, out, _) = noxctl(&both, &["list"]);
    assert!(status == 0 && out.contains("new") && out.lines().count() == 3, "{out}");
    assert_eq!(noxctl(&both, &["touch", "s"]).0, 0);
    assert_eq!(noxctl(&both, &["delete", "s"]).0, 0);
    let (status, _, err) = noxctl(&both, &["delete", "s"]);
    assert!(status == 1 && err.contains("no sandbox"), "{err}");
    assert_eq!(both.backend.directories().len(), 1);
}

#[test]
fn ids_are_the_backends_own() {
    let both = Both::start();
    for id in ["a/b", "grüße ?#%", "..", "s"] {
        both.front.create(id);
        assert_eq!(both.backend.sh(id, "echo \"$NOXRUNNER_SESSION\"").stdout.trim_end(), id);
        both.backend.delete(id);
        let gone = both.front.refused("sandbox.touch", json!({"sessionId": id}));
        assert_eq!(gone.0, "sandboxNotFound");
    }
    // What the backend no longer has is not listed.
    assert_eq!(both.front.call("sandbox.list", json!({})).unwrap()["sandboxes"], json!([]));
}

#[test]
fn a_result_says_all_that_the_backend_says() {
    let both = Both::start();
    let created = both.front.create("s");
    assert_eq!(created.isolation.tier, both.backend.tier);
    assert!(created.created && !created.limits.is_empty() && !both.front.create("s").created);
    let failed = both.front.exec("s", &["false"]);
    assert_eq!((failed.cause, failed.warnings.as_slice()), (Cause::Exited, &[][..]));
    // That commands run on its machine is the backend's to say to who is there.
    let here = both.backend.exec("s", &["false"]).warnings;
    assert!(here.iter().any(|warning| warning.starts_with("local mode: ")), "{here:?}");
    assert_eq!(both.front.exec("s", &["no-such-program"]).cause, Cause::NotFound);
    assert_eq!(both.front.exec("s", &["rm", "x"]).cause, Cause::Denied);
    let mut slow = exec_params("s", &["sleep", "100"]);
    slow.timeout_seconds = 0.2.try_into().unwrap();
    let timed_out = both.front.exec_params(slow);
    assert_eq!((timed_out.cause, timed_out.exit_code), (Cause::Timeout, 124));
    let mut cut = exec_params("s", &["printf", "aüb"]);
    cut.max_output_bytes = 2;
    let cut = both.front.exec_params(cut);
    assert_eq!((cut.stdout.as_str(), cut.stdout_truncated, cut.stdout_bytes), ("a", true, 4));
    let (kind, message) = both.front.refused("sandbox.exec", json!({"sessionId": "s", "cmd": []}));
    assert!(kind == "invalidArgument" && !message.is_empty(), "{kind}: {message}");
    let (kind, message) =
        both.front.refused("sandbox.exec", json!({"sessionId": "t", "cmd": ["ls"]}));
    assert_eq!(
        (kind.as_str(), message.as_str()),
        ("sandboxNotFound", "no sandbox \"t\": there is none")
    );
}

#[test]
fn health_says_what_is_behind_it() {
    let mut both = Both::start();
    let health = |both: &Both| both.front.call("health", json!({})).unwrap();
    let mut well = json!(null);
    eventually("the backend is well", SOON, || {
        well = health(&both);
        well["status"] == "ok"
    });
    assert_eq!(well["backend"], "remote");
    assert_eq!(well["isolation"]["tier"], "none");
    assert_eq!(well["isolation"]["missing"][0]["feature"], "isolation");
    let unsupported: Vec<&str> =
        well["unsupported"].as_array().unwrap().iter().map(|u| u.as_str().unwrap()).collect();
    // Whatever is listed is refused as that, and says why.
    for (method, params) in [
        ("policy.get", json!({})),
        ("file.remove", json!({"sessionId": "s", "path": "x"})),
        ("file.rename", json!({"sessionId": "s", "from": "x", "to": "y"})),
        ("sandbox.create", json!({"sessionId": "s", "env": {"A": "b"}})),
        ("sandbox.create", json!({"sessionId": "s", "network": "host"})),
        ("sandbox.create", json!({"sessionId": "s", "pidsLimit": 9})),
        ("sandbox.create", json!({"sessionId": "s", "lease": "connection"})),
        ("sandbox.exec", json!({"sessionId": "s", "cmd": ["cat"], "stdin": "x"})),
    ] {
        let (kind, message) = both.front.refused(method, params.clone());
        assert_eq!(kind, "unsupported", "{method} {params}: {message}");
        let noun = method.split('.').next().unwrap();
        assert!(
            unsupported.iter().any(|u| *u == format!("{noun}.*") || u.starts_with(method)),
            "{method}"
        );
    }
    assert_eq!(both.backend.directories(), [""; 0]);
    let info = both.front.call("daemon.info", json!({})).unwrap();
    assert_eq!((&info["baseDir"], &info["tier"]), (&json!(""), &json!("none")));
    assert!(both.front.log().contains(&format!("commands run at http://{}", both.backend.http())));

    both.backend.end_by(nix::sys::signal::Signal::SIGTERM);
    eventually("the front notices", SOON, || {
        health(&both)["status"].as_str().unwrap().starts_with("upstream: http://127.0.0.1:")
    });
    let (kind, message) = both.front.refused("sandbox.touch", json!({"sessionId": "s"}));
    assert!(kind == "upstream" && message.contains("cannot connect"), "{kind}: {message}");
}

#[test]
fn the_rest_api_is_passed_on() {
    let both = Both::start_with(&["--http", "127.0.0.1:0"]);
    let ask = |method: &str, path: &str, body: &str| -> (u16, Value) {
        let mut curl = std::process::Command::new("curl");
        curl.args(["--silent", "--noproxy", "*", "--request", method]);
        curl.args(["--header", "content-type: application/json"]);
        curl.args(["--data", body, "--write-out", "\n%{http_code}"]);
        let output = run(curl.arg(format!("http://{}{path}", both.front.http())));
        let all = text(&output.stdout);
        let (body, status) = all.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(json!(body)))
    };
    assert_eq!(ask("GET", "/healthz", ""), (200, json!("OK\n")));
    let (status, made) = ask("PUT", "/v1/sandboxes/s", r#"{"ttlSeconds": 60, "gpu": 1}"#);
    assert!(status == 200 && made["warnings"].to_string().contains("gpu"), "{made}");
    let (status, ran) = ask("POST", "/v1/sandboxes/s/exec", r#"{"cmd": ["echo", "hi"]}"#);
    assert_eq!((status, &ran["stdout"], &ran["exitCode"]), (200, &json!("hi\n"), &json!(0)));
    assert_eq!(ask("POST", "/v1/sandboxes/s/touch", "").0, 200);
    let (status, body) = http_download(&both.front, "s", "src=.").unwrap();
    assert!(status == 200 && body.starts_with(b"\x1f\x8b"));
    assert_eq!(http_download(&both.front, "s", "src=none").unwrap().0, 404);
    assert_eq!(ask("DELETE", "/v1/sandboxes/s", "").0, 204);
    assert_eq!(ask("DELETE", "/v1/sandboxes/s", "").0, 404);
}

#[test]
fn a_client_that_hangs_up_ends_its_command_there() {
    let both = Both::start_with(&["--http", "127.0.0.1:0"]);
    both.front.create("s");
    let params = |name: &str| {
        let script = format!("echo $$ > {name}; exec sleep 1000");
        json!({"sessionId": "s", "cmd": ["sh", "-c", script], "timeoutSeconds": 2000})
    };
    let mut wire = both.front.wire();
    wire.request(1, "sandbox.exec", params("line"));
    let mut curl = std::process::Command::new("curl");
    let mut body = params("rest");
    body.as_object_mut().unwrap().remove("sessionId");
    curl.args(["--silent", "--noproxy", "*", "--header", "content-type: application/json"]);
    curl.arg("--data").arg(body.to_string());
    curl.arg(format!("http://{}/v1/sandboxes/s/exec", both.front.http()));
    let curl = Started::new(curl.stdin(Stdio::null()));
    let (line, rest) = (both.backend.process_in("s", "line"), both.backend.process_in("s", "rest"));
    let execs = |daemon: &noxrunner_tests::TestDaemon| {
        daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap()["execs"].clone()
    };
    assert_eq!((execs(&both.front), execs(&both.backend)), (json!(2), json!(2)));
    drop(wire);
    eventually("the command of the line dies", SOON, || !line.is_alive());
    assert!(rest.is_alive());
    drop(curl);
    eventually("the command of the request dies", SOON, || !rest.is_alive());
    eventually("none counts", SOON, || {
        (execs(&both.front), execs(&both.backend)) == (json!(0), json!(0))
    });
    // Who has only stopped asking still gets the answer.
    let mut wire = both.front.wire();
    wire.request(2, "sandbox.exec", json!({"sessionId": "s", "cmd": ["echo", "hi"]}));
    wire.half_close();
    assert_eq!(wire.receive()["result"]["stdout"], "hi\n");
    wire.stream().flush().unwrap();
}

#[test]
fn it_ends_when_nobody_needs_it_and_sandboxes_stay() {
    let mut both = Both::start_with(&["--idle-exit", "3"]);
    both.front.create("s");
    assert!(both.front.wait_for_end(SOON).success());
    assert!(!both.front.socket.exists());
    assert_eq!(both.backend.exec("s", &["true"]).exit_code, 0);
    both.front.start_again();
    assert_eq!(both.front.call("daemon.shutdown", json!({})).unwrap(), json!({"stopping": true}));
    assert!(both.front.wait_for_end(SOON).success());
}
