//! The cloud's certificate, for those who bundle images for it.

use ec2::bootstrap::{
    DescribeServiceCertificates, DescribeServiceCertificatesOutput, ServiceCertificate,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::Digest;

use super::errors::Result;
use crate::{Caller, Clc};

/// Lists the one certificate that euca-bundle-image looks for.
pub async fn describe_service_certificates(
    clc: &Clc,
    _: &Caller,
    ask: DescribeServiceCertificates,
) -> Result<DescribeServiceCertificatesOutput> {
    if let Some(format) = ask
        .format
        .filter(|format| !format.eq_ignore_ascii_case("pem"))
    {
        return Err(ec2::Error::invalid("Format", format, "Expected pem").into());
    }
    let pem = clc.image_certificate_pem.as_str();
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| ec2::Error::internal(error.to_string()))?;
    let (digest, fingerprint) = match ask.fingerprint_digest.as_deref().unwrap_or("SHA-256") {
        "SHA-256" => ("SHA-256", sha2::Sha256::digest(&der).to_vec()),
        "SHA-1" => ("SHA-1", sha1::Sha1::digest(&der).to_vec()),
        other => {
            return Err(ec2::Error::invalid(
                "FingerprintDigest",
                other,
                "Expected SHA-1 or SHA-256",
            )
            .into());
        }
    };
    let certificate = ServiceCertificate {
        service_type: "compute".to_owned(),
        certificate_usage: "image-bundling".to_owned(),
        certificate_format: "pem".to_owned(),
        certificate: pem.trim_end().to_owned(),
        certificate_fingerprint: colons(&fingerprint),
        certificate_fingerprint_digest: digest.to_owned(),
    };
    Ok(DescribeServiceCertificatesOutput {
        service_certificates: vec![certificate],
    })
}

/// Bytes in hex with colons between them, as all fingerprints are shown.
pub(super) fn colons(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}
