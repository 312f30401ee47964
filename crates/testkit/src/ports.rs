//! Ports for daemons that are told where to listen before they start.

use std::{
    fs::{self, File},
    mem,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
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
    let (folder, mut rng) = (claims(), rand::rng());
    (0..100)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, rng.random_range(PORTS))))
        .find(|address| claim(&folder, address.port()) && TcpListener::bind(address).is_ok())
        .expect("one of a hundred ports is free")
}

/// The folder in which a port that is a test's own is a locked file.
fn claims() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mallee-test-ports-{}", nix::unistd::getuid()));
    fs::create_dir_all(&folder).expect("the folder for temporary files takes a folder");
    folder
}

fn claim(folder: &Path, port: u16) -> bool {
    let file = File::create(folder.join(port.to_string()));
    let Some(file) = file.ok().filter(|file| file.try_lock().is_ok()) else {
        return false;
    };
    // The lock ends with the process.
    mem::forget(file);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_claimed_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(claim(folder.path(), 10_000));
        assert!(!claim(folder.path(), 10_000));
        assert!(claim(folder.path(), 10_001));
    }
}
