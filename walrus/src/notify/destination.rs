//! A destination: an address that the administrator wrote down, and one try to tell it something.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use daemon::{BoxError, public::client_config};
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use types::AccountId;

use super::retry::Outcome;
use crate::config::Notification;

/// The whole of one try. A destination that needs longer is to take events and work later.
const TRY_TIME: Duration = Duration::from_secs(15);
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// What is read of an answer, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A destination.
#[derive(Clone)]
pub struct Destination {
    /// What owners of buckets call it.
    pub name: String,
    url: Uri,
    /// Who may; all if there are none.
    accounts: Arc<[AccountId]>,
    authorization: Option<HeaderValue>,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl std::fmt::Debug for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Destination({})", self.name)
    }
}

impl Destination {
    /// Reads the files that its configuration names.
    pub fn open(config: &Notification) -> Result<Self, BoxError> {
        let wrong = |error: BoxError| format!("notification {:?}: {error}", config.name);
        let mut authorization = None;
        if let Some(path) = &config.authorization_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| wrong(format!("{}: {error}", path.display()).into()))?;
            let mut value = HeaderValue::from_str(text.trim())
                .map_err(|error| wrong(format!("{}: {error}", path.display()).into()))?;
            value.set_sensitive(true);
            authorization = Some(value);
        }
        Ok(Self {
            name: config.name.clone(),
            url: config
                .url
                .parse::<Uri>()
                .map_err(|error| wrong(Box::new(error)))?,
            accounts: config.accounts.clone().into(),
            authorization,
            http: client(config.ca_file.as_deref()).map_err(wrong)?,
        })
    }

    /// Whether a bucket of that account may tell it something.
    pub fn may_be_named_by(&self, account: &AccountId) -> bool {
        self.accounts.is_empty() || self.accounts.contains(account)
    }

    /// One try. Redirections are not followed: they would lead where nobody allowed it.
    pub(super) async fn tell(&self, text: String) -> Outcome {
        match tokio::time::timeout(TRY_TIME, self.post(text)).await {
            Ok(Ok(status)) => Outcome::of(status),
            Ok(Err(error)) => Outcome::Later(daemon::chain(&*error)),
            Err(_) => Outcome::Later("it does not answer in time".to_owned()),
        }
    }

    async fn post(&self, text: String) -> Result<u16, BoxError> {
        let mut request = Request::post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "mallee-walrus");
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::from(text))?;
        let answer = self.http.request(request).await?;
        let status = answer.status().as_u16();
        // What it says besides is nothing to us.
        let _ = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        Ok(status)
    }
}

/// Whom it trusts at https: those whom a file names, else those whom the machine trusts.
fn client(
    ca_file: Option<&Path>,
) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, BoxError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => {
            // What a machine has that is no certificate is not ours to mend.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let named = |error: BoxError| format!("{}: {error}", path.display());
            let found =
                CertificateDer::pem_file_iter(path).map_err(|e| named(e.to_string().into()))?;
            for certificate in found {
                let certificate = certificate.map_err(|e| named(e.to_string().into()))?;
                roots
                    .add(certificate)
                    .map_err(|error| named(Box::new(error)))?;
            }
        }
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIME));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(client_config(roots))
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}
