//! How it starts, and what it refuses to start with.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use noxrunner_tests::{SOON, TestDaemon, eventually, program, run, text};
use serde_json::json;

use super::server::{Reply, Server};

/// Asserts that it does not start, and gives its status and what it says.
#[track_caller]
fn does_not_start(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(program("noxrunnerd"));
    command.arg("--socket").arg(dir.join("s.sock")).args(arguments).stdin(Stdio::null());
    let output = run(&mut command);
    let stderr = text(&output.stderr);
    assert!(!output.status.success() && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
    assert!(!dir.join("s.sock").exists());
    (output.status.code(), stderr)
}

#[test]
fn what_only_makes_sense_here_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let url = ["--base-url", "http://127.0.0.1:1"];
    for (option, value) in [
        ("--local-test", ""),
        ("--ephemeral", ""),
        ("--policy", "p.toml"),
        ("--isolation", "auto"),
        ("--base-dir", "/tmp"),
        ("--pool", "2"),
        ("--spawns", "2"),
        ("--sandbox-uids", "1879048192-2147352575"),
        ("--stale-after", "24h"),
    ] {
        let given = [url[0], url[1], option, value];
        let given = if value.is_empty() { &given[..3] } else { &given };
        let (status, stderr) = does_not_start(dir.path(), given);
        assert_eq!(status, Some(2), "{given:?}: {stderr}");
        assert!(stderr.contains(option) && stderr.contains("--base-url"), "{given:?}: {stderr}");
    }
    for (option, value) in [("--base-url-token-file", "x"), ("--upstream-timeout", "3")] {
        let (status, stderr) = does_not_start(dir.path(), &["--local-test", option, value]);
        assert!(status == Some(2) && stderr.contains(option), "{stderr}");
        let (status, stderr) = does_not_start(dir.path(), &[option, value]);
        assert!(status == Some(2) && stderr.contains("--base-url"), "{stderr}");
    }
    for bad in ["", "nox", "ftp://x", "http://t@x", "http://x?y", "https://"] {
        let (status, stderr) = does_not_start(dir.path(), &["--base-url", bad]);
        assert!(status == Some(2) && stderr.contains("--base-url"), "{bad}: {stderr}");
    }
    let (status, stderr) = does_not_start(dir.path(), &[]);
    assert_eq!(status, Some(2));
    assert!(stderr.contains("--local-test") && stderr.contains("--base-url"), "{stderr}");
}

#[test]
fn a_token_is_sent_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let mode = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::write(&file, "s3cret-token\n").unwrap();
    let path = file.to_str().unwrap();
    mode(0o644);
    let given = ["--base-url", "http://127.0.0.1:1", "--base-url-token-file", path];
    let (status, stderr) = does_not_start(dir.path(), &given);
    assert!(status == Some(1) && stderr.contains("chmod 600"), "{stderr}");
    mode(0o600);
    let given = ["--base-url", "http://nox.example.org", "--base-url-token-file", path];
    let (status, stderr) = does_not_start(dir.path(), &given);
    assert!(status == Some(1) && stderr.contains("https://"), "{stderr}");

    let other = Server::new(|_, _| Reply::created());
    let to = other.url.clone();
    let server = Server::new(move |asked, _| {
        if asked.line.ends_with("/elsewhere") {
            let head = format!("HTTP/1.1 307 X\r\nlocation: {to}/v1/sandboxes/s\r\n\r\n");
            return Reply::Raw(head.into_bytes());
        }
        if asked.head.contains("\r\nauthorization: bearer s3cret-token\r\n") {
            Reply::created()
        } else {
            Reply::json(401, r#"{"error": "who are you?"}"#)
        }
    });
    let front = TestDaemon::front_of(&server.url, &["--base-url-token-file", path]);
    front.create("s");
    let (kind, message) = front.refused("sandbox.create", json!({"sessionId": "elsewhere"}));
    assert!(kind == "upstream" && message.contains("not followed"), "{message}");
    assert_eq!(other.asked().len(), 0);
    assert!(!front.log().contains("s3cret"));
    // Without it, it is the front that is not let in, not its client.
    let front = TestDaemon::front_of(&server.url, &[]);
    let (kind, message) = front.refused("sandbox.create", json!({"sessionId": "s"}));
    assert!(kind == "upstream" && message.contains("credentials"), "{kind}: {message}");
    assert!(message.contains("who are you?"), "{message}");
}

#[test]
fn an_address_may_have_a_path_and_a_proxy_of_the_environment_is_ignored() {
    let server = Server::new(|asked, _| match asked.line.as_str() {
        "GET /team/a/healthz" => Reply::json(200, "OK"),
        _ => Reply::created(),
    });
    let url = format!("{}/team/a/", server.url);
    let proxy = Server::with_health(|_, _| Reply::json(502, "{}"));
    let front = TestDaemon::start_under(
        &["env", &format!("http_proxy={}", proxy.url), &format!("HTTP_PROXY={}", proxy.url)],
        &["--base-url", &url],
    );
    front.create("a/b");
    assert_eq!(server.count("PUT /team/a/v1/sandboxes/a%2Fb"), 1);
    eventually("the backend is well", SOON, || {
        front.call("health", json!({})).unwrap()["status"] == "ok"
    });
    assert_eq!(proxy.asked().len(), 0);
}

#[test]
fn a_second_one_on_the_socket_names_the_first() {
    let server = Server::new(|_, _| Reply::created());
    let front = TestDaemon::front_of(&server.url, &[]);
    let mut second = Command::new(program("noxrunnerd"));
    second.arg("--socket").arg(&front.socket).args(["--base-url", &server.url]);
    let output = run(second.stdin(Stdio::null()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("already listening on"), "{output:?}");
    let mut front = front;
    assert!(front.end_by(nix::sys::signal::Signal::SIGINT).success());
    assert!(!front.socket.exists(), "within {SOON:?}");
}
