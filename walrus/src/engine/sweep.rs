//! What crashes and lost answers left in a store of large objects, found while we serve: files that no
//! fact names and that nobody is writing, and uploads that nobody will end. A folder is swept at the
//! start, before anything new can be in it.

use std::time::Duration;

use super::{Engine, blobs::BlobId, failure::Result, recover};

/// Files that are looked at in one snapshot of the index.
const CHUNK: usize = 1000;

impl Engine {
    /// Whether large bodies lie in another store, which is swept, probed and waited for.
    pub fn has_other_store(&self) -> bool {
        self.0.blobs.folder().is_none()
    }

    /// Deletes what nothing needs; says how much that was. Blocks.
    pub fn sweep(&self) -> Result<usize> {
        if self.0.damaged {
            return Ok(0);
        }
        let is_new = |blob: &BlobId| self.0.blobs.is_new(blob);
        let mut swept = self.0.blobs.sweep_unfinished(&is_new)?;
        for chunk in self.0.blobs.list()?.chunks(CHUNK) {
            // New ones first: what is no longer new now has a fact in the index, or never will.
            let old = chunk.iter().filter(|blob| !is_new(blob)).cloned().collect();
            let orphans = self.view_now(|view| recover::orphans(view, old))?;
            swept += orphans.len();
            self.0.pins.doom(orphans);
        }
        Ok(swept)
    }

    /// Asks whether the store of large objects is there. Blocks.
    pub fn probe_blobs(&self) -> Result<()> {
        self.0.blobs.probe()
    }

    /// Waits until what was deleted is gone from that store, or so long. Blocks.
    pub fn settle_blobs(&self, limit: Duration) {
        self.0.blobs.settle(limit);
    }
}
