//! Eucalyptus's bootstrap service: where a bundler gets the cloud's certificate.

use serde::{Deserialize, Serialize};

use crate::Action;

/// Lists the cloud's certificates.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeServiceCertificates {
    /// `pem` is the only one.
    pub format: Option<String>,
    /// `SHA-1` or `SHA-256`, the second by default.
    pub fingerprint_digest: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeServiceCertificatesOutput {
    pub service_certificates: Vec<ServiceCertificate>,
}

/// The bundler looks for the usage `image-bundling` and the type `compute`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceCertificate {
    pub service_type: String,
    pub certificate_usage: String,
    pub certificate_format: String,
    pub certificate: String,
    pub certificate_fingerprint: String,
    pub certificate_fingerprint_digest: String,
}

impl Action for DescribeServiceCertificates {
    const NAME: &'static str = "DescribeServiceCertificates";
    type Output = DescribeServiceCertificatesOutput;
}
