//! Ports for daemons that are told where to listen before they start.

use std::{
    mem,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
};

use rand::RngExt as _;

/// Below those that a kernel gives to whoever connects: a port that it picked is given away again
/// before the daemon takes it, on a machine where many tests run.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// An address on the loopback where nobody listens, and that no other test is given while this process
/// lives: a daemon that is killed and started again finds it free.
///
/// # Panics
///
/// If a hundred in a row are taken.
pub fn free() -> SocketAddr {
    let mut rng = rand::rng();
    (0..100)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, rng.random_range(PORTS))))
        .find(|address| claim(address.port()) && TcpListener::bind(address).is_ok())
        .expect("one of a hundred ports is free")
}

/// Makes a port this process's own: as the port itself, an abstract name is one in a network namespace,
/// and is given up when the process ends.
fn claim(port: u16) -> bool {
    let name = UnixAddr::from_abstract_name(format!("mallee-test-port-{port}"));
    let claimed = name.and_then(|name| UnixListener::bind_addr(&name));
    claimed.map(mem::forget).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_claimed_once() {
        // None that a test is given.
        assert!(claim(1));
        assert!(!claim(1));
        assert!(claim(2));
    }
}
