//! Toolchains that developers keep in their homes. Only what programs need is named here,
//! never a whole directory of a tool that also keeps credentials in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::Inputs;
use super::builder::Builder;

/// A kind of toolchain.
struct Toolchain {
    /// How an entry of the search path ends that is one of its; `*` is a name, `**` any number of them.
    on_path: &'static [&'static str],
    /// What is shown, from where that ending begins.
    trees: &'static [&'static str],
    /// Its settings, which are copied.
    files: &'static [&'static str],
}

const TOOLCHAINS: [Toolchain; 6] = [
    Toolchain {
        on_path: &[
            ".pyenv/bin",
            ".pyenv/shims",
            ".pyenv/versions/*/bin",
            ".pyenv/plugins/*/bin",
            ".pyenv/plugins/*/shims",
        ],
        trees: &[
            ".pyenv/bin",
            ".pyenv/shims",
            ".pyenv/libexec",
            ".pyenv/versions",
            ".pyenv/plugins",
            ".pyenv/pyenv.d",
            ".pyenv/completions",
        ],
        files: &[".pyenv/version"],
    },
    Toolchain { on_path: &[".nvm/versions/node/*/bin"], trees: &[".nvm/versions"], files: &[] },
    Toolchain { on_path: &[CARGO], trees: &[CARGO], files: &[] },
    Toolchain {
        on_path: &[".local/bin"],
        trees: &[
            ".local/bin",
            ".local/share/uv/python",
            ".local/share/uv/tools",
            ".local/share/pipx/venvs",
            ".local/pipx/venvs",
        ],
        files: &[],
    },
    Toolchain {
        on_path: &[".asdf/bin", ".asdf/shims"],
        trees: &[".asdf/bin", ".asdf/shims", ".asdf/installs", ".asdf/plugins", ".asdf/lib"],
        files: &[".asdf/asdf.sh"],
    },
    Toolchain {
        on_path: &[".local/share/mise/shims", ".local/share/mise/installs/**/bin"],
        trees: &[
            ".local/share/mise/shims",
            ".local/share/mise/installs",
            ".local/share/mise/plugins",
        ],
        files: &[],
    },
];

/// Where cargo and rustup have their programs. What they know of registries is beside it.
const CARGO: &str = ".cargo/bin";

/// Adds the toolchains on the daemon's search path. Gives rustup's directory where commands see it.
pub(super) fn add(builder: &mut Builder<'_>, inputs: &Inputs) -> Option<PathBuf> {
    let mut found = BTreeSet::new();
    let mut rustup = None;
    for entry in entries(&inputs.path) {
        for (n, toolchain) in TOOLCHAINS.iter().enumerate() {
            for base in toolchain.on_path.iter().filter_map(|end| before(&entry, end)) {
                if found.insert((n, base.clone())) {
                    show(builder, toolchain, &base);
                }
            }
        }
        if rustup.is_none() {
            rustup = rustup_home(&entry, inputs);
        }
    }
    if let Some(home) = &rustup {
        // Without the last two rustup would make them, where it may not.
        for tree in ["toolchains", "update-hashes", "tmp"] {
            builder.tool_tree(&home.join(tree));
        }
        builder.tool_file(&home.join("settings.toml"));
    }
    let homes = rustup.into_iter().chain(absolute(&inputs.rustup_home));
    homes.into_iter().find(|home| builder.view.sees(&home.join("toolchains")))
}

fn show(builder: &mut Builder<'_>, toolchain: &Toolchain, base: &Path) {
    for tree in toolchain.trees {
        builder.tool_tree(&base.join(tree));
    }
    for file in toolchain.files {
        builder.tool_file(&base.join(file));
    }
}

/// The directory with the toolchains of the rustup whose programs are here.
fn rustup_home(entry: &Path, inputs: &Inputs) -> Option<PathBuf> {
    let beside = before(entry, CARGO);
    if beside.is_none() && !entry.join("rustup").exists() {
        return None;
    }
    let home = || beside.or_else(|| absolute(&inputs.home)).map(|home| home.join(".rustup"));
    absolute(&inputs.rustup_home).or_else(home)
}

fn absolute(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| path.is_absolute())
}

/// The absolute entries of a search path, each as it is written and without links.
fn entries(path: &OsStr) -> Vec<PathBuf> {
    let mut entries = Vec::new();
    for entry in std::env::split_paths(path).filter(|entry| entry.is_absolute()) {
        let typed: PathBuf = entry.components().collect();
        let canonical = fs::canonicalize(&typed).ok();
        let typed = Some(typed).filter(|path| path.iter().all(|part| part != ".."));
        for path in typed.into_iter().chain(canonical) {
            if !entries.contains(&path) {
                entries.push(path);
            }
        }
    }
    entries
}

/// What comes before `end` in a path that ends so.
fn before(path: &Path, end: &str) -> Option<PathBuf> {
    let parts: Vec<&OsStr> = path.iter().collect();
    let end: Vec<&str> = end.split('/').collect();
    let start = (1..parts.len()).rev().find(|start| matches(&parts[*start..], &end))?;
    Some(parts[..start].iter().collect())
}

fn matches(parts: &[&OsStr], end: &[&str]) -> bool {
    let Some((first, rest)) = end.split_first() else { return parts.is_empty() };
    if *first == "**" {
        return (0..=parts.len()).any(|skipped| matches(&parts[skipped..], rest));
    }
    let Some((part, more)) = parts.split_first() else { return false };
    (*first == "*" || part == first) && matches(more, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_is_known_by_how_its_path_ends() {
        for (path, end, want) in [
            ("/home/u/.cargo/bin", ".cargo/bin", Some("/home/u")),
            ("/.cargo/bin", ".cargo/bin", Some("/")),
            ("/home/u/.cargo/bin/x", ".cargo/bin", None),
            ("/home/u/x.cargo/bin", ".cargo/bin", None),
            ("/r/.pyenv/versions/3.12/bin", ".pyenv/versions/*/bin", Some("/r")),
            ("/r/.pyenv/versions/bin", ".pyenv/versions/*/bin", None),
            ("/m/installs/go/1.2/go/bin", "installs/**/bin", Some("/m")),
            ("/m/installs/bin", "installs/**/bin", Some("/m")),
            ("/.local/bin/.local/bin", ".local/bin", Some("/.local/bin")),
        ] {
            assert_eq!(before(Path::new(path), end), want.map(PathBuf::from), "{path}");
        }
    }
}
