//! Messages over a `SOCK_SEQPACKET` pair, with descriptors beside them.
//!
//! A packet holds one message. What would not fit a socket's buffer (arguments
//! and environment can be megabytes) travels in a memfd, the last descriptor of its packet.
//! No call here waits.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys;

/// Longest message that goes into a packet, in bytes; well below the smallest
/// default send buffer (net.core.wmem_default).
const MAX_INLINE_BYTES: usize = 32 * 1024;

/// Longest message of all, in bytes. execve(2) takes at most 6 MiB of arguments
/// and environment, whatever the stack limit (3/4 of `_STK_LIM`).
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// Most descriptors in a packet: three of a command and a memfd.
const MAX_DESCRIPTORS: usize = 4;

/// First byte of a packet: the message follows.
const INLINE: u8 = 0;
/// First byte of a packet: the message is in the last descriptor.
const SPILLED: u8 = 1;

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nothing can be sent or received right now; wait until the socket is ready.
    #[error("the socket is not ready")]
    WouldBlock,
    /// The other side is gone.
    #[error("the other side is gone")]
    Closed,
    /// The message is larger than 8 MiB.
    #[error("the message is larger than {MAX_MESSAGE_BYTES} bytes")]
    TooLarge,
    /// The packet is not one that [`send`] writes.
    #[error("the packet is malformed")]
    Malformed,
    /// The kernel refused.
    #[error(transparent)]
    Os(#[from] Errno),
}

impl From<postcard::Error> for TransportError {
    fn from(_: postcard::Error) -> Self {
        Self::Malformed
    }
}

/// A message and the descriptors that came with it.
pub type Received<T> = (T, Vec<OwnedFd>);

/// A connected pair of sockets that programs started later do not inherit.
///
/// # Errors
/// As socketpair(2).
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// Sends a message with up to three descriptors, all of it or nothing.
///
/// # Errors
/// [`TransportError::WouldBlock`] while the other side is slow to read,
/// [`TransportError::Closed`] once it is gone.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), TransportError> {
    let packet = postcard::to_extend(message, vec![INLINE])?;
    let mut raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    if packet.len() <= MAX_INLINE_BYTES {
        return send_packet(socket, &packet, &raw);
    }
    // Kept until it is sent; the kernel then holds a reference of its own.
    let spilled = spill(&packet[1..])?;
    raw.push(spilled.as_raw_fd());
    send_packet(socket, &[SPILLED], &raw)
}

/// Sends on a packet that [`receive`] gave, as it came.
///
/// # Errors
/// As [`send`].
pub(crate) fn forward(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    descriptors: &[OwnedFd],
) -> Result<(), TransportError> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    send_packet(socket, packet, &raw)
}

fn send_packet(
    socket: BorrowedFd<'_>,
    packet: &[u8],
    descriptors: &[RawFd],
) -> Result<(), TransportError> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(packet)], control, flags, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(TransportError::WouldBlock),
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(TransportError::Closed),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn spill(message: &[u8]) -> Result<File, TransportError> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(TransportError::TooLarge);
    }
    let mut file = File::from(memfd_create(c"noxrunner-message", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(message).map_err(os_error)?;
    Ok(file)
}

/// Receives a message.
///
/// # Errors
/// [`TransportError::WouldBlock`] while there is none,
/// [`TransportError::Closed`] once there will be none any more.
pub fn recv<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<Received<T>, TransportError> {
    receive(socket, read)?
}

fn read<T: DeserializeOwned>(
    packet: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<Received<T>, TransportError> {
    Ok((peek(packet, &descriptors)?, beside(packet, descriptors)))
}

/// The descriptors of a packet that are not part of its message.
pub(crate) fn beside(packet: &[u8], mut descriptors: Vec<OwnedFd>) -> Vec<OwnedFd> {
    if packet == [SPILLED] {
        descriptors.pop();
    }
    descriptors
}

/// Receives a packet as it came, with all its descriptors, for [`peek`], [`beside`] and [`forward`].
///
/// # Errors
/// As [`recv`].
pub(crate) fn receive<R>(
    socket: BorrowedFd<'_>,
    take: impl FnOnce(&[u8], Vec<OwnedFd>) -> R,
) -> Result<R, TransportError> {
    // On the stack: taken from and given back to the allocator at every message it would cost more than the call.
    let mut packet = [0; MAX_INLINE_BYTES];
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let (length, descriptors, cut) = loop {
        let mut iov = [IoSliceMut::new(&mut packet)];
        match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags) {
            Ok(received) => {
                let mut raw = Vec::new();
                for message in received.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(rights) = message {
                        raw.extend(rights);
                    }
                }
                let cut = received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
                break (received.bytes, sys::adopt(raw), cut);
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(TransportError::WouldBlock),
            Err(Errno::ECONNRESET) => return Err(TransportError::Closed),
            Err(errno) => return Err(errno.into()),
        }
    };
    match packet.get(..length) {
        None | Some([]) => Err(TransportError::Closed),
        Some(_) if cut => Err(TransportError::Malformed),
        Some(packet) => Ok(take(packet, descriptors)),
    }
}

/// The message of a packet, which may still be sent on.
///
/// # Errors
/// Where [`send`] did not write it.
pub(crate) fn peek<T: DeserializeOwned>(
    packet: &[u8],
    descriptors: &[OwnedFd],
) -> Result<T, TransportError> {
    match packet.split_first() {
        Some((&INLINE, message)) => Ok(postcard::from_bytes(message)?),
        Some((&SPILLED, [])) => {
            let spilled = descriptors.last().ok_or(TransportError::Malformed)?;
            Ok(postcard::from_bytes(&read_spilled(spilled)?)?)
        }
        Some(_) | None => Err(TransportError::Malformed),
    }
}

fn read_spilled(spilled: &OwnedFd) -> Result<Vec<u8>, TransportError> {
    let file = File::from(spilled.try_clone().map_err(os_error)?);
    let length = file.metadata().map_err(os_error)?.len();
    let length = usize::try_from(length).map_err(|_| TransportError::TooLarge)?;
    if length > MAX_MESSAGE_BYTES {
        return Err(TransportError::TooLarge);
    }
    let mut message = vec![0; length];
    file.read_exact_at(&mut message, 0).map_err(os_error)?;
    Ok(message)
}

fn os_error(error: io::Error) -> TransportError {
    error.raw_os_error().map_or(TransportError::Malformed, |e| Errno::from_raw(e).into())
}

/// Borrows every descriptor of a list, as [`send`] takes them.
pub fn borrow<F: AsFd>(descriptors: &[F]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_every_size_arrive_with_their_descriptors() {
        let (here, there) = pair().unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        for size in [0, 1, MAX_INLINE_BYTES - 8, MAX_INLINE_BYTES, 300_000, 6 << 20] {
            let message = "x".repeat(size);
            send(here.as_fd(), &message, &[writer.as_fd()]).unwrap();
            let (got, descriptors): Received<String> = recv(there.as_fd()).unwrap();
            assert_eq!((got.len(), descriptors.len()), (size, 1));
            nix::unistd::write(&descriptors[0], b"!").unwrap();
            assert_eq!(nix::unistd::read(&reader, &mut [0; 8]), Ok(1));
        }
        let huge = "x".repeat(MAX_MESSAGE_BYTES + 1);
        assert!(matches!(send(here.as_fd(), &huge, &[]), Err(TransportError::TooLarge)));
    }

    #[test]
    fn nothing_to_read_is_apart_from_nobody_there() {
        let (here, there) = pair().unwrap();
        assert!(matches!(recv::<u8>(here.as_fd()), Err(TransportError::WouldBlock)));
        drop(there);
        assert!(matches!(recv::<u8>(here.as_fd()), Err(TransportError::Closed)));
        assert!(matches!(send(here.as_fd(), &1_u8, &[]), Err(TransportError::Closed)));
    }

    #[test]
    fn a_full_socket_says_so_and_loses_nothing() {
        let (here, there) = pair().unwrap();
        let message = "x".repeat(30_000);
        let mut sent = 0;
        while send(here.as_fd(), &message, &[]).is_ok() {
            sent += 1;
        }
        assert!(matches!(send(here.as_fd(), &message, &[]), Err(TransportError::WouldBlock)));
        for _ in 0..sent {
            let (got, _): Received<String> = recv(there.as_fd()).unwrap();
            assert_eq!(got.len(), message.len());
        }
        assert!(matches!(recv::<String>(there.as_fd()), Err(TransportError::WouldBlock)));
    }
}
