//! Versions of objects in the index. The newest version of a key, unless it is a delete marker, lies
//! in one table, where reads and lists find it by one look; all others lie in another. Whatever is
//! taken out or put in, the two are settled again.

use rusqlite::{OptionalExtension, params};
use s3::{BucketName, Key, VersionId};

use super::{Kept, View, kept_at, quotas::Count, record, sealed};
use crate::engine::{
    facts::Object,
    failure::Result,
    index::{Displaced, IndexWriter},
    journal::Location,
};

/// How deep a version lies among those of its key: the newest least, so that the index has it first.
pub(super) fn depth(order: u64) -> i64 {
    -order.cast_signed()
}

/// One of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    /// The newest version of each key that has an object.
    Objects,
    /// All others.
    Versions,
}

impl View<'_> {
    /// The object that a request without a version id means.
    pub fn find_object(self, bucket: &BucketName, key: &Key) -> Result<Option<Kept<Object>>> {
        let mut query = self.0.prepare_cached(
            "SELECT record, segment, offset, length FROM objects WHERE bucket = ?1 AND key = ?2",
        )?;
        let key = key.as_str().as_bytes();
        let found = query.query_row(params![bucket.as_str(), key], record);
        found.optional()?.map(|row| kept_at(key, row)).transpose()
    }

    /// The newest of the versions that are not in the first table.
    pub(super) fn find_newest_of_others(
        self,
        bucket: &BucketName,
        key: &Key,
    ) -> Result<Option<Kept<Object>>> {
        let mut query = self.0.prepare_cached(
            "SELECT record, segment, offset, length FROM versions \
             WHERE bucket = ?1 AND key = ?2 ORDER BY depth LIMIT 1",
        )?;
        let key = key.as_str().as_bytes();
        let found = query.query_row(params![bucket.as_str(), key], record);
        found.optional()?.map(|row| kept_at(key, row)).transpose()
    }

    /// The newest version, perhaps a delete marker.
    pub fn find_newest(self, bucket: &BucketName, key: &Key) -> Result<Option<Kept<Object>>> {
        match self.find_object(bucket, key)? {
            Some(object) => Ok(Some(object)),
            None => self.find_newest_of_others(bucket, key),
        }
    }

    /// One version, perhaps a delete marker.
    pub fn find_version(
        self,
        bucket: &BucketName,
        key: &Key,
        version: &VersionId,
    ) -> Result<Option<Kept<Object>>> {
        Ok(self.locate(bucket, key, version)?.map(|(_, kept)| kept))
    }

    fn locate(
        self,
        bucket: &BucketName,
        key: &Key,
        version: &VersionId,
    ) -> Result<Option<(Table, Kept<Object>)>> {
        let current = self.find_object(bucket, key)?;
        if let Some(current) = current.filter(|kept| kept.thing.version == *version) {
            return Ok(Some((Table::Objects, current)));
        }
        let mut query = self.0.prepare_cached(
            "SELECT record, segment, offset, length FROM versions \
             WHERE bucket = ?1 AND key = ?2 AND version = ?3",
        )?;
        let key = key.as_str().as_bytes();
        let found = query.query_row(params![bucket.as_str(), key, version.as_str()], record);
        let found = found.optional()?.map(|row| kept_at(key, row)).transpose()?;
        Ok(found.map(|kept| (Table::Versions, kept)))
    }
}

impl IndexWriter {
    /// A version is so.
    pub(super) fn set_version(
        &mut self,
        object: &Object,
        at: Location,
        displaced: &mut Displaced,
    ) -> Result<()> {
        let (bucket, key) = (&object.bucket, &object.key);
        self.take_out(bucket, key, &object.version, displaced)?;
        self.count_version(object, at, 1)?;

        let newest = self.view().find_newest(bucket, key)?;
        let is_newest = newest.is_none_or(|newest| newest.thing.order <= object.order);
        if !is_newest || object.is_marker() {
            self.insert(Table::Versions, object, at)?;
        }
        if is_newest {
            self.demote(bucket, key)?;
            if !object.is_marker() {
                self.insert(Table::Objects, object, at)?;
            }
        }
        Ok(())
    }

    /// A version is no more: the next one takes its place, unless that is a delete marker.
    pub(super) fn remove_version(
        &mut self,
        bucket: &BucketName,
        key: &Key,
        version: &VersionId,
        displaced: &mut Displaced,
    ) -> Result<()> {
        self.take_out(bucket, key, version, displaced)?;
        if self.view().find_object(bucket, key)?.is_some() {
            return Ok(());
        }
        let next = self.view().find_newest_of_others(bucket, key)?;
        if let Some(next) = next.filter(|next| !next.thing.is_marker()) {
            self.delete(Table::Versions, &next.thing)?;
            self.insert(Table::Objects, &next.thing, next.at)?;
        }
        Ok(())
    }

    fn take_out(
        &mut self,
        bucket: &BucketName,
        key: &Key,
        version: &VersionId,
        displaced: &mut Displaced,
    ) -> Result<()> {
        let Some((table, old)) = self.view().locate(bucket, key, version)? else {
            return Ok(());
        };
        let pieces = old.thing.body.pieces();
        displaced.extend(pieces.iter().map(|piece| piece.blob.clone()));
        self.count_version(&old.thing, old.at, -1)?;
        self.delete(table, &old.thing)
    }

    /// What was the newest is one of the others.
    fn demote(&mut self, bucket: &BucketName, key: &Key) -> Result<()> {
        let key = key.as_str().as_bytes();
        self.run(
            "INSERT INTO versions SELECT bucket, key, depth, version, record, segment, offset, length \
             FROM objects WHERE bucket = ?1 AND key = ?2",
            params![bucket.as_str(), key],
        )?;
        self.run(
            "DELETE FROM objects WHERE bucket = ?1 AND key = ?2",
            params![bucket.as_str(), key],
        )
    }

    fn insert(&self, table: Table, object: &Object, at: Location) -> Result<()> {
        let sql = match table {
            Table::Objects => "INSERT INTO objects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            Table::Versions => "INSERT INTO versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        };
        self.run(
            sql,
            params![
                object.bucket.as_str(),
                object.key.as_str().as_bytes(),
                depth(object.order),
                object.version.as_str(),
                sealed(object, at),
                at.segment,
                at.offset,
                at.length
            ],
        )
    }

    fn delete(&self, table: Table, object: &Object) -> Result<()> {
        let sql = match table {
            Table::Objects => "DELETE FROM objects WHERE bucket = ?1 AND key = ?2 AND version = ?3",
            Table::Versions => {
                "DELETE FROM versions WHERE bucket = ?1 AND key = ?2 AND version = ?3"
            }
        };
        let (bucket, key) = (object.bucket.as_str(), object.key.as_str().as_bytes());
        self.run(sql, params![bucket, key, object.version.as_str()])
    }

    /// Markers take room in the journal and are no objects.
    fn count_version(&mut self, object: &Object, at: Location, sign: i64) -> Result<()> {
        self.add_live(at, sign);
        let count = Count::of_object(object);
        self.count(&object.bucket, if sign < 0 { -count } else { count })
    }
}
