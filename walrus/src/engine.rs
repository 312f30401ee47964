//! The storage engine: buckets, objects and uploads, kept so that a change that was answered is on
//! disk, a reader sees one version, and whatever is found after a crash is whole.
//!
//! | module | holds |
//! |---|---|
//! | [`events`] | what a change tells, queued by the same frame |
//! | [`facts`] | what is kept, as it stands in the journal |
//! | [`frame`], [`journal`] | checksummed frames in append-only segments; the scan that reads them |
//! | [`blobs`] | bodies too large for the journal, in immutable files, here or in another store |
//! | [`index`] | where everything is, in SQLite, made from the journal |
//! | [`change`], [`assemble`] | what a request wants, decided inside the commit |
//! | `committer` | the one writer: groups, one sync each, then the answers |
//! | `compact` | sealed segments are thinned out, oldest first |
//! | [`pins`] | files live as long as their readers |
//! | [`fsck`] | the same scan, for an administrator |
//! | [`given_up`] | damage that no longer keeps anything from being deleted |
//! | [`quota`] | how much accounts and buckets may hold |
//! | [`scrub`] | everything read again in the background |
//! | `sweep` | what crashes left in another store |
//!
//! Order is everything here. A body is on disk before the fact that names it; the fact is on disk
//! before the index shows it; the index shows it before the client is told; an old body is deleted
//! after the fact that replaced it is on disk.

pub mod assemble;
pub mod blobs;
pub mod change;
mod committer;
mod compact;
pub mod events;
pub mod facts;
pub mod failure;
pub mod frame;
pub mod fsck;
pub mod given_up;
pub mod index;
pub mod journal;
pub mod pins;
pub mod quota;
mod recover;
pub mod scrub;
mod sweep;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use s3::{BucketName, Key, VersionId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{intake, lanes::Lanes, outflow};

pub use change::{Change, Done};
pub use committer::Events;
pub use facts::{Body, Bucket, Fact, Object};
use failure::During as _;
pub use failure::{Failure, Result};
pub use index::{Totals, View};

use blobs::{BlobPlace, BlobReader, BlobSink, BlobStore, NewBlob};
use committer::{Commit, Committer, Stop};
use events::Cause;
use index::{IndexFile, IndexReader, Kept};
use pins::{Pin, Pins};

/// Connections that read the index and wait for the next look.
const READERS_KEPT: usize = 16;
/// How often a reader looks again when an object is overwritten between look and open. Each time
/// it loses to another writer; a hundred times in a row is no race any more.
const LOOKS_MAX: usize = 100;
/// A look that took longer than this waited for the disk.
const GLANCE_SLOW: Duration = Duration::from_micros(500);
/// Who changes what nobody asked to be changed.
const OWN: &str = "mallee-walrus";
/// Below this the commit alone looks at quotas: a smaller body is soon read.
const FORESEEN_BYTES_MIN: u64 = 256 << 10;
/// Looks after a slow one that are made away from the async threads: what was cold once is likely
/// to be followed by more of it.
const GLANCES_AWAY: u32 = 64;

/// Where an engine keeps what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Journal and index: a local file system.
    pub folder: PathBuf,
    /// Large bodies: any file system, or another store.
    pub blobs: BlobPlace,
}

impl Places {
    /// All in one folder.
    pub fn below(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            blobs: BlobPlace::Folder(folder.join("blobs")),
        }
    }
}

/// Sizes that tests make smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Bodies up to this size lie in the journal, where they cost no sync of their own.
    pub inline_bytes_max: usize,
    /// A segment is sealed when it has reached this size.
    pub segment_bytes: u64,
    /// Room that is left on the disk for deletes and the index; writes are refused below it.
    pub reserve_bytes: u64,
    /// Quotas of those for whom none were set.
    pub quotas: quota::Defaults,
    /// Events that may wait for one destination.
    pub events_max: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            inline_bytes_max: 16 << 10,
            segment_bytes: 64 << 20,
            reserve_bytes: 256 << 20,
            quotas: quota::Defaults::OPEN,
            events_max: events::QUEUED_MAX,
        }
    }
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    places: Places,
    tuning: Tuning,
    blobs: BlobStore,
    /// The journal was found damaged: nothing is deleted until somebody has looked.
    damaged: bool,
    pins: Pins,
    index: IndexFile,
    readers: Mutex<Vec<IndexReader>>,
    commits: Mutex<Option<mpsc::Sender<Commit>>>,
    committer: Mutex<Option<std::thread::JoinHandle<()>>>,
    stop: Stop,
    groups: watch::Receiver<(u64, u64)>,
    events: watch::Receiver<Events>,
    promised: Arc<AtomicU64>,
    intakes: Lanes,
    outflows: Lanes,
    /// Looks that are still to be made away from the async threads.
    away: AtomicU32,
    lock: Mutex<Option<nix::fcntl::Flock<std::fs::File>>>,
}

/// Room that was promised to a write, until it is written or given up.
#[derive(Debug)]
pub struct Admitted {
    promised: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a file system holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub capacity_bytes: u64,
}

impl Room {
    fn of(path: &Path) -> Result<Self> {
        let stat = nix::sys::statvfs::statvfs(path).during("stat", path)?;
        Ok(Self {
            free_bytes: stat.blocks_available() * stat.fragment_size(),
            capacity_bytes: stat.blocks() * stat.fragment_size(),
        })
    }

    fn fuller(self, other: Self) -> Self {
        if other.free_bytes < self.free_bytes {
            other
        } else {
            self
        }
    }
}

/// What each lock holds is replaced whole: a panic leaves nothing half-done.
fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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

impl Engine {
    /// Opens its folders: recovers, then starts the committer. One process at a time.
    pub fn open(places: &Places, tuning: Tuning) -> Result<Self> {
        let lock = recover::lock(&places.folder)?;
        let (recovered, pins) = match Self::recover(places) {
            Err(error) if error.is_of_index() => {
                recover::condemn(&places.folder);
                Self::recover(places)?
            }
            recovered => recovered?,
        };

        let (commits, queue) = mpsc::channel(committer::QUEUE_MAX);
        let stop = Stop::new(places.folder.clone());
        let (count, groups) = watch::channel((0, 0));
        let (happened, events) = watch::channel(Events::default());
        let committer = Committer {
            folder: recovered.journal_folder.clone(),
            compactor: compact::Compactor::new(
                recovered.journal_folder.clone(),
                recovered.segments,
                (!recovered.is_damaged).then_some(recovered.given_up),
            ),
            journal: recovered.journal,
            index: recovered.writer,
            pins: pins.clone(),
            segment_bytes: tuning.segment_bytes,
            quotas: tuning.quotas,
            events_max: tuning.events_max,
            batch: recovered.batch,
            stop: stop.clone(),
            groups: count,
            events: happened,
        };
        let committer = std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || committer.run(queue))
            .map_err(|source| Failure::Io {
                what: "start the committer".into(),
                source,
            })?;

        Ok(Self(Arc::new(Inner {
            places: places.clone(),
            tuning,
            blobs: recovered.blobs,
            damaged: recovered.is_damaged,
            pins,
            index: recovered.index,
            readers: Mutex::default(),
            commits: Mutex::new(Some(commits)),
            committer: Mutex::new(Some(committer)),
            stop,
            groups,
            events,
            promised: Arc::default(),
            intakes: Lanes::new(intake::WIDE_LANES, intake::WIDE_BYTES, intake::NARROW_LANES),
            outflows: Lanes::new(
                outflow::WIDE_LANES,
                outflow::WIDE_BYTES,
                outflow::NARROW_LANES,
            ),
            away: AtomicU32::new(0),
            lock: Mutex::new(Some(lock)),
        })))
    }

    fn recover(places: &Places) -> Result<(recover::Recovered, Pins)> {
        let recovered = recover::recover(places)?;
        let pins = Pins::start(recovered.blobs.clone());
        // Another store may be away, and its list is long: that is swept while we serve.
        if !recovered.is_damaged && recovered.blobs.folder().is_some() {
            recover::sweep(&recovered, &pins)?;
        }
        Ok((recovered, pins))
    }

    /// Bodies that come in.
    pub fn intakes(&self) -> &Lanes {
        &self.0.intakes
    }

    /// Bodies that go out.
    pub fn outflows(&self) -> &Lanes {
        &self.0.outflows
    }

    /// Bodies up to this size are kept inline.
    pub fn inline_bytes_max(&self) -> usize {
        self.0.tuning.inline_bytes_max
    }

    /// Waits until the engine stops writing, and says why.
    pub async fn stopped(&self) -> String {
        let mut stopped = self.0.stop.watch();
        match stopped.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the committer is gone".to_owned(),
        }
    }

    /// Group commits and changes since the start.
    pub fn groups(&self) -> (u64, u64) {
        *self.0.groups.borrow()
    }

    /// Events that were queued since the start; whoever waits for one looks when it changes.
    pub fn events(&self) -> watch::Receiver<Events> {
        self.0.events.clone()
    }

    /// Makes changes of the cloud's own; each is decided for itself, all are on disk when this
    /// returns.
    pub async fn commit_all(&self, changes: Vec<Change>) -> Vec<Result<Done>> {
        let cause = Cause::service(OWN, types::Timestamp::default());
        self.commit_all_by(cause, changes).await
    }

    /// Makes changes that somebody asked for.
    pub async fn commit_all_by(
        &self,
        cause: Arc<Cause>,
        changes: Vec<Change>,
    ) -> Vec<Result<Done>> {
        let gone = || Failure::Stopped("the committer is gone".to_owned());
        let count = changes.len();
        let all_gone = || (0..count).map(|_| Err(gone())).collect();

        let (answer, told) = oneshot::channel();
        let commit = Commit {
            changes,
            cause,
            answer,
        };
        let commits = held(&self.0.commits).clone();
        let Some(commits) = commits else {
            return all_gone();
        };
        if commits.send(commit).await.is_err() {
            return all_gone();
        }
        told.await.unwrap_or_else(|_| all_gone())
    }

    /// Makes one change of the cloud's own.
    pub async fn commit(&self, change: Change) -> Result<Done> {
        let cause = Cause::service(OWN, types::Timestamp::default());
        self.commit_by(cause, change).await
    }

    /// Makes one change that somebody asked for.
    pub async fn commit_by(&self, cause: Arc<Cause>, change: Change) -> Result<Done> {
        let mut results = self.commit_all_by(cause, vec![change]).await;
        results.pop().expect("one change has one result")
    }

    /// Finishes what is under way and writes nothing more; the folder can be opened again.
    pub async fn close(&self) {
        held(&self.0.commits).take();
        let committer = held(&self.0.committer).take();
        let joined =
            tokio::task::spawn_blocking(move || committer.map(std::thread::JoinHandle::join));
        if !matches!(joined.await, Ok(None | Some(Ok(())))) {
            tracing::error!("the committer did not end well");
        }
        held(&self.0.readers).clear();
        held(&self.0.lock).take();
    }

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

    fn view_now<T>(&self, look: impl FnOnce(View<'_>) -> Result<T>) -> Result<T> {
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
    fn check_index(&self) -> Result<u64> {
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
                let found = view.find_bucket(bucket)?;
                let object = match version {
                    None => view.find_newest(bucket, key)?,
                    Some(version) => view.find_version(bucket, key, version)?,
                };
                Ok(found.map(|kept| kept.thing).zip(Some(object)))
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

    fn journal_folder(&self) -> PathBuf {
        self.0.places.folder.join(recover::JOURNAL)
    }

    /// Begins a file for a body; refused when the disk is nearly full.
    pub fn new_blob(&self) -> Result<BlobSink> {
        self.0.blobs.create()
    }

    /// The same bytes under another name.
    pub async fn duplicate(&self, piece: &facts::Piece) -> Result<NewBlob> {
        let blob = piece.blob.clone();
        self.blocking(move |engine| engine.0.blobs.duplicate(&blob))
            .await
    }

    /// All files of an object again, under new names: a body, and what a change needs for it.
    pub async fn duplicate_body(&self, found: &Found) -> Result<(Body, Vec<NewBlob>)> {
        if found.inline().is_some() {
            return Ok((Body::Inline, Vec::new()));
        }
        let (mut pieces, mut blobs) = (Vec::new(), Vec::new());
        for piece in found.object.body.pieces() {
            let blob = self.duplicate(piece).await?;
            pieces.push(facts::Piece {
                blob: blob.id().clone(),
                ..piece.clone()
            });
            blobs.push(blob);
        }
        Ok((Body::Pieces(pieces), blobs))
    }

    /// Opens one file of an object that is held.
    pub fn open_piece(&self, piece: &facts::Piece) -> Result<BlobReader> {
        self.0.blobs.read(&piece.blob)
    }

    /// Room where the objects lie: in the fuller of both places.
    pub fn room(&self) -> Result<Room> {
        let room = Room::of(&self.0.places.folder)?;
        match self.0.blobs.folder() {
            Some(blobs) => Ok(room.fuller(Room::of(blobs)?)),
            None => Ok(room),
        }
    }

    /// Bytes free in the fuller of both places.
    pub fn free_bytes(&self) -> Result<u64> {
        Ok(self.room()?.free_bytes)
    }

    /// Makes room for a write, or refuses it before any of it is read. What others were promised
    /// and may not have written yet counts as taken, or many at once would eat the reserve.
    pub fn admit(&self, bytes: u64) -> Result<Admitted> {
        let bytes = self.0.blobs.local_bytes(bytes);
        let admitted = Admitted {
            promised: self.0.promised.clone(),
            bytes,
        };
        let promised = self.0.promised.fetch_add(bytes, Ordering::Relaxed);
        let needed = bytes
            .saturating_add(promised)
            .saturating_add(self.0.tuning.reserve_bytes);
        if self.free_bytes()? < needed {
            return Err(s3::Code::InsufficientStorage.into());
        }
        Ok(admitted)
    }

    /// Refuses a large body before any of it is read, if a quota has no room for it.
    pub async fn foresee(
        &self,
        bucket: &Bucket,
        intended: quota::Intended,
        bytes: u64,
    ) -> Result<()> {
        if bytes < FORESEEN_BYTES_MIN {
            return Ok(());
        }
        let (bucket, defaults) = (bucket.clone(), self.0.tuning.quotas);
        let look = move |engine: &Self| {
            engine.view_now(|view| quota::foresee(&bucket, &intended, bytes, view, &defaults))
        };
        self.glance(look).await
    }

    /// Quotas of those for whom none were set.
    pub fn default_quotas(&self) -> quota::Defaults {
        self.0.tuning.quotas
    }

    /// What there is in all.
    pub async fn totals(&self) -> Result<Totals> {
        self.view(|view| view.totals()).await
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

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.0.places.folder.display())
    }
}

impl Found {
    /// The bytes, if they are inline.
    pub fn inline(&self) -> Option<&Bytes> {
        self.inline.as_ref()
    }
}
