//! The journal: append-only segments. Appending and syncing is all that a commit does to the disk.
//!
//! A segment's head says where the segment before it ends. So the end of every segment but the last
//! is known for sure, bytes behind it (a torn write, a failed sync) count for nothing, and nothing
//! is ever cut off or written twice.
//!
//! ```text
//! segment: 0 magic u64 | 8 number u64 | 16 previous end u64 | 24 crc32c u32 | 28 zero u32 | 32 frames
//! ```

mod scan;

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

pub use scan::{Damage, Scan, Segments, settle};

const MAGIC: u64 = u64::from_le_bytes(*b"MWSEGM01");
/// Where frames begin.
pub const SEGMENT_HEAD_BYTES: u64 = 32;

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

fn segment_head(number: u64, previous_end: u64) -> [u8; SEGMENT_HEAD_BYTES as usize] {
    let mut head = [0; SEGMENT_HEAD_BYTES as usize];
    head[0..8].copy_from_slice(&MAGIC.to_le_bytes());
    head[8..16].copy_from_slice(&number.to_le_bytes());
    head[16..24].copy_from_slice(&previous_end.to_le_bytes());
    let crc = head_checksum(&head);
    head[24..28].copy_from_slice(&crc.to_le_bytes());
    head
}

fn head_checksum(head: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &head[..24]);
    u32::try_from(crc).expect("a CRC-32 has 32 bits")
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

        file.write_all(&segment_head(number, previous_end))
            .during("write", &path)?;
        file.sync_all().during("sync", &path)?;
        sync_dir(folder)?;
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

    /// After a failed append. A disk that was full takes back what it took; a sync that failed is
    /// never tried again on the same segment, since it says nothing of what is on disk: the next
    /// segment's head declares everything behind the good end void.
    pub fn mend(&mut self) -> Result<()> {
        if !self.sync_failed && self.file.set_len(self.end).is_ok() {
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
