//! Who is at the other end of a connection, as the kernel says (SO_PEERCRED and SO_PEERGROUPS, unix(7)).

use std::io;
use std::os::fd::AsFd;

use noxrunner_init::peer_groups;
use tokio::net::UnixStream;

/// The user at the other end when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user id.
    pub uid: u32,
    /// Whether it was in the group whose members may use the daemon.
    pub member: bool,
}

impl Peer {
    /// Looks; `group` is the one whose members may use the daemon.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn of(stream: &UnixStream, group: Option<u32>) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let member = match group {
            None => false,
            Some(group) if credentials.gid() == group => true,
            Some(group) => peer_groups(stream.as_fd())?.contains(&group),
        };
        Ok(Self { uid: credentials.uid(), member })
    }

    /// Whether it may use a daemon of this user: that user, root and the group's members may.
    pub fn may_use(self, daemon: u32) -> bool {
        self.member || self.may_stop(daemon)
    }

    /// Whether it may end a daemon of this user: that user and root may.
    pub fn may_stop(self, daemon: u32) -> bool {
        self.uid == daemon || self.uid == 0
    }
}
