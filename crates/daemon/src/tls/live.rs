//! The identity in use: one server and one client configuration for the life of the process, whose
//! certificate is looked up at each handshake, so that a renewal needs no restart.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

use super::{Error, Identity, Peer, identity::Joining, provider};

/// HTTP versions offered on control connections.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A daemon's TLS, shared by all its listeners and clients.
#[derive(Clone)]
pub struct Tls {
    dir: Arc<PathBuf>,
    peer: Peer,
    current: Arc<Current>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// Loads the identity in `dir` (`STATE/tls`) and makes both configurations from it.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let identity = Identity::load(dir)?;
        let mut roots = RootCertStore::empty();
        roots.add(identity.ca.clone())?;
        let roots = Arc::new(roots);
        let peer = identity.peer.clone();
        let current = Arc::new(Current(RwLock::new(InUse::of(identity)?)));
        Ok(Self {
            dir: Arc::new(dir.to_owned()),
            peer,
            server: server_config(roots.clone(), current.clone())?,
            client: client_config(roots, current.clone())?,
            current,
        })
    }

    /// Who we are.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// For control listeners. A client certificate is optional at this level, so that `join` can
    /// be called without one; the router refuses everything else to a nameless caller.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For calls to other daemons. The server name to verify is [`Peer::role_name`] or
    /// [`Peer::own_name`].
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }

    /// When the certificate in use should be renewed, UTC milliseconds.
    pub fn renew_at_ms(&self) -> i64 {
        self.current.read().renew_at_ms
    }

    /// Until when the certificate in use is good, UTC milliseconds.
    pub fn not_after_ms(&self) -> i64 {
        self.current.read().not_after_ms
    }

    /// Takes up the files as they are now. New handshakes use them; open connections go on.
    pub fn reload(&self) -> Result<(), Error> {
        let identity = Identity::load(&*self.dir)?;
        if identity.peer != self.peer {
            return Err(Error::NotOurs(format!(
                "{} became {}",
                self.peer, identity.peer
            )));
        }
        let next = InUse::of(identity)?;
        *self
            .current
            .0
            .write()
            .expect("no one panics while holding this lock") = next;
        Ok(())
    }

    /// The request for a renewed certificate, for the key that we have.
    pub fn renewal_request(&self) -> Result<String, Error> {
        Joining::begin(&*self.dir)?.request_pem()
    }

    /// Writes a renewed certificate, after checking that it is ours, and takes it up.
    pub fn renewed(&self, certificate_pem: &str) -> Result<(), Error> {
        Joining::begin(&*self.dir)?.replace(&self.peer, certificate_pem)?;
        self.reload()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

struct InUse {
    certified: Arc<CertifiedKey>,
    renew_at_ms: i64,
    not_after_ms: i64,
}

impl InUse {
    fn of(identity: Identity) -> Result<Self, Error> {
        let (renew_at_ms, not_after_ms) = (identity.renew_at_ms(), identity.not_after_ms);
        // The authority goes along, for the one client that does not have it yet: `join`.
        let chain = vec![identity.certificate, identity.ca];
        let certified = CertifiedKey::from_der(chain, identity.key, &provider())?;
        Ok(Self {
            certified: Arc::new(certified),
            renew_at_ms,
            not_after_ms,
        })
    }
}

struct Current(RwLock<InUse>);

impl Current {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, InUse> {
        self.0
            .read()
            .expect("no one panics while holding this lock")
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.read().certified.clone())
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.read().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn server_config(
    roots: Arc<RootCertStore>,
    current: Arc<Current>,
) -> Result<Arc<ServerConfig>, Error> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| Error::invalid("the authority's certificate", error))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(current);
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

fn client_config(
    roots: Arc<RootCertStore>,
    current: Arc<Current>,
) -> Result<Arc<ClientConfig>, Error> {
    // No ALPN here: hyper-rustls sets its own and refuses a configuration that has some.
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_cert_resolver(current);
    Ok(Arc::new(config))
}
