//! What others leave in the base directory: daemons that were killed or are older, the Python
//! tool, people.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::Who;
use super::actual::{Actual, STALE_AFTER, seconds};
use super::expected::{Expected, Paper};
use crate::clock::unix_ms;
use crate::sandbox::{Key, manifest};

impl Actual {
    /// What a daemon leaves that is killed while it writes, or that code inside has put there.
    pub(super) fn litter(&self, kind: u8) {
        for path in self.dirs.keys().filter(|path| path.join(manifest::NAME).exists()) {
            let new = path.join(format!("{}.new", manifest::NAME));
            let _ = fs::remove_file(&new);
            match kind {
                0 => {}
                1 => fs::write(new, "{\"version\":1,\"dir").unwrap(),
                2 => symlink(&self.canary, new).unwrap(),
                _ => {
                    fs::create_dir_all(path.join("staging/0")).unwrap();
                    fs::write(path.join("staging/0/half"), "x").unwrap();
                }
            }
        }
    }

    pub(super) fn python(&mut self, expected: &mut Expected, old: bool) {
        let dir = expected.directory(Paper::Python { old });
        let path = self.base.path().join(format!("noxrunner_sandbox_python{dir}"));
        self.name(&path, dir);
        let ago = if old { STALE_AFTER * 3 } else { Duration::ZERO };
        let then = unix_ms(expected.now.wall - ago) / 1000;
        let then = TimeSpec::new(then.try_into().unwrap(), 0);
        for place in ["workspace/kept", "workspace", "."] {
            let place = path.join(place);
            utimensat(AT_FDCWD, &place, &then, &then, UtimensatFlags::NoFollowSymlink).unwrap();
        }
    }

    /// What the daemons of the first version wrote.
    pub(super) fn first_version(&mut self, expected: &mut Expected, ttl: u32) {
        let expires_ms = unix_ms(expected.now.wall + seconds(ttl));
        let serial = expected.keys.len();
        let key = Key { owner: 7, id: format!("first-{serial}").parse().unwrap() };
        let says = Paper::Says {
            key: key.clone(),
            created: UNIX_EPOCH,
            ttl: seconds(ttl),
            expires_ms: expires_ms.into(),
            deleting: false,
        };
        let dir = expected.directory(says);
        let path = self.base.path().join(format!("noxrunner_sandbox_first-{serial}.f{serial:09}"));
        self.name(&path, dir);
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        let manifest = format!(
            r#"{{"version":1,"sessionId":"first-{serial}","ownerUid":7,"createdAtMs":0,"expiresAtMs":{expires_ms},
            "ttlSeconds":{ttl},"deleting":false,"leased":false,"image":null,"env":{{"DIR":"{dir}"}},"limits":{{}}}}"#
        );
        fs::write(path.join(manifest::NAME), manifest).unwrap();
        expected.keys.push(key);
    }

    pub(super) fn copy(&mut self, expected: &mut Expected, who: Who) {
        let Some(slot) = expected.slot(who) else { return };
        let from = self.path(slot.dir);
        if from.join(manifest::NAME).exists() {
            let dir = expected.directory(Paper::Copied);
            let from = from.to_str().unwrap();
            let to = PathBuf::from(format!("{}{dir:010}", &from[..from.len() - 10]));
            self.name(&to, dir);
            fs::set_permissions(&to, Permissions::from_mode(0o700)).unwrap();
            let manifest = Path::new(from).join(manifest::NAME);
            fs::copy(manifest, to.join(manifest::NAME)).unwrap();
        }
    }
}
