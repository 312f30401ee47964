//! Raw frames: what no honest guest would send, and what really arrived.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

/// All protocols, in network byte order.
const ETH_P_ALL: u16 = 0x0003_u16.to_be();
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const RARP: u16 = 0x8035;
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;

/// A packet socket on `eth0` of the namespace that it was made in.
pub(crate) struct Wire(OwnedFd);

impl Wire {
    /// Opens it on the calling thread's `eth0`.
    #[allow(unsafe_code)]
    pub(crate) fn open(device: &str) -> io::Result<Self> {
        let name = std::ffi::CString::new(device)?;
        // SAFETY: plain system calls; the descriptor is owned from the moment it is known good, and
        // the address is a zeroed C struct of the size that is named.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(ETH_P_ALL));
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let fd = OwnedFd::from_raw_fd(fd);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = ETH_P_ALL;
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let size = std::mem::size_of::<libc::sockaddr_ll>() as u32;
            if libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) < 0 {
                return Err(io::Error::last_os_error());
            }
            let wait = libc::timeval {
                tv_sec: 0,
                tv_usec: 50_000,
            };
            let size = std::mem::size_of::<libc::timeval>() as u32;
            let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
            libc::setsockopt(
                fd.as_raw_fd(),
                level,
                option,
                (&raw const wait).cast(),
                size,
            );
            Ok(Self(fd))
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        nix::unistd::write(&self.0, frame).unwrap();
    }

    /// Whether a frame that ends with, or holds, these bytes comes within the time.
    pub(crate) fn sees(&self, wanted: &[u8], within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut buffer = [0; 2048];
        while Instant::now() < until {
            if let Ok(length) = nix::unistd::read(&self.0, &mut buffer)
                && buffer[..length]
                    .windows(wanted.len())
                    .any(|window| window == wanted)
            {
                return true;
            }
        }
        false
    }
}

pub(crate) fn frame(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &kind.to_be_bytes(), payload].concat()
}

/// An ARP or RARP payload.
pub(crate) fn arp(
    operation: u16,
    sender: ([u8; 6], [u8; 4]),
    target: ([u8; 6], [u8; 4]),
) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    let operation = operation.to_be_bytes();
    [
        &head[..],
        &operation,
        &sender.0,
        &sender.1,
        &target.0,
        &target.1,
    ]
    .concat()
}

/// An IPv4 packet with a UDP datagram. Its UDP checksum is 0: not computed.
pub(crate) fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16), text: &[u8]) -> Vec<u8> {
    let length = (8 + text.len()) as u16;
    let total = 20 + length;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip.extend(from.0);
    ip.extend(to.0);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    [&ip[..], &ports, &length.to_be_bytes(), &[0, 0], text].concat()
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}
