//! Quotas, decided inside the commit: what a change would make a bucket and its owner's account hold
//! is held against what they may. Between racing writers nothing is counted twice or not at all.
//!
//! A change that takes nothing more is always allowed, so that whoever is over a limit can still
//! delete, overwrite by less, and complete what is uploaded already. The cloud's own buckets have no
//! quota.

use s3::{BucketName, Code, Error, Key, VersionId};
use types::{
    AccountId,
    quota::{Bounds, Limits, QuotaOf, Usage},
};

use super::{
    facts::{Bucket, Fact},
    failure::Result,
    index::{Count, IndexWriter, View},
};

/// Buckets of an account where nobody says anything else. S3's own default since 2024.
pub const BUCKETS_DEFAULT: u64 = 10_000;

/// The limits of accounts and buckets for which none were set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Of each account.
    pub account: Bounds,
    /// Of each bucket.
    pub bucket: Bounds,
}

impl Defaults {
    /// As many buckets as S3 allows, and otherwise no limit.
    pub const OPEN: Self = Self {
        account: Bounds {
            bytes: None,
            objects: None,
            buckets: Some(BUCKETS_DEFAULT),
        },
        bucket: Bounds {
            bytes: None,
            objects: None,
            buckets: None,
        },
    };

    /// The limits that hold for an account.
    pub fn of_account(&self, account: &AccountId, view: View<'_>) -> Result<Bounds> {
        if *account == AccountId::system() {
            return Ok(Bounds::default());
        }
        let of = QuotaOf::Account(account.clone());
        Ok(set(&of, view)?.or(self.account))
    }

    /// The limits that hold for a bucket.
    pub fn of_bucket(&self, bucket: &Bucket, view: View<'_>) -> Result<Bounds> {
        if bucket.owner == AccountId::system() {
            return Ok(Bounds::default());
        }
        let of = QuotaOf::Bucket(bucket.name.as_str().to_owned());
        Ok(set(&of, view)?.or(self.bucket))
    }
}

fn set(of: &QuotaOf, view: View<'_>) -> Result<Limits> {
    let found = view.find_quota(of)?;
    Ok(found.map(|kept| kept.thing.limits).unwrap_or_default())
}

/// Whether facts may become true: what they add fits into the quotas.
pub(super) fn check(
    facts: &[Fact],
    bucket: Option<&Bucket>,
    index: &mut IndexWriter,
    defaults: &Defaults,
) -> Result<()> {
    if let [Fact::BucketSet(new)] = facts {
        return check_buckets(new, index.view(), defaults);
    }
    let Some(bucket) = bucket else {
        return Ok(());
    };
    let view = index.view();
    let limits = [
        defaults.of_bucket(bucket, view)?,
        defaults.of_account(&bucket.owner, view)?,
    ];
    if limits.iter().all(is_open) {
        return Ok(());
    }
    let growth = growth(facts, view)?;
    let [of_bucket, of_account] = limits;
    if !is_open(&of_bucket) {
        let used = index.usage_of_bucket(&bucket.name)?;
        judge("bucket", growth, used, &of_bucket)?;
    }
    if !is_open(&of_account) {
        let used = index.usage_of_account(&bucket.owner)?;
        judge("account", growth, used, &of_account)?;
    }
    Ok(())
}

fn is_open(bounds: &Bounds) -> bool {
    bounds.bytes.is_none() && bounds.objects.is_none()
}

/// A new bucket is one more of its owner's.
fn check_buckets(new: &Bucket, view: View<'_>, defaults: &Defaults) -> Result<()> {
    if view.find_bucket(&new.name)?.is_some() {
        return Ok(());
    }
    let limit = defaults.of_account(&new.owner, view)?.buckets;
    match limit {
        Some(limit) if view.count_buckets(&new.owner)? >= limit => Err(Code::TooManyBuckets.into()),
        _ => Ok(()),
    }
}

/// What facts add to what is there. It says beforehand what the index counts afterwards.
fn growth(facts: &[Fact], view: View<'_>) -> Result<Count> {
    let mut growth = Count::default();
    for fact in facts {
        growth += match fact {
            Fact::ObjectSet(object) => {
                let old = count_of(&object.bucket, &object.key, &object.version, view)?;
                Count::of_object(object) + -old
            }
            Fact::ObjectGone {
                bucket,
                key,
                version,
            } => -count_of(bucket, key, version, view)?,
            Fact::PartSet(part) => {
                let old = view.find_part(&part.upload_id, part.number)?;
                let old = old.map_or(0, |old| old.thing.piece.size);
                Count::of_parts(part.piece.size) + -Count::of_parts(old)
            }
            Fact::UploadGone { upload_id } => -Count::of_parts(view.bytes_of_parts(upload_id)?),
            _ => Count::default(),
        };
    }
    Ok(growth)
}

fn count_of(bucket: &BucketName, key: &Key, version: &VersionId, view: View<'_>) -> Result<Count> {
    let found = view.find_version(bucket, key, version)?;
    Ok(found.map_or_else(Count::default, |kept| Count::of_object(&kept.thing)))
}

/// Whether so much more fits. Pure.
fn judge(whose: &str, growth: Count, used: Usage, limits: &Bounds) -> s3::Result<()> {
    let fits = |more: i64, used: u64, limit: Option<u64>| {
        more <= 0 || limit.is_none_or(|limit| used.saturating_add_signed(more) <= limit)
    };
    if !fits(growth.all_bytes(), used.bytes, limits.bytes) {
        return Err(exceeded(whose, "bytes", limits.bytes));
    }
    if !fits(growth.objects, used.objects, limits.objects) {
        return Err(exceeded(whose, "objects", limits.objects));
    }
    Ok(())
}

fn exceeded(whose: &str, what: &str, limit: Option<u64>) -> Error {
    let limit = limit.unwrap_or_default();
    let why = format!(
        "The quota of this {whose} is {limit} {what}. Delete something, or ask the administrator \
         for more."
    );
    Error::new(Code::QuotaExceeded, why)
}

/// What a body is going to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intended {
    /// An object under a key.
    Object(Key),
    /// A part of an upload, by its id and number.
    Part(String, u32),
}

/// Before a body is read: whether so many bytes could ever be kept, as things are. What a write
/// without versions replaces gives its room back. The commit decides again.
pub(super) fn foresee(
    bucket: &Bucket,
    intended: &Intended,
    bytes: u64,
    view: View<'_>,
    defaults: &Defaults,
) -> Result<()> {
    let growth = match intended {
        Intended::Object(key) => {
            let new = Count {
                objects: 1,
                bytes: bytes.cast_signed(),
                parts: 0,
            };
            new + -count_of(&bucket.name, key, &VersionId::null(), view)?
        }
        Intended::Part(upload_id, number) => {
            let old = view.find_part(upload_id, *number)?;
            let old = old.map_or(0, |old| old.thing.piece.size);
            Count::of_parts(bytes) + -Count::of_parts(old)
        }
    };
    let limits = defaults.of_bucket(bucket, view)?;
    if !is_open(&limits) {
        let used = view.usage_of_bucket(&bucket.name)?;
        judge("bucket", growth, used, &limits)?;
    }
    let limits = defaults.of_account(&bucket.owner, view)?;
    if !is_open(&limits) {
        let used = view.usage_of_account(&bucket.owner)?;
        judge("account", growth, used, &limits)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(bytes: i64, objects: i64) -> Count {
        Count {
            objects,
            bytes,
            parts: 0,
        }
    }

    #[test]
    fn what_fits_to_the_last_byte_is_allowed_and_one_more_is_not() {
        let limits = Bounds {
            bytes: Some(10),
            objects: Some(2),
            buckets: None,
        };
        let used = Usage {
            bytes: 6,
            objects: 1,
        };
        assert!(judge("bucket", count(4, 1), used, &limits).is_ok());
        let error = judge("bucket", count(5, 1), used, &limits).unwrap_err();
        assert_eq!(error.code, Code::QuotaExceeded);
        assert!(error.to_string().contains("10 bytes"), "{error}");
        assert!(judge("bucket", count(0, 2), used, &limits).is_err());
        assert!(judge("bucket", count(99, 9), used, &Bounds::default()).is_ok());
    }

    #[test]
    fn whoever_is_over_the_limit_may_still_take_less() {
        let limits = Bounds {
            bytes: Some(10),
            objects: Some(1),
            buckets: None,
        };
        let used = Usage {
            bytes: 50,
            objects: 7,
        };
        assert!(judge("account", count(-1, -1), used, &limits).is_ok());
        assert!(judge("account", count(-5, 0), used, &limits).is_ok());
        assert!(judge("account", count(1, -1), used, &limits).is_err());
    }
}
