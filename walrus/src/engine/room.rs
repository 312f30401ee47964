//! Room on the disk: how much there is, and what of it was promised to writes that are under way.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Engine, Result, failure::During as _};

/// Room that was promised to a write, until it is written or given up.
#[derive(Debug)]
pub struct Admitted {
    promised: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a file system holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub capacity_bytes: u64,
}

impl Room {
    fn of(path: &Path) -> Result<Self> {
        let stat = nix::sys::statvfs::statvfs(path).during("stat", path)?;
        Ok(Self {
            free_bytes: stat.blocks_available() * stat.fragment_size(),
            capacity_bytes: stat.blocks() * stat.fragment_size(),
        })
    }

    fn fuller(self, other: Self) -> Self {
        if other.free_bytes < self.free_bytes {
            other
        } else {
            self
        }
    }
}

impl Engine {
    /// Room where the objects lie: in the fuller of both places.
    pub fn room(&self) -> Result<Room> {
        let room = Room::of(&self.0.places.folder)?;
        match self.0.blobs.folder() {
            Some(blobs) => Ok(room.fuller(Room::of(blobs)?)),
            None => Ok(room),
        }
    }

    /// Bytes free in the fuller of both places.
    pub fn free_bytes(&self) -> Result<u64> {
        Ok(self.room()?.free_bytes)
    }

    /// Makes room for a write, or refuses it before any of it is read. What others were promised
    /// and may not have written yet counts as taken, or many at once would eat the reserve.
    pub fn admit(&self, bytes: u64) -> Result<Admitted> {
        let bytes = self.0.blobs.local_bytes(bytes);
        let admitted = Admitted {
            promised: self.0.promised.clone(),
            bytes,
        };
        let promised = self.0.promised.fetch_add(bytes, Ordering::Relaxed);
        let needed = bytes
            .saturating_add(promised)
            .saturating_add(self.0.tuning.reserve_bytes);
        if self.free_bytes()? < needed {
            return Err(s3::Code::InsufficientStorage.into());
        }
        Ok(admitted)
    }
}
