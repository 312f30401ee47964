//! The certificate that clients see: files of the administrator's, or one that the cloud's authority
//! signs for the names by which clients reach us. Either is taken up while connections go on.
//!
//! It proves nothing between daemons: it is good for servers only, and the authority refuses names
//! under which daemons know one another.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{
    chain,
    clock::SharedClock,
    files,
    tls::{Asking, Error, provider},
};

const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";
/// How soon a file that the administrator replaced is taken up, and a refused request is repeated.
const LOOK: Duration = Duration::from_secs(60);

/// The section `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Whether http is answered beside https, on the same port.
    pub http: bool,
    /// The certificate chain in PEM, and its private key; none: the cloud's authority signs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate`, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Further names and addresses by which clients reach us, for the certificate that the cloud's
    /// authority signs; `*.NAME` covers the buckets of virtual hosts.
    pub names: Vec<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            http: true,
            certificate: None,
            key: None,
            names: Vec::new(),
        }
    }
}

impl Tls {
    /// What no single key can tell.
    pub fn check(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err("tls.certificate and tls.key go together".to_owned());
        }
        match self.names.iter().find(|name| Name::parse(name).is_err()) {
            Some(name) => Err(format!("tls.names: {name:?} is no host name or address")),
            None => Ok(()),
        }
    }

    /// Where the certificate comes from: the configured files, or `dir` and the authority for the
    /// configured names and `known`.
    pub fn source(&self, dir: PathBuf, known: impl IntoIterator<Item = String>) -> Source {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Source::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            _ => Source::Authority {
                dir,
                names: known
                    .into_iter()
                    .chain(self.names.iter().cloned())
                    .filter(|name| Name::parse(name).is_ok())
                    .collect(),
            },
        }
    }
}

/// The names that a listener at that address has without anybody saying so.
pub fn own_names(listen: SocketAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    names.extend(
        nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok()),
    );
    names
}

/// A name that a public certificate may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// An address.
    Address(IpAddr),
    /// A host name, or `*.` and one.
    Host(String),
}

impl Name {
    /// Reads a name. `Err` says why it may not be in a certificate for clients.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let host = text.strip_prefix("*.").unwrap_or(text);
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(format!("{text:?} is no host name or address"));
        }
        let lower = text.to_ascii_lowercase();
        if lower.ends_with(crate::tls::PEER_DOMAIN) {
            return Err(format!("{text:?} is a name between daemons"));
        }
        Ok(Self::Host(lower))
    }
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The administrator keeps it.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The authority signs it, and again at two thirds of its life or when the names change.
    Authority {
        /// Where it is kept.
        dir: PathBuf,
        /// For whom.
        names: BTreeSet<String>,
    },
}

/// The certificate in use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Certificate {
    source: Source,
    shown: Arc<Shown>,
}

impl Certificate {
    /// Takes up what is there. Files of the administrator's must be; an authority's certificate may
    /// still have to come, and until then handshakes fail.
    pub fn open(source: Source) -> Result<Self, Error> {
        let shown = Arc::new(Shown(RwLock::new(None)));
        let this = Self { source, shown };
        match &this.source {
            Source::Files { certificate, key } => this.show(InUse::read(certificate, key)?),
            Source::Authority { dir, .. } if dir.join(CERTIFICATE).exists() => {
                match InUse::read(&dir.join(CERTIFICATE), &dir.join(KEY)) {
                    Ok(read) => this.show(read),
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "another certificate is asked for");
                    }
                }
            }
            Source::Authority { .. } => {}
        }
        Ok(this)
    }

    /// For the listener.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Keeps it fresh until cancelled. `ask` sends a certificate request (PEM) to the authority and
    /// gives back the certificate (PEM).
    pub async fn keep(
        self,
        clock: SharedClock,
        cancel: CancellationToken,
        ask: impl Fn(String, BTreeSet<String>) -> Asking,
    ) {
        let mut told = false;
        loop {
            match self.refresh(clock.now_ms(), &ask).await {
                Ok(()) => told = false,
                // Once is enough: while the CLC is away this comes every minute.
                Err(error) if !told => {
                    tracing::warn!(error, "the certificate for clients is not renewed");
                    told = true;
                }
                Err(_) => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = clock.sleep(LOOK) => {}
            }
        }
    }

    async fn refresh(
        &self,
        now_ms: i64,
        ask: &impl Fn(String, BTreeSet<String>) -> Asking,
    ) -> Result<(), String> {
        let failed = |error: Error| chain(&error);
        match &self.source {
            Source::Files { certificate, key } => {
                if self.shown.is_of(modified(certificate)) {
                    return Ok(());
                }
                self.show(InUse::read(certificate, key).map_err(failed)?);
            }
            Source::Authority { dir, names } => {
                if self.shown.is_good(names, now_ms) {
                    return Ok(());
                }
                let request = request(dir).map_err(failed)?;
                let pem = ask(request, names.clone())
                    .await
                    .map_err(|error| chain(&*error))?;
                let certificate = dir.join(CERTIFICATE);
                InUse::parse(pem.as_bytes(), &dir.join(KEY)).map_err(failed)?;
                files::publish(&certificate, pem.as_bytes()).map_err(|error| chain(&error))?;
                self.show(InUse::read(&certificate, &dir.join(KEY)).map_err(failed)?);
            }
        }
        tracing::info!("a new certificate for clients is in use");
        Ok(())
    }

    fn show(&self, next: InUse) {
        *self
            .shown
            .0
            .write()
            .expect("no one panics while holding this lock") = Some(next);
    }
}

/// The request for the key in that folder, which is made if it is not there.
fn request(dir: &Path) -> Result<String, Error> {
    files::make_dir(dir)?;
    let path = dir.join(KEY);
    let key = if path.exists() {
        KeyPair::from_pem(&files::read_text(&path)?)?
    } else {
        let key = KeyPair::generate()?;
        files::publish(&path, key.serialize_pem().as_bytes())?;
        key
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&key)?.pem()?)
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|meta| meta.modified())
        .ok()
}

struct InUse {
    certified: Arc<CertifiedKey>,
    names: BTreeSet<String>,
    renew_at_ms: i64,
    modified: Option<SystemTime>,
}

impl InUse {
    fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let modified = modified(certificate);
        let read = Self::parse(&files::read(certificate)?, key)?;
        Ok(Self { modified, ..read })
    }

    /// Checks that the chain is one and that the key is its own.
    fn parse(chain_pem: &[u8], key: &Path) -> Result<Self, Error> {
        let bad = |error| Error::invalid("the certificate for clients", error);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain_pem)
            .collect::<Result<_, _>>()
            .map_err(|error| bad(error.to_string()))?;
        let first = chain
            .first()
            .ok_or_else(|| bad("it holds no certificate".to_owned()))?;
        let (names, renew_at_ms) = names_and_renewal(first)?;
        let key = PrivateKeyDer::from_pem_slice(&files::read(key)?)
            .map_err(|error| Error::invalid(key.display().to_string(), error))?;
        Ok(Self {
            certified: Arc::new(CertifiedKey::from_der(chain, key, &provider())?),
            names,
            renew_at_ms,
            modified: None,
        })
    }
}

/// For whom a certificate is, and when two thirds of its life are over.
fn names_and_renewal(der: &CertificateDer<'_>) -> Result<(BTreeSet<String>, i64), Error> {
    let bad = |error: &dyn fmt::Display| Error::invalid("the certificate for clients", error);
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| bad(&error))?;
    let alternatives = parsed
        .subject_alternative_name()
        .map_err(|error| bad(&error))?;
    let names = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(host) => Some((*host).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        })
        .collect();
    let dates = parsed.validity();
    let (from, until) = (dates.not_before.timestamp(), dates.not_after.timestamp());
    Ok((names, (from + (until - from) / 3 * 2) * 1000))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

struct Shown(RwLock<Option<InUse>>);

impl Shown {
    fn asked<T>(&self, ask: impl FnOnce(&InUse) -> T) -> Option<T> {
        let shown = self
            .0
            .read()
            .expect("no one panics while holding this lock");
        shown.as_ref().map(ask)
    }

    fn is_good(&self, names: &BTreeSet<String>, now_ms: i64) -> bool {
        let good = |shown: &InUse| shown.names == *names && now_ms < shown.renew_at_ms;
        self.asked(good).unwrap_or(false)
    }

    fn is_of(&self, modified: Option<SystemTime>) -> bool {
        self.asked(|shown| shown.modified == modified)
            .unwrap_or(false)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.asked(|shown| shown.certified.clone())
    }
}
