//! What owners set about buckets: read, set, forgotten. The documents are typed in `s3`; what they
//! may say beside one another is decided by the commit.

use http::{HeaderValue, StatusCode, header};
use s3::{
    BucketName, Code, Error,
    documents::ownership::write_policy_status,
    settings::{Kind, Setting},
    xml::MAX_DOCUMENT_BYTES,
};

use super::{Ask, Done, same};
use crate::{
    answer,
    authorise::BucketPolicy,
    body::RequestBody,
    engine::{Change, change::BucketChange, facts::Bucket},
};

impl Ask<'_> {
    pub(super) async fn get_setting(&self, name: BucketName, kind: Kind) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        let document = bucket.settings.document(kind)?;
        let mut answer = answer::xml(document);
        if kind == Kind::Policy {
            let json = HeaderValue::from_static("application/json");
            answer.headers_mut().insert(header::CONTENT_TYPE, json);
        }
        Ok(answer)
    }

    pub(super) async fn put_setting(
        &self,
        name: BucketName,
        kind: Kind,
        body: &mut RequestBody,
    ) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        // PutBucketLogging reference: "you must be the bucket owner", whatever a policy says.
        if kind == Kind::Logging && self.caller.account() != Some(&bucket.owner) {
            return Err(Code::AccessDenied.into());
        }
        let document = body.read_document(MAX_DOCUMENT_BYTES).await?;
        let setting = Setting::read(kind, &document)?;
        match &setting {
            Setting::Policy(text) => check_policy(text, &bucket)?,
            Setting::Logging(Some(logging)) => self.check_logging(logging, &bucket).await?,
            Setting::Notification(rules) => self.check_notifications(rules, &bucket)?,
            _ => {}
        }
        let change = Change::SetBucket(same(&bucket), BucketChange::Set(setting));
        self.commit(change).await?;
        if kind == Kind::Logging {
            let sources = &self.api.access_log.sources;
            sources.refresh(&self.api.engine, &bucket.name).await?;
        }
        Ok(answer::status(put_status(kind)))
    }

    pub(super) async fn delete_setting(&self, name: BucketName, kind: Kind) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        let change = Change::SetBucket(same(&bucket), BucketChange::Clear(kind));
        self.api.engine.commit(change).await?;
        Ok(answer::status(StatusCode::NO_CONTENT))
    }

    pub(super) async fn get_bucket_policy_status(&self, name: BucketName) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        let text = bucket.settings.policy.as_ref();
        let by_policy = |text: &String| BucketPolicy::parse(text).is_ok_and(|p| p.is_public());
        let is_public = text.is_some_and(by_policy) || bucket.acl.is_public();
        Ok(answer::xml(write_policy_status(is_public)))
    }
}

/// AWS answers 204 to some.
fn put_status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Policy | Kind::Tagging => StatusCode::NO_CONTENT,
        _ => StatusCode::OK,
    }
}

/// A policy must make sense, be about its bucket, and not be public where that is blocked.
fn check_policy(text: &str, bucket: &Bucket) -> Result<(), Error> {
    let policy = BucketPolicy::parse(text)?;
    if policy.gives_to_all_but() {
        let why = "Allow with NotPrincipal is not allowed: it gives to everyone whom it forgets.";
        return Err(Error::new(Code::MalformedPolicy, why));
    }
    if !policy.is_about(&bucket.name) {
        let why = "Policy has invalid resource";
        return Err(Error::new(Code::MalformedPolicy, why));
    }
    let block = bucket.settings.public_access_block.unwrap_or_default();
    if block.block_policy && policy.is_public() {
        let why = "public policies are prevented by the BlockPublicPolicy setting";
        return Err(Error::new(Code::AccessDenied, why));
    }
    Ok(())
}
