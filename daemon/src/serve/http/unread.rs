//! What a client still sends after its last answer.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use tokio::io::Interest;
use tokio::time::timeout;

use crate::serve::connections::Connected;
use crate::serve::{LINGER, Stop};
use crate::wait::watch;

/// Ends what is written, and reads on for a while, until the client closes its side. Many a client sends all of a request
/// before it reads, and what is unread at the close is an error at its end, which can hide the
/// answer that it has already got (RFC 9112, section 9.6).
///
/// # Errors
/// As recv(2).
pub(super) async fn drain(
    stream: BorrowedFd<'_>,
    connected: &Connected,
    stop: &mut Stop,
) -> io::Result<()> {
    // As the descriptor is held, nothing else would. One that is closed already needs no end.
    let _ = shutdown(stream.as_raw_fd(), Shutdown::Write);
    let stream = watch(stream.try_clone_to_owned()?, Interest::READABLE)?;
    let mut unread = vec![0; 64 * 1024];
    let mut read = || -> io::Result<usize> {
        Ok(recv(stream.as_raw_fd(), &mut unread, MsgFlags::MSG_DONTWAIT)?)
    };
    let drained = async {
        while stream.async_io(Interest::READABLE, |_| read()).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        drained = timeout(LINGER, drained) => drained.unwrap_or(Ok(())),
        () = connected.unwanted() => Ok(()),
        () = stop.wait() => Ok(()),
    }
}
