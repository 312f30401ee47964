//! The API as the edge sees it: whose key it is, and what is to be done.

use std::sync::Arc;

use async_trait::async_trait;
use types::{AccountId, Arn, Secret};

use super::{Call, dispatch, table};
use crate::{
    Caller, Clc,
    caller::Verified,
    edge::{Asked, Behind, OwnKey, Service, Used},
    identity::{ADMIN, Credential},
    rows::used_signatures,
};

#[async_trait]
impl Behind for Clc {
    type Holder = Arc<Credential>;

    async fn find_key(
        &self,
        access_key: &str,
    ) -> Result<Option<(Secret<String>, Arc<Credential>)>, daemon::BoxError> {
        let id = access_key.parse().ok();
        let found = id.and_then(|id| self.identity.credential(&id));
        Ok(found.map(|credential| (credential.secret.clone(), credential)))
    }

    async fn keep_signature(&self, used: &Used) -> Result<(), daemon::BoxError> {
        let used = used.clone();
        let kept = self
            .db
            .write(move |tx| used_signatures::insert(tx, &used))
            .await;
        Ok(kept?)
    }

    async fn kept_signatures(&self) -> Result<Vec<Used>, daemon::BoxError> {
        Ok(self.db.read(used_signatures::list).await?)
    }

    fn own_key(&self) -> Option<OwnKey> {
        let own = self.identity.of_account(&AccountId::system())?;
        Some(OwnKey {
            id: own.id.to_string(),
            secret: own.secret.clone(),
        })
    }

    async fn call(&self, asked: Asked<Arc<Credential>>) -> ec2::Result<String> {
        let context = iam::Context::new()
            .with(
                "aws:SourceIp",
                asked.client.address.ip().to_canonical().to_string(),
            )
            .with("aws:SecureTransport", asked.client.secure.to_string())
            .with("aws:CurrentTime", self.now().to_string());
        let verified = verified(&asked.holder, context);
        let caller = Caller::new(verified, asked.request_id);
        let call = Call {
            service: asked.service,
            action: asked.action,
            version: asked.version,
            parameters: asked.parameters,
        };
        dispatch(self, caller, call).await
    }

    fn knows(&self, service: Service, action: &str) -> bool {
        table::knows(service, action)
    }
}

fn verified(holder: &Credential, context: iam::Context) -> Verified {
    let is_root = holder.user == ADMIN;
    let arn = match &holder.principal {
        iam::Principal::Known { arn, .. } => arn.clone(),
        iam::Principal::Anonymous | iam::Principal::Service(_) => {
            Arn::account_root(&holder.account)
        }
    };
    Verified {
        principal: holder.principal.clone(),
        account: holder.account.clone(),
        user: holder.user.clone(),
        // As AWS shows an account's root.
        user_id: if is_root {
            holder.account.to_string()
        } else {
            holder.unique_id.clone()
        },
        arn,
        policies: holder.policies.clone(),
        context: context
            .with("aws:username", &holder.user)
            .with("aws:userid", &holder.unique_id),
    }
}
