//! Certificates between daemons.
//!
//! One authority per cloud, kept by the CLC. A daemon's certificate says who it is in a URI name,
//! `mallee://ROLE/NAME/ZONE`; a server reads the role from there and decides what the peer may
//! call. Addresses are never names: clients verify `ROLE.mallee.internal` or
//! `NAME.ROLE.mallee.internal` wherever the peer happens to listen.
//!
//! Files of an identity, in `STATE/tls`: `ca.pem`, `cert.pem`, `key.pem` (0600 all). The key is
//! made where it is used and never travels. Renewal keeps the key and replaces `cert.pem`, so that
//! one rename is the whole change; `join` on an emptied folder makes a new key.

mod authority;
mod identity;
mod live;
mod peer;
mod pin;
mod renew;

pub use authority::{Authority, CA_LIFETIME, CERT_LIFETIME, Issue, request_key, set_dates};
pub use identity::{Identity, Joining};
pub use live::Tls;
pub use peer::{DOMAIN as PEER_DOMAIN, Peer, Role, UnknownPeer};
pub use pin::{Fingerprint, join_config};
pub use renew::{Asking, renew};

use crate::files;

/// What goes wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A file or message that should hold a certificate, key or request does not.
    #[error("{what} is not valid: {reason}")]
    Invalid {
        /// Which file or message.
        what: String,
        /// Why it was refused.
        reason: String,
    },
    /// A certificate names nobody we know.
    #[error(transparent)]
    Peer(#[from] UnknownPeer),
    /// A certificate came back that is not for our key or not under our name.
    #[error("the certificate is not ours: {0}")]
    NotOurs(String),
    /// rustls refused the parts.
    #[error("TLS set-up")]
    Rustls(#[from] rustls::Error),
    /// A key or certificate could not be made.
    #[error("making a certificate")]
    Making(#[from] rcgen::Error),
}

impl Error {
    pub(crate) fn invalid(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Invalid {
            what: what.into(),
            reason: reason.to_string(),
        }
    }
}

/// Our one choice of cryptography, named so that no global default is needed.
pub(crate) fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
