//! A client that has closed its whole socket, told from one that has only
//! closed its writing side and still waits for answers. Both read as end of file; only
//! the first is POLLHUP (poll(2), unix(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until the other side has closed its whole socket.
///
/// # Errors
/// Where the descriptor cannot be waited for.
pub async fn hung_up(stream: BorrowedFd<'_>) -> io::Result<()> {
    // A registration of its own: what is cleared here must not hide data from a reader.
    let own = AsyncFd::with_interest(super::duplicate(stream)?, Interest::READABLE)?;
    loop {
        let mut ready = own.readable().await?;
        // Cleared first: a hang-up after the look then wakes this again.
        ready.clear_ready();
        if is_hung_up(own.get_ref().as_fd())? {
            return Ok(());
        }
    }
}

fn is_hung_up(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(fds[0].revents().is_some_and(|r| r.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;
    use tokio::time::timeout;

    #[tokio::test]
    async fn only_a_full_close_is_a_hang_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let gone = hung_up(ours.as_fd());
        tokio::pin!(gone);
        let still_there = Duration::from_millis(50);
        theirs.write_all(b"x").await.unwrap();
        theirs.shutdown().await.unwrap();
        assert!(timeout(still_there, &mut gone).await.is_err());
        drop(theirs);
        timeout(Duration::from_secs(5), gone).await.unwrap().unwrap();
    }
}
