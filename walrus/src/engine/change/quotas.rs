//! Quotas: set, or as if they had never been.

use s3::BucketName;
use types::quota::{Limits, QuotaOf};

use super::{Decision, Done, QuotaChange, no_such_bucket};
use crate::engine::{
    facts::{Fact, Quota},
    failure::Result,
    index::View,
};

pub(super) fn set(of: QuotaOf, change: QuotaChange, view: View<'_>) -> Result<Decision> {
    if let QuotaOf::Bucket(name) = &of {
        let name = BucketName::parse(name)?;
        if view.find_bucket(&name)?.is_none() {
            return Err(no_such_bucket(&name).into());
        }
    }
    let old = view.find_quota(&of)?.map(|kept| kept.thing.limits);
    let limits = changed(old.unwrap_or_default(), change);
    let fact = match (old, limits.is_empty()) {
        (None, true) => return Ok(Decision::of(Vec::new()).done(Done::Same)),
        (Some(_), true) => Fact::QuotaGone(of),
        (_, false) => Fact::QuotaSet(Quota { of, limits }),
    };
    Ok(Decision::of(vec![fact]))
}

fn changed(old: Limits, change: QuotaChange) -> Limits {
    Limits {
        bytes: change.bytes.unwrap_or(old.bytes),
        objects: change.objects.unwrap_or(old.objects),
        buckets: change.buckets.unwrap_or(old.buckets),
    }
}
