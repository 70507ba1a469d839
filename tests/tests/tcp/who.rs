//! Who is let in: the daemon's own user, root, users that are named, or whoever knows the token; no web
//! page, and no sandbox.

use std::fs;
use std::process::{Command, Stdio};

use noxrunner_tests::{Tier, run, text};
use serde_json::json;

use crate::{Answer, JSON, ask, start, token_file};

const CREATE: &str = "PUT /v1/sandboxes/s";

#[test]
fn a_session_of_the_daemons_own_user() {
    let daemon = start(&[]);
    let created = ask(&daemon, CREATE, &[JSON], r#"{"ttlSeconds": 60}"#).json();
    assert_eq!(created["created"], true);
    assert!(created["expiresAt"].as_str().unwrap().ends_with('Z'));
    let cmd = r#"{"cmd": ["sh", "-c", "echo $A"], "env": {"A": "b"}, "gpu": 1}"#;
    let ran = ask(&daemon, "POST /v1/sandboxes/s/exec", &[JSON], cmd).json();
    assert_eq!((&ran["stdout"], &ran["exitCode"]), (&json!("b\n"), &json!(0)));
    let warnings = ran["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|w| w.as_str().unwrap().contains("\"gpu\"")), "{ran}");
    assert_eq!(ask(&daemon, "POST /v1/sandboxes/s/touch", &[], "").status, 200);
    // It is the same sandbox that the socket has.
    let found = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
    assert_eq!(found["podName"], created["podName"]);
    let deleted = ask(&daemon, "DELETE /v1/sandboxes/s", &[], "");
    assert_eq!((deleted.status, deleted.body.as_str()), (204, ""));
    assert_eq!(ask(&daemon, "DELETE /v1/sandboxes/s", &[], "").status, 404);
    let health = ask(&daemon, "GET /healthz", &[], "");
    assert_eq!((health.status, health.body.trim()), (200, "OK"));
    assert_eq!(daemon.directories(), [""; 0]);
}

#[test]
fn a_web_page_is_refused() {
    let daemon = start(&[]);
    let body = r#"{"ttlSeconds": 60}"#;
    let refused = |headers: &[&str], status: u16, part: &str| {
        let answer = ask(&daemon, CREATE, headers, body);
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
        assert!(answer.error().contains(part), "{answer:?}");
    };
    refused(&[JSON, "origin: http://evil.example"], 403, "web pages");
    refused(&[JSON, "origin: null"], 403, "web pages");
    refused(&[JSON, "origin: http://localhost"], 403, "web pages");
    // What a form can send without asking first.
    refused(&["content-type: text/plain"], 415, "application/json");
    refused(&["content-type: application/x-www-form-urlencoded"], 415, "application/json");
    refused(&[], 415, "application/json");
    // Two of them, of which the first is ours.
    refused(&[JSON, "host: evil.example"], 400, "host");
    assert_eq!(daemon.directories(), [""; 0]);
    assert_eq!(ask(&daemon, CREATE, &[JSON], body).status, 200);
    let upload = "POST /v1/sandboxes/s/files/upload";
    let answer = ask(&daemon, upload, &["content-type: text/plain"], "x");
    assert!(answer.status == 415 && answer.error().contains("application/x-tar"), "{answer:?}");
}

#[test]
fn only_this_machines_names_are_answered_to() {
    let daemon = start(&["--http-host", "box.lan"]);
    let port = daemon.http().port();
    let get = |host: &str| -> Answer {
        use std::io::Write;
        let mut stream = crate::connect(&daemon);
        write!(stream, "GET /healthz HTTP/1.1\r\n{host}\r\n\r\n").unwrap();
        crate::answer(stream)
    };
    for own in ["host: localhost", "host: [::1]:1", "host: Box.LAN:80", "Host: 127.0.0.1"] {
        assert_eq!(get(own).status, 200, "{own}");
    }
    assert_eq!(get(&format!("host: 127.0.0.1:{port}")).status, 200);
    // As after a name was made to lead here (DNS rebinding).
    for foreign in ["host: evil.example", "host: localhost.evil.example", "host:", "host: a b"] {
        let answer = get(foreign);
        assert_eq!(answer.status, 403, "{foreign}: {answer:?}");
        assert!(answer.error().contains("--http-host"), "{answer:?}");
    }
    assert_eq!(get("x: y").status, 400);
    let absolute = ask(&daemon, "GET http://evil.example/healthz", &[], "");
    assert_eq!(absolute.status, 403, "{absolute:?}");
    assert_eq!(ask(&daemon, "GET http://localhost/healthz", &[], "").status, 200);
}

#[test]
fn a_token_is_asked_of_everybody() {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let file = token_file(dir.path(), "correct-horse-battery\n", 0o600);
    let daemon = start(&["--http-token-file", &file]);
    for (header, status) in [
        ("authorization: Bearer correct-horse-battery", 200),
        ("Authorization: bearer correct-horse-battery", 200),
        ("authorization: Bearer correct-horse-batterz", 401),
        ("authorization: Bearer correct-horse-battery-", 401),
        ("authorization: Bearer", 401),
        ("authorization: Basic correct-horse-battery", 401),
        ("x: y", 401),
    ] {
        let answer = ask(&daemon, "GET /healthz", &[header], "");
        assert_eq!(answer.status, status, "{header}: {answer:?}");
        if status == 401 {
            assert!(answer.error().contains("Bearer TOKEN"), "{answer:?}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
        }
    }
    // A page does not get in by knowing it, and what is made with it is the daemon's user's.
    let token = "authorization: Bearer correct-horse-battery";
    assert_eq!(ask(&daemon, CREATE, &[token, "origin: null"], "").status, 403);
    assert_eq!(ask(&daemon, CREATE, &[token], "").status, 200);
    let found = daemon.call("sandbox.get", json!({"sessionId": "s"})).unwrap();
    assert_eq!(found["ownerUid"], nix::unistd::geteuid().as_raw());
    assert!(!daemon.log().contains("correct-horse"), "{}", daemon.log());
    // The socket needs none.
    assert!(daemon.call("health", json!({})).is_ok());
}

/// A request of a sandbox that has the machine's network, as long as it may have it.
#[test]
fn a_sandbox_on_the_machines_network_is_refused() {
    let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    fs::write(&policy, "network_allowed = ['none', 'host']").unwrap();
    let daemon = start(&["--policy", policy.to_str().unwrap(), "--isolation", "full"]);
    assert_eq!(daemon.tier, Tier::Full);
    daemon.call("sandbox.create", json!({"sessionId": "h", "network": "host"})).unwrap();
    let script = format!(
        r#"exec python3 -c '
import urllib.request, urllib.error
try:
    print(urllib.request.urlopen("http://{}/healthz").read().decode())
except urllib.error.HTTPError as e:
    print(e.code, e.read().decode())
'"#,
        daemon.http()
    );
    let mut outside = Command::new("sh");
    outside.args(["-c", &script]).env("no_proxy", "*").stdin(Stdio::null());
    let outside = run(&mut outside);
    assert_eq!(text(&outside.stdout), "OK\n\n", "{}", text(&outside.stderr));
    let inside = daemon.sh("h", &script);
    assert!(inside.stdout.starts_with("401 "), "{inside:?}");
    let wanted = match nix::unistd::geteuid().is_root() {
        // Each sandbox has a user of its own.
        true => "does not serve the user with id",
        false => "sandboxes are not served",
    };
    assert!(inside.stdout.contains(wanted), "{inside:?}");
}

mod root_only {
    use super::*;
    use noxrunner_tests::users::curl_as;

    /// Nobody in particular, and no users of this machine's.
    const OTHER: u32 = 65_534;
    const ALLOWED: u32 = 65_533;

    #[test]
    fn another_users_process_is_refused_unless_it_is_named() {
        let daemon = start(&["--http-allow-uid", "65533"]);
        let put = ["--request", "PUT"];
        let refused = curl_as(OTHER, &daemon, &put, "/v1/sandboxes/s");
        assert!(refused.ends_with(" 401") && refused.contains("id 65534"), "{refused}");
        assert_eq!(daemon.directories(), [""; 0]);
        assert!(curl_as(0, &daemon, &put, "/v1/sandboxes/s").ends_with(" 200"));
        // Who is named has sandboxes of its own.
        let touch = ["--request", "POST"];
        let other = curl_as(ALLOWED, &daemon, &touch, "/v1/sandboxes/s/touch");
        assert!(other.ends_with(" 404"), "{other}");
        assert!(curl_as(ALLOWED, &daemon, &put, "/v1/sandboxes/t").ends_with(" 200"));
        let found = daemon.call("sandbox.get", json!({"sessionId": "t"})).unwrap();
        assert_eq!(found["ownerUid"], ALLOWED);
        assert!(!daemon.log().contains("panic"));
    }

    #[test]
    fn a_token_lets_anybody_in() {
        let dir = tempfile::Builder::new().prefix("noxtest.").tempdir().unwrap();
        let file = token_file(dir.path(), "correct-horse-battery", 0o400);
        let daemon = start(&["--http-token-file", &file]);
        assert!(curl_as(OTHER, &daemon, &[], "/healthz").ends_with(" 401"));
        let token = ["--header", "authorization: Bearer correct-horse-battery"];
        assert_eq!(curl_as(OTHER, &daemon, &token, "/healthz"), "OK\n 200");
    }
}
