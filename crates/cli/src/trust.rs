//! Whom we believe at an https address of the cloud: the certificates that `AWS_CA_BUNDLE` names, as
//! the aws CLI does, or else the machine's own; and the authority of the cloud that we administer.

use std::path::Path;

use daemon::public::client_config;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{Failure, environment};

/// The trust for https.
pub(crate) fn from_environment() -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    match environment::path("AWS_CA_BUNDLE") {
        Some(bundle) => add_file(&mut roots, &bundle)?,
        None => {
            // What a machine has that is no certificate is not ours to mend.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let authority = environment::path("MALLEE_ADMIN").map(|admin| admin.join("ca.pem"));
    if let Some(file) = authority.filter(|file| file.exists()) {
        add_file(&mut roots, &file)?;
    }
    Ok(client_config(roots))
}

fn add_file(roots: &mut RootCertStore, file: &Path) -> Result<(), Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let found = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    Ok(())
}
