//! Writing the index: facts in, rows changed, and what they displaced out. Applying a fact twice is
//! the same as once, so that a replay may begin too early.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, params};
use s3::BucketName;
use types::{AccountId, quota::Usage};

use super::{Kept, View, blob_seal, position_seal, quotas::Count, sealed};
use crate::engine::{
    blobs::BlobId,
    facts::{Bucket, Fact, Part, Upload},
    failure::Result,
    journal::Location,
};

/// Files that no fact names any more.
pub type Displaced = BTreeSet<BlobId>;

/// The connection that writes. What it does between [`IndexWriter::begin`] and
/// [`IndexWriter::commit`] is seen by nobody else.
#[derive(Debug)]
pub struct IndexWriter {
    connection: Connection,
    live: BTreeMap<u64, i64>,
    /// What changed of the totals since [`IndexWriter::begin`].
    pub(super) totals: HashMap<BucketName, Count>,
    /// What accounts hold, as far as somebody asked. A rollback forgets it.
    pub(super) accounts: HashMap<AccountId, Usage>,
    /// How many events wait for destinations, as far as somebody asked. A rollback forgets it.
    pub(super) events: HashMap<String, u64>,
    /// The id of the last event, as far as somebody asked.
    pub(super) last_event: Option<u64>,
}

impl IndexWriter {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            live: BTreeMap::new(),
            totals: HashMap::new(),
            accounts: HashMap::new(),
            events: HashMap::new(),
            last_event: None,
        }
    }

    /// Everything, including what is not committed yet.
    pub fn view(&self) -> View<'_> {
        View(&self.connection)
    }

    /// Opens a transaction.
    pub fn begin(&mut self) -> Result<()> {
        (self.live, self.totals) = Default::default();
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Forgets everything since [`IndexWriter::begin`].
    pub fn roll_back(&mut self) -> Result<()> {
        if !self.totals.is_empty() {
            self.accounts.clear();
        }
        self.events.clear();
        Ok(self.connection.execute_batch("ROLLBACK")?)
    }

    /// Makes everything since [`IndexWriter::begin`] seen, as known up to a place of the journal.
    pub fn commit(&mut self, position: (u64, u64)) -> Result<()> {
        for (segment, change) in std::mem::take(&mut self.live) {
            self.run(
                "INSERT INTO segments VALUES (?1, ?2) \
                 ON CONFLICT (number) DO UPDATE SET live = live + ?2",
                params![segment, change],
            )?;
        }
        for (bucket, count) in std::mem::take(&mut self.totals) {
            self.add_total(&bucket, count)?;
        }
        self.run(
            "INSERT INTO position VALUES (1, ?1, ?2, ?3) \
             ON CONFLICT (one) DO UPDATE SET segment = ?1, offset = ?2, sum = ?3",
            params![position.0, position.1, position_seal(position)],
        )?;
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    /// A segment is deleted.
    pub fn forget_segment(&mut self, number: u64) -> Result<()> {
        self.run("DELETE FROM segments WHERE number = ?1", params![number])
    }

    /// Nothing is known of what stood there in the journal.
    pub fn add_hole(&self, segment: u64, offset: u64) -> Result<()> {
        let sql = "INSERT OR IGNORE INTO holes VALUES (?1, ?2)";
        self.run(sql, params![segment, offset])
    }

    pub(super) fn run(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute(params)?;
        Ok(())
    }

    /// Applies the facts of one frame.
    pub fn apply(&mut self, facts: &[Fact], at: Location) -> Result<Displaced> {
        let (mut named, mut displaced) = (Displaced::new(), Displaced::new());
        for fact in facts {
            self.apply_one(fact, at, &mut named, &mut displaced)?;
        }

        displaced.retain(|blob| !named.contains(blob));
        for blob in &named {
            self.run(
                "INSERT OR IGNORE INTO blobs VALUES (?1, ?2)",
                params![blob.as_str(), blob_seal(blob.as_str())],
            )?;
        }
        for blob in &displaced {
            self.run("DELETE FROM blobs WHERE id = ?1", params![blob.as_str()])?;
        }
        Ok(displaced)
    }

    fn apply_one(
        &mut self,
        fact: &Fact,
        at: Location,
        named: &mut Displaced,
        displaced: &mut Displaced,
    ) -> Result<()> {
        match fact {
            Fact::BucketSet(bucket) => self.set_bucket(bucket, at),
            Fact::BucketGone(name) => self.remove_bucket(name),
            Fact::ObjectSet(object) => {
                named.extend(object.body.pieces().iter().map(|piece| piece.blob.clone()));
                self.set_version(object, at, displaced)
            }
            Fact::ObjectGone {
                bucket,
                key,
                version,
            } => self.remove_version(bucket, key, version, displaced),
            Fact::UploadSet(upload) => self.set_upload(upload, at),
            Fact::UploadGone { upload_id } => self.remove_upload(upload_id, displaced),
            Fact::PartSet(part) => {
                named.insert(part.piece.blob.clone());
                self.remove_part(&part.upload_id, part.number, displaced)?;
                self.set_part(part, at)
            }
            Fact::QuotaSet(quota) => self.set_quota(quota, at),
            Fact::QuotaGone(of) => self.remove_quota(of),
            Fact::EventSet(event) => self.set_event(event, at),
            Fact::EventsGone { to, ids } => {
                ids.iter().try_for_each(|id| self.remove_event(to, *id))
            }
        }
    }

    pub(super) fn add_live(&mut self, at: Location, sign: i64) {
        *self.live.entry(at.segment).or_default() += sign * at.length.cast_signed();
    }

    fn set_bucket(&mut self, bucket: &Bucket, at: Location) -> Result<()> {
        self.remove_bucket(&bucket.name)?;
        self.add_live(at, 1);
        self.run(
            "INSERT INTO buckets VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                bucket.name.as_str(),
                bucket.owner.as_str(),
                bucket.created.as_millis(),
                sealed(bucket, at),
                at.segment,
                at.offset,
                at.length
            ],
        )
    }

    fn remove_bucket(&mut self, name: &BucketName) -> Result<()> {
        if let Some(Kept { at, .. }) = self.view().find_bucket(name)? {
            self.add_live(at, -1);
            self.run(
                "DELETE FROM buckets WHERE name = ?1",
                params![name.as_str()],
            )?;
        }
        Ok(())
    }

    fn set_upload(&mut self, upload: &Upload, at: Location) -> Result<()> {
        if let Some(Kept { at, .. }) = self.view().find_upload(&upload.id)? {
            self.add_live(at, -1);
            self.run("DELETE FROM uploads WHERE id = ?1", params![upload.id])?;
        } else {
            // In a journal that was compacted parts may come before their upload.
            let bytes = self.view().bytes_of_parts(&upload.id)?;
            self.count(&upload.bucket, Count::of_parts(bytes))?;
        }
        self.add_live(at, 1);
        self.run(
            "INSERT INTO uploads VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                upload.id,
                upload.bucket.as_str(),
                upload.key.as_str().as_bytes(),
                sealed(upload, at),
                at.segment,
                at.offset,
                at.length
            ],
        )
    }

    fn remove_upload(&mut self, upload_id: &str, displaced: &mut Displaced) -> Result<()> {
        let parts = self.view().list_parts(upload_id, 0, u32::MAX)?;
        for Kept { thing, at } in &parts {
            displaced.insert(thing.piece.blob.clone());
            self.add_live(*at, -1);
        }
        self.run("DELETE FROM parts WHERE upload = ?1", params![upload_id])?;
        if let Some(Kept { at, thing: upload }) = self.view().find_upload(upload_id)? {
            self.add_live(at, -1);
            let bytes: u64 = parts.iter().map(|part| part.thing.piece.size).sum();
            self.count(&upload.bucket, -Count::of_parts(bytes))?;
        }
        self.run("DELETE FROM uploads WHERE id = ?1", params![upload_id])
    }

    fn set_part(&mut self, part: &Part, at: Location) -> Result<()> {
        self.add_live(at, 1);
        self.count_part(&part.upload_id, Count::of_parts(part.piece.size))?;
        self.run(
            "INSERT INTO parts VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                part.upload_id,
                part.number,
                sealed(part, at),
                at.segment,
                at.offset,
                at.length
            ],
        )
    }

    fn remove_part(&mut self, upload: &str, number: u32, displaced: &mut Displaced) -> Result<()> {
        if let Some(Kept { thing, at }) = self.view().find_part(upload, number)? {
            self.count_part(upload, -Count::of_parts(thing.piece.size))?;
            displaced.insert(thing.piece.blob);
            self.add_live(at, -1);
            let sql = "DELETE FROM parts WHERE upload = ?1 AND number = ?2";
            self.run(sql, params![upload, number])?;
        }
        Ok(())
    }

    /// Whether a fact that lies there is still the true one about its thing.
    pub fn is_live(&self, fact: &Fact, at: Location) -> Result<bool> {
        let view = self.view();
        let place = match fact {
            Fact::BucketSet(bucket) => view.find_bucket(&bucket.name)?.map(|kept| kept.at),
            Fact::ObjectSet(object) => view
                .find_version(&object.bucket, &object.key, &object.version)?
                .map(|kept| kept.at),
            Fact::UploadSet(upload) => view.find_upload(&upload.id)?.map(|kept| kept.at),
            Fact::PartSet(part) => view
                .find_part(&part.upload_id, part.number)?
                .map(|kept| kept.at),
            Fact::QuotaSet(quota) => view.find_quota(&quota.of)?.map(|kept| kept.at),
            Fact::EventSet(event) => view.find_event(&event.to, event.id)?.map(|kept| kept.at),
            Fact::BucketGone(_)
            | Fact::ObjectGone { .. }
            | Fact::UploadGone { .. }
            | Fact::QuotaGone(_)
            | Fact::EventsGone { .. } => None,
        };
        Ok(place == Some(at))
    }
}
