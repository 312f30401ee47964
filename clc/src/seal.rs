//! Secrets in the database, under a key that is not in it: a copy of `clc.db` alone opens nothing.
//!
//! XChaCha20-Poly1305 with a random nonce in front, bound to the name of what is sealed, so that
//! one row's secret cannot be put into another's.

use std::path::Path;

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use types::Secret;

const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

/// Seals and opens secrets.
#[derive(Clone)]
pub struct Seal(XChaCha20Poly1305);

/// What goes wrong with a sealed secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key file cannot be read or written.
    #[error(transparent)]
    File(#[from] daemon::files::Error),
    /// The key file does not hold a key.
    #[error("{0} does not hold a key of {KEY_BYTES} bytes")]
    Key(String),
    /// The secret was sealed under another key or for another name, or is damaged.
    #[error("the sealed secret of {0} does not open with this seal.key")]
    Opens(String),
}

impl Seal {
    /// A seal under this key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Reads the key file, or makes it.
    pub fn load_or_make(path: &Path) -> Result<Self, Error> {
        if !path.exists() {
            daemon::files::publish(path, &rand::random::<[u8; KEY_BYTES]>())?;
        }
        let bytes = daemon::files::read(path)?;
        let key = bytes
            .try_into()
            .map_err(|_| Error::Key(path.display().to_string()))?;
        Ok(Self::new(&key))
    }

    /// Seals a secret for a name.
    pub fn close(&self, name: &str, secret: &Secret<String>) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let plain = Payload {
            msg: secret.reveal().as_bytes(),
            aad: name.as_bytes(),
        };
        let sealed = self
            .0
            .encrypt(XNonce::from_slice(&nonce), plain)
            .expect("a secret is far below the cipher's limit of 256 GiB");
        [&nonce[..], &sealed].concat()
    }

    /// Opens what was sealed for that name.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Secret<String>, Error> {
        let failed = || Error::Opens(name.to_owned());
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(failed)?;
        let sealed = Payload {
            msg: sealed,
            aad: name.as_bytes(),
        };
        let plain = self
            .0
            .decrypt(XNonce::from_slice(nonce), sealed)
            .map_err(|_| failed())?;
        String::from_utf8(plain)
            .map(Secret::new)
            .map_err(|_| failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_for_its_own_name_only_and_never_when_damaged() {
        let seal = Seal::new(&[7; KEY_BYTES]);
        let secret = Secret::new("wJalrXUtnFEMI".to_owned());
        let mut sealed = seal.close("AKIA1", &secret);
        assert_eq!(seal.open("AKIA1", &sealed).unwrap(), secret);
        assert!(seal.open("AKIA2", &sealed).is_err());
        assert!(Seal::new(&[8; KEY_BYTES]).open("AKIA1", &sealed).is_err());
        sealed[30] ^= 1;
        assert!(seal.open("AKIA1", &sealed).is_err());
        assert!(seal.open("AKIA1", b"short").is_err());
    }
}
