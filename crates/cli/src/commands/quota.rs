//! `mallee s3 quota`: how much accounts and buckets may hold in the object store, and do.

use control::{
    Cloud,
    cloud::Ask,
    objects::{AskQuotas, QuotaLine, SetQuota},
};
use types::quota::{Limit, QuotaOf};

use crate::{
    Failure,
    admin::Admin,
    args,
    output::{Output, table},
};

/// Runs one of the commands.
pub async fn run(admin: &args::Admin, output: Output, ask: args::Quota) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    let of = match ask {
        args::Quota::List => None,
        args::Quota::Show(of) => Some(find(&admin, of).await?),
        args::Quota::Set(set) => {
            let of = find(&admin, set.of).await?;
            let ask = SetQuota {
                of: of.clone(),
                bytes: set.bytes,
                objects: set.objects,
                buckets: set.buckets,
            };
            admin.cloud.set_quota(&admin.call(), ask).await?;
            Some(of)
        }
    };
    let told = admin.cloud.quotas(&admin.call(), AskQuotas { of }).await?;
    output.print(&told.quotas, || text(&told.quotas))
}

/// An account is meant by its number or by its name.
async fn find(admin: &Admin, of: args::QuotaOf) -> Result<QuotaOf, Failure> {
    if let Some(bucket) = of.bucket {
        return Ok(QuotaOf::Bucket(bucket));
    }
    let name = of.account.unwrap_or_default();
    if let Ok(account) = name.parse() {
        return Ok(QuotaOf::Account(account));
    }
    let known = admin.cloud.accounts(&admin.call(), Ask {}).await?.accounts;
    let found = known.into_iter().find(|account| account.name == name);
    match found {
        Some(account) => Ok(QuotaOf::Account(account.account)),
        None => Err(control::CallError::not_found(format!("account {name}")).into()),
    }
}

fn text(lines: &[QuotaLine]) -> String {
    let rows: Vec<[String; 7]> = lines.iter().map(row).collect();
    table(
        [
            "OF", "BYTES", "LIMIT", "OBJECTS", "LIMIT", "BUCKETS", "LIMIT",
        ],
        &rows,
    )
}

fn row(line: &QuotaLine) -> [String; 7] {
    let QuotaLine { limits, bounds, .. } = line;
    let (buckets, limit_of_buckets) = match line.buckets {
        Some(buckets) => (buckets.to_string(), limit(limits.buckets, bounds.buckets)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    [
        line.of.to_string(),
        line.used.bytes.to_string(),
        limit(limits.bytes, bounds.bytes),
        line.used.objects.to_string(),
        limit(limits.objects, bounds.objects),
        buckets,
        limit_of_buckets,
    ]
}

/// What holds; with a star if nobody set it.
fn limit(set: Limit, holds: Option<u64>) -> String {
    let star = if set.is_default() { "*" } else { "" };
    let holds = holds.map_or_else(|| "none".to_owned(), |holds| holds.to_string());
    holds + star
}
