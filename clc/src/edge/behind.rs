//! What the edge asks of the cloud behind it. The CLC answers; so does a fake in the edge's tests.

use async_trait::async_trait;
use daemon::public::Client;
use types::Secret;
use wire::{Parameters, RequestId};

use super::{Service, Used};

/// One call of a query service, by somebody whose signature stands.
#[derive(Debug)]
pub struct Asked<H> {
    /// Who holds the key that it was signed with.
    pub holder: H,
    /// The proof: only the verifier makes these.
    pub verified: sigv4::Verified,
    /// Which service.
    pub service: Service,
    /// The `Action`.
    pub action: String,
    /// The `Version`, as it was sent: answers echo it.
    pub version: String,
    /// All parameters but those that carry the signature.
    pub parameters: Parameters,
    /// The id that goes out in the answer.
    pub request_id: RequestId,
    /// Where it came from.
    pub client: Client,
}

/// The cloud's own key.
#[derive(Debug, Clone)]
pub struct OwnKey {
    /// Its id.
    pub id: String,
    /// Its secret half.
    pub secret: Secret<String>,
}

/// The cloud behind the edge.
#[async_trait]
pub trait Behind: Send + Sync + 'static {
    /// What is known of the holder of a key.
    type Holder: Send + Sync + 'static;

    /// The secret of an active key and its holder; `None` for a key that is unknown, or not to be
    /// used. The key id is whatever text a request carried.
    async fn find_key(
        &self,
        access_key: &str,
    ) -> Result<Option<(Secret<String>, Self::Holder)>, daemon::BoxError>;

    /// Keeps a used signature: it is there after a kill at any moment from now on.
    async fn keep_signature(&self, used: &Used) -> Result<(), daemon::BoxError>;

    /// All that were kept and are not yet refused for their age.
    async fn kept_signatures(&self) -> Result<Vec<Used>, daemon::BoxError>;

    /// The cloud's own key, by which Walrus believes the front door; `None` if there is none.
    fn own_key(&self) -> Option<OwnKey>;

    /// Does what is asked; gives the whole answer as XML, envelope and all.
    async fn call(&self, asked: Asked<Self::Holder>) -> ec2::Result<String>;

    /// Whether there is such an action: names that clients make up do not become metrics.
    fn knows(&self, service: Service, action: &str) -> bool;
}
