//! Whose socket is at the other end of a TCP connection on this machine (sock_diag(7)).

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_ESTABLISHED};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// A socket of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// The user who made it.
    pub(super) uid: u32,
    /// Its number among all sockets.
    inode: u32,
}

/// Longest answer, in bytes.
const ANSWER: usize = 8 * 1024;

/// The kernel answers at once; nobody is to wait if it does not.
const PATIENCE: TimeVal = TimeVal::new(1, 0);

/// The socket that is connected from `theirs` to `ours`; `None` where there is none in this network
/// namespace, or nobody holds it any more.
///
/// # Errors
/// Where the kernel cannot be asked.
pub(super) fn of(theirs: SocketAddr, ours: SocketAddr) -> io::Result<Option<Owner>> {
    // A connection to a socket for both families has a mapped address at one end only.
    let (theirs_ip, ours_ip) = (theirs.ip().to_canonical(), ours.ip().to_canonical());
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::from(SockDiagMessage::InetRequest(InetRequest {
            family: if theirs_ip.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: theirs.port(),
                destination_port: ours.port(),
                source_address: theirs_ip,
                destination_address: ours_ip,
                interface_id: 0,
                // Whichever it is (INET_DIAG_NOCOOKIE, linux/inet_diag.h).
                cookie: [0xff; 8],
            },
        })),
    );
    message.header.flags = NLM_F_REQUEST;
    message.finalize();
    let mut request = vec![0; message.buffer_len()];
    message.serialize(&mut request);
    match NetlinkMessage::<SockDiagMessage>::deserialize(&ask(&request)?) {
        Ok(NetlinkMessage {
            payload: NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)),
            ..
        }) => {
            let header = found.header;
            // One that nobody holds any more has no number, and its user cannot be told.
            let held = header.state == TCP_ESTABLISHED && header.inode != 0;
            Ok(held.then_some(Owner { uid: header.uid, inode: header.inode }))
        }
        Ok(NetlinkMessage { payload: NetlinkPayload::Error(error), .. }) => {
            let error = error.to_io();
            if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
        }
        Ok(other) => Err(io::Error::other(format!("an unexpected answer: {other:?}"))),
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

fn ask(request: &[u8]) -> io::Result<Vec<u8>> {
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(&kernel, sockopt::ReceiveTimeout, &PATIENCE)?;
    connect(kernel.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    send(kernel.as_raw_fd(), request, MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER];
    let n = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(n);
    Ok(answer)
}

impl Owner {
    /// Whether only processes of the daemon's own pid namespace hold it. Looks through all processes'
    /// descriptors, which takes a while.
    ///
    /// A sandbox that has the machine's network may share the daemon's user, and then differs from
    /// the user's other processes only by its pid namespace. What may not be looked at, or has gone
    /// meanwhile, is not believed.
    pub(super) fn is_outside_of_sandboxes(self) -> bool {
        let own = fs::read_link("/proc/self/ns/pid").ok();
        let wanted = format!("socket:[{}]", self.inode);
        let holds = |process: &Path| {
            let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            descriptors
                .filter_map(|fd| fs::read_link(fd.path()).ok())
                .any(|link| link.as_os_str() == wanted.as_str())
        };
        let mut found = false;
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let process = process.path();
            let is_number = |name: &std::ffi::OsStr| name.as_encoded_bytes()[0].is_ascii_digit();
            if process.file_name().is_some_and(is_number) && holds(&process) {
                let namespace = fs::read_link(process.join("ns/pid")).ok();
                if own.is_none() || namespace != own {
                    return false;
                }
                found = true;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    /// Waits until there is none: the kernel sees to an end when it gets to it.
    #[track_caller]
    fn ends(theirs: SocketAddr, ours: SocketAddr, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Some(owner) = of(theirs, ours).unwrap() {
            assert!(Instant::now() < deadline, "{what}: {owner:?}");
            sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_connections_other_end_has_an_owner_until_it_is_closed() {
        let uid = nix::unistd::geteuid().as_raw();
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let to = if address == "[::1]:0" { "::1" } else { "127.0.0.1" };
            let client = TcpStream::connect((to, port)).unwrap();
            let (accepted, theirs) = listener.accept().unwrap();
            let ours = accepted.local_addr().unwrap();
            let owner = of(theirs, ours).unwrap().unwrap();
            assert_eq!(owner.uid, uid, "{address}");
            assert!(owner.is_outside_of_sandboxes());
            assert!(!Owner { inode: 0, ..owner }.is_outside_of_sandboxes());
            drop(client);
            ends(theirs, ours, address);
            // The other way round there is one, too.
            ends(ours, theirs, "half closed");
        }
    }
}
