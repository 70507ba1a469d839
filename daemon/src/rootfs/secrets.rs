//! Names under which tools keep credentials.

use std::ffi::OsStr;
use std::path::Path;

/// In a directory with one of these, secrets lie beside tools.
const NAMES: [&str; 20] = [
    ".aws",
    ".azure",
    ".config",
    ".docker",
    ".gem",
    ".git-credentials",
    ".gitconfig",
    ".gnupg",
    ".kube",
    ".netrc",
    ".npmrc",
    ".password-store",
    ".pgpass",
    ".pypirc",
    ".ssh",
    ".vault-token",
    ".yarnrc.yml",
    "credentials",
    "credentials.json",
    "credentials.toml",
];

/// What makes it seem that a directory, by its path without links, holds credentials: a
/// name on the way to it or in it. If it is above the place that it is known by, it has
/// whatever lies beside that place.
pub(super) fn in_or_around(canonical: &Path, known_as: &Path) -> Option<String> {
    let is_dotted = |name: &&&str| name.starts_with('.');
    let on_the_way = |part: &OsStr| NAMES.iter().filter(is_dotted).any(|name| part == *name);
    if let Some(part) = canonical.iter().find(|part| on_the_way(part)) {
        return Some(part.to_string_lossy().into_owned());
    }
    let place = known_as.parent().and_then(|parent| parent.canonicalize().ok());
    if place.is_some_and(|place| place.starts_with(canonical)) {
        return Some(format!("{} is in it", known_as.display()));
    }
    let found = NAMES.iter().find(|name| canonical.join(name).symlink_metadata().is_ok());
    found.map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_secrets_is_known_by_names() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        for name in ["home/.ssh", "home/tool/bin", "plain/bin"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
        }
        let of = |path: &str, known: &str| in_or_around(&top.join(path), &top.join(known));
        assert_eq!(of("home", "elsewhere").as_deref(), Some(".ssh"));
        assert_eq!(of("home/.ssh", "home/.ssh").as_deref(), Some(".ssh"));
        assert_eq!(of("home/tool", "home/tool"), None);
        assert_eq!(of("plain/bin", "plain/bin"), None);
        std::os::unix::fs::symlink("..", top.join("plain/bin/up")).unwrap();
        assert!(of("plain", "plain/bin/up").is_some(), "a link that leads up");
    }
}
