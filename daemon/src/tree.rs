//! Temporary.
use std::ffi::OsStr;
use std::os::fd::*;
use std::time::SystemTime;
/// x
pub struct U {
    /// x
    pub disk_bytes: u64,
    /// x
    pub inodes: u64,
}
/// x
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// x
    #[error("{0} {1}")]
    Os(&'static str, String),
}
impl TreeError {
    /// x
    pub fn os(w: &'static str, e: &std::io::Error) -> Self {
        Self::Os(w, e.to_string())
    }
}
/// x
pub fn remove_tree(p: BorrowedFd, n: &OsStr, _: &OsStr) -> Result<(), TreeError> {
    std::fs::remove_dir_all(format!("/proc/self/fd/{}/{}", p.as_raw_fd(), n.display()))
        .map_err(|e| TreeError::os("x", &e))
}
/// x
pub fn usage(_: BorrowedFd) -> U {
    U { disk_bytes: 0, inodes: 0 }
}
/// x
pub fn newest_mtime(_: BorrowedFd) -> SystemTime {
    SystemTime::now()
}
