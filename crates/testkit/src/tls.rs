//! A cloud's certificates in a temporary folder: one authority, a certificate for whoever asks.

use std::net::{Ipv4Addr, SocketAddr};

use daemon::{
    clock::SystemClock,
    tls::{Authority, Identity, Issue, Peer, Role, Tls},
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An authority and what it has signed; gone when dropped.
pub struct Certificates {
    folder: TempDir,
    authority: Authority,
}

impl Certificates {
    /// A new authority.
    pub fn new() -> Self {
        let now_ms = SystemClock::shared().now_ms();
        Self {
            folder: tempfile::tempdir().expect("a test may write to its temporary folder"),
            authority: Authority::create(now_ms).expect("an authority needs nothing"),
        }
    }

    /// The identity of a daemon of that role and name, in zone `mallee-1a` where it has one.
    pub fn of(&self, role: Role, name: &str) -> Tls {
        self.of_zone(role, name, role.has_zone().then_some("mallee-1a"))
    }

    /// The same in another zone.
    pub fn of_zone(&self, role: Role, name: &str, zone: Option<&str>) -> Tls {
        let peer = Peer::new(role, name, zone).expect("a test's names are labels");
        let folder = self.folder.path().join(format!("{role}-{name}"));
        let issue = Issue::daemon(peer, SystemClock::shared().now_ms());
        Identity::make(&folder, &self.authority, &issue).expect("the folder is ours");
        Tls::open(&folder).expect("it was just made")
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

/// Routes that are served until this is dropped.
pub struct Served {
    /// Where.
    pub address: SocketAddr,
    _stop: DropGuard,
}

/// Serves the routes over mutual TLS on a free port of the loopback.
pub async fn serve(tls: &Tls, routes: axum::Router) -> Served {
    serve_at(Ipv4Addr::LOCALHOST, tls, routes).await
}

/// The same at another address of this host.
pub async fn serve_at(address: Ipv4Addr, tls: &Tls, routes: axum::Router) -> Served {
    let listener = TcpListener::bind((address, 0))
        .await
        .expect("an address of this host has a free port");
    let address = listener.local_addr().expect("it is bound");
    let stop = CancellationToken::new();
    let serving = control::server::serve(listener, tls.server_config(), routes, stop.clone());
    tokio::spawn(serving);
    Served {
        address,
        _stop: stop.drop_guard(),
    }
}
