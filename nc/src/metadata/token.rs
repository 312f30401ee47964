//! Session tokens (IMDSv2): when they end and whose they are, under a MAC. Nothing is kept of them,
//! and a restart does not end them: the key is a file.

use std::{io, path::Path};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use daemon::{BoxError, files};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use types::InstanceId;

/// The key's file in the state folder.
const FILE: &str = "metadata.key";
const KEY_BYTES: usize = 32;
const EXPIRY_BYTES: usize = 8;
/// The longest life of a token, in seconds: AWS's six hours.
pub(super) const TTL_S_MAX: u32 = 21_600;

/// What tokens are made and checked with.
#[derive(Clone)]
pub(super) struct Key([u8; KEY_BYTES]);

impl Key {
    pub(super) fn load_or_make(state: &Path) -> Result<Self, BoxError> {
        let path = state.join(FILE);
        match files::read(&path) {
            Ok(bytes) => {
                let wrong = |_| format!("{} is not {KEY_BYTES} bytes long", path.display());
                Ok(Self(bytes.try_into().map_err(wrong)?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self(rand::random());
                files::publish(&path, &key.0)?;
                Ok(key)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A token for this instance.
    pub(super) fn token(&self, instance: &InstanceId, now_ms: i64, ttl_s: u32) -> String {
        let expiry = now_ms.saturating_add(i64::from(ttl_s) * 1000).to_be_bytes();
        let mac = self.mac(instance, &expiry).finalize().into_bytes();
        URL_SAFE.encode([&expiry[..], &mac[..]].concat())
    }

    /// Whether this is a token of this instance whose time is not over.
    pub(super) fn admits(&self, token: &[u8], instance: &InstanceId, now_ms: i64) -> bool {
        let Ok(bytes) = URL_SAFE.decode(token) else {
            return false;
        };
        let Some((expiry, mac)) = bytes.split_first_chunk::<EXPIRY_BYTES>() else {
            return false;
        };
        self.mac(instance, expiry).verify_slice(mac).is_ok() && i64::from_be_bytes(*expiry) > now_ms
    }

    fn mac(&self, instance: &InstanceId, expiry: &[u8; EXPIRY_BYTES]) -> Hmac<Sha256> {
        let mut mac =
            <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0).expect("any key length will do");
        mac.update(expiry);
        mac.update(instance.as_str().as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(n: u32) -> InstanceId {
        format!("i-{n:08x}").parse().unwrap()
    }

    #[test]
    fn a_token_is_good_for_its_instance_and_its_time_across_restarts() {
        let state = tempfile::tempdir().unwrap();
        let token = Key::load_or_make(state.path())
            .unwrap()
            .token(&instance(1), 1000, 60);
        let key = Key::load_or_make(state.path()).unwrap();

        assert!(key.admits(token.as_bytes(), &instance(1), 60_999));
        assert!(
            !key.admits(token.as_bytes(), &instance(1), 61_000),
            "expired"
        );
        assert!(
            !key.admits(token.as_bytes(), &instance(2), 1000),
            "another's"
        );
        assert!(!Key(rand::random()).admits(token.as_bytes(), &instance(1), 1000));
        for forged in ["", "AAAA", "§", &token[4..], &format!("{token}A")] {
            assert!(
                !key.admits(forged.as_bytes(), &instance(1), 1000),
                "{forged}"
            );
        }
    }
}
