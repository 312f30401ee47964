//! Whether the index is what was written: SQLite's own check of its pages, then every record's
//! checksum, every key beside its record, and the totals counted again. What it finds is mended by making the index anew.

use rusqlite::Row;

use super::{View, kept, kept_at, record_at, versions::depth};
use crate::engine::failure::{Failure, Result};

impl View<'_> {
    /// Checks every page and every row: seconds for a million objects. Says how many rows there are.
    pub fn check(self) -> Result<u64> {
        self.check_pages("PRAGMA quick_check(1)")?;
        self.position()?;
        let mut rows = self.blobs()?.len() as u64;
        for table in ["buckets", "uploads", "parts", "quotas", "events"] {
            let sql = format!("SELECT record, segment, offset, length FROM {table}");
            rows += self.each(&sql, &mut |row| {
                kept::<serde::de::IgnoredAny>(record_at(row, 0)?).map(|_| ())
            })?;
        }
        for table in ["objects", "versions"] {
            let columns = "record, segment, offset, length, bucket, key, version, depth";
            rows += self.each(&format!("SELECT {columns} FROM {table}"), &mut check_object)?;
        }
        self.check_totals()?;
        Ok(rows)
    }

    /// Whether the list of files that facts name can be believed.
    pub fn check_blobs(self) -> Result<()> {
        self.check_pages("PRAGMA quick_check('blobs')")?;
        self.blobs().map(|_| ())
    }

    fn check_pages(self, sql: &str) -> Result<()> {
        let verdict: String = self.0.query_row(sql, [], |row| row.get(0))?;
        match verdict.as_str() {
            "ok" => Ok(()),
            _ => Err(Failure::Record(verdict)),
        }
    }

    pub(super) fn each(
        self,
        sql: &str,
        check: &mut dyn FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<u64> {
        let mut query = self.0.prepare(sql)?;
        let mut rows = query.query([])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            check(row)?;
            count += 1;
        }
        Ok(count)
    }
}

pub(super) fn check_object(row: &Row<'_>) -> Result<()> {
    let key: Vec<u8> = row.get(5)?;
    let object = kept_at(&key, record_at(row, 0)?)?.thing;
    let (bucket, version): (String, String) = (row.get(4)?, row.get(6)?);
    let right = object.bucket.as_str() == bucket
        && object.version.as_str() == version
        && depth(object.order) == row.get::<_, i64>(7)?;
    let wrong = || Failure::Record("an object lies where another should".to_owned());
    right.then_some(()).ok_or_else(wrong)
}
