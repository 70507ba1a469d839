//! Who is at the other end of a socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// The supplementary groups that the process at the other end of a Unix socket had
/// when it connected (SO_PEERGROUPS, Linux 4.13; unix(7)).
///
/// # Errors
/// As getsockopt(2): ENODATA or ENOTCONN where nobody is connected.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 32];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice()))
            .map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
        // SAFETY: `groups` has room for `bytes` bytes and lives through the call, and the
        // kernel writes no more than it is told there is room for.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let needed = bytes as usize / size_of::<u32>();
        match Errno::result(outcome) {
            Ok(_) => {
                groups.truncate(needed);
                return Ok(groups);
            }
            // It says how much room it takes.
            Err(Errno::ERANGE) if needed > groups.len() => groups.resize(needed, 0),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_groups_of_a_connected_process_are_its_own() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut groups = peer_groups(ours.as_fd()).unwrap();
        let mut own: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }
}
