//! Compaction: when half of the sealed segments is no longer true, the oldest are read, what is
//! still true is appended again at the end, and the files are deleted.
//!
//! Oldest first, always: so a tombstone in the oldest segment has nothing left to bury and is simply
//! dropped. The committer does it between groups, a little at a time.

use std::path::PathBuf;

use bytes::Bytes;

use super::{
    blobs::sync_dir,
    facts::Fact,
    failure::{During, Result},
    given_up::GivenUp,
    index::IndexWriter,
    journal::{Segments, segment_path},
};

/// Bytes of frames moved between two groups: a few milliseconds.
const STEP_BYTES: u64 = 1 << 20;
/// Sealed segments that are left in peace whatever they hold.
const SEALED_MIN: usize = 4;

/// What one step found.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Facts that are still true, with their bodies.
    pub(super) live: Vec<(Vec<Fact>, Bytes)>,
    /// A segment in which nothing true is left.
    pub(super) emptied: Option<u64>,
}

/// Where compaction is.
#[derive(Debug)]
pub(super) struct Compactor {
    folder: PathBuf,
    /// Sealed segments and their ends.
    sealed: Vec<(u64, u64)>,
    at: Option<(u64, u64)>,
    /// Damage that stops nothing; `None` if there is other damage: then nothing is deleted until
    /// somebody has looked.
    given_up: Option<GivenUp>,
}

impl Compactor {
    pub(super) fn new(folder: PathBuf, sealed: Segments, given_up: Option<GivenUp>) -> Self {
        Self {
            folder,
            sealed: sealed.0,
            at: None,
            given_up,
        }
    }

    /// The next thing to do, if there is one.
    pub(super) fn step(&mut self, index: &IndexWriter, current: u64) -> Result<Option<Work>> {
        if self.given_up.is_none() {
            return Ok(None);
        }
        if self
            .sealed
            .last()
            .map_or(current > 1, |last| last.0 + 1 < current)
        {
            self.sealed = Segments::open(&self.folder, None)?.0;
            self.sealed.retain(|(number, _)| *number < current);
        }
        if self.at.is_none() {
            if !self.is_worth_it(index)? {
                return Ok(None);
            }
            self.at = self.sealed.first().map(|(number, _)| (*number, 0));
        }
        self.read_some(index).map(Some)
    }

    fn is_worth_it(&self, index: &IndexWriter) -> Result<bool> {
        if self.sealed.len() < SEALED_MIN {
            return Ok(false);
        }
        let bytes: u64 = self.sealed.iter().map(|(_, end)| end).sum();
        let live = index.view().live_bytes()?;
        let sealed = live
            .iter()
            .filter(|(n, _)| self.sealed.iter().any(|(s, _)| s == n));
        let live: u64 = sealed.map(|(_, live)| live).sum();
        Ok(live * 2 < bytes)
    }

    fn read_some(&mut self, index: &IndexWriter) -> Result<Work> {
        let mut work = Work::default();
        let Some((number, offset)) = self.at else {
            return Ok(work);
        };
        let end = self
            .sealed
            .iter()
            .find(|(n, _)| *n == number)
            .map_or(0, |(_, end)| *end);
        let one = Segments(vec![(number, end)]);
        let mut scan = one.scan(&self.folder, Some((number, offset)));
        let mut moved = 0;

        while let Some((at, frame)) = scan.next_frame()? {
            let mut live = Vec::new();
            for fact in frame.facts {
                if index.is_live(&fact, at)? {
                    live.push(fact);
                }
            }
            if !live.is_empty() {
                moved += at.length;
                work.live.push((live, frame.body));
            }
            self.at = Some((number, at.offset + at.length));
            if moved >= STEP_BYTES {
                return Ok(work);
            }
        }
        let is_known = |one| {
            self.given_up
                .as_ref()
                .is_some_and(|all| all.has_damage(one))
        };
        if scan.damage.iter().all(is_known) {
            work.emptied = Some(number);
        } else {
            tracing::error!(segment = number, damage = ?scan.damage, "a damaged segment is kept");
            self.given_up = None;
        }
        self.at = None;
        Ok(work)
    }

    /// What the last step gave was not moved: it begins again with the oldest segment.
    pub(super) fn begin_again(&mut self) {
        self.at = None;
    }

    /// Deletes a segment; on disk before the next one may lose its tombstones.
    pub(super) fn remove(&mut self, number: u64) -> Result<()> {
        let path = segment_path(&self.folder, number);
        std::fs::remove_file(&path).during("remove", &path)?;
        sync_dir(&self.folder)?;
        self.sealed.retain(|(n, _)| *n != number);
        Ok(())
    }
}
