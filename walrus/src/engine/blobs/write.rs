//! Writing a file: data as it comes, a checksum per block, then table and footer, then the disk.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use super::{BLOCK_BYTES, BlobId, FOOTER_BYTES, MAGIC, crc32c, sync_dir};
use crate::engine::failure::{During, Failure, Result};

/// Small writes are gathered into pieces of this size.
const BUFFER_BYTES: usize = 256 << 10;

/// A file that no fact names yet: it deletes itself unless it is kept.
#[derive(Debug)]
pub struct NewBlob {
    id: BlobId,
    path: PathBuf,
    kept: bool,
}

impl NewBlob {
    pub(super) fn new(id: BlobId, path: PathBuf) -> Self {
        Self {
            id,
            path,
            kept: false,
        }
    }

    /// Its name.
    pub fn id(&self) -> &BlobId {
        &self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn sync_entry(&self) -> Result<()> {
        sync_dir(self.path.parent().expect("a blob lies in a folder"))
    }

    /// A fact names it now.
    pub fn keep(mut self) -> BlobId {
        self.kept = true;
        self.id.clone()
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.kept {
            // What can't be deleted now is an orphan, swept at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A file being written.
#[derive(Debug)]
pub struct BlobSink {
    blob: NewBlob,
    file: BufWriter<File>,
    size: u64,
    table: Vec<u8>,
    block: crc_fast::Digest,
    in_block: usize,
}

impl BlobSink {
    pub(super) fn create(blob: NewBlob) -> Result<Self> {
        let file = File::create_new(&blob.path).during("create", &blob.path)?;
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            blob,
            size: 0,
            table: Vec::new(),
            block: new_block(),
            in_block: 0,
        })
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends data.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        self.file.write_all(data).during("write", &self.blob.path)?;
        self.size += data.len() as u64;

        let mut rest = data;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - self.in_block));
            self.block.update(now);
            self.in_block += now.len();
            if self.in_block == BLOCK_BYTES {
                self.end_block();
            }
            rest = later;
        }
        Ok(())
    }

    /// Puts on disk what was written so far, when it is called: the caller has a thread for it.
    pub fn sync_so_far(&self) -> Result<impl FnOnce() -> Result<()> + Send + 'static> {
        let path = self.blob.path.clone();
        let file = self.file.get_ref().try_clone().during("open", &path)?;
        Ok(move || file.sync_data().during("sync", &path))
    }

    fn end_block(&mut self) {
        let block = std::mem::replace(&mut self.block, new_block());
        let crc = u32::try_from(block.finalize()).expect("a CRC-32 has 32 bits");
        self.table.extend_from_slice(&crc.to_le_bytes());
        self.in_block = 0;
    }

    /// Writes table and footer and puts everything on disk, the name included.
    pub fn finish(mut self) -> Result<NewBlob> {
        if self.in_block > 0 {
            self.end_block();
        }
        let footer = footer(self.size, crc32c(&self.table));
        let path = self.blob.path.clone();
        let wrote = self
            .file
            .write_all(&self.table)
            .and_then(|()| self.file.write_all(&footer));
        wrote.during("write", &path)?;

        let file = self.file.into_inner().map_err(|error| Failure::Io {
            what: format!("write {}", path.display()),
            source: error.into_error(),
        })?;
        file.sync_data().during("sync", &path)?;
        self.blob.sync_entry()?;
        Ok(self.blob)
    }
}

fn new_block() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi)
}

fn footer(size: u64, table_crc: u32) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[0..8].copy_from_slice(&MAGIC.to_le_bytes());
    footer[8..16].copy_from_slice(&size.to_le_bytes());
    footer[16..20].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
    footer[20..24].copy_from_slice(&table_crc.to_le_bytes());
    let crc = crc32c(&footer[..24]);
    footer[24..28].copy_from_slice(&crc.to_le_bytes());
    footer
}
