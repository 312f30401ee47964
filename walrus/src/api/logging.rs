//! Where a bucket's access log goes: checked when it is set. Whether it may be written there is
//! decided at each delivery, as lists and policies are then.

use s3::{Code, Error, documents::logging::Logging};

use super::Ask;
use crate::engine::{Failure, facts::Bucket};

impl Ask<'_> {
    /// The target must be there, the same owner's, and able to keep what is written into it.
    pub(super) async fn check_logging(
        &self,
        logging: &Logging,
        source: &Bucket,
    ) -> Result<(), Failure> {
        let bad = |why: &'static str| Error::new(Code::InvalidTargetBucketForLogging, why);
        let target = self.api.engine.find_bucket(logging.target.clone()).await?;
        let target = target.ok_or_else(|| bad("The target bucket for logging does not exist"))?;
        if target.owner != source.owner {
            return Err(bad(
                "The owner for the bucket to be logged and the target bucket must be the same.",
            )
            .into());
        }
        let lock = target.settings.object_lock;
        if lock.is_some_and(|lock| lock.default.is_some()) {
            return Err(bad("The target bucket has a default retention").into());
        }
        if !logging.grants.is_empty() {
            if target.settings.lists_are_off() {
                return Err(Error::from(Code::AccessControlListNotSupported).into());
            }
            logging
                .wish()?
                .resolve(&target.owner, &target.owner, self.people())?;
        }
        Ok(())
    }

    /// A bucket that is gone is logged no more.
    pub(super) async fn forget_logging(&self, bucket: &Bucket) -> Result<(), Failure> {
        if bucket.settings.logging.is_none() {
            return Ok(());
        }
        let sources = &self.api.access_log.sources;
        sources.refresh(&self.api.engine, &bucket.name).await
    }
}
