//! What the cloud's own daemons and its administrator may ask of us: `control::Cloud`, served over
//! mutual TLS. Who may call what is in the trait's table; here is only the doing.

mod accounts;
mod bundle_ticket;
mod caches;
mod copies;
mod explain;
pub mod join;
mod quotas;
mod status;
mod ticket;
mod verify;

use std::sync::Arc;

use async_trait::async_trait;
use control::{
    CallError, Changes, Cloud, Cluster, Code,
    caches::{Caches, CachesAsk, CopyReport, EvictAsk, WarmAsk},
    cloud::{
        AccountAsk, AccountList, Ask, BundleTicket, BundleTicketAsk, CloudStatus, DeadAsk,
        ExplainAsk, Explanation, IdentityChange, InstanceList, JoinAsk, Joined, NewAccount,
        PublicCertificate, PublicCertificateAsk, RenewAsk, Ticket, TicketAsk, Token, TokenAsk,
        Verdict,
    },
    feed::Poll,
    node::{ConsoleRead, ConsoleText, ConsoleWrite, Done},
    objects::{AskQuotas, Quotas, SetQuota},
    rpc::Call,
};
use daemon::tls::{Authority, Peer};
use types::InstanceId;

use crate::{
    Clc,
    rows::{instances, nodes},
};

/// The service behind the control listener.
pub struct Service {
    clc: Arc<Clc>,
    authority: Arc<Authority>,
}

impl Service {
    /// Serves this cloud, signing with this authority.
    pub fn new(clc: Arc<Clc>, authority: Arc<Authority>) -> Arc<Self> {
        Arc::new(Self { clc, authority })
    }

    /// The cluster that an instance is in.
    async fn cluster_of(&self, instance: &InstanceId) -> Result<Arc<dyn Cluster>, CallError> {
        let id = instance.clone();
        let found = self
            .clc
            .db
            .read(move |tx| instances::load(tx, &id))
            .await
            .map_err(internal)?;
        let zone = found.ok_or_else(|| CallError::not_found(instance))?.zone;
        self.clc.peers.cluster(&zone).ok_or_else(|| {
            CallError::new(
                Code::NotReady,
                format!("no Cluster Controller of {zone} has joined"),
            )
        })
    }
}

#[async_trait]
impl Cloud for Service {
    async fn join(&self, _: &Call, ask: JoinAsk) -> Result<Joined, CallError> {
        join::join(&self.clc, &self.authority, ask).await
    }

    async fn renew(&self, call: &Call, ask: RenewAsk) -> Result<Joined, CallError> {
        join::renew(&self.clc, &self.authority, caller(call)?, ask).await
    }

    async fn public_certificate(
        &self,
        call: &Call,
        ask: PublicCertificateAsk,
    ) -> Result<PublicCertificate, CallError> {
        let certificate_pem = self
            .authority
            .sign_public(&ask.csr_pem, &ask.names, self.clc.now().0)
            .map_err(|error| CallError::new(Code::Invalid, daemon::chain(&error)))?;
        tracing::info!(peer = %caller(call)?, names = ?ask.names, "signed a certificate for clients");
        Ok(PublicCertificate { certificate_pem })
    }

    async fn identity(&self, _: &Call, ask: Poll) -> Result<Changes<IdentityChange>, CallError> {
        Ok(self.clc.identity.poll(&ask).await)
    }

    async fn image_ticket(&self, call: &Call, ask: TicketAsk) -> Result<Ticket, CallError> {
        ticket::give(&self.clc, caller(call)?, ask).await
    }

    async fn bundle_ticket(
        &self,
        call: &Call,
        ask: BundleTicketAsk,
    ) -> Result<BundleTicket, CallError> {
        bundle_ticket::give(&self.clc, caller(call)?, ask).await
    }

    async fn image_copy(&self, call: &Call, ask: CopyReport) -> Result<Done, CallError> {
        copies::note(&self.clc, caller(call)?, ask).await
    }

    async fn token(&self, _: &Call, ask: TokenAsk) -> Result<Token, CallError> {
        join::token(&self.clc, &self.authority, ask).await
    }

    async fn status(&self, _: &Call, _: Ask) -> Result<CloudStatus, CallError> {
        status::cloud(&self.clc).await
    }

    async fn instances(&self, _: &Call, _: Ask) -> Result<InstanceList, CallError> {
        status::instances(&self.clc).await
    }

    async fn explain(&self, _: &Call, ask: ExplainAsk) -> Result<Explanation, CallError> {
        explain::explain(&self.clc, ask.instance).await
    }

    async fn create_account(&self, _: &Call, ask: AccountAsk) -> Result<NewAccount, CallError> {
        accounts::create(&self.clc, ask).await
    }

    async fn accounts(&self, _: &Call, _: Ask) -> Result<AccountList, CallError> {
        accounts::list(&self.clc).await
    }

    async fn quotas(&self, call: &Call, ask: AskQuotas) -> Result<Quotas, CallError> {
        quotas::ask(&self.clc, call, ask).await
    }

    async fn set_quota(&self, call: &Call, ask: SetQuota) -> Result<Done, CallError> {
        quotas::set(&self.clc, call, ask).await
    }

    async fn declare_dead(&self, _: &Call, ask: DeadAsk) -> Result<Done, CallError> {
        let now_dead = ask.dead;
        let found = self
            .clc
            .db
            .write(move |tx| {
                nodes::declare_dead(tx, &ask.node, ask.dead).map(|row| (row, ask.node))
            })
            .await
            .map_err(internal)?;
        let (true, node) = found else {
            return Err(CallError::not_found(found.1));
        };
        tracing::info!(%node, dead = now_dead, "declared by the administrator");
        self.clc.wakes.roster.wake();
        self.clc.wakes.network.wake();
        self.clc.wakes.expire.wake();
        Ok(Done {})
    }

    async fn verify(&self, call: &Call, _: Ask) -> Result<Verdict, CallError> {
        verify::verify(&self.clc, call).await
    }

    async fn console_read(&self, call: &Call, ask: ConsoleRead) -> Result<ConsoleText, CallError> {
        self.cluster_of(&ask.instance)
            .await?
            .console_read(call, ask)
            .await
    }

    async fn console_write(&self, call: &Call, ask: ConsoleWrite) -> Result<Done, CallError> {
        self.cluster_of(&ask.instance)
            .await?
            .console_write(call, ask)
            .await
    }

    async fn caches(&self, call: &Call, ask: CachesAsk) -> Result<Caches, CallError> {
        caches::list(&self.clc, call, ask).await
    }

    async fn caches_warm(&self, call: &Call, ask: WarmAsk) -> Result<Caches, CallError> {
        caches::warm(&self.clc, call, ask).await
    }

    async fn caches_evict(&self, call: &Call, ask: EvictAsk) -> Result<Caches, CallError> {
        caches::evict(&self.clc, call, ask).await
    }
}

/// Who calls; the table of the trait lets nobody nameless through to here.
fn caller(call: &Call) -> Result<&Peer, CallError> {
    call.peer.as_ref().ok_or_else(|| {
        CallError::new(
            Code::Forbidden,
            "this call needs a certificate of the cloud",
        )
    })
}

/// A transaction's way to refuse a call.
pub struct Refused(pub CallError);

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        Self(internal(error))
    }
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        refused.0
    }
}

/// What went wrong on our side, logged where it is consumed: here.
fn internal(error: impl std::error::Error + 'static) -> CallError {
    let answer = CallError::internal(&error);
    tracing::error!(error = answer.message, "a control call failed");
    answer
}
