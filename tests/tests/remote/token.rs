//! The token: sent to the backend, and to nobody else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::fake::Fake;
use super::{ask, fails, noxctl, said};

/// A file with a token that only its owner may read, or with this mode.
fn token(dir: &TempDir, mode: u32) -> PathBuf {
    let path = dir.path().join(format!("token-{mode:o}"));
    fs::write(&path, "  s3cret\nmore\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn the_token_goes_with_every_request_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (file, archive) = (token(&dir, 0o600), dir.path().join("a"));
    let (file, archive) = (file.to_str().unwrap(), archive.to_str().unwrap());
    let fake = Fake::json(401, r#"{"error": "no"}"#);
    let verbs: [&[&str]; 7] = [
        &["health"],
        &["create", "s"],
        &["touch", "s"],
        &["exec", "s", "x"],
        &["upload", "s", file],
        &["download", "s", "--output", archive],
        &["delete", "s"],
    ];
    for verb in verbs {
        let (status, stdout, stderr) = ask(&fake.url(), &[&["--token-file", file], verb].concat());
        assert_eq!(status, 1, "{verb:?}");
        assert!(!(stdout + &stderr).contains("s3cret"), "{verb:?}");
        let headers = fake.next().headers;
        assert!(headers.contains("authorization: bearer s3cret\r\n"), "{verb:?}: {headers}");
    }
    let mut command = noxctl(&["--base-url", &fake.url(), "health"]);
    said(command.env("NOXRUNNER_TOKEN_FILE", file));
    assert!(fake.next().headers.contains("authorization: bearer s3cret"));
    // The negative control.
    ask(&fake.url(), &["health"]);
    assert!(!fake.next().headers.contains("authorization"));
}

#[test]
fn a_token_that_others_can_read_goes_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new(|asked| asked.answer(200, "text/plain", "OK"));
    let with = |file: &str| ask(&fake.url(), &["--token-file", file, "health"]);
    for mode in [0o644, 0o640, 0o660] {
        let file = token(&dir, mode);
        fails(with(file.to_str().unwrap()), &["others may read", "chmod 600"]);
    }
    fails(with("/nonexistent/token"), &["cannot read the token file /nonexistent/token"]);
    let good = token(&dir, 0o600);
    let good = good.to_str().unwrap();
    // Where others on the way could read it. Nobody listens: it must be refused before.
    for url in ["http://backend.test:1", "http://192.0.2.1:1", "http://127.1:1"] {
        let (status, _, stderr) = ask(url, &["--token-file", good, "health"]);
        assert_eq!(status, 2, "{url}: {stderr}");
        assert!(stderr.contains("https://") && stderr.contains(url), "{stderr}");
    }
    assert_eq!(fake.lines(), [""; 0]);
    assert_eq!(with(good).0, 0);
}
