//! Keys that people's tools use: RSA with X.509 certificates of their own.

use daemon::{
    BoxError,
    tls::{CA_LIFETIME, set_dates},
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256};
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use types::Secret;

/// What euca2ools and every old client can use.
const RSA_BITS: usize = 2048;

/// An RSA 2048 key (what euca2ools can use) and a certificate signed by itself.
pub(super) struct KeyAndCertificate {
    pub(super) key_pem: Secret<String>,
    pub(super) certificate_pem: String,
}

impl KeyAndCertificate {
    /// Makes them, good for as long as the authority.
    pub(super) fn make(name: &str, now_ms: i64) -> Result<Self, BoxError> {
        let key = rsa::PrivateKey::new(&mut rand::rng(), RSA_BITS)?;
        let key_pem = key.to_pkcs8_pem(LineEnding::LF)?;
        let signer = KeyPair::from_pkcs8_pem_and_sign_algo(&key_pem, &PKCS_RSA_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        set_dates(&mut params, now_ms, CA_LIFETIME);
        let certificate_pem = params.self_signed(&signer)?.pem();
        Ok(Self {
            key_pem: Secret::new(key_pem.to_string()),
            certificate_pem,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_made_for_the_certificate_opens_with_the_key() {
        let made = KeyAndCertificate::make("test", 1_790_000_000_000).unwrap();
        let certificate = image::keys::Certificate::from_pem(&made.certificate_pem).unwrap();
        let key = image::keys::CloudKey::from_pem(made.key_pem.reveal()).unwrap();
        let secret = image::keys::BundleKey::mint();
        assert_eq!(key.unwrap(&secret.wrap(&certificate).unwrap()), Ok(secret));
    }
}
