//! The mount calls that work on descriptors, which libc only numbers.

use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// What a mount and all below it refuse, mount_setattr(2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes(u64);

impl Attributes {
    /// Set-id bits have no effect.
    pub(crate) const NOSUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes are dead.
    pub(crate) const NODEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Nothing can be executed.
    pub(crate) const NOEXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// Nothing can be written.
    pub(crate) const RDONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A detached copy of what is mounted at a path, and of all below it, open_tree(2).
pub(crate) fn copy_of(path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_RECURSIVE as u32
        | libc::AT_SYMLINK_NOFOLLOW as u32;
    // SAFETY: a path that ends in NUL and numbers; hands out a new descriptor that nobody owns yet.
    unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags);
        let fd = c_int::try_from(Errno::result(fd)?).map_err(|_| Errno::EOVERFLOW)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Puts attributes on a detached tree, or on a mount by its path, and cuts
/// it off from what is mounted on the original later.
pub(crate) fn seal(
    tree: BorrowedFd<'_>,
    path: &CStr,
    set: Attributes,
    deep: bool,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: set.0,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let mut flags = if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    if deep {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: an open descriptor, a path that ends in NUL, and a structure that lives through
    // the call, with its size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done).map(drop)
}

/// Attaches a detached tree at a path, move_mount(2). No link at its end is followed.
pub(crate) fn attach(tree: &OwnedFd, path: &CStr) -> Result<(), Errno> {
    // SAFETY: an open descriptor, two paths that end in NUL, numbers.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(done).map(drop)
}
