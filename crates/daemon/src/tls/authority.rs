//! The cloud's certificate authority: made once by `mallee-clc init`, kept by the CLC.

use std::{collections::BTreeSet, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};

use super::{Error, Fingerprint, Peer};
use crate::{files, public::certificate::Name};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A cloud outlives its administrators' patience for re-keying every host: ten years.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Daemons renew by themselves, so a stolen certificate need not be good for long: 90 days.
pub const CERT_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Certificates are valid from a day ago, because hosts that join may run behind.
const BACKDATED: Duration = DAY;

/// The authority's key and certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    key_pem: String,
}

/// For whom a certificate is made, and when.
#[derive(Debug, Clone)]
pub struct Issue {
    /// Who the certificate will speak for; what the request claims is ignored.
    pub peer: Peer,
    /// Now, UTC milliseconds.
    pub now_ms: i64,
    /// How long it is good for; [`CERT_LIFETIME`] but in tests.
    pub lifetime: Duration,
}

impl Issue {
    /// A daemon's ordinary certificate.
    pub fn daemon(peer: Peer, now_ms: i64) -> Self {
        Self {
            peer,
            now_ms,
            lifetime: CERT_LIFETIME,
        }
    }
}

impl Authority {
    /// Makes a new authority. Nothing is written.
    pub fn create(now_ms: i64) -> Result<Self, Error> {
        let key = KeyPair::generate()?;
        let key_pem = key.serialize_pem();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Mallee cloud authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_dates(&mut params, now_ms, CA_LIFETIME);
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem,
            key_pem,
        })
    }

    /// Reads `ca.pem` and `ca-key.pem` from a folder.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let certificate_pem = files::read_text(dir.join("ca.pem"))?;
        let key_pem = files::read_text(dir.join("ca-key.pem"))?;
        let key = KeyPair::from_pem(&key_pem)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Self {
            issuer,
            certificate_pem,
            key_pem,
        })
    }

    /// Writes `ca-key.pem`, then `ca.pem`: where there is a certificate there is its key.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), Error> {
        let dir = dir.as_ref();
        files::make_dir(dir)?;
        files::publish(dir.join("ca-key.pem"), self.key_pem.as_bytes())?;
        Ok(files::publish(
            dir.join("ca.pem"),
            self.certificate_pem.as_bytes(),
        )?)
    }

    /// The certificate that every daemon trusts.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What a join token pins.
    pub fn fingerprint(&self) -> Fingerprint {
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())
            .expect("we wrote or parsed this PEM when the authority was made or loaded");
        Fingerprint::of(&der)
    }

    /// Signs a request. Only its public key is taken, and its proof that the sender holds the
    /// private half; names, uses and times are ours.
    pub fn sign(&self, request_pem: &str, issue: &Issue) -> Result<String, Error> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(|error| Error::invalid("the certificate request", error))?;
        self.sign_key(&request.public_key, issue)
    }

    /// Signs a request for a server that clients come to, under the names that they know. It is good
    /// for nothing between daemons.
    pub fn sign_public(
        &self,
        request_pem: &str,
        names: &BTreeSet<String>,
        now_ms: i64,
    ) -> Result<String, Error> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(|error| Error::invalid("the certificate request", error))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Mallee");
        params.subject_alt_names = names
            .iter()
            .map(|name| public_name(name))
            .collect::<Result<_, _>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_dates(&mut params, now_ms, CERT_LIFETIME);
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }

    fn sign_key(&self, key: &impl PublicKeyData, issue: &Issue) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name =
            common_name(&format!("{} {}", issue.peer.role, issue.peer.name));
        params.subject_alt_names = names(&issue.peer)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        set_dates(&mut params, issue.now_ms, issue.lifetime);
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

fn names(peer: &Peer) -> Result<Vec<SanType>, Error> {
    let mut names = vec![SanType::URI(peer.uri().try_into()?)];
    for name in peer.dns_names() {
        names.push(SanType::DnsName(name.try_into()?));
    }
    Ok(names)
}

fn public_name(name: &str) -> Result<SanType, Error> {
    let parsed = Name::parse(name).map_err(|why| Error::invalid("a name", why))?;
    Ok(match parsed {
        Name::Address(address) => SanType::IpAddress(address),
        Name::Host(host) => SanType::DnsName(host.as_str().try_into()?),
    })
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// SHA-256 in hex of the public key that a request is for, after checking that its sender holds the
/// private half: what tells a repeated join from another one.
pub fn request_key(request_pem: &str) -> Result<String, Error> {
    let request = CertificateSigningRequestParams::from_pem(request_pem)
        .map_err(|error| Error::invalid("the certificate request", error))?;
    Ok(hex::encode(Sha256::digest(request.public_key.der_bytes())))
}

/// Sets the dates of a certificate: valid from a day ago, for `lifetime` from now on.
pub fn set_dates(params: &mut CertificateParams, now_ms: i64, lifetime: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = epoch + Duration::from_millis(u64::try_from(now_ms).unwrap_or(0));
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
}
