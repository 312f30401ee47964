//! That something is not there. A record has a checksum; a key has none but that of the record beside
//! it. A flipped bit in a key sends every search for it past its row, and that row then lies beside the
//! place where the search ended. So before a client is told that there is nothing, the rows on both
//! sides of that place are looked at: one that is not what was written is found here, and not only
//! by the next scrub.
//!
//! What it does not find is a flipped bit in what SQLite itself keeps in a page, between the rows.

use rusqlite::{Params, params};
use s3::{BucketName, Key};

use super::{Kept, View, check::check_object, kept, record_at};
use crate::engine::{
    facts::{Bucket, Object},
    failure::{Failure, Result},
};

const OBJECT: &str =
    "SELECT record, segment, offset, length, bucket, key, version, depth FROM objects";
const BUCKET: &str = "SELECT record, segment, offset, length, name FROM buckets";

impl View<'_> {
    /// The newest version, perhaps a delete marker; none only if there is none for certain.
    pub fn find_newest_for_certain(
        self,
        bucket: &BucketName,
        key: &Key,
    ) -> Result<Option<Kept<Object>>> {
        if let Some(object) = self.find_object(bucket, key)? {
            return Ok(Some(object));
        }
        let place = params![bucket.as_str(), key.as_str().as_bytes()];
        for side in [
            "WHERE (bucket, key) < (?1, ?2) ORDER BY bucket DESC, key DESC LIMIT 1",
            "WHERE (bucket, key) > (?1, ?2) ORDER BY bucket, key LIMIT 1",
        ] {
            self.check_row(&format!("{OBJECT} {side}"), place, check_object)?;
        }
        self.find_newest_of_others(bucket, key)
    }

    /// A bucket is not there, for certain.
    pub fn confirm_no_bucket(self, name: &BucketName) -> Result<()> {
        for side in [
            "WHERE name < ?1 ORDER BY name DESC LIMIT 1",
            "WHERE name > ?1 ORDER BY name LIMIT 1",
        ] {
            let place = params![name.as_str()];
            self.check_row(&format!("{BUCKET} {side}"), place, check_bucket)?;
        }
        Ok(())
    }

    fn check_row(
        self,
        sql: &str,
        place: impl Params,
        check: fn(&rusqlite::Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut query = self.0.prepare_cached(sql)?;
        let mut rows = query.query(place)?;
        rows.next()?.map_or(Ok(()), check)
    }
}

fn check_bucket(row: &rusqlite::Row<'_>) -> Result<()> {
    let bucket = kept::<Bucket>(record_at(row, 0)?)?.thing;
    let name: String = row.get(4)?;
    let wrong = || Failure::Record("a bucket lies where another should".to_owned());
    (bucket.name.as_str() == name)
        .then_some(())
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
