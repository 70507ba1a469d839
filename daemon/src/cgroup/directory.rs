//! A directory of a cgroup file system, held by a descriptor, and the files below it.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};

use super::CgroupError;

/// More than any file that we read has, but for lists of processes.
const USUAL: usize = 4096;

/// A directory. Names are relative to it, with or without slashes.
#[derive(Debug)]
pub(super) struct Directory {
    handle: OwnedFd,
    path: PathBuf,
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, CgroupError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match openat(AT_FDCWD, path, flags, Mode::empty()) {
            Ok(handle) => Ok(Self { handle, path: path.to_owned() }),
            Err(errno) => Err(CgroupError::Io { step: "open", path: path.to_owned(), errno }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file_system(&self) -> Result<FsType, CgroupError> {
        let stat = fstatfs(&self.handle);
        stat.map(|stat| stat.filesystem_type()).map_err(|e| self.error("look at", "", e))
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, name: &str) -> bool {
        faccessat(&self.handle, name, AccessFlags::F_OK, AtFlags::empty()).is_ok()
    }

    /// Whether the daemon may write it: the errno if not.
    pub(super) fn writable(&self, name: &str) -> Result<(), Errno> {
        faccessat(&self.handle, name, AccessFlags::W_OK, AtFlags::AT_EACCESS)
    }

    /// Opens a file to be read.
    pub(super) fn reader(&self, name: &str) -> Result<OwnedFd, CgroupError> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        openat(&self.handle, name, flags, Mode::empty()).map_err(|e| self.error("open", name, e))
    }

    /// All of a list of processes, which may be long.
    pub(super) fn read_all(&self, name: &str) -> Result<String, CgroupError> {
        let mut file = std::fs::File::from(self.reader(name)?);
        let mut text = String::new();
        match file.read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(e) => Err(self.error("read", name, errno_of(&e))),
        }
    }

    /// Any other file: the kernel shows it whole in one call (seq_file.rst, `single_open`).
    pub(super) fn read(&self, name: &str) -> Result<String, CgroupError> {
        let file = self.reader(name)?;
        let mut text = [0; USUAL];
        let read = nix::unistd::read(&file, &mut text).map_err(|e| self.error("read", name, e))?;
        Ok(String::from_utf8_lossy(&text[..read]).into_owned())
    }

    /// In one call, as the kernel wants it.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat(&self.handle, name, flags, Mode::empty());
        let file = file.map_err(|e| self.error("open", name, e))?;
        let written = nix::unistd::write(&file, value.as_bytes());
        written.map(drop).map_err(|e| self.error("write to", name, e))
    }

    pub(super) fn make(&self, name: &str) -> Result<(), CgroupError> {
        mkdirat(&self.handle, name, Mode::from_bits_truncate(0o755))
            .map_err(|e| self.error("make", name, e))
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), CgroupError> {
        unlinkat(&self.handle, name, UnlinkatFlags::RemoveDir)
            .map_err(|e| self.error("remove", name, e))
    }

    pub(super) fn error(&self, step: &'static str, name: &str, errno: Errno) -> CgroupError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        CgroupError::Io { step, path, errno }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// The errno of an error of the standard library's.
pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}
