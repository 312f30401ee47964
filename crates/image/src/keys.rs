//! The secrets of a bundle: an AES-128 key and IV, wrapped with RSA for the cloud that will read it.
//!
//! euca2ools wraps the *hex text* of key and IV (32 characters), with PKCS#1 v1.5. The padding cannot
//! be changed without losing every client; [`CloudKey::unwrap`] gives one error for all causes, so
//! that an answer tells nothing about the padding.

use std::fmt;

use rsa::{
    pkcs1::DecodeRsaPrivateKey,
    pkcs8::{DecodePrivateKey, DecodePublicKey},
};
use sha1::Sha1;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The smallest RSA modulus that we take a certificate or key with. Older clouds used 2048.
const MIN_RSA_BITS: u32 = 2048;
/// The largest, so that a hostile certificate cannot cost minutes of arithmetic.
const MAX_RSA_BITS: u32 = 8192;

/// A certificate, key or wrapped secret that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The PEM text does not hold an X.509 certificate with an RSA key.
    #[error("not a PEM certificate with an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")]
    Certificate,
    /// The PEM text does not hold an RSA private key (PKCS#8 or PKCS#1).
    #[error("not a PEM private key with an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")]
    PrivateKey,
    /// The wrapped secret was not made for this key, or is no 128-bit key in hex.
    #[error("the bundle's key was not encrypted for this cloud")]
    Wrapped,
    /// The RSA operation itself failed.
    #[error("RSA operation failed")]
    Rsa,
}

/// The AES-128-CBC key and IV of one bundle. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct BundleKey {
    key: [u8; 16],
    iv: [u8; 16],
}

impl BundleKey {
    /// A key from its two halves, as a ticket carries them.
    pub fn new(key: [u8; 16], iv: [u8; 16]) -> Self {
        Self { key, iv }
    }

    /// A key from the hex text of its two halves.
    pub fn from_hex(key: &str, iv: &str) -> Result<Self, KeyError> {
        Ok(Self {
            key: decode_hex(key.as_bytes())?,
            iv: decode_hex(iv.as_bytes())?,
        })
    }

    /// A fresh random key.
    pub fn mint() -> Self {
        Self {
            key: rand::random(),
            iv: rand::random(),
        }
    }

    /// The AES key.
    pub fn key(&self) -> &[u8; 16] {
        &self.key
    }

    /// The CBC initialisation vector.
    pub fn iv(&self) -> &[u8; 16] {
        &self.iv
    }

    /// Key and IV, each wrapped for the holder of `certificate`.
    pub fn wrap(&self, certificate: &Certificate) -> Result<WrappedKey, KeyError> {
        Ok(WrappedKey {
            key: certificate.wrap(&self.key)?,
            iv: certificate.wrap(&self.iv)?,
        })
    }
}

impl fmt::Debug for BundleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BundleKey(secret)")
    }
}

/// Key and IV as a manifest carries them: RSA ciphertexts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WrappedKey {
    /// Wrapped AES key; empty when the bundler had no certificate to wrap it for.
    pub key: Vec<u8>,
    /// Wrapped IV; empty likewise.
    pub iv: Vec<u8>,
}

/// The RSA public key of an X.509 certificate: the cloud's (`EUCALYPTUS_CERT`) or a user's.
#[derive(Debug, Clone)]
pub struct Certificate(rsa::PublicKey);

impl Certificate {
    /// Reads the first certificate of a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| KeyError::Certificate)?;
        let certificate = pem.parse_x509().map_err(|_| KeyError::Certificate)?;
        let key = rsa::PublicKey::from_public_key_der(certificate.public_key().raw)
            .map_err(|_| KeyError::Certificate)?;
        check_size(&key, KeyError::Certificate)?;
        Ok(Self(key))
    }

    fn wrap(&self, secret: &[u8; 16]) -> Result<Vec<u8>, KeyError> {
        let mut text = hex::encode(secret);
        let wrapped = self
            .0
            .pkcs1v15_encrypt(text.as_bytes())
            .map_err(|_| KeyError::Rsa);
        text.zeroize();
        wrapped
    }

    /// Whether `signature` (PKCS#1 v1.5 over SHA-1) is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.pkcs1v15_verify::<Sha1>(message, signature).is_ok()
    }
}

/// An RSA private key: the cloud's, which unwraps bundle keys, or a user's, which signs manifests.
#[derive(Clone)]
pub struct CloudKey(rsa::PrivateKey);

impl CloudKey {
    /// Reads a PKCS#8 or PKCS#1 PEM text.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = rsa::PrivateKey::from_pkcs8_pem(pem)
            .ok()
            .or_else(|| rsa::PrivateKey::from_pkcs1_pem(pem).ok())
            .ok_or(KeyError::PrivateKey)?;
        check_size(&key.to_public_key(), KeyError::PrivateKey)?;
        Ok(Self(key))
    }

    /// The public half, as a certificate of this key would give it.
    pub fn certificate(&self) -> Certificate {
        Certificate(self.0.to_public_key())
    }

    /// Unwraps what [`BundleKey::wrap`] made.
    pub fn unwrap(&self, wrapped: &WrappedKey) -> Result<BundleKey, KeyError> {
        Ok(BundleKey {
            key: self.unwrap_half(&wrapped.key)?,
            iv: self.unwrap_half(&wrapped.iv)?,
        })
    }

    fn unwrap_half(&self, wrapped: &[u8]) -> Result<[u8; 16], KeyError> {
        let mut text = self
            .0
            .pkcs1v15_decrypt(wrapped)
            .map_err(|_| KeyError::Wrapped)?;
        let half = decode_hex(&text);
        text.zeroize();
        half
    }

    /// Signs a manifest's bytes (PKCS#1 v1.5 over SHA-1, as the format wants it).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.0
            .pkcs1v15_sign::<Sha1>(message)
            .map_err(|_| KeyError::Rsa)
    }
}

impl fmt::Debug for CloudKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CloudKey(secret)")
    }
}

fn decode_hex(text: &[u8]) -> Result<[u8; 16], KeyError> {
    let mut half = [0; 16];
    hex::decode_to_slice(text, &mut half).map_err(|_| KeyError::Wrapped)?;
    Ok(half)
}

fn check_size(key: &rsa::PublicKey, refusal: KeyError) -> Result<(), KeyError> {
    use rsa::traits::PublicKeyParts;
    match key.n().bit_width() {
        MIN_RSA_BITS..=MAX_RSA_BITS => Ok(()),
        _ => Err(refusal),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rsa::{Generate, pkcs8::EncodePrivateKey};

    use super::*;

    pub(crate) fn fresh_key() -> CloudKey {
        CloudKey(rsa::PrivateKey::generate())
    }

    #[test]
    fn a_wrapped_key_comes_back_only_with_the_right_private_key() {
        let (ours, theirs) = (fresh_key(), fresh_key());
        let secret = BundleKey::mint();
        let wrapped = secret.wrap(&ours.certificate()).unwrap();
        assert_eq!(ours.unwrap(&wrapped), Ok(secret));
        assert_eq!(theirs.unwrap(&wrapped), Err(KeyError::Wrapped));
    }

    #[test]
    fn hostile_wrapped_keys_are_one_and_the_same_error() {
        let ours = fresh_key();
        for hostile in [vec![], vec![0; 3], vec![0xff; 256], vec![1; 4096]] {
            let wrapped = WrappedKey {
                key: hostile.clone(),
                iv: hostile,
            };
            assert_eq!(ours.unwrap(&wrapped), Err(KeyError::Wrapped));
        }
        let longer = ours
            .0
            .to_public_key()
            .pkcs1v15_encrypt(&[b'a'; 34])
            .unwrap();
        let wrapped = WrappedKey {
            key: longer.clone(),
            iv: longer,
        };
        assert_eq!(ours.unwrap(&wrapped), Err(KeyError::Wrapped));
    }

    #[test]
    fn a_certificate_gives_the_key_that_its_private_key_opens() {
        let private = fresh_key();
        let pem = private.0.to_pkcs8_pem(Default::default()).unwrap();
        let pair = rcgen::KeyPair::from_pem_and_sign_algo(&pem, &rcgen::PKCS_RSA_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["cloud".to_owned()])
            .unwrap()
            .self_signed(&pair)
            .unwrap();
        let secret = BundleKey::mint();
        let wrapped = secret
            .wrap(&Certificate::from_pem(&certificate.pem()).unwrap())
            .unwrap();
        assert_eq!(
            CloudKey::from_pem(&pem).unwrap().unwrap(&wrapped),
            Ok(secret)
        );
        assert_eq!(
            Certificate::from_pem("hello").err(),
            Some(KeyError::Certificate)
        );
        assert_eq!(
            CloudKey::from_pem(&certificate.pem()).err(),
            Some(KeyError::PrivateKey)
        );
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", BundleKey::mint()), "BundleKey(secret)");
        assert_eq!(format!("{:?}", fresh_key()), "CloudKey(secret)");
    }
}
