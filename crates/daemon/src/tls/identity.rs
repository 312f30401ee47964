//! One daemon's identity on disk: reading it, and making it when the daemon joins.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authority, Error, Issue, Peer};
use crate::files;

const CA: &str = "ca.pem";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// What `STATE/tls` holds, read and checked: the key fits the certificate, the names are ours.
pub struct Identity {
    /// Who we are.
    pub peer: Peer,
    /// The authority that all daemons of this cloud trust.
    pub ca: CertificateDer<'static>,
    /// Our certificate.
    pub certificate: CertificateDer<'static>,
    /// Our private key.
    pub key: PrivateKeyDer<'static>,
    /// From when the certificate is good, UTC milliseconds.
    pub not_before_ms: i64,
    /// Until when the certificate is good, UTC milliseconds.
    pub not_after_ms: i64,
}

impl Identity {
    /// Reads an identity from its folder.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let ca = read_certificate(&dir.join(CA))?;
        let certificate = read_certificate(&dir.join(CERTIFICATE))?;
        let key_pem = files::read(dir.join(KEY))?;
        let key = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|error| Error::invalid(dir.join(KEY).display().to_string(), error))?;
        let (not_before_ms, not_after_ms) = dates(&certificate)?;
        let peer = Peer::of_certificate(&certificate)?;
        Ok(Self {
            peer,
            ca,
            certificate,
            key,
            not_before_ms,
            not_after_ms,
        })
    }

    /// Whether the folder holds a finished identity. `cert.pem` is written last, so it decides.
    pub fn exists(dir: impl AsRef<Path>) -> bool {
        dir.as_ref().join(CERTIFICATE).exists()
    }

    /// When to renew: at two thirds of the lifetime, UTC milliseconds.
    pub fn renew_at_ms(&self) -> i64 {
        self.not_before_ms + (self.not_after_ms - self.not_before_ms) / 3 * 2
    }

    /// Makes an identity where the authority is at hand, as `mallee-clc init` does for itself.
    pub fn make(
        dir: impl AsRef<Path>,
        authority: &Authority,
        issue: &Issue,
    ) -> Result<Self, Error> {
        let joining = Joining::begin(&dir)?;
        let certificate_pem = authority.sign(&joining.request_pem()?, issue)?;
        joining.finish(authority.certificate_pem(), &certificate_pem)
    }
}

/// An identity in the making: the key is on disk, the certificate is still to come.
pub struct Joining {
    dir: PathBuf,
    key: KeyPair,
}

impl Joining {
    /// Takes the key in the folder, or makes one. An interrupted join goes on with the same key.
    pub fn begin(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref().to_owned();
        files::make_dir(&dir)?;
        let path = dir.join(KEY);
        let key = if path.exists() {
            KeyPair::from_pem(&files::read_text(&path)?)?
        } else {
            let key = KeyPair::generate()?;
            files::publish(&path, key.serialize_pem().as_bytes())?;
            key
        };
        Ok(Self { dir, key })
    }

    /// The certificate request to send. It carries the public key and the proof that we hold the
    /// private one; who we are is said by the join token or the present certificate.
    pub fn request_pem(&self) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&self.key)?.pem()?)
    }

    /// Writes what came back, after checking that it is for our key and names a daemon.
    pub fn finish(self, ca_pem: &str, certificate_pem: &str) -> Result<Identity, Error> {
        let certificate = parse_certificate("the new certificate", certificate_pem.as_bytes())?;
        parse_certificate("the authority's certificate", ca_pem.as_bytes())?;
        Peer::of_certificate(&certificate)?;
        self.check_key(&certificate)?;
        files::publish(self.dir.join(CA), ca_pem.as_bytes())?;
        files::publish(self.dir.join(CERTIFICATE), certificate_pem.as_bytes())?;
        Identity::load(&self.dir)
    }

    /// Writes a renewed certificate, which must name the same peer.
    pub(super) fn replace(self, peer: &Peer, certificate_pem: &str) -> Result<(), Error> {
        let certificate = parse_certificate("the renewed certificate", certificate_pem.as_bytes())?;
        let named = Peer::of_certificate(&certificate)?;
        if named != *peer {
            return Err(Error::NotOurs(format!("it names {named}, we are {peer}")));
        }
        self.check_key(&certificate)?;
        Ok(files::publish(
            self.dir.join(CERTIFICATE),
            certificate_pem.as_bytes(),
        )?)
    }

    fn check_key(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| Error::invalid("the certificate", error))?;
        if parsed.public_key().subject_public_key.data.as_ref() == self.key.public_key_raw() {
            Ok(())
        } else {
            Err(Error::NotOurs("it is for another key".to_owned()))
        }
    }
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, Error> {
    parse_certificate(&path.display().to_string(), &files::read(path)?)
}

fn parse_certificate(what: &str, pem: &[u8]) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem).map_err(|error| Error::invalid(what, error))
}

fn dates(certificate: &CertificateDer<'_>) -> Result<(i64, i64), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| Error::invalid("the certificate", error))?;
    let validity = parsed.validity();
    Ok((
        validity.not_before.timestamp() * 1000,
        validity.not_after.timestamp() * 1000,
    ))
}
