//! The index: where everything is, in SQLite. It is made from the journal and holds nothing else;
//! an index of another schema, a damaged one or a lost one is made anew.
//!
//! One connection writes (the committer's), many read, each in a snapshot. Commits are not synced:
//! the index says up to which place of the journal it knows, and recovery replays what follows.

mod absent;
mod check;
mod events;
mod list;
mod list_versions;
mod quotas;
mod versions;
mod write;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use s3::{BucketName, documents::bucket::BucketLine};
use types::AccountId;

use super::{
    blobs::BlobId,
    facts::{Bucket, Object, Part, Upload},
    failure::{During, Failure, Result},
    journal::Location,
};
use crate::crc32c;

pub use events::Waiting;
pub use quotas::Count;
pub use write::{Displaced, IndexWriter};

/// Raised with every change of the tables: an index of another number is made anew.
const SCHEMA: i64 = 6;
const TABLES: &str = include_str!("index/tables.sql");
/// Pages that each connection keeps: the upper levels of a tree of millions. The kernel has the rest;
/// mapped, those pages would count as ours once for each connection.
const CACHE_KIB: i64 = 2 << 10;
/// The one that writes touches pages all over the tree before it commits.
const WRITER_CACHE_KIB: i64 = 16 << 10;
/// Statements kept prepared by each connection: all that we have.
const STATEMENTS: usize = 96;

/// Something together with where its fact lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept<T> {
    /// The thing.
    pub thing: T,
    /// Its fact's frame.
    pub at: Location,
}

/// What there is in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Buckets.
    pub buckets: u64,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One snapshot of the index.
#[derive(Debug, Clone, Copy)]
pub struct View<'a>(&'a Connection);

/// A record as it stands in a row: a checksum over it and over the place that stands beside it,
/// then the thing in JSON. SQLite checks nothing, and a flipped bit would be somebody's metadata.
fn sealed(thing: &impl serde::Serialize, at: Location) -> String {
    let json = serde_json::to_string(thing).expect("records hold nothing that JSON cannot say");
    format!("{:08x}{json}", seal(&json, at))
}

fn seal(json: &str, at: Location) -> u32 {
    let mut digest = crc32c::digest();
    digest.update(json.as_bytes());
    for number in [at.segment, at.offset, at.length] {
        digest.update(&number.to_le_bytes());
    }
    crc32c::value(&digest)
}

fn position_seal((segment, offset): (u64, u64)) -> u32 {
    let length = 0;
    seal(
        "position",
        Location {
            segment,
            offset,
            length,
        },
    )
}

fn blob_seal(id: &str) -> u32 {
    seal(id, Location::default())
}

/// Opens what [`sealed`] made.
fn kept<T: serde::de::DeserializeOwned>((text, at): (String, Location)) -> Result<Kept<T>> {
    let (sum, json) = text.split_at_checked(8).unwrap_or_default();
    if u32::from_str_radix(sum, 16) != Ok(seal(json, at)) {
        return Err(Failure::Record("its checksum is wrong".to_owned()));
    }
    let thing = serde_json::from_str(json).map_err(|error| Failure::Record(error.to_string()))?;
    Ok(Kept { thing, at })
}

/// An object that was found by its key.
fn kept_at(key: &[u8], row: (String, Location)) -> Result<Kept<Object>> {
    let found = kept::<Object>(row)?;
    match found.thing.key.as_str().as_bytes() == key {
        true => Ok(found),
        false => Err(Failure::Record(
            "an object lies under another key".to_owned(),
        )),
    }
}

/// Columns `record, segment, offset, length`, from that one on.
fn record_at(row: &Row<'_>, first: usize) -> rusqlite::Result<(String, Location)> {
    let at = Location {
        segment: row.get(first + 1)?,
        offset: row.get(first + 2)?,
        length: row.get(first + 3)?,
    };
    Ok((row.get(first)?, at))
}

fn record(row: &Row<'_>) -> rusqlite::Result<(String, Location)> {
    record_at(row, 0)
}

impl View<'_> {
    /// A bucket.
    pub fn find_bucket(self, name: &BucketName) -> Result<Option<Kept<Bucket>>> {
        let mut query = self.0.prepare_cached(
            "SELECT record, segment, offset, length FROM buckets WHERE name = ?1",
        )?;
        query
            .query_row(params![name.as_str()], record)
            .optional()?
            .map(kept)
            .transpose()
    }

    /// The buckets of which something is so.
    pub fn buckets_where(self, is_so: impl Fn(&Bucket) -> bool) -> Result<Vec<Bucket>> {
        let mut query = self
            .0
            .prepare_cached("SELECT record, segment, offset, length FROM buckets ORDER BY name")?;
        let rows = query.query_map([], record)?;
        let mut found = Vec::new();
        for row in rows {
            let bucket = kept::<Bucket>(row?)?.thing;
            if is_so(&bucket) {
                found.push(bucket);
            }
        }
        Ok(found)
    }

    /// The buckets of an account by name, after a name, with a prefix.
    pub fn list_buckets(
        self,
        owner: &AccountId,
        after: &str,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<BucketLine>> {
        let mut query = self.0.prepare_cached(
            "SELECT record, segment, offset, length FROM buckets \
             WHERE owner = ?1 AND name > ?2 AND substr(name, 1, length(?3)) = ?3 \
             ORDER BY name LIMIT ?4",
        )?;
        let rows = query.query_map(params![owner.as_str(), after, prefix, limit], record)?;
        let line = |row: rusqlite::Result<_>| {
            let bucket = kept::<Bucket>(row?)?.thing;
            Ok(BucketLine {
                name: bucket.name.as_str().to_owned(),
                created: bucket.created,
            })
        };
        rows.map(line).collect()
    }

    /// How many buckets an account has.
    pub fn count_buckets(self, owner: &AccountId) -> Result<u64> {
        let mut query = self
            .0
            .prepare_cached("SELECT count(*) FROM buckets WHERE owner = ?1")?;
        Ok(query.query_row(params![owner.as_str()], |row| row.get(0))?)
    }

    /// Whether there is any bucket.
    pub fn has_buckets(self) -> Result<bool> {
        let mut query = self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM buckets)")?;
        Ok(query.query_row([], |row| row.get(0))?)
    }

    /// Whether a bucket has any version of any object, delete markers included.
    pub fn has_objects(self, bucket: &BucketName) -> Result<bool> {
        let mut query = self.0.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM objects WHERE bucket = ?1) \
                 OR EXISTS (SELECT 1 FROM versions WHERE bucket = ?1)",
        )?;
        Ok(query.query_row(params![bucket.as_str()], |row| row.get(0))?)
    }

    /// An upload that is under way.
    pub fn find_upload(self, upload_id: &str) -> Result<Option<Kept<Upload>>> {
        let mut query = self
            .0
            .prepare_cached("SELECT record, segment, offset, length FROM uploads WHERE id = ?1")?;
        query
            .query_row(params![upload_id], record)
            .optional()?
            .map(kept)
            .transpose()
    }

    /// The uploads of a bucket that are under way.
    pub fn upload_ids(self, bucket: &BucketName) -> Result<Vec<String>> {
        let mut query = self
            .0
            .prepare_cached("SELECT id FROM uploads WHERE bucket = ?1")?;
        let rows = query.query_map(params![bucket.as_str()], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The parts of an upload after a number.
    pub fn list_parts(self, upload_id: &str, after: u32, limit: u32) -> Result<Vec<Kept<Part>>> {
        let mut query = self.0.prepare_cached(
            "SELECT record, segment, offset, length FROM parts \
             WHERE upload = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
        )?;
        let rows = query.query_map(params![upload_id, after, limit], record)?;
        rows.map(|row| kept(row?)).collect()
    }

    /// One part of an upload.
    pub fn find_part(self, upload_id: &str, number: u32) -> Result<Option<Kept<Part>>> {
        let first = self
            .list_parts(upload_id, number.saturating_sub(1), 1)?
            .pop();
        Ok(first.filter(|part| part.thing.number == number))
    }

    /// Whether any fact names a file.
    pub fn has_blob(self, blob: &BlobId) -> Result<bool> {
        let mut query = self
            .0
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM blobs WHERE id = ?1)")?;
        Ok(query.query_row(params![blob.as_str()], |row| row.get(0))?)
    }

    /// Every file that a fact names.
    pub fn blobs(self) -> Result<Vec<BlobId>> {
        self.blobs_after("", u32::MAX)
    }

    /// Files that facts name, by name, after one.
    pub fn blobs_after(self, after: &str, limit: u32) -> Result<Vec<BlobId>> {
        let sql = "SELECT id, sum FROM blobs WHERE id > ?1 ORDER BY id LIMIT ?2";
        let mut query = self.0.prepare_cached(sql)?;
        let mut rows = query.query(params![after, limit])?;
        let mut names = Vec::new();
        while let Some(row) = rows.next()? {
            let (name, sum): (String, u32) = (row.get(0)?, row.get(1)?);
            let name = BlobId::parse(&name).filter(|name| blob_seal(name.as_str()) == sum);
            names.push(
                name.ok_or_else(|| Failure::Record("the name of a file is wrong".to_owned()))?,
            );
        }
        Ok(names)
    }

    /// What there is in all.
    pub fn totals(self) -> Result<Totals> {
        let buckets = self
            .0
            .query_row("SELECT count(*) FROM buckets", [], |row| row.get(0))?;
        let sums = "SELECT coalesce(sum(objects), 0), coalesce(sum(bytes), 0) FROM totals";
        let (objects, bytes) = self
            .0
            .query_row(sums, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Totals {
            buckets,
            objects,
            bytes,
        })
    }

    /// Bytes of a segment that are still true.
    pub fn live_bytes(self) -> Result<Vec<(u64, u64)>> {
        let mut query = self
            .0
            .prepare_cached("SELECT number, live FROM segments ORDER BY number")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Places of the journal that could not be read when they were to be applied.
    pub fn holes(self) -> Result<Vec<(u64, u64)>> {
        let mut query = self.0.prepare("SELECT segment, offset FROM holes")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Up to where the journal is known.
    pub fn position(self) -> Result<Option<(u64, u64)>> {
        let query = "SELECT segment, offset, sum FROM position";
        let read = |row: &Row<'_>| Ok(((row.get(0)?, row.get(1)?), row.get(2)?));
        let found: Option<((u64, u64), u32)> = self.0.query_row(query, [], read).optional()?;
        match found {
            Some((position, sum)) if sum != position_seal(position) => Err(Failure::Record(
                "its place in the journal is wrong".to_owned(),
            )),
            found => Ok(found.map(|(position, _)| position)),
        }
    }
}

/// Where the index is.
#[derive(Debug, Clone)]
pub struct IndexFile(PathBuf);

impl IndexFile {
    /// The index in a folder.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// A connection that reads.
    pub fn reader(&self) -> Result<IndexReader> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0, flags)?;
        connection.pragma_update(None, "query_only", true)?;
        prepared(&connection)?;
        Ok(IndexReader(connection))
    }

    /// Opens the index for writing; one that can't be used is removed and made anew, empty.
    pub fn writer(&self) -> Result<IndexWriter> {
        match self.open() {
            Ok(writer) => Ok(writer),
            Err(error) => {
                tracing::warn!(%error, path = %self.0.display(), "the index is made anew");
                self.remove()?;
                self.open()
            }
        }
    }

    fn open(&self) -> Result<IndexWriter> {
        let connection = Connection::open(&self.0)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        prepared(&connection)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;

        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        match (version, tables) {
            (SCHEMA, _) => {}
            (_, 0) => {
                connection.execute_batch(TABLES)?;
                connection.pragma_update(None, "user_version", SCHEMA)?;
            }
            (other, _) => {
                let what = format!("the index has schema {other}, this version has {SCHEMA}");
                return Err(Failure::Damaged(what));
            }
        }
        Ok(IndexWriter::new(connection))
    }

    /// Takes the place of another index; neither is open.
    pub fn replace(&self, other: &Self) -> Result<()> {
        other.remove()?;
        std::fs::rename(&self.0, &other.0).during("rename", &self.0)?;
        self.remove()
    }

    /// Removes the index.
    pub fn remove(&self) -> Result<()> {
        for end in ["", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(end);
            match std::fs::remove_file(Path::new(&path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let what = format!("remove {}", Path::new(&path).display());
                    return Err(Failure::Io {
                        what,
                        source: error,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn prepared(connection: &Connection) -> Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(())
}

/// A connection that reads.
#[derive(Debug)]
pub struct IndexReader(Connection);

impl IndexReader {
    /// Looks at one snapshot.
    pub fn view<T>(&mut self, look: impl FnOnce(View<'_>) -> Result<T>) -> Result<T> {
        let snapshot = self.0.transaction()?;
        look(View(&snapshot))
    }
}
