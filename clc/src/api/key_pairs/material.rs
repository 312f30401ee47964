//! Keys as bytes: making them, reading those that users bring, and the fingerprints of EC2.
//!
//! Where a key came from decides its fingerprint: of one made here it is the SHA-1 of the private
//! key's PKCS#8 DER, of an imported RSA key the MD5 of the public key's DER, of an Ed25519 key the
//! SHA-256 that OpenSSH shows.

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::Md5;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rsa::{
    PrivateKey as RsaPrivateKey, PublicKey as RsaPublicKey,
    pkcs1::{DecodeRsaPublicKey, EncodeRsaPrivateKey, LineEnding},
    pkcs8::{DecodePublicKey, EncodePrivateKey, EncodePublicKey},
    traits::PublicKeyParts,
};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::api::bootstrap::colons;

/// Bits of a key that we make: what EC2 makes.
const BITS: usize = 2048;
/// The least bits of a key that we take: below, it protects nothing.
const BITS_MIN: usize = 1024;
/// The most bits of a key that we take; checking a larger one costs seconds, which is an attack.
const BITS_MAX: usize = 16_384;
/// A key of the largest size as PEM, with room to spare.
const MATERIAL_MAX: usize = 8 * 1024;

/// A public key, ready to be kept.
#[derive(Debug)]
pub(super) struct PublicKey {
    /// `rsa` or `ed25519`.
    pub(super) kind: &'static str,
    /// `ssh-rsa AAAA...`, without a comment.
    pub(super) openssh: String,
    pub(super) fingerprint: String,
}

/// A key pair that was just made.
pub(super) struct Made {
    pub(super) public: PublicKey,
    pub(super) fingerprint: String,
    /// PKCS#1 in PEM: what euca2ools and ssh read.
    pub(super) pem: Zeroizing<String>,
}

/// Randomness for one key, taken where the daemon takes all of it.
pub(super) struct Seed(Zeroizing<[u8; 32]>);

impl Seed {
    pub(super) fn new(rng: &mut StdRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self(seed)
    }
}

/// Why a key was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unusable {
    #[error("Key is not in valid OpenSSH public key format")]
    Format,
    #[error("RSA keys must have {BITS_MIN} to {BITS_MAX} bits")]
    Size,
    #[error("Keys of type {0} are not supported; use RSA or Ed25519")]
    Kind(String),
}

/// Makes an RSA key pair. Takes tenths of a second of a processor.
pub(super) fn make_rsa(seed: Seed) -> Result<Made, Box<dyn std::error::Error + Send + Sync>> {
    let key = RsaPrivateKey::new(&mut StdRng::from_seed(*seed.0), BITS)?;
    let der = key.to_pkcs8_der()?;
    let fingerprint = colons(&Sha1::digest(der.as_bytes()));
    let public = PublicKey {
        kind: "rsa",
        openssh: openssh(&key.to_public_key()),
        fingerprint: fingerprint.clone(),
    };
    Ok(Made {
        public,
        fingerprint,
        pem: key.to_pkcs1_pem(LineEnding::LF)?,
    })
}

/// Reads a key that a user brought: OpenSSH's line, PEM of either form, RFC 4716, or bare DER, each
/// also in base64 once more.
pub(super) fn read(material: &[u8]) -> Result<PublicKey, Unusable> {
    if material.len() > MATERIAL_MAX {
        return Err(Unusable::Size);
    }
    if let Ok(key) = RsaPublicKey::from_public_key_der(material) {
        return imported(&key);
    }
    let text = std::str::from_utf8(material)
        .map_err(|_| Unusable::Format)?
        .trim();
    if let Some(body) = text.strip_prefix("---- BEGIN SSH2 PUBLIC KEY ----") {
        return read_blob(&decode(&rfc4716(body))?);
    }
    if text.starts_with("-----BEGIN RSA PUBLIC KEY-----") {
        return imported(&RsaPublicKey::from_pkcs1_pem(text).map_err(|_| Unusable::Format)?);
    }
    if text.starts_with("-----BEGIN") {
        return imported(&RsaPublicKey::from_public_key_pem(text).map_err(|_| Unusable::Format)?);
    }
    let mut words = text.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(_kind), Some(blob)) => read_blob(&decode(blob)?),
        (Some(encoded), None) => {
            let inner = decode(encoded)?;
            // Base64 of base64 of ... must end.
            if inner.starts_with(b"\0\0\0") {
                read_blob(&inner)
            } else {
                read(&inner)
            }
        }
        (None, _) => Err(Unusable::Format),
    }
}

/// The base64 of RFC 4716: all lines but the headers, which go on after a backslash, and the end.
fn rfc4716(body: &str) -> String {
    let mut encoded = String::new();
    let mut in_header = false;
    for line in body
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("----"))
    {
        let is_header = in_header || line.contains(':');
        in_header = is_header && line.ends_with('\\');
        if !is_header {
            encoded.push_str(line);
        }
    }
    encoded
}

fn decode(text: &str) -> Result<Vec<u8>, Unusable> {
    STANDARD.decode(text).map_err(|_| Unusable::Format)
}

/// Reads SSH's own form of a key.
fn read_blob(blob: &[u8]) -> Result<PublicKey, Unusable> {
    let key = ssh_key::PublicKey::from_bytes(blob).map_err(|_| Unusable::Format)?;
    match key.key_data() {
        ssh_key::public::KeyData::Rsa(rsa) => {
            let number = |bytes: Option<&[u8]>| {
                bytes
                    .map(rsa::BoxedUint::from_be_slice_vartime)
                    .ok_or(Unusable::Format)
            };
            let (n, e) = (
                number(rsa.n.as_positive_bytes())?,
                number(rsa.e.as_positive_bytes())?,
            );
            let key = RsaPublicKey::new_with_size_limits(n, e, BITS_MIN..=BITS_MAX)
                .map_err(|_| Unusable::Format)?;
            imported(&key)
        }
        ssh_key::public::KeyData::Ed25519(_) => {
            let print = key.fingerprint(ssh_key::HashAlg::Sha256);
            Ok(PublicKey {
                kind: "ed25519",
                openssh: format!("ssh-ed25519 {}", STANDARD.encode(blob)),
                fingerprint: STANDARD.encode(print.as_bytes()),
            })
        }
        other => Err(Unusable::Kind(other.algorithm().to_string())),
    }
}

fn imported(key: &RsaPublicKey) -> Result<PublicKey, Unusable> {
    let bits = key.n().bit_width_vartime() as usize;
    if !(BITS_MIN..=BITS_MAX).contains(&bits) {
        return Err(Unusable::Size);
    }
    let der = key.to_public_key_der().map_err(|_| Unusable::Format)?;
    Ok(PublicKey {
        kind: "rsa",
        openssh: openssh(key),
        fingerprint: colons(&Md5::digest(der.as_bytes())),
    })
}

/// `ssh-rsa` and its blob: three strings, each after its length; numbers have a sign bit.
fn openssh(key: &RsaPublicKey) -> String {
    let mut blob = Vec::new();
    let mut push = |bytes: &[u8]| {
        blob.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        blob.extend_from_slice(bytes);
    };
    push(b"ssh-rsa");
    push(&signed(&key.e_bytes()));
    push(&signed(&key.n_bytes()));
    format!("ssh-rsa {}", STANDARD.encode(blob))
}

fn signed(number: &[u8]) -> Vec<u8> {
    let start = number
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(number.len());
    let digits = &number[start..];
    let sign = digits
        .first()
        .is_some_and(|byte| *byte >= 0x80)
        .then_some(0);
    sign.into_iter().chain(digits.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen -t rsa -b 2048`; fingerprint by the command in EC2's manual:
    /// `openssl rsa -RSAPublicKey_in -outform DER -pubout | openssl md5 -c`.
    const OPENSSH: &str = include_str!("testdata/rsa.pub");
    const PKCS8: &str = include_str!("testdata/rsa.spki.pem");
    const PKCS1: &str = include_str!("testdata/rsa.pkcs1.pem");
    const RFC4716: &str = include_str!("testdata/rsa.rfc4716");
    const MD5: &str = include_str!("testdata/rsa.md5");
    const ED25519: &str = include_str!("testdata/ed25519.pub");

    #[test]
    fn a_key_has_one_fingerprint_however_it_is_written() {
        let der = decode(
            &PKCS8
                .lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>(),
        )
        .unwrap();
        let twice = STANDARD.encode(&der);
        for material in [
            OPENSSH.as_bytes(),
            PKCS8.as_bytes(),
            PKCS1.as_bytes(),
            RFC4716.as_bytes(),
            &der,
            twice.as_bytes(),
        ] {
            let key = read(material).unwrap();
            assert_eq!(key.fingerprint, MD5.trim());
            let line: Vec<_> = OPENSSH.split(' ').collect();
            assert_eq!(key.openssh, line[..2].join(" "));
        }
    }

    #[test]
    fn an_ed25519_key_is_taken() {
        let key = read(ED25519.as_bytes()).unwrap();
        assert_eq!(key.kind, "ed25519");
        assert!(ED25519.starts_with(&key.openssh));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for material in [
            "",
            "x",
            "ssh-rsa",
            "ssh-rsa AAAA",
            "ssh-rsa !!!",
            "-----BEGIN PUBLIC KEY-----",
            "AAAA",
        ] {
            assert_eq!(
                read(material.as_bytes()).unwrap_err(),
                Unusable::Format,
                "{material:?}"
            );
        }
        assert_eq!(
            read(&vec![b'A'; MATERIAL_MAX + 1]).unwrap_err(),
            Unusable::Size
        );
    }

    #[test]
    fn a_key_that_was_made_reads_back_from_its_pem() {
        use rsa::pkcs1::DecodeRsaPrivateKey;

        let made = make_rsa(Seed(Zeroizing::new([7; 32]))).unwrap();
        let key = RsaPrivateKey::from_pkcs1_pem(&made.pem).unwrap();
        assert_eq!(
            colons(&Sha1::digest(key.to_pkcs8_der().unwrap().as_bytes())),
            made.fingerprint
        );
        assert_eq!(made.fingerprint.len(), 59);
        assert_eq!(
            read(made.public.openssh.as_bytes()).unwrap().openssh,
            made.public.openssh
        );
    }
}
