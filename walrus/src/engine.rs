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
//! | `look`, [`pins`] | one snapshot, and an object held; files live as long as their readers |
//! | [`fsck`] | the same scan, for an administrator |
//! | [`given_up`] | damage that no longer keeps anything from being deleted |
//! | [`quota`] | how much accounts and buckets may hold |
//! | `room` | how much of the disk is free, and to whom it was promised |
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
mod look;
pub mod pins;
pub mod quota;
mod recover;
mod room;
pub mod scrub;
mod sweep;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64},
    },
};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{intake, lanes::Lanes, outflow};

pub use change::{Change, Done};
pub use committer::Events;
pub use facts::{Body, Bucket, Fact, Object};
pub use failure::{Failure, Result};
pub use index::{Totals, View};
pub use look::{Found, Look, Sought};
pub use room::{Admitted, Room};

use blobs::{BlobPlace, BlobReader, BlobSink, BlobStore, NewBlob};
use committer::{Commit, Committer, Stop};
use events::Cause;
use index::{IndexFile, IndexReader};
use pins::Pins;

/// Who changes what nobody asked to be changed.
const OWN: &str = "mallee-walrus";
/// Below this the commit alone looks at quotas: a smaller body is soon read.
const FORESEEN_BYTES_MIN: u64 = 256 << 10;

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

/// What each lock holds is replaced whole: a panic leaves nothing half-done.
fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.0.places.folder.display())
    }
}
