//! Bodies too large for the journal: immutable files under random names, never under anything that
//! a user wrote. A file is complete and on disk, its directory entry too, before a fact names it.
//!
//! ```text
//! data | crc32c of each 64 KiB of data (u32 each) | footer, 32 bytes
//! footer: magic u64, data length u64, block size u32, crc32c of the table u32, crc32c of the footer u32, zero u32
//! ```

mod read;
mod write;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::failure::{During, Result};

pub use read::BlobReader;
pub use write::{BlobSink, NewBlob};

/// Bytes under one checksum: what a range read must at least read and check.
pub const BLOCK_BYTES: usize = 64 << 10;
const FOOTER_BYTES: usize = 32;
const MAGIC: u64 = u64::from_le_bytes(*b"MWBLOB01");
/// Folders below `blobs`, by the first byte of the id: a folder with a million names is slow to list.
const FOLDERS: u16 = 256;

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

/// The folder of all files.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: PathBuf,
}

impl Blobs {
    /// Opens or makes the folder with its subfolders.
    pub fn open(root: &Path) -> Result<Self> {
        for folder in 0..FOLDERS {
            let path = root.join(format!("{folder:02x}"));
            std::fs::create_dir_all(&path).during("make", &path)?;
        }
        sync_dir(root)?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// The file of a name.
    pub fn path(&self, id: &BlobId) -> PathBuf {
        self.root.join(&id.as_str()[..2]).join(id.as_str())
    }

    /// Every file there is.
    pub fn list(&self) -> Result<Vec<BlobId>> {
        let mut found = Vec::new();
        for folder in 0..FOLDERS {
            let path = self.root.join(format!("{folder:02x}"));
            for entry in std::fs::read_dir(&path).during("list", &path)? {
                let name = entry.during("list", &path)?.file_name();
                found.extend(name.to_str().and_then(BlobId::parse));
            }
        }
        Ok(found)
    }

    /// Deletes a file; one that is gone already is no error. Not synced: what comes back after a
    /// power cut is an orphan, and is swept.
    pub fn remove(&self, id: &BlobId) -> Result<()> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).during("remove", &path)
            }
            _ => Ok(()),
        }
    }

    /// Begins a new file.
    pub fn create(&self) -> Result<BlobSink> {
        BlobSink::create(self.new_blob())
    }

    /// Opens a file for reading.
    pub fn read(&self, id: &BlobId) -> Result<BlobReader> {
        BlobReader::open(&self.path(id))
    }

    /// The same bytes under another name: a copy that copies nothing. The file system counts the
    /// names, and each of them is deleted on its own. Where it can't link (too many names already,
    /// or no links at all) the bytes are copied.
    pub fn duplicate(&self, from: &BlobId) -> Result<NewBlob> {
        let new = self.new_blob();
        if std::fs::hard_link(self.path(from), new.path()).is_ok() {
            new.sync_entry()?;
            return Ok(new);
        }
        let (reader, mut sink) = (self.read(from)?, self.create()?);
        let mut at = 0;
        while at < reader.size() {
            let end = reader.size().min(at + (16 * BLOCK_BYTES) as u64);
            sink.write(&reader.read(at..end)?)?;
            at = end;
        }
        sink.finish()
    }

    fn new_blob(&self) -> NewBlob {
        let id = BlobId::mint();
        let path = self.path(&id);
        NewBlob::new(id, path)
    }
}

/// Puts a folder's entries on disk.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    let folder = std::fs::File::open(path).during("open", path)?;
    folder.sync_all().during("sync", path)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(crc).expect("a CRC-32 has 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::failure::Failure;

    fn stored(blobs: &Blobs, data: &[u8], step: usize) -> BlobId {
        let mut sink = blobs.create().unwrap();
        data.chunks(step.max(1))
            .for_each(|chunk| sink.write(chunk).unwrap());
        sink.finish().unwrap().keep()
    }

    fn pattern(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    #[test]
    fn what_is_written_is_read_in_any_range() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        for size in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            3 * BLOCK_BYTES + 17,
        ] {
            let data = pattern(size);
            let id = stored(&blobs, &data, 1000);
            let reader = blobs.read(&id).unwrap();
            assert_eq!(reader.size(), size as u64);
            let whole = reader.read(0..size as u64).unwrap();
            assert_eq!(&whole[..], &data[..]);
            for range in [0..size.min(1), size / 2..size, size.saturating_sub(1)..size] {
                let got = reader.read(range.start as u64..range.end as u64).unwrap();
                assert_eq!(&got[..], &data[range]);
            }
        }
    }

    #[test]
    fn a_blob_that_nobody_keeps_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let mut sink = blobs.create().unwrap();
        sink.write(b"half").unwrap();
        drop(sink);
        drop(blobs.create().unwrap().finish().unwrap());
        assert!(blobs.list().unwrap().is_empty());

        let kept = stored(&blobs, b"whole", 2);
        let link = blobs.duplicate(&kept).unwrap().keep();
        blobs.remove(&kept).unwrap();
        assert_eq!(blobs.list().unwrap(), std::slice::from_ref(&link));
        assert_eq!(
            &blobs.read(&link).unwrap().read(0..5).unwrap()[..],
            b"whole"
        );
    }

    #[test]
    fn rot_anywhere_in_a_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let size = BLOCK_BYTES + 100;
        let id = stored(&blobs, &pattern(size), 4096);
        let whole = std::fs::read(blobs.path(&id)).unwrap();

        for at in [
            0,
            BLOCK_BYTES + 99,
            size,
            size + 4,
            size + 8,
            whole.len() - 9,
        ] {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            std::fs::write(blobs.path(&id), &bad).unwrap();
            let read = blobs
                .read(&id)
                .and_then(|reader| reader.read(0..size as u64));
            assert!(matches!(read, Err(Failure::Damaged(_))), "byte {at}");
        }
        std::fs::write(blobs.path(&id), &whole[..whole.len() - 1]).unwrap();
        assert!(blobs.read(&id).is_err());
    }
}
