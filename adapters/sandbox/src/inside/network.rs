//! The sandbox's own network: a loopback, the addresses of relayed services, their listeners.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};

use super::{Failure, Step};
use crate::sys;

/// The loopback is the first interface of every network namespace.
const LOOPBACK: u32 = 1;

/// Raises the loopback and listens on each address.
pub(super) fn set_up(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, Failure> {
    let mut routing = File::from(sys::netlink_socket().step("open a routing socket")?);
    request(&mut routing, libc::RTM_NEWLINK, &interface_up()).step("raise the loopback")?;
    let listen = |address: &SocketAddr| {
        if !address.ip().is_loopback() {
            add_address(&mut routing, address.ip())
                .step_with(|| format!("add the address {}", address.ip()))?;
        }
        TcpListener::bind(address).step_with(|| format!("listen on {address}"))
    };
    addresses.iter().map(listen).collect()
}

fn add_address(routing: &mut File, ip: IpAddr) -> io::Result<()> {
    match request(routing, libc::RTM_NEWADDR, &address_of_loopback(ip)) {
        // Two services on one address.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// `struct ifinfomsg`: sets and changes nothing but "up".
fn interface_up() -> Vec<u8> {
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    [[0; 4], LOOPBACK.to_ne_bytes(), up, up].concat()
}

/// `struct ifaddrmsg` with the address as both local and peer, and nothing beside it on the wire.
fn address_of_loopback(ip: IpAddr) -> Vec<u8> {
    // Usable at once: nobody else can have the address.
    const NO_DUPLICATE_DETECTION: u8 = 2;
    let (family, bytes) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, Ipv6Addr::octets(&ip).to_vec()),
    };
    let mut message = vec![
        family as u8,
        (bytes.len() * 8) as u8,
        NO_DUPLICATE_DETECTION,
        0,
    ];
    message.extend(LOOPBACK.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        message.extend(((4 + bytes.len()) as u16).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(&bytes);
    }
    message
}

/// Sends one routing request and reads its acknowledgement.
fn request(routing: &mut File, kind: u16, body: &[u8]) -> io::Result<()> {
    const HEADER_BYTES: usize = 16;
    let create = match kind {
        libc::RTM_NEWADDR => libc::NLM_F_CREATE | libc::NLM_F_EXCL,
        _ => 0,
    };
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | create;
    let mut message = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    // Sequence and port may be 0: there is one request at a time on this socket.
    message.extend([0; 8]);
    message.extend(body);
    routing.write_all(&message)?;
    let mut answer = [0; 1024];
    let length = routing.read(&mut answer)?;
    let code = answer[..length]
        .get(HEADER_BYTES..HEADER_BYTES + 4)
        .and_then(|b| b.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::from_raw_os_error(libc::EPROTO)),
    }
}
