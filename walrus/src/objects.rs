//! What the cloud itself asks: small objects and sizes, in somebody's name, by the same rules as
//! over S3.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use control::{
    CallError, Code, Objects,
    node::Done,
    objects::{
        AskObjectsStatus, AskQuotas, DropObjects, LinkObjects, ObjectBytes, ObjectStat,
        ObjectStats, ObjectsStatus, Principal, Quotas, ReadObject, SetQuota, StatObjects,
    },
    rpc::Call,
};
use http_body_util::BodyExt;
use s3::{Action, BucketName, Key};
use types::{AccountId, Timestamp};

use crate::{
    api::{self, Api},
    authorise::Wish,
    directory::{ADMIN, Caller},
    engine::{Failure, Found, Sought},
    links, outflow, quotas,
};

/// Objects of one question.
const KEYS_MAX: usize = 10_000;

/// Serves [`Objects`].
pub struct Service(pub Arc<Api>);

impl Service {
    fn caller(&self, principal: &Principal) -> Result<Caller, CallError> {
        let Principal { account, user } = principal;
        let known = self.0.identity.directory().find_user(account, user);
        known.ok_or_else(|| CallError::not_found(format!("user {user} of account {account}")))
    }

    async fn find(&self, caller: &Caller, bucket: &str, key: &str) -> Result<Found, s3::Error> {
        let (bucket, key) = (BucketName::parse(bucket)?, Key::parse(key)?);
        let look = self
            .0
            .engine
            .look(bucket.clone(), key.clone(), None)
            .await
            .map_err(in_s3_words)?;
        let look = look.ok_or_else(|| crate::engine::change::no_such_bucket(&bucket))?;

        let (context, people) = (iam::Context::new(), self.0.identity.directory());
        let wish = Wish {
            caller,
            action: Action::GetObject,
            context: &context,
            people: &people,
            list_needed: None,
        };
        let Sought::Object(found) = look.sought else {
            return Err(wish.on_absent(&look.bucket, &key, None));
        };
        wish.on_object(&look.bucket, &found.object, false)?;
        Ok(found)
    }
}

fn in_s3_words(failure: Failure) -> s3::Error {
    match failure {
        Failure::Refused(error) => error,
        Failure::Away(why) => {
            tracing::warn!(why, "reading for the cloud was refused");
            api::away()
        }
        failure => {
            tracing::error!(
                error = daemon::chain(&failure),
                "reading for the cloud failed"
            );
            s3::Code::InternalError.into()
        }
    }
}

fn refused(error: &s3::Error) -> CallError {
    let code = match error.code.status().as_u16() {
        403 => Code::Forbidden,
        404 => Code::NotFound,
        500.. => Code::Internal,
        _ => Code::Invalid,
    };
    CallError::new(code, error.to_string())
}

#[async_trait]
impl Objects for Service {
    async fn read_object(&self, _: &Call, ask: ReadObject) -> Result<ObjectBytes, CallError> {
        let caller = self.caller(&ask.principal)?;
        let found = self.find(&caller, &ask.bucket, &ask.key).await;
        let found = found.map_err(|error| refused(&error))?;
        let (size, etag) = (found.object.size, found.object.etag.clone());
        if size > ask.bytes_max {
            let what = format!(
                "{}/{} has {size} bytes, at most {} are taken",
                ask.bucket, ask.key, ask.bytes_max
            );
            return Err(CallError::new(Code::Invalid, what));
        }
        let key = self
            .0
            .master_key
            .open_data_key(found.object.encryption.as_ref(), None)
            .map_err(|failure| refused(&in_s3_words(failure)))?;
        let body = outflow::send(&self.0.engine, found, key, 0..size).await;
        let body = body.map_err(|failure| refused(&in_s3_words(failure)))?;
        let bytes = body
            .collect()
            .await
            .map_err(|error| CallError::internal(&*error))?
            .to_bytes();
        Ok(ObjectBytes {
            content: BASE64.encode(&bytes),
            etag,
        })
    }

    async fn stat_objects(&self, _: &Call, ask: StatObjects) -> Result<ObjectStats, CallError> {
        if ask.keys.len() > KEYS_MAX {
            return Err(CallError::new(Code::Invalid, "more than 10000 keys"));
        }
        let caller = self.caller(&ask.principal)?;
        let mut objects = Vec::with_capacity(ask.keys.len());
        for key in ask.keys {
            let found = self.find(&caller, &ask.bucket, &key).await;
            let size = found.map(|found| found.object.size);
            let size = size.map_err(|error| error.code.as_str().to_owned());
            objects.push(ObjectStat { key, size });
        }
        Ok(ObjectStats { objects })
    }

    async fn link_objects(&self, _: &Call, ask: LinkObjects) -> Result<Done, CallError> {
        links::check(&ask)?;
        let (engine, now) = (&self.0.engine, Timestamp(self.0.clock.now_ms()));
        // Read as nodes read bundles: in the name of the cloud.
        let cloud = self.caller(&Principal {
            account: AccountId::system(),
            user: ADMIN.to_owned(),
        })?;
        let bucket = links::make_bucket(engine, &ask.to_bucket, now).await?;
        let mut changes = Vec::with_capacity(ask.names.len());
        for name in &ask.names {
            let key = format!("{}{name}", ask.from_prefix);
            let found = self.find(&cloud, &ask.from_bucket, &key).await;
            let found = found.map_err(|error| refused(&error))?;
            changes.push(links::link(engine, &found, &bucket, name, now).await?);
        }
        links::commit(engine, changes).await?;
        Ok(Done {})
    }

    async fn drop_objects(&self, _: &Call, ask: DropObjects) -> Result<Done, CallError> {
        let now = Timestamp(self.0.clock.now_ms());
        links::drop_bucket(&self.0.engine, &ask.bucket, now).await?;
        Ok(Done {})
    }

    async fn quotas(&self, _: &Call, ask: AskQuotas) -> Result<Quotas, CallError> {
        quotas::ask(&self.0.engine, ask).await
    }

    async fn set_quota(&self, _: &Call, ask: SetQuota) -> Result<Done, CallError> {
        quotas::set(&self.0.engine, ask).await
    }

    async fn status(&self, _: &Call, _: AskObjectsStatus) -> Result<ObjectsStatus, CallError> {
        let totals = self
            .0
            .engine
            .totals()
            .await
            .map_err(|error| CallError::internal(&error))?;
        let free = self
            .0
            .engine
            .free_bytes()
            .map_err(|error| CallError::internal(&error))?;
        Ok(ObjectsStatus {
            buckets: totals.buckets,
            objects: totals.objects,
            bytes: totals.bytes,
            free_bytes: free,
            identity_revision: self.0.identity.revision(),
        })
    }
}
