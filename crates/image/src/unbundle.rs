//! The read side: a bundle's parts become a sparse raw file in one pass.
//!
//! ```text
//! fetch, SHA-1 (ahead, in parallel) ─ part ─▶ decrypt ─▶ gunzip ─▶ SHA-1 of the tar
//!     ─▶ untar, recognise, SHA-256, sparse write
//! ```
//!
//! Each stage has its own thread, with short queues between: at most [`MEMORY_BYTES`] in all,
//! whatever the image. There is no intermediate file. A part enters decryption only when its SHA-1
//! is right, and nothing is the image until every check at the end has passed: until then the
//! caller's file is scrap. Dropping the future stops all stages.
//!
//! A part is checked while the one before it is decrypted: a stage that hashed ten mebibytes before it
//! handed on the first would leave the next ones without work for as long.

mod chunk;
pub(crate) mod gunzip;
mod pipe;
mod stages;

use std::{fs::File, io, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::task;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    digest::{Sha1Digest, Sha256Digest},
    keys::BundleKey,
    manifest::{Manifest, PART_BYTES},
    mbr,
    member::{MEMBER_BYTES_MAX, PIECE_BYTES},
    meter::Meter,
};
pub use crate::{
    recognise::{Content, Foreign},
    tar::TarError,
};
use chunk::Spare;
use pipe::{Outlet, Stop};

/// Parts under way or waiting beside the one being decrypted: enough to hide one slow answer.
pub const FETCH_AHEAD: usize = 3;
/// The bound on what one run holds: parts under way, the one at work, and the queues' chunks.
pub const MEMORY_BYTES: u64 = 54 * 1024 * 1024;
/// What one queue entry between two stages holds at most: one whole member of our bundles.
const CHUNK_BYTES: usize = PIECE_BYTES;
const _: () = assert!(CHUNK_BYTES.is_multiple_of(AES_BLOCK));
/// Chunks waiting between two stages: a few milliseconds of work, which is how long a thread may have to
/// wait for a processor.
const QUEUE_CHUNKS: usize = 16;
/// Ciphertext comes in blocks of so many bytes.
const AES_BLOCK: usize = 16;

const _: () = {
    let parts = (FETCH_AHEAD as u64 + 1) * PART_BYTES;
    // Three queues, and one chunk at work at each end of each; there are no more to be used again, for
    // none is made while there are such. A member being gathered.
    let chunks = 3 * (QUEUE_CHUNKS as u64 + 2) * CHUNK_BYTES as u64;
    assert!(parts + chunks + MEMBER_BYTES_MAX as u64 <= MEMORY_BYTES);
};

/// The stages as the [`Meter`] of a run counts them.
pub mod stage {
    /// Bytes of the bundle that have come.
    pub const FETCH: usize = 0;
    /// Bytes of the bundle whose part has the right digest.
    pub const CHECK: usize = 1;
    /// Bytes of the bundle that were decrypted.
    pub const DECRYPT: usize = 2;
    /// Bytes of the tar stream that came out of gzip.
    pub const GUNZIP: usize = 3;
    /// Bytes of the tar stream that were hashed.
    pub const HASH: usize = 4;
    /// Bytes of the image that were hashed, and written where they were not zeros.
    pub const WRITE: usize = 5;
    pub(super) const NAMES: [&str; 6] = ["fetch", "check", "decrypt", "gunzip", "hash", "write"];
}

/// Why a part could not be had; the source's own words.
pub type FetchError = Box<dyn std::error::Error + Send + Sync>;

/// A part's bytes as they came, piece by piece: nobody needs them in one place.
pub type Part = Vec<Bytes>;

/// Where parts come from. Retries are the source's business; an error here ends the run.
#[async_trait]
pub trait PartSource: Send + Sync + 'static {
    /// The whole of part `index`, counted from 0. It must refuse to return, and to hold, more than
    /// [`PART_BYTES`].
    async fn fetch(&self, index: usize) -> Result<Part, FetchError>;
}

/// What is to be unbundled, and what it must turn out to be.
#[derive(Debug, Clone)]
pub struct Order {
    /// SHA-1 of each part, in order.
    pub parts: Vec<Sha1Digest>,
    /// Bytes of all parts together.
    pub bundled_bytes: u64,
    /// Bytes of the raw image.
    pub size_bytes: u64,
    /// SHA-1 of the tar stream.
    pub digest: Sha1Digest,
    /// The key that opens the parts.
    pub key: BundleKey,
    /// How the image is laid out in the file.
    pub shape: Shape,
}

/// How an image is laid out in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Byte for byte: a kernel or a RAM disk.
    Verbatim,
    /// A disk: a whole-disk image byte for byte, a partition image from 1 MiB on, with room before
    /// it for a partition table and a boot loader, which the caller puts there.
    Disk,
}

/// What came of it. The file is complete and synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbundled {
    /// What the image was recognised as; [`Content::Unknown`] for [`Shape::Verbatim`].
    pub content: Content,
    /// SHA-256 over the number (eight bytes, little-endian) and the digest of each of `blocks`, and
    /// the file's length in the same form: equal for equal files, and for no others.
    pub sha256: Sha256Digest,
    /// The file's blocks of [`BLOCK_BYTES`](crate::blocks::BLOCK_BYTES) that are not all zeros, in
    /// order: their numbers and SHA-256.
    pub blocks: Vec<(u64, Sha256Digest)>,
    /// Bytes of the file, the room before a partition included.
    pub file_bytes: u64,
    /// Bytes written that were not holes.
    pub data_bytes: u64,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum UnbundleError {
    /// A part could not be fetched.
    #[error("part {index} cannot be fetched: {source}")]
    Fetch {
        /// The part, counted from 0.
        index: usize,
        /// The source's words.
        source: FetchError,
    },
    /// A part is larger than a part may be.
    #[error("part {index} is larger than 10 MiB")]
    PartTooLarge {
        /// The part, counted from 0.
        index: usize,
    },
    /// A part is not what the manifest says: damaged, or another file.
    #[error("part {index} is corrupt: its SHA-1 is {found}, the manifest says {declared}")]
    PartDigest {
        /// The part, counted from 0.
        index: usize,
        /// The manifest's digest.
        declared: Sha1Digest,
        /// The digest of what was fetched.
        found: Sha1Digest,
    },
    /// The parts together have another size than the manifest says.
    #[error("the parts have {found} bytes together, the manifest says {declared}")]
    BundledSize {
        /// The manifest's size.
        declared: u64,
        /// What was fetched.
        found: u64,
    },
    /// The last block's padding is wrong: the key or IV is not this bundle's.
    #[error("the bundle cannot be decrypted: its key does not fit")]
    Decrypt,
    /// Not gzip, or damaged.
    #[error("the bundle cannot be decompressed: {0}")]
    Gunzip(String),
    /// More comes out than the manifest says, padding and headers allowed for.
    #[error("the bundle unpacks to more than the {declared} bytes that its manifest says")]
    TooLong {
        /// The manifest's image size.
        declared: u64,
    },
    /// The archive inside is not one regular file of the declared size.
    #[error("the bundle does not hold one image: {0}")]
    Tar(#[from] TarError),
    /// The tar stream's SHA-1 is not the manifest's.
    #[error(
        "the image is not the one that was bundled: SHA-1 is {found}, the manifest says {declared}"
    )]
    ImageDigest {
        /// The manifest's digest.
        declared: Sha1Digest,
        /// The digest of what was unpacked.
        found: Sha1Digest,
    },
    /// The image is in a format that is not accepted.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// The image is a partition too large for a partition table.
    #[error(transparent)]
    TooLarge(#[from] mbr::TooLarge),
    /// The file could not be written.
    #[error("the image cannot be written")]
    Write(#[source] io::Error),
    /// A stage died; a bug.
    #[error("the image pipeline stopped without a reason")]
    Lost,
}

impl Order {
    /// The order that a manifest makes, once its key is known.
    pub fn of(manifest: &Manifest, key: BundleKey, shape: Shape) -> Self {
        Self {
            parts: manifest.parts.iter().map(|part| part.digest).collect(),
            bundled_bytes: manifest.bundled_bytes,
            size_bytes: manifest.size_bytes,
            digest: manifest.digest,
            key,
            shape,
        }
    }
}

/// A meter for one run of [`unbundle`].
pub fn meter() -> Arc<Meter> {
    Arc::new(Meter::new(&stage::NAMES))
}

/// How many bytes of the bundle have been checked and decrypted so far.
pub fn done_bytes(meter: &Meter) -> u64 {
    meter.bytes(stage::DECRYPT)
}

/// Unbundles into `file`, which is new and empty. On an error the file holds scrap.
pub async fn unbundle(
    order: Order,
    source: Arc<dyn PartSource>,
    file: File,
    meter: Arc<Meter>,
) -> Result<Unbundled, UnbundleError> {
    let order = Arc::new(order);
    let (part_outlet, part_inlet) = pipe::pipe(1);
    let (cipher_outlet, cipher_inlet) = pipe::pipe(QUEUE_CHUNKS);
    let (tar_outlet, tar_inlet) = pipe::pipe(QUEUE_CHUNKS);
    let (hashed_outlet, hashed_inlet) = pipe::pipe(QUEUE_CHUNKS);

    let (cipher_spare, tar_spare) = (Spare::default(), Spare::default());
    let (cipher_used, tar_used) = (cipher_spare.clone(), tar_spare.clone());
    let run = Run { order, meter };
    let decrypt = run.stage(stage::DECRYPT, move |run| {
        stages::decrypt(run, part_inlet, cipher_outlet, &cipher_spare)
    });
    let gunzip = run.stage(stage::GUNZIP, move |run| {
        stages::gunzip(run, (cipher_inlet, &cipher_used), tar_outlet, &tar_spare)
    });
    let hash = run.stage(stage::HASH, move |run| {
        stages::hash(run, tar_inlet, hashed_outlet)
    });
    let write = run.stage(stage::WRITE, move |run| {
        stages::write(run, (hashed_inlet, &tar_used), file)
    });
    let feed = run.feed(source, part_outlet);

    let (feed, decrypt, gunzip, hash, write) = tokio::join!(feed, decrypt, gunzip, hash, write);
    let (unbundled, write) = match write {
        Ok(unbundled) => (Some(unbundled), None),
        Err(stop) => (None, Some(stop)),
    };
    // A stage that only misses its input has no fault. Of two that have one the later stage is told: it read
    // no byte that comes behind the earlier one's fault, so it finds its own every time, whoever is first.
    let stops = [feed.err(), decrypt.err(), gunzip.err(), hash.err(), write];
    let mut faults = stops.into_iter().flatten().filter_map(Stop::fault);
    match faults.next_back() {
        Some(fault) => Err(fault),
        None => unbundled.ok_or(UnbundleError::Lost),
    }
}

/// What the stages of one run share.
#[derive(Clone)]
struct Run {
    order: Arc<Order>,
    meter: Arc<Meter>,
}

impl Run {
    /// Runs one stage on a thread of its own.
    async fn stage<T: Send + 'static>(
        &self,
        stage: usize,
        work: impl FnOnce(&Self) -> Result<T, Stop> + Send + 'static,
    ) -> Result<T, Stop> {
        let run = self.clone();
        task::spawn_blocking(move || run.meter.on_this_thread(stage, || work(&run)))
            .await
            .unwrap_or(Err(Stop::Neighbour))
    }

    /// Fetches and checks parts, some ahead and at the same time, and hands them on in order.
    async fn feed(&self, source: Arc<dyn PartSource>, outlet: Outlet<Part>) -> Result<(), Stop> {
        // Tasks, so that transfers go on while the stages are busy; aborted when this future is
        // dropped. One part waits in the queue, so one less is under way.
        let mut fetches = stream::iter(0..self.order.parts.len())
            .map(|index| {
                let (run, source) = (self.clone(), source.clone());
                AbortOnDropHandle::new(task::spawn(async move { run.part(source, index).await }))
            })
            .buffered(FETCH_AHEAD - 1);
        let mut bundled = 0;
        loop {
            // Room first: a part taken off the stream and not yet in the queue would be one too many.
            let room = outlet.room().await?;
            let Some(part) = fetches.next().await else {
                break;
            };
            let part = part.unwrap_or(Err(Stop::Neighbour))?;
            bundled += bytes_of(&part);
            room.send(part);
        }
        if bundled != self.order.bundled_bytes {
            return Err(UnbundleError::BundledSize {
                declared: self.order.bundled_bytes,
                found: bundled,
            }
            .into());
        }
        outlet.finish_async().await
    }

    /// One part, which is what the manifest says.
    async fn part(&self, source: Arc<dyn PartSource>, index: usize) -> Result<Part, Stop> {
        let part = source
            .fetch(index)
            .await
            .map_err(|source| UnbundleError::Fetch { index, source })?;
        self.meter.count(stage::FETCH, bytes_of(&part));
        self.stage(stage::CHECK, move |run| {
            stages::check(&run.order, index, &part)?;
            run.meter.count(stage::CHECK, bytes_of(&part));
            Ok(part)
        })
        .await
    }
}

fn bytes_of(part: &Part) -> u64 {
    part.iter().map(|piece| piece.len() as u64).sum()
}
