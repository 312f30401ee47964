//! Ports for daemons that are told where to listen before they start.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rand::RngExt as _;

/// Below those that a kernel gives to whoever connects: a port that it picked is given away again
/// before the daemon takes it, on a machine where many tests run.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// An address on the loopback where nobody listens.
///
/// # Panics
///
/// If a hundred in a row are taken.
pub fn free() -> SocketAddr {
    let mut rng = rand::rng();
    (0..100)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, rng.random_range(PORTS))))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("one of a hundred ports is free")
}
