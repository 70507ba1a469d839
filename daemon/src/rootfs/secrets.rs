//! Names under which tools keep credentials.

use std::path::Path;

/// In a directory with one of these, secrets lie beside tools.
const NAMES: [&str; 22] = [
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
    "gcloud",
    "hosts.yml",
];

/// What makes it seem that a directory, by its path without links, holds credentials: its
/// name, or that of something in it. A directory above the one it is known by has whatever
/// is beside that one.
pub(super) fn in_or_around(canonical: &Path, known_as: &Path) -> Option<String> {
    let is_known = |part: &std::ffi::OsStr| NAMES.iter().any(|name| part == *name);
    if let Some(part) = canonical.iter().find(|part| is_known(part)) {
        return Some(part.to_string_lossy().into_owned());
    }
    if known_as != canonical && known_as.starts_with(canonical) {
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
        assert!(of("plain", "plain/bin").is_some(), "a link that leads up");
    }
}
