//! A client that has closed its whole socket, told from one that has only
//! closed its writing side and still waits for answers. Both read as end of
//! file; only the first ends writing too, as EPOLLHUP (epoll_ctl(2), unix(7)).

use std::io;
use std::os::fd::BorrowedFd;

use tokio::io::Interest;

use crate::wait::watch;

/// Waits until the other side has closed its whole socket.
///
/// # Errors
/// Where the descriptor cannot be waited for.
pub async fn hung_up(stream: BorrowedFd<'_>) -> io::Result<()> {
    // A registration of its own, for what never comes: a hang-up is told unasked (epoll_ctl(2)), and
    // nothing else wakes up whoever waits here.
    let own = watch(stream.try_clone_to_owned()?, Interest::PRIORITY)?;
    loop {
        let mut ready = own.ready(Interest::PRIORITY).await?;
        if ready.ready().is_read_closed() {
            return Ok(());
        }
        ready.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
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
