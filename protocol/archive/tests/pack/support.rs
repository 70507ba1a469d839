//! Trees, readers of archives, and what two trees have in common.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use noxrunner_archive::{PackError, Packed, Packer, Tree};
use tempfile::TempDir;

pub(crate) fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

pub(crate) fn pack(dir: &Path, tree: Tree) -> Result<(Vec<u8>, Packed), PackError> {
    let dir = File::open(dir).unwrap();
    let mut packer = Packer::new(Vec::new(), tree);
    packer.contents(dir.as_fd(), b"")?;
    packer.finish()
}

/// Names and contents in an archive, by the `tar` crate.
pub(crate) fn members(archive: &[u8]) -> Vec<(OsString, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = OsString::from_vec(entry.path_bytes().into_owned());
        let mut content = Vec::new();
        std::io::copy(&mut entry, &mut content).unwrap();
        (name, content)
    });
    read.collect()
}

pub(crate) fn names(archive: &[u8]) -> Vec<OsString> {
    members(archive).into_iter().map(|(name, _)| name).collect()
}

/// Who unpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Gnu,
    Python,
}

pub(crate) const READERS: [Reader; 2] = [Reader::Gnu, Reader::Python];

const EXTRACT: &str = "
import sys, tarfile
with tarfile.open(fileobj=sys.stdin.buffer, mode='r|') as tar:
    trust = {'filter': 'fully_trusted'} if hasattr(tarfile, 'fully_trusted_filter') else {}
    tar.extractall(sys.argv[1], **trust)
";

/// Unpacks with a foreign reader, which must have nothing to complain about.
#[track_caller]
pub(crate) fn unpack(archive: &[u8], reader: Reader) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut command = match reader {
        Reader::Gnu => Command::new("tar"),
        Reader::Python => Command::new("/usr/bin/python3"),
    };
    match reader {
        // It reads names as bytes whether or not it is told so.
        Reader::Gnu => command.args([
            "--warning=no-unknown-keyword",
            "--warning=no-timestamp",
            "-xpf",
            "-",
            "-C",
        ]),
        Reader::Python => command.args(["-X", "utf8", "-c", EXTRACT]),
    };
    command.arg(dir.path()).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(archive));
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{reader:?}: {said}");
    });
    dir
}

/// What is compared of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, i64),
    /// A file's content or a link's target.
    pub(crate) content: Vec<u8>,
    /// The first name of the same file.
    pub(crate) same_as: OsString,
}

/// Everything in a tree, by name.
pub(crate) fn snapshot(top: &Path) -> BTreeMap<OsString, Entry> {
    let mut found = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let content = if stat.is_dir() {
                todo.push(path.clone());
                Vec::new()
            } else if stat.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_vec()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(top).unwrap().as_os_str().to_owned();
            let mtime = (stat.mtime(), stat.mtime_nsec());
            found.insert(name, (stat.mode(), mtime, content, stat.ino()));
        }
    }
    let mut first = HashMap::new();
    let entries = found.into_iter().map(|(name, (mode, mtime, content, inode))| {
        let same_as = first.entry(inode).or_insert_with(|| name.clone()).clone();
        (name, Entry { mode, mtime, content, same_as })
    });
    entries.collect()
}

/// Asserts that two trees are the same, as far as the reader of an archive can make them so:
/// Python keeps times as floating-point numbers, and none of links.
#[track_caller]
pub(crate) fn assert_same(reader: Reader, source: &Path, unpacked: &Path) {
    let (source, unpacked) = (snapshot(source), snapshot(unpacked));
    let names = |tree: &BTreeMap<OsString, Entry>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&source), names(&unpacked), "{reader:?}");
    for (name, entry) in &source {
        let mut other = unpacked[name].clone();
        if reader == Reader::Python {
            let nanos = |(s, n): (i64, i64)| i128::from(s) * 1_000_000_000 + i128::from(n);
            let link = entry.mode & nix::libc::S_IFMT == nix::libc::S_IFLNK;
            let off = (nanos(entry.mtime) - nanos(other.mtime)).abs();
            assert!(link || off < 10_000, "{name:?}: {:?} {:?}", entry.mtime, other.mtime);
            other.mtime = entry.mtime;
        }
        assert!(*entry == other, "{reader:?}: {name:?} differs");
    }
}
