//! What is held and may be held, told to clients as radosgw tells it: `GET /?usage` for an account,
//! headers of `HEAD /bucket?read-stats` for a bucket. The figures are the counters by which quotas are
//! judged, each answer's from one snapshot.

use http::HeaderMap;
use s3::{
    Code,
    documents::usage::{AccountUsage, limit, limit_of_buckets},
    request::MAX_BUCKET_PAGE,
};

use super::{Ask, Done};
use crate::{
    answer,
    engine::{Bucket, Failure},
};

impl Ask<'_> {
    pub(super) async fn get_account_usage(&self) -> Done {
        self.wish().on_account(None)?;
        let owner = self.caller.account().ok_or(Code::AccessDenied)?.clone();

        let defaults = self.api.engine.default_quotas();
        let look = self.api.engine.view(move |view| {
            Ok((
                view.usage_of_account(&owner)?,
                defaults.of_account(&owner, view)?,
                view.usage_of_buckets(&owner, MAX_BUCKET_PAGE)?,
            ))
        });
        let (used, of_account, buckets) = look.await?;
        let usage = AccountUsage {
            used,
            of_account,
            of_bucket: defaults.bucket,
            buckets: &buckets,
        };
        Ok(answer::xml(usage.write()))
    }

    /// What a bucket holds, and for callers of its owner's account what it and that account may.
    pub(super) async fn set_stats(
        &self,
        bucket: &Bucket,
        headers: &mut HeaderMap,
    ) -> Result<(), Failure> {
        let (asked, defaults) = (bucket.clone(), self.api.engine.default_quotas());
        let look = self.api.engine.view(move |view| {
            Ok((
                view.usage_of_bucket(&asked.name)?,
                defaults.of_bucket(&asked, view)?,
                defaults.of_account(&asked.owner, view)?,
            ))
        });
        let (used, of_bucket, of_account) = look.await?;

        answer::set(headers, "x-rgw-object-count", used.objects.to_string());
        answer::set(headers, "x-rgw-bytes-used", used.bytes.to_string());
        if self.caller.account() == Some(&bucket.owner) {
            for (name, limit) in [
                ("x-rgw-quota-user-size", limit(of_account.bytes)),
                ("x-rgw-quota-user-objects", limit(of_account.objects)),
                (
                    "x-rgw-quota-max-buckets",
                    limit_of_buckets(of_account.buckets),
                ),
                ("x-rgw-quota-bucket-size", limit(of_bucket.bytes)),
                ("x-rgw-quota-bucket-objects", limit(of_bucket.objects)),
            ] {
                answer::set(headers, name, limit);
            }
        }
        Ok(())
    }
}
