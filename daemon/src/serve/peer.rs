//! Who is at the other end of a connection, as the kernel says (SO_PEERCRED, unix(7)).

use std::io;

use tokio::net::UnixStream;

/// The user at the other end when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user id.
    pub uid: u32,
}

impl Peer {
    /// # Errors
    /// As getsockopt(2).
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        Ok(Self { uid: stream.peer_cred()?.uid() })
    }

    /// Whether it may use a daemon of this user: that user and root may.
    pub fn may_use(self, daemon: u32) -> bool {
        self.uid == daemon || self.uid == 0
    }

    /// Whether it may end a daemon of this user.
    pub fn may_stop(self, daemon: u32) -> bool {
        self.may_use(daemon)
    }
}
