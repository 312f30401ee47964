//! The journal: append-only segments. Appending and syncing is all that a commit does to the disk.
//!
//! A segment's head says where the segment before it ends. So the end of every segment but the last
//! is known for sure, bytes behind it (a torn write, a failed sync) count for nothing, and nothing
//! is ever cut off or written twice.

mod head;
mod scan;
mod segments;
#[cfg(test)]
mod tests;

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    blobs::sync_dir,
    failure::{During, Failure, Result},
    frame::{self, Frame},
};

pub use head::SEGMENT_HEAD_BYTES;
pub use scan::{Damage, Scan};
pub use segments::{Segments, mend_heads, settle};

/// Where a frame lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Which segment.
    pub segment: u64,
    /// From which byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016x}.seg"))
}

/// The writing end: one segment, open at its end.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    number: u64,
    end: u64,
    sync_failed: bool,
}

impl Journal {
    /// Begins a new segment after those that are there.
    pub fn begin(folder: &Path, number: u64, previous_end: u64) -> Result<Self> {
        let path = segment_path(folder, number);
        let opened = OpenOptions::new().append(true).create_new(true).open(&path);
        let mut file = opened.during("create", &path)?;

        let written = put_head(&mut file, &path, &head::written(number, previous_end));
        if let Err(error) = written.and_then(|()| sync_dir(folder)) {
            // The segment before it goes on, and must not be sealed by what is left of this one.
            let removed = std::fs::remove_file(&path).during("remove", &path);
            let gone = removed.and_then(|()| sync_dir(folder));
            gone.map_err(|error| Failure::Stopped(daemon::chain(&error)))?;
            return Err(error);
        }
        let (folder, end) = (folder.to_owned(), SEGMENT_HEAD_BYTES);
        Ok(Self {
            folder,
            file,
            number,
            end,
            sync_failed: false,
        })
    }

    /// The segment that is written to.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where the next frame will begin.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Appends frames and puts them on disk. After an error the journal must be mended.
    pub fn append(&mut self, frames: &[u8]) -> Result<()> {
        let path = segment_path(&self.folder, self.number);
        self.file.write_all(frames).during("append to", &path)?;
        let synced = self.file.sync_data().during("sync", &path);
        self.sync_failed = synced.is_err();
        synced?;
        self.end += frames.len() as u64;
        Ok(())
    }

    /// After a failed append. A disk that was full takes back what it took, before anybody is told that
    /// it is not kept: a power cut must not bring it back. A sync that failed is never tried again on
    /// the same segment, since it says nothing of what is on disk: the next segment's head declares
    /// everything behind the good end void.
    pub fn mend(&mut self) -> Result<()> {
        let file = &self.file;
        let take_back = || file.set_len(self.end).and_then(|()| file.sync_all());
        if !self.sync_failed && take_back().is_ok() {
            return Ok(());
        }
        self.rotate()
    }

    /// Goes on in a new segment, whose head seals this one at its good end.
    pub fn rotate(&mut self) -> Result<()> {
        *self = Self::begin(&self.folder, self.number + 1, self.end)?;
        Ok(())
    }
}

fn put_head(file: &mut File, path: &Path, head: &[u8]) -> Result<()> {
    file.write_all(head).during("write", path)?;
    file.sync_all().during("sync", path)
}

/// Reads one frame where the index says it is.
pub fn read_frame(folder: &Path, at: Location) -> Result<Frame> {
    let path = segment_path(folder, at.segment);
    let file = File::open(&path).during("open", &path)?;

    let length = usize::try_from(at.length)
        .ok()
        .filter(|length| *length <= frame::FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| Failure::Damaged(format!("{at:?} is too long")))?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at.offset)
        .during("read", &path)?;

    let damaged = |error| Failure::Damaged(format!("{} at {}: {error}", path.display(), at.offset));
    frame::read(&Bytes::from(bytes)).map_err(damaged)
}
