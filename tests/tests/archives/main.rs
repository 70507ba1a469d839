//! Archives in and out, with the real daemon.
//!
//! | file | what it shows |
//! |---|---|
//! | `whole` | a tree with everything in it survives |
//! | `hostile` | archives that mean harm |
//! | `cut` | archives that end too early, or are damaged |
//! | `broken_off` | requests that end too early |
//! | `bounds` | how much one may bring |
//! | `merge` | into a tree that has files |
//! | `leaving` | clients that hang up, sandboxes and daemons that end midway |
//! | `http` | requests that make no sense |
//! | `big` | a gigabyte, in little memory |
#![allow(clippy::unwrap_used)]

mod big;
mod bounds;
mod broken_off;
mod cut;
mod hostile;
mod http;
mod leaving;
mod merge;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};

use noxrunner_tests::TestDaemon;

/// A daemon with the sandbox `s`, and that sandbox's workspace.
#[track_caller]
fn with_sandbox(daemon: TestDaemon) -> (TestDaemon, PathBuf) {
    daemon.create("s");
    let workspace = daemon.workspace("s");
    (daemon, workspace)
}

/// Everything in a directory: paths, kinds, and what files have in them.
fn listing(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, top: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let name = path.strip_prefix(top).unwrap().display();
            if kind.is_dir() {
                found.push(format!("{name}/"));
                walk(&path, top, found);
            } else if kind.is_symlink() {
                found.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else {
                found.push(format!(
                    "{name}: {}",
                    String::from_utf8_lossy(&fs::read(&path).unwrap())
                ));
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

/// Nothing is left where things are staged.
#[track_caller]
fn nothing_staged(workspace: &Path) {
    let staging = workspace.with_file_name("staging");
    assert_eq!(listing(&staging), [""; 0]);
}
