//! Making archives, unpacking them, and looking at what came out.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use noxrunner_archive::{Limits, Report, Rules, StageError, stage, stays_beneath};

pub(crate) const ROOMY: Limits = Limits { bytes: 1 << 40, members: 1 << 40, keep_free: 0 };

/// A directory that is removed with everything in it, whatever rights it has.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn open(&self) -> File {
        File::open(self.path()).unwrap()
    }

    /// Every entry: path, kind and permission bits, time, and content or target.
    pub(crate) fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        list(self.path(), &mut Vec::new(), &mut lines);
        lines.sort();
        lines
    }

    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(self.path()).unwrap().next().is_none()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = Command::new("chmod").arg("-R").arg("u+rwx").arg(self.path()).status();
    }
}

fn list(dir: &Path, prefix: &mut Vec<u8>, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        let length = prefix.len();
        prefix.extend_from_slice(entry.file_name().as_bytes());
        let name = prefix.escape_ascii().to_string();
        let mode = meta.mode() & 0o7777;
        let time = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
        if meta.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap();
            lines.push(format!("{name} -> {} {time}", target.display()));
        } else if meta.is_dir() {
            lines.push(format!("{name}/ {mode:o} {time}"));
            if mode & 0o500 != 0o500 {
                chmod(&entry.path(), 0o700);
            }
            prefix.push(b'/');
            list(&entry.path(), prefix, lines);
            if mode & 0o500 != 0o500 {
                chmod(&entry.path(), mode);
            }
        } else {
            if mode & 0o400 == 0 {
                chmod(&entry.path(), 0o600);
            }
            let content = fs::read(entry.path()).unwrap();
            chmod(&entry.path(), mode);
            let sum = content
                .iter()
                .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            lines.push(format!("{name} {mode:o} {time} {} {sum:x}", content.len()));
        }
        prefix.truncate(length);
    }
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Unpacks with bounds of one's own into a fresh directory.
pub(crate) fn unpack_within(archive: &[u8], limits: Limits) -> (Tree, Result<Report, StageError>) {
    let tree = Tree::new();
    let rules = Rules { limits, owner: None, link_stays: &stays_beneath };
    let report = stage(&mut &archive[..], tree.open().as_fd(), &rules);
    (tree, report)
}

#[track_caller]
pub(crate) fn unpack(archive: &[u8]) -> (Tree, Report) {
    let (tree, report) = unpack_within(archive, ROOMY);
    (tree, report.unwrap())
}

#[track_caller]
pub(crate) fn refused(archive: &[u8]) -> StageError {
    unpack_within(archive, ROOMY).1.unwrap_err()
}

#[track_caller]
pub(crate) fn assert_damaged(archive: &[u8], words: &str) {
    match refused(archive) {
        StageError::Damaged(why) => assert!(why.contains(words), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// What GNU tar makes of a directory.
pub(crate) fn gnu_tar(dir: &Path, options: &[&str]) -> Vec<u8> {
    let made = Command::new("tar")
        .args(options)
        .args(["--sort=name", "-C"])
        .arg(dir)
        .args(["-cf", "-", "."])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(made.status.success());
    made.stdout
}

/// What a Python script writes that has `tarfile`, `io` and `add(name, **fields)`.
pub(crate) fn python_tar(format: &str, script: &str) -> Vec<u8> {
    let whole = format!(
        "import tarfile, io, sys\n\
         out = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=tarfile.{format})\n\
         def add(name, data=b'', **fields):\n\
         \x20   info = tarfile.TarInfo(name)\n\
         \x20   info.size = len(data)\n\
         \x20   for key, value in fields.items(): setattr(info, key, value)\n\
         \x20   out.addfile(info, io.BytesIO(data))\n\
         {script}\n\
         out.close()\n"
    );
    let made = Command::new("/usr/bin/python3").arg("-c").arg(whole).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

/// An archive made by hand, header by header.
#[derive(Default, Clone)]
pub(crate) struct Made(pub(crate) Vec<u8>);

impl Made {
    pub(crate) fn header(name: &[u8], flag: u8, size: u64, link: &[u8]) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(tar::EntryType::new(flag));
        header.set_mode(if flag == b'5' { 0o755 } else { 0o644 });
        header.set_mtime(1000);
        header.set_size(size);
        header.set_cksum();
        header
    }

    pub(crate) fn raw(mut self, header: &tar::Header, data: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn member(self, name: &str, flag: u8, link: &str, data: &[u8]) -> Self {
        let header = Self::header(name.as_bytes(), flag, data.len() as u64, link.as_bytes());
        self.raw(&header, data)
    }

    pub(crate) fn file(self, name: &str, data: &str) -> Self {
        self.member(name, b'0', "", data.as_bytes())
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.member(name, b'5', "", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.member(name, b'2', target, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.member(name, b'1', target, b"")
    }

    /// A pax header for the next member.
    pub(crate) fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut block = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            block.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
        }
        self.member("pax", b'x', "", &block)
    }

    /// With its end marker.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}
