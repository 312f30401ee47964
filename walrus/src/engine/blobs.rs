//! Bodies too large for the journal: immutable files under random names, never under anything that
//! a user wrote. A file is complete and on disk, its name too, before a fact names it.
//!
//! | module | holds |
//! |---|---|
//! | `format` | what stands in a file: data, checksums of its blocks, a footer |
//! | `read`, `write` | any range, checked; from front to back, once |
//! | `local` | files below a folder |
//! | `remote` | the same files as objects of another S3 store |
//!
//! Both kinds keep the same bytes under the same names (`ab/ab…`), so that a site moves from one to
//! the other by a plain copy.

mod format;
mod local;
mod read;
pub mod remote;
mod write;

use std::{
    collections::HashSet,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::failure::{During, Result};

pub use format::BLOCK_BYTES;
pub(super) use local::forget_pages;
pub use read::BlobReader;
pub use write::{BlobSink, NewBlob};

/// Bytes that are copied at once where a store cannot copy by itself.
const COPY_BYTES: u64 = 1 << 20;

/// The name of a file: 128 random bits in hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId(String);

impl BlobId {
    /// A new name.
    pub fn mint() -> Self {
        Self(hex::encode(rand::random::<[u8; 16]>()))
    }

    /// A name as it stands in a fact or on disk.
    pub fn parse(text: &str) -> Option<Self> {
        let right = text.len() == 32
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        right.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where it lies below the place of all files: in one of 256 folders.
    fn below(&self) -> String {
        format!("{}/{}", &self.0[..2], self.0)
    }

    /// The inverse of [`BlobId::below`].
    fn parse_below(text: &str) -> Option<Self> {
        let (folder, name) = text.split_once('/')?;
        Self::parse(name).filter(|id| id.0[..2] == *folder)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for BlobId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a blob's name is 32 hex digits")
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.0
    }
}

/// Where files are kept. All calls block; whoever makes them has a thread for it.
pub trait Blobs: fmt::Debug + Send + Sync {
    /// Begins a file.
    fn create(&self, id: &BlobId) -> Result<Box<dyn Writing>>;

    /// Opens a file for reading.
    fn open(&self, id: &BlobId) -> Result<Box<dyn Reading>>;

    /// The same bytes under another name, on disk when this returns, without passing through here;
    /// `false` if this store cannot do that.
    fn copy(&self, from: &BlobId, to: &BlobId) -> Result<bool>;

    /// Every file there is.
    fn list(&self) -> Result<Vec<BlobId>>;

    /// Deletes a file, now or soon; one that is gone already is no error.
    fn remove(&self, id: &BlobId) -> Result<()>;

    /// Gives up a file that no fact names, in whatever state it is, without waiting for anybody.
    fn discard(&self, id: &BlobId) {
        // What stays is swept at the next start.
        let _ = self.remove(id);
    }

    /// Whether a file is there, if that can be known without asking another host.
    fn is_there(&self, id: &BlobId) -> Option<bool>;

    /// The local folder that the files lie in.
    fn folder(&self) -> Option<&Path>;

    /// Bytes that a body of that size takes of this host's disk while it is written.
    fn local_bytes(&self, body: u64) -> u64 {
        body
    }

    /// Gives up what memory has of a file: what is read next is what the disk has.
    fn forget_cached(&self, _id: &BlobId) -> Result<()> {
        Ok(())
    }

    /// Gives up what was begun, never finished, and is not being written now; says how many.
    fn sweep_unfinished(&self, _is_new: &dyn Fn(&BlobId) -> bool) -> Result<usize> {
        Ok(0)
    }

    /// Asks whether the store is there; an error says why not.
    fn probe(&self) -> Result<()> {
        Ok(())
    }

    /// Waits until what was removed is gone, or so long.
    fn settle(&self, _limit: Duration) {}
}

/// Work that puts on disk what was written so far.
pub type Syncing = Box<dyn FnOnce() -> Result<()> + Send>;

/// A file being written, from front to back.
pub trait Writing: fmt::Debug + Send {
    /// Appends bytes.
    fn write(&mut self, data: &[u8]) -> Result<()>;

    /// Work that puts on disk what was written so far, so that the end has little left to do.
    fn sync_so_far(&self) -> Result<Syncing>;

    /// When this returns, the whole file with its name is on disk.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A file being read.
pub trait Reading: fmt::Debug + Send + Sync {
    /// Its bytes.
    fn length(&self) -> u64;

    /// Bytes of it; the range lies within the file.
    fn read(&self, range: Range<u64>) -> Result<Bytes>;

    /// Where it is, for people.
    fn place(&self) -> String;
}

/// Which kind of store keeps the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobPlace {
    /// A folder.
    Folder(PathBuf),
    /// A bucket of another S3 store.
    Bucket(Box<remote::Settings>),
}

/// All files, and which of them are new. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BlobStore {
    backend: Arc<dyn Blobs>,
    /// Files of this process that are being written, or that no fact names yet.
    news: Arc<Mutex<HashSet<BlobId>>>,
}

impl BlobStore {
    /// Opens the store; `state` is the folder beside it, on this host.
    pub fn open(place: &BlobPlace, state: &Path) -> Result<Self> {
        let backend: Arc<dyn Blobs> = match place {
            BlobPlace::Folder(folder) => Arc::new(local::Files::open(folder)?),
            BlobPlace::Bucket(settings) => Arc::new(remote::Remote::open(settings, state)?),
        };
        Ok(Self {
            backend,
            news: Arc::default(),
        })
    }

    fn news(&self) -> MutexGuard<'_, HashSet<BlobId>> {
        // Every change is one insertion or removal: a panic leaves nothing half-done.
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file is being written, or waits for the fact that will name it.
    pub fn is_new(&self, id: &BlobId) -> bool {
        self.news().contains(id)
    }

    /// Begins a new file.
    pub fn create(&self) -> Result<BlobSink> {
        BlobSink::create(NewBlob::mint(self))
    }

    /// Opens a file for reading.
    pub fn read(&self, id: &BlobId) -> Result<BlobReader> {
        BlobReader::open(self.backend.open(id)?)
    }

    /// The same bytes under another name, copied by the store itself if it can.
    pub fn duplicate(&self, from: &BlobId) -> Result<NewBlob> {
        let new = NewBlob::mint(self);
        if self.backend.copy(from, new.id())? {
            return Ok(new);
        }
        let (reader, mut sink) = (self.read(from)?, self.create()?);
        let mut at = 0;
        while at < reader.size() {
            let end = reader.size().min(at + COPY_BYTES);
            sink.write(&reader.read(at..end)?)?;
            at = end;
        }
        sink.finish()
    }
}

impl std::ops::Deref for BlobStore {
    type Target = dyn Blobs;

    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}

/// Puts a folder's entries on disk.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    let folder = std::fs::File::open(path).during("open", path)?;
    folder.sync_all().during("sync", path)
}
