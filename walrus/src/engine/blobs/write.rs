//! Writing a file: data as it comes, a checksum per block, then table and footer, then the disk.

use super::{BlobId, BlobStore, Writing, format::Sums};
use crate::engine::failure::Result;

/// A file that no fact names yet: it is given up unless it is kept.
#[derive(Debug)]
pub struct NewBlob {
    id: BlobId,
    store: BlobStore,
    kept: bool,
}

impl NewBlob {
    pub(super) fn mint(store: &BlobStore) -> Self {
        let id = BlobId::mint();
        store.news().insert(id.clone());
        Self {
            id,
            store: store.clone(),
            kept: false,
        }
    }

    /// Its name.
    pub fn id(&self) -> &BlobId {
        &self.id
    }

    /// A fact names it now, and the index shows that.
    pub fn keep(mut self) -> BlobId {
        self.kept = true;
        self.id.clone()
    }
}

impl Drop for NewBlob {
    fn drop(&mut self) {
        if !self.kept {
            // What can't be deleted now is an orphan, swept at the next start.
            self.store.backend.discard(&self.id);
        }
        self.store.news().remove(&self.id);
    }
}

/// A file being written.
#[derive(Debug)]
pub struct BlobSink {
    // Before the blob: a file is closed before it is given up.
    file: Box<dyn Writing>,
    blob: NewBlob,
    sums: Sums,
}

impl BlobSink {
    pub(super) fn create(blob: NewBlob) -> Result<Self> {
        Ok(Self {
            file: blob.store.backend.create(&blob.id)?,
            blob,
            sums: Sums::new(),
        })
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.sums.size()
    }

    /// Appends data.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        self.file.write(data)?;
        self.sums.update(data);
        Ok(())
    }

    /// Puts on disk what was written so far, when it is called: the caller has a thread for it.
    pub fn sync_so_far(&self) -> Result<impl FnOnce() -> Result<()> + Send + 'static> {
        self.file.sync_so_far()
    }

    /// Writes table and footer and puts everything on disk, the name included.
    pub fn finish(mut self) -> Result<NewBlob> {
        self.file.write(&self.sums.trailer())?;
        self.file.finish()?;
        Ok(self.blob)
    }
}
