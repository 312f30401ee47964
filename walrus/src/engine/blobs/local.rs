//! Files below a folder, one for each name. The folder may lie on a network file system: nothing is
//! mapped or locked, and what an operation needs beyond plain writes and syncs has another way.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rustix::{buffer::spare_capacity, io::Errno};

use super::{BlobId, Blobs, Reading, Syncing, Writing, sync_dir};
use crate::engine::failure::{During, Failure, Result};

/// Small writes are gathered into pieces of this size.
const BUFFER_BYTES: usize = 256 << 10;
/// Folders below the root, by the first byte of the name: one with a million names is slow to list.
const FOLDERS: u16 = 256;

/// The folder of all files.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// Opens or makes the folder with its subfolders.
    pub(super) fn open(root: &Path) -> Result<Self> {
        for folder in 0..FOLDERS {
            let path = root.join(format!("{folder:02x}"));
            std::fs::create_dir_all(&path).during("make", &path)?;
        }
        sync_dir(root)?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    fn path(&self, id: &BlobId) -> PathBuf {
        self.root.join(id.below())
    }
}

impl Blobs for Files {
    fn create(&self, id: &BlobId) -> Result<Box<dyn Writing>> {
        let path = self.path(id);
        let file = File::create_new(&path).during("create", &path)?;
        Ok(Box::new(FileWriting {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            path,
        }))
    }

    fn open(&self, id: &BlobId) -> Result<Box<dyn Reading>> {
        let path = self.path(id);
        let file = File::open(&path).during("open", &path)?;
        let length = file.metadata().during("stat", &path)?.len();
        Ok(Box::new(FileReading { file, path, length }))
    }

    /// The file system counts the names, and each of them is deleted on its own. Where it can't link
    /// (too many names already, or no links at all) the bytes are copied.
    fn copy(&self, from: &BlobId, to: &BlobId) -> Result<bool> {
        let path = self.path(to);
        if std::fs::hard_link(self.path(from), &path).is_err() {
            return Ok(false);
        }
        sync_dir(folder_of(&path))?;
        Ok(true)
    }

    fn list(&self) -> Result<Vec<BlobId>> {
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

    /// Not synced: what comes back after a power cut is an orphan, and is swept.
    fn remove(&self, id: &BlobId) -> Result<()> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).during("remove", &path)
            }
            _ => Ok(()),
        }
    }

    fn is_there(&self, id: &BlobId) -> Option<bool> {
        Some(self.path(id).exists())
    }

    fn folder(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn forget_cached(&self, id: &BlobId) -> Result<()> {
        forget_pages(&self.path(id))
    }
}

/// Gives up what the kernel has of a file in memory: what is read next is what the disk has.
pub(in crate::engine) fn forget_pages(path: &Path) -> Result<()> {
    let file = File::open(path).during("open", path)?;
    // Advice: a file system that knows no such thing has nothing to give up.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().expect("a blob lies in a folder")
}

#[derive(Debug)]
struct FileWriting {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Writing for FileWriting {
    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.file.write_all(data).during("write", &self.path)
    }

    fn sync_so_far(&self) -> Result<Syncing> {
        let path = self.path.clone();
        let file = self.file.get_ref().try_clone().during("open", &path)?;
        Ok(Box::new(move || file.sync_data().during("sync", &path)))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { file, path } = *self;
        let file = file.into_inner().map_err(|error| Failure::Io {
            what: format!("write {}", path.display()),
            source: error.into_error(),
        })?;
        file.sync_data().during("sync", &path)?;
        sync_dir(folder_of(&path))
    }
}

#[derive(Debug)]
struct FileReading {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Reading for FileReading {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let size = usize::try_from(range.end - range.start).expect("pieces fit into memory");
        let read = read_exact_at(&self.file, size, range.start);
        Ok(read.during("read", &self.path)?.into())
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

/// Into memory as it comes: zeroing it first would take as long as the reading.
fn read_exact_at(file: &File, size: usize, start: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        let at = start + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(size);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        blobs::{BLOCK_BYTES, BlobPlace, BlobStore},
        failure::Failure,
    };

    fn open(folder: &Path) -> BlobStore {
        BlobStore::open(&BlobPlace::Folder(folder.to_owned()), folder).unwrap()
    }

    fn stored(blobs: &BlobStore, data: &[u8], step: usize) -> BlobId {
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
        let blobs = open(folder.path());
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
        let blobs = open(folder.path());
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
        let blobs = open(folder.path());
        let size = BLOCK_BYTES + 100;
        let id = stored(&blobs, &pattern(size), 4096);
        let path = folder.path().join(id.below());
        let whole = std::fs::read(&path).unwrap();

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
            std::fs::write(&path, &bad).unwrap();
            let read = blobs
                .read(&id)
                .and_then(|reader| reader.read(0..size as u64));
            assert!(matches!(read, Err(Failure::Damaged(_))), "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(blobs.read(&id).is_err());
    }
}
