//! Waiting for descriptors in the runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime.
///
/// # Errors
/// As epoll_ctl(2).
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // tokio's new constructor is unsafe because a type's AsRawFd may lie. An
    // OwnedFd's cannot: it is its descriptor, open until it is dropped.
    #[expect(deprecated)]
    AsyncFd::with_interest(fd, interest)
}
