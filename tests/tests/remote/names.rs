//! Hosts that have names: getent finds their addresses, since noxctl has no lookup in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::fake::Fake;
use super::{Said, fails, noxctl, said};

/// What noxctl says with this as the script of the only getent there is.
fn with_getent(script: Option<&str>, url: &str) -> Said {
    let dir = tempfile::tempdir().unwrap();
    if let Some(script) = script {
        let getent = dir.path().join("getent");
        fs::write(&getent, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&getent, Permissions::from_mode(0o755)).unwrap();
    }
    said(noxctl(&["--base-url", url, "health"]).env("PATH", dir.path()))
}

#[test]
fn a_name_is_looked_up_by_getent() {
    let fake = Fake::new(|asked| asked.answer(200, "text/plain", "OK"));
    let port = fake.address.port();
    let url = format!("http://backend.test:{port}");
    // The first address has nobody on that port, so that the second is tried.
    let script = "[ \"$*\" = 'ahosts backend.test' ] || exit 9
        echo '127.9.9.9 STREAM backend.test'; echo '127.9.9.9 DGRAM'; echo '127.0.0.1 STREAM'";
    assert_eq!(with_getent(Some(script), &url).0, 0);
    // The host is named as it was written.
    let seen = fake.next();
    assert!(seen.headers.contains(&format!("host: backend.test:{port}\r\n")), "{seen:?}");
    let hint = "use an address";
    fails(with_getent(Some("exit 2"), &url), &[&url, "no address is known", hint]);
    fails(with_getent(Some("echo nonsense"), &url), &[&url, "no address is known", hint]);
    fails(with_getent(None, &url), &[&url, "cannot look up backend.test", hint]);
    // These need nobody to look them up.
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(with_getent(None, &format!("http://{host}:{port}")).0, 0, "{host}");
    }
}
