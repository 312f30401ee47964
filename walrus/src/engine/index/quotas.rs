//! What buckets and accounts hold and may hold. Every bucket has a row of totals, kept by the same
//! transactions that change its objects and parts; an account has the sum of its buckets'.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, params};
use s3::BucketName;
use types::{
    AccountId,
    quota::{QuotaOf, Usage},
};

use super::{IndexWriter, Kept, View, kept, record, record_at, sealed};
use crate::engine::{
    facts::{Object, Part, Quota, Upload},
    failure::{Failure, Result},
    journal::Location,
};

/// What a bucket holds, or what a change makes of that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Versions that are no markers.
    pub objects: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Bytes of the parts of unfinished uploads.
    pub parts: i64,
}

impl Count {
    /// What a version counts for.
    pub fn of_object(object: &Object) -> Self {
        if object.is_marker() {
            return Self::default();
        }
        Self {
            objects: 1,
            bytes: object.size.cast_signed(),
            parts: 0,
        }
    }

    /// What so many bytes of parts count for.
    pub fn of_parts(bytes: u64) -> Self {
        Self {
            parts: bytes.cast_signed(),
            ..Self::default()
        }
    }

    /// All bytes.
    pub fn all_bytes(self) -> i64 {
        self.bytes + self.parts
    }

    fn usage(self) -> Usage {
        Usage {
            bytes: self.all_bytes().max(0).cast_unsigned(),
            objects: self.objects.max(0).cast_unsigned(),
        }
    }
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.parts += other.parts;
    }
}

impl std::ops::Add for Count {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl std::ops::Neg for Count {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            objects: -self.objects,
            bytes: -self.bytes,
            parts: -self.parts,
        }
    }
}

fn scope(of: &QuotaOf) -> String {
    match of {
        QuotaOf::Account(account) => format!("account:{account}"),
        QuotaOf::Bucket(bucket) => format!("bucket:{bucket}"),
    }
}

impl View<'_> {
    /// What was set for an account or a bucket.
    pub fn find_quota(self, of: &QuotaOf) -> Result<Option<Kept<Quota>>> {
        let sql = "SELECT record, segment, offset, length FROM quotas WHERE scope = ?1";
        let mut query = self.0.prepare_cached(sql)?;
        let found = query.query_row(params![scope(of)], record).optional()?;
        found.map(kept).transpose()
    }

    /// Everything that was set.
    pub fn quotas(self) -> Result<Vec<Quota>> {
        let sql = "SELECT record, segment, offset, length FROM quotas ORDER BY scope";
        let mut query = self.0.prepare_cached(sql)?;
        let rows = query.query_map([], record)?;
        rows.map(|row| Ok(kept::<Quota>(row?)?.thing)).collect()
    }

    fn count_of(self, bucket: &BucketName) -> Result<Count> {
        let sql = "SELECT objects, bytes, parts FROM totals WHERE bucket = ?1";
        let mut query = self.0.prepare_cached(sql)?;
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Count {
                objects: row.get(0)?,
                bytes: row.get(1)?,
                parts: row.get(2)?,
            })
        };
        let found = query.query_row(params![bucket.as_str()], read).optional()?;
        Ok(found.unwrap_or_default())
    }

    /// What a bucket holds.
    pub fn usage_of_bucket(self, bucket: &BucketName) -> Result<Usage> {
        Ok(self.count_of(bucket)?.usage())
    }

    /// What all buckets of an account hold.
    pub fn usage_of_account(self, account: &AccountId) -> Result<Usage> {
        let sql = "SELECT coalesce(sum(objects), 0), coalesce(sum(bytes + parts), 0) FROM totals \
                   WHERE bucket IN (SELECT name FROM buckets WHERE owner = ?1)";
        let mut query = self.0.prepare_cached(sql)?;
        Ok(query.query_row(params![account.as_str()], |row| {
            Ok(Usage {
                objects: row.get(0)?,
                bytes: row.get(1)?,
            })
        })?)
    }

    /// What the buckets of an account hold, by name.
    pub fn usage_of_buckets(self, owner: &AccountId, limit: u32) -> Result<Vec<(String, Usage)>> {
        let sql = "SELECT name, coalesce(objects, 0), coalesce(bytes + parts, 0) \
                   FROM buckets LEFT JOIN totals ON bucket = name WHERE owner = ?1 \
                   ORDER BY name LIMIT ?2";
        let mut query = self.0.prepare_cached(sql)?;
        let rows = query.query_map(params![owner.as_str(), limit], |row| {
            let usage = Usage {
                objects: row.get(1)?,
                bytes: row.get(2)?,
            };
            Ok((row.get(0)?, usage))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What each account holds that has buckets, and how many those are.
    pub fn usage_by_account(self) -> Result<Vec<(AccountId, Usage, u64)>> {
        let sql = "SELECT owner, coalesce(sum(objects), 0), coalesce(sum(bytes + parts), 0), count(*) \
                   FROM buckets LEFT JOIN totals ON bucket = name GROUP BY owner ORDER BY owner";
        let mut query = self.0.prepare_cached(sql)?;
        let mut rows = query.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let owner: String = row.get(0)?;
            let owner = owner
                .parse()
                .map_err(|_| Failure::Record("an owner is no account".to_owned()))?;
            let usage = Usage {
                objects: row.get(1)?,
                bytes: row.get(2)?,
            };
            found.push((owner, usage, row.get(3)?));
        }
        Ok(found)
    }

    /// Bytes of the parts that are there of an upload.
    pub fn bytes_of_parts(self, upload_id: &str) -> Result<u64> {
        let parts = self.list_parts(upload_id, 0, u32::MAX)?;
        Ok(parts.iter().map(|part| part.thing.piece.size).sum())
    }

    /// Counts everything again and holds it against the totals.
    pub fn check_totals(self) -> Result<()> {
        let mut counted: HashMap<String, Count> = HashMap::new();
        for table in ["objects", "versions"] {
            let sql = format!("SELECT record, segment, offset, length FROM {table}");
            self.each(&sql, &mut |row| {
                let object = kept::<Object>(record_at(row, 0)?)?.thing;
                let count = Count::of_object(&object);
                *counted
                    .entry(object.bucket.as_str().to_owned())
                    .or_default() += count;
                Ok(())
            })?;
        }
        let columns = "p.record, p.segment, p.offset, p.length, \
                       u.record, u.segment, u.offset, u.length";
        let sql = format!("SELECT {columns} FROM parts p JOIN uploads u ON u.id = p.upload");
        self.each(&sql, &mut |row| {
            let part = kept::<Part>(record_at(row, 0)?)?.thing;
            let upload = kept::<Upload>(record_at(row, 4)?)?.thing;
            let count = Count::of_parts(part.piece.size);
            *counted
                .entry(upload.bucket.as_str().to_owned())
                .or_default() += count;
            Ok(())
        })?;
        self.each(
            "SELECT bucket, objects, bytes, parts FROM totals",
            &mut |row| {
                let bucket: String = row.get(0)?;
                let kept = Count {
                    objects: row.get(1)?,
                    bytes: row.get(2)?,
                    parts: row.get(3)?,
                };
                let counted = counted.remove(&bucket).unwrap_or_default();
                same_count(&bucket, kept, counted)
            },
        )?;
        let mut left = counted.into_iter();
        left.try_for_each(|(bucket, counted)| same_count(&bucket, Count::default(), counted))
    }
}

fn same_count(bucket: &str, kept: Count, counted: Count) -> Result<()> {
    if kept == counted {
        return Ok(());
    }
    let what = format!("the totals of {bucket} are {kept:?}, and counted again {counted:?}");
    Err(Failure::Record(what))
}

impl IndexWriter {
    /// A bucket holds so much more, or less. Its owner's sum is kept up with, if it is known.
    pub(super) fn count(&mut self, bucket: &BucketName, count: Count) -> Result<()> {
        if count == Count::default() {
            return Ok(());
        }
        *self.totals.entry(bucket.clone()).or_default() += count;
        if self.accounts.is_empty() {
            return Ok(());
        }
        if let Some(owner) = self.view().find_bucket(bucket)?
            && let Some(usage) = self.accounts.get_mut(&owner.thing.owner)
        {
            usage.bytes = usage.bytes.saturating_add_signed(count.all_bytes());
            usage.objects = usage.objects.saturating_add_signed(count.objects);
        }
        Ok(())
    }

    /// The same by a part's upload. While that is not known its parts count for nothing.
    pub(super) fn count_part(&mut self, upload_id: &str, count: Count) -> Result<()> {
        match self.view().find_upload(upload_id)? {
            Some(upload) => self.count(&upload.thing.bucket, count),
            None => Ok(()),
        }
    }

    pub(super) fn add_total(&mut self, bucket: &BucketName, count: Count) -> Result<()> {
        self.run(
            "INSERT INTO totals VALUES (?1, ?2, ?3, ?4) ON CONFLICT (bucket) DO UPDATE \
             SET objects = objects + ?2, bytes = bytes + ?3, parts = parts + ?4",
            params![bucket.as_str(), count.objects, count.bytes, count.parts],
        )
    }

    /// What a bucket holds, with everything that is not committed yet.
    pub fn usage_of_bucket(&self, bucket: &BucketName) -> Result<Usage> {
        let pending = self.totals.get(bucket).copied().unwrap_or_default();
        Ok((self.view().count_of(bucket)? + pending).usage())
    }

    /// What all buckets of an account hold, with everything that is not committed yet.
    pub fn usage_of_account(&mut self, account: &AccountId) -> Result<Usage> {
        if let Some(usage) = self.accounts.get(account) {
            return Ok(*usage);
        }
        let mut usage = self.view().usage_of_account(account)?;
        for (bucket, count) in &self.totals {
            let found = self.view().find_bucket(bucket)?;
            if found.is_some_and(|kept| kept.thing.owner == *account) {
                usage.bytes = usage.bytes.saturating_add_signed(count.all_bytes());
                usage.objects = usage.objects.saturating_add_signed(count.objects);
            }
        }
        self.accounts.insert(account.clone(), usage);
        Ok(usage)
    }

    pub(super) fn set_quota(&mut self, quota: &Quota, at: Location) -> Result<()> {
        self.remove_quota(&quota.of)?;
        self.add_live(at, 1);
        self.run(
            "INSERT INTO quotas VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                scope(&quota.of),
                sealed(quota, at),
                at.segment,
                at.offset,
                at.length
            ],
        )
    }

    pub(super) fn remove_quota(&mut self, of: &QuotaOf) -> Result<()> {
        if let Some(Kept { at, .. }) = self.view().find_quota(of)? {
            self.add_live(at, -1);
            self.run("DELETE FROM quotas WHERE scope = ?1", params![scope(of)])?;
        }
        Ok(())
    }
}
