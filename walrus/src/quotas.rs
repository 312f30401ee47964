//! Quotas as the cloud asks and sets them for an administrator. What they mean and when they bind is
//! `engine::quota`'s.

use control::{
    CallError, Code,
    node::Done,
    objects::{AskQuotas, QuotaLine, Quotas, SetQuota},
};
use s3::BucketName;
use std::collections::BTreeSet;
use types::{AccountId, quota::QuotaOf};

use crate::engine::{
    Change, Engine, Failure, Result, View,
    change::{QuotaChange, no_such_bucket},
    quota::Defaults,
};

/// How much accounts and buckets may hold, and do.
pub(crate) async fn ask(engine: &Engine, ask: AskQuotas) -> Result<Quotas, CallError> {
    let defaults = engine.default_quotas();
    let quotas = engine.view(move |view| match ask.of {
        Some(of) => Ok(vec![line(of, view, &defaults)?]),
        None => all(view, &defaults),
    });
    let quotas = quotas.await.map_err(|failure| refused(&failure))?;
    Ok(Quotas { quotas })
}

/// Says how much one may hold.
pub(crate) async fn set(engine: &Engine, ask: SetQuota) -> Result<Done, CallError> {
    if matches!(ask.of, QuotaOf::Bucket(_)) && ask.buckets.is_some() {
        let why = "a bucket holds no buckets: that limit is an account's";
        return Err(CallError::new(Code::Invalid, why));
    }
    let change = QuotaChange {
        bytes: ask.bytes,
        objects: ask.objects,
        buckets: ask.buckets,
    };
    let done = engine.commit(Change::SetQuota(ask.of, change)).await;
    done.map_err(|failure| refused(&failure))?;
    Ok(Done {})
}

/// Accounts that have buckets or limits, then buckets with limits of their own.
fn all(view: View<'_>, defaults: &Defaults) -> Result<Vec<QuotaLine>> {
    let owners = view.usage_by_account()?.into_iter();
    let owners = owners.map(|(owner, ..)| QuotaOf::Account(owner));
    let named = view.quotas()?.into_iter().map(|quota| quota.of);
    let everyone: BTreeSet<QuotaOf> = owners.chain(named).collect();
    let people = everyone
        .into_iter()
        .filter(|of| *of != QuotaOf::Account(AccountId::system()));
    people.map(|of| line(of, view, defaults)).collect()
}

fn line(of: QuotaOf, view: View<'_>, defaults: &Defaults) -> Result<QuotaLine> {
    let (bounds, used, buckets) = match &of {
        QuotaOf::Account(account) => (
            defaults.of_account(account, view)?,
            view.usage_of_account(account)?,
            Some(view.count_buckets(account)?),
        ),
        QuotaOf::Bucket(name) => {
            let name = BucketName::parse(name)?;
            let bucket = view.find_bucket(&name)?;
            let bucket = bucket.ok_or_else(|| no_such_bucket(&name))?.thing;
            let bounds = defaults.of_bucket(&bucket, view)?;
            (bounds, view.usage_of_bucket(&name)?, None)
        }
    };
    let limits = view.find_quota(&of)?.map(|kept| kept.thing.limits);
    Ok(QuotaLine {
        limits: limits.unwrap_or_default(),
        of,
        bounds,
        used,
        buckets,
    })
}

/// The accounts that have a limit: what holds and what they hold, for the gauges.
pub(crate) async fn limited(engine: &Engine) -> Result<Vec<QuotaLine>> {
    let defaults = engine.default_quotas();
    let lines = engine.view(move |view| all(view, &defaults)).await?;
    let is_limited =
        |line: &QuotaLine| line.bounds.bytes.is_some() || line.bounds.objects.is_some();
    Ok(lines.into_iter().filter(is_limited).collect())
}

fn refused(failure: &Failure) -> CallError {
    match failure {
        Failure::Refused(error) if error.code == s3::Code::NoSuchBucket => {
            CallError::not_found(error)
        }
        Failure::Refused(error) => CallError::new(Code::Invalid, error.to_string()),
        failure => CallError::internal(failure),
    }
}
