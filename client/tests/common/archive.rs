//! Archives as a server might send them, and what becomes of them.

use std::fs;
use std::path::Path;

use tar::{EntryType, Header};
use tempfile::TempDir;

use super::{Fake, Request, finished};

/// A member as nobody but an attacker would write it: with any name, of any type.
pub(crate) fn raw(name: &str, kind: EntryType, link: &str, mode: u32, contents: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(contents.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(contents);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(crate) fn file(name: &str, mode: u32, contents: &str) -> Vec<u8> {
    raw(name, EntryType::Regular, "", mode, contents.as_bytes())
}

pub(crate) fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

pub(crate) fn sends(archive: Vec<u8>) -> impl Fn(&mut Request) + Clone + Send + 'static {
    move |request| request.archive(&archive)
}

/// All paths in a directory, sorted.
pub(crate) fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path().strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// A directory with a file, and a link to that.
pub(crate) fn usual() -> Vec<u8> {
    archive(&[
        raw("sub/", EntryType::Directory, "", 0o750, b""),
        file("sub/f", 0o751, "hello"),
        raw("to-f", EntryType::Symlink, "sub/f", 0o777, b""),
    ])
}

/// Runs noxctl in a directory.
pub(crate) fn run_in(dir: &TempDir, fake: &Fake, args: &[&str]) -> (i32, String, String) {
    let output = fake.noxctl(args).current_dir(dir).output().unwrap();
    let (status, stdout, stderr) = finished(output);
    (status, String::from_utf8_lossy(&stdout).into_owned(), stderr)
}
