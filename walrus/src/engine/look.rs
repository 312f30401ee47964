//! Looking: at a snapshot of the index, and for an object that is then held until it is read. A reader
//! sees one version, whatever is written meanwhile.

use std::{
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use bytes::Bytes;
use s3::{BucketName, Key, VersionId};

use super::{
    Body, Bucket, Engine, Fact, Failure, Object, Result, View, frame, held, index::Kept, journal,
    pins::Pin, recover,
};

/// How often a reader looks again when an object is overwritten between look and open. Each time
/// it loses to another writer; a hundred times in a row is no race any more.
const LOOKS_MAX: usize = 100;
/// A look that took longer than this waited for the disk.
const GLANCE_SLOW: Duration = Duration::from_micros(500);
/// Looks after a slow one that are made away from the async threads: what was cold once is likely
/// to be followed by more of it.
const GLANCES_AWAY: u32 = 64;

/// Connections that read the index and wait for the next look: two mebibytes of pages each.
const READERS_KEPT: usize = 8;

/// An object that a reader found, with its files pinned.
#[derive(Debug)]
pub struct Found {
    /// The object.
    pub object: Object,
    inline: Option<Bytes>,
    _pin: Pin,
}

/// A bucket and what was looked for in it, from one snapshot.
#[derive(Debug)]
pub struct Look {
    /// The bucket.
    pub bucket: Bucket,
    /// What is there.
    pub sought: Sought,
}

/// What is found under a key.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is moved once and taken apart"
)]
pub enum Sought {
    /// An object.
    Object(Found),
    /// A delete marker.
    Marker(Object),
    /// Nothing.
    Nothing,
}

impl Found {
    /// The bytes, if they are inline.
    pub fn inline(&self) -> Option<&Bytes> {
        self.inline.as_ref()
    }
}

impl Engine {
    /// Looks at a snapshot of the index, away from the async threads.
    pub async fn view<T: Send + 'static>(
        &self,
        look: impl FnOnce(View<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.blocking(move |engine| engine.view_now(look)).await
    }

    /// Runs work that waits for the disk, away from the async threads.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let engine = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&engine)).await;
        done.map_err(|error| Failure::Stopped(error.to_string()))?
    }

    /// A look that takes microseconds while what it needs is in memory, made right here: another
    /// thread would cost more than the look. As soon as one was slow, because the disk had to be
    /// asked, the next ones are made away from the async threads.
    pub async fn glance<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let less = |left: u32| left.checked_sub(1);
        let away = &self.0.away;
        if away
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
        {
            return self.blocking(look).await;
        }
        let begun = Instant::now();
        let seen = look(self);
        if begun.elapsed() > GLANCE_SLOW {
            away.store(GLANCES_AWAY, Ordering::Relaxed);
        }
        seen
    }

    /// A bucket as it is now.
    pub async fn find_bucket(&self, name: BucketName) -> Result<Option<Bucket>> {
        let find = move |engine: &Self| engine.view_now(|view| view.find_bucket(&name));
        Ok(self.glance(find).await?.map(|kept| kept.thing))
    }

    pub(super) fn view_now<T>(&self, look: impl FnOnce(View<'_>) -> Result<T>) -> Result<T> {
        let reader = held(&self.0.readers).pop();
        let mut reader = reader.map_or_else(|| self.0.index.reader(), Ok)?;
        let seen = self.believed(reader.view(look));
        let mut readers = held(&self.0.readers);
        if readers.len() < READERS_KEPT {
            readers.push(reader);
        }
        seen
    }

    /// An index that cannot be believed stops the engine.
    fn believed<T>(&self, seen: Result<T>) -> Result<T> {
        seen.inspect_err(|error| {
            if error.is_of_index() && !self.0.stop.is_stopped() {
                self.0.stop.stop(error);
            }
        })
    }

    /// Checks the whole index by a connection of its own, which has none of its pages in memory.
    pub(super) fn check_index(&self) -> Result<u64> {
        let mut reader = self.0.index.reader()?;
        self.believed(reader.view(|view| view.check()))
    }

    /// Finds a bucket and an object in it, ready to be read: the newest version or a given one.
    pub async fn look(
        &self,
        bucket: BucketName,
        key: Key,
        version: Option<VersionId>,
    ) -> Result<Option<Look>> {
        self.glance(move |engine| engine.look_now(&bucket, &key, version.as_ref()))
            .await
    }

    fn look_now(
        &self,
        bucket: &BucketName,
        key: &Key,
        version: Option<&VersionId>,
    ) -> Result<Option<Look>> {
        for _ in 0..LOOKS_MAX {
            let seen = self.view_now(|view| {
                let Some(found) = view.find_bucket(bucket)? else {
                    view.confirm_no_bucket(bucket)?;
                    return Ok(None);
                };
                let object = match version {
                    None => view.find_newest_for_certain(bucket, key)?,
                    Some(version) => view.find_version(bucket, key, version)?,
                };
                Ok(Some((found.thing, object)))
            })?;
            let Some((bucket, object)) = seen else {
                return Ok(None);
            };
            let sought = match object {
                None => Sought::Nothing,
                Some(kept) if kept.thing.is_marker() => Sought::Marker(kept.thing),
                Some(kept) => match self.hold(kept)? {
                    Some(found) => Sought::Object(found),
                    None => continue,
                },
            };
            return Ok(Some(Look { bucket, sought }));
        }
        Err(s3::Code::SlowDown.into())
    }

    /// Pins an object's files and makes sure that they are there; `None` if it was overwritten.
    fn hold(&self, kept: Kept<Object>) -> Result<Option<Found>> {
        let pieces = kept.thing.body.pieces();
        let Some(pin) = self
            .0
            .pins
            .pin(pieces.iter().map(|p| p.blob.clone()).collect())
        else {
            return Ok(None);
        };
        if let Some(first) = pieces.first()
            && let there @ (None | Some(false)) = self.0.blobs.is_there(&first.blob)
        {
            // A fact that is true now, after its files were pinned, keeps them until they are read.
            let Object {
                bucket,
                key,
                version,
                ..
            } = &kept.thing;
            let now = self.view_now(|view| view.find_version(bucket, key, version))?;
            let is_true = now.as_ref() == Some(&kept);
            if is_true && there == Some(false) {
                let what = format!("{:?} of {} is lost", first.blob, kept.thing.key);
                return Err(Failure::Damaged(what));
            }
            if !is_true {
                return Ok(None);
            }
        }
        let inline = match kept.thing.body {
            Body::Pieces(_) | Body::Marker => None,
            Body::Inline => match journal::read_frame(&self.journal_folder(), kept.at) {
                Ok(frame) => Some(body_of(&kept.thing, frame)?),
                // Compaction may have moved it and removed the segment.
                Err(Failure::Io { .. }) => return Ok(None),
                Err(other) => return Err(other),
            },
        };
        Ok(Some(Found {
            object: kept.thing,
            inline,
            _pin: pin,
        }))
    }

    pub(super) fn journal_folder(&self) -> PathBuf {
        self.0.places.folder.join(recover::JOURNAL)
    }
}

/// The body that lies behind an object's own fact, and behind no other.
fn body_of(object: &Object, frame: frame::Frame) -> Result<Bytes> {
    let is_its = |fact: &Fact| matches!(fact, Fact::ObjectSet(set) if **set == *object);
    if frame.facts.iter().any(is_its) {
        Ok(frame.body)
    } else {
        Err(Failure::Record(format!("{} lies elsewhere", object.key)))
    }
}
