//! Messages between engine, helper and sandbox: JSON over `SOCK_SEQPACKET`, with descriptors.
//!
//! A packet is sent whole or not at all, so any thread may send a request without a lock; and each
//! request brings the sockets on which it wants to be answered, so answers need no numbers.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Capabilities;

/// The longest packet: below the default send buffer of a unix socket, with room for its overhead.
pub(crate) const PACKET_BYTES_MAX: usize = 128 << 10;
/// The most descriptors in one packet; the kernel's own limit is 253.
pub(crate) const FDS_MAX: usize = 96;

/// The descriptors of a request, in the order in which they travel; a queue's comes behind them.
pub(crate) const REQUEST_FDS: usize = 5;

/// What the helper says once, when it has found out what the machine allows.
#[derive(Serialize, Deserialize)]
pub(crate) enum Hello {
    Ready(Capabilities),
    Unsupported(String),
}

/// What is said on a request's status socket; its end of file means that the program runs.
#[derive(Serialize, Deserialize)]
pub(crate) enum Status {
    /// The sandbox's first process exists; comes with its pidfd.
    Cloned { pid: u32 },
    /// Comes with one listening socket for each address of the spec's `Bindings`.
    Listening,
    /// Nothing will run.
    Failed { step: String, errno: i32 },
}

/// What is said on a request's exit socket, once, when the whole sandbox is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) oom: bool,
}

/// A connected pair of packet sockets.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for the two descriptors that the call writes.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: both descriptors were just made and nobody else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Sends `message` as JSON together with `fds`.
pub(crate) fn send<M: Serialize>(
    socket: impl AsFd,
    message: &M,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).expect("these types have no maps with odd keys");
    send_bytes(socket, &bytes, fds)
}

/// Sends one packet together with `fds`.
pub(crate) fn send_bytes(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    assert!(
        fds.len() <= FDS_MAX,
        "callers bound the number of descriptors"
    );
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let raw_bytes = size_of_val(raw.as_slice());
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut control = ControlBuffer::new();
    // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if !raw.is_empty() {
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: pure arithmetic on a length.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(raw_bytes as u32) } as usize;
        // SAFETY: the control buffer is aligned for `cmsghdr` and, as FDS_MAX bounds the number of
        // descriptors, longer than `msg_controllen`; so the first header and its data lie within it.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(raw_bytes as u32) as usize;
            libc::CMSG_DATA(first).copy_from_nonoverlapping(raw.as_ptr().cast(), raw_bytes);
        }
    }
    let fd = socket.as_fd().as_raw_fd();
    loop {
        // SAFETY: every pointer in `header` points into a live local.
        let sent = unsafe { libc::sendmsg(fd, &raw const header, libc::MSG_NOSIGNAL) };
        match check(sent) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// Receives one message and its descriptors; `None` at the end of file.
pub(crate) fn recv<M: DeserializeOwned>(
    socket: impl AsFd,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let (length, fds) = recv_bytes(socket, &mut buffer, 0)?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..length])?, fds)))
}

/// Receives one packet into `buffer`; a length of 0 is the end of file.
pub(crate) fn recv_bytes(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: i32,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = ControlBuffer::new();
    // SAFETY: all-zero is a valid `msghdr`: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control.0);
    let fd = socket.as_fd().as_raw_fd();
    let length = loop {
        // SAFETY: every pointer in `header` points into a live local of the stated length.
        let got = unsafe { libc::recvmsg(fd, &raw mut header, flags | libc::MSG_CMSG_CLOEXEC) };
        match check(got) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    let fds = received_fds(&header);
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a packet was cut short",
        ));
    }
    Ok((length.unsigned_abs(), fds))
}

/// Takes ownership of the descriptors which a received header carries.
fn received_fds(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel filled in the control buffer and its length, and the CMSG macros stay
    // within them; each descriptor of an SCM_RIGHTS message is new in this process and ours alone.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(cmsg) = next.as_ref() {
            if cmsg.cmsg_level == libc::SOL_SOCKET && cmsg.cmsg_type == libc::SCM_RIGHTS {
                let bytes = cmsg.cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(cmsg).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            next = libc::CMSG_NXTHDR(header, cmsg);
        }
    }
    fds
}

/// Room for the control message of FDS_MAX descriptors, aligned as a `cmsghdr` must be.
#[repr(align(8))]
struct ControlBuffer([u8; 16 + FDS_MAX * 4 + 16]);

impl ControlBuffer {
    fn new() -> Self {
        Self([0; 16 + FDS_MAX * 4 + 16])
    }
}

fn check<T: Default + PartialOrd>(result: T) -> io::Result<T> {
    if result < T::default() {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_descriptor_that_was_sent_works_at_the_other_end() {
        let (a, b) = pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(&a, &Status::Cloned { pid: 7 }, &[writer.as_fd()]).unwrap();
        drop(writer);
        let (message, mut fds) = recv::<Status>(&b).unwrap().unwrap();
        assert!(matches!(message, Status::Cloned { pid: 7 }));
        io::PipeWriter::from(fds.remove(0))
            .write_all(b"hello")
            .unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn the_end_of_file_is_not_a_message() {
        let (a, b) = pair().unwrap();
        drop(a);
        assert!(recv::<Status>(&b).unwrap().is_none());
    }

    #[test]
    fn a_packet_longer_than_the_buffer_is_an_error_and_not_half_a_message() {
        let (a, b) = pair().unwrap();
        send_bytes(&a, b"abcdef", &[]).unwrap();
        assert!(recv_bytes(&b, &mut [0; 3], 0).is_err());
    }
}
