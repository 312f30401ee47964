//! The background scrub: everything that is kept is read again, slowly, so that rot is found while
//! there is still a copy elsewhere to mend it from. It goes through the sealed segments of the
//! journal, the files that facts name, and the index, and remembers where it is.
//!
//! Pages that the kernel still has in memory are given up first: what counts is what the disk has.
//! Nothing is mended here. Damaged data is never served and stays where it is; a damaged index stops
//! the engine, and the next start makes it anew.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use types::Timestamp;

use super::{
    Engine,
    blobs::{BlobId, forget_pages},
    failure::{During, Failure, Result},
    given_up::GivenUp,
    journal::{Segments, segment_path},
};

/// Bytes that are read in one step.
const STEP_BYTES: u64 = 4 << 20;
/// Damaged places that are listed; more than that is one disk to be thrown away.
const DAMAGE_MAX: usize = 1000;
/// Steps after which the place is written down: half a gigabyte.
const STEPS_KEPT: u32 = 128;
const FILE: &str = "scrub.json";

/// Where a pass is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// In a sealed segment, from that byte on.
    Journal(u64, u64),
    /// In the files after that one, and so many bytes into one of them.
    Files {
        after: String,
        within: Option<(String, u64)>,
    },
    /// Before the index.
    Index,
}

impl Place {
    fn after(after: String) -> Self {
        let within = None;
        Self::Files { after, within }
    }
}

/// How far it is, and what it found. Kept in `scrub.json` beside the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Passes that were ended.
    pub passes: u64,
    /// When the pass began.
    pub began: Timestamp,
    /// When the last one ended.
    pub ended: Option<Timestamp>,
    /// Bytes read in this pass.
    pub bytes: u64,
    place: Option<Place>,
    /// What the last whole pass found.
    damage_before: Vec<String>,
    /// What this one has found so far.
    damage: Vec<String>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            passes: 0,
            began: Timestamp(0),
            ended: None,
            bytes: 0,
            place: None,
            damage_before: Vec::new(),
            damage: Vec::new(),
        }
    }
}

impl Progress {
    /// What a folder's scrub has written down.
    pub fn read(folder: &Path) -> Self {
        let text = std::fs::read(folder.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Places that are known to be damaged.
    pub fn damage(&self) -> Vec<String> {
        let fresh = |line: &&String| !self.damage_before.contains(line);
        let now = self.damage.iter().filter(fresh);
        self.damage_before.iter().chain(now).cloned().collect()
    }

    /// What is being read, for people.
    pub fn place(&self) -> String {
        match &self.place {
            None => "resting".to_owned(),
            Some(Place::Journal(number, _)) => format!("segment {number:016x} of the journal"),
            Some(Place::Files { after, .. }) => format!("files, {} % of them", percent(after)),
            Some(Place::Index) => "the index".to_owned(),
        }
    }

    fn found(&mut self, what: String) {
        tracing::error!(what, "the scrub found damage");
        if self.damage.len() < DAMAGE_MAX && !self.damage.contains(&what) {
            self.damage.push(what);
        }
    }
}

/// Names are random, so the first byte of one says how many lie before it.
fn percent(name: &str) -> u32 {
    let first = name
        .get(..2)
        .and_then(|hex| u32::from_str_radix(hex, 16).ok());
    first.unwrap_or(0) * 100 / 256
}

/// A pass under way, or the rest between two.
#[derive(Debug)]
pub struct Scrub {
    engine: Engine,
    folder: PathBuf,
    given_up: GivenUp,
    progress: Progress,
    steps: u32,
}

impl Scrub {
    /// Goes on where it was when the process ended.
    pub fn resume(engine: &Engine) -> Self {
        let folder = engine.0.places.folder.clone();
        Self {
            engine: engine.clone(),
            progress: Progress::read(&folder),
            given_up: GivenUp::read(&folder),
            folder,
            steps: 0,
        }
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether a pass is under way.
    pub fn is_under_way(&self) -> bool {
        self.progress.place.is_some()
    }

    /// Begins a pass.
    pub fn begin(&mut self, now: Timestamp) {
        self.progress.began = now;
        self.progress.bytes = 0;
        self.progress.place = Some(Place::Journal(0, 0));
    }

    /// Reads the next few megabytes and says how many bytes those were. The pass is over when
    /// [`Scrub::is_under_way`] says so. Blocks.
    pub fn step(&mut self, now: Timestamp) -> Result<u64> {
        let bytes = match self.progress.place.clone() {
            None => 0,
            Some(Place::Journal(segment, offset)) => self.read_journal(segment, offset)?,
            Some(Place::Files { after, within }) => self.read_file(after, within)?,
            Some(Place::Index) => {
                self.engine.check_index()?;
                self.end(now);
                0
            }
        };
        self.progress.bytes += bytes;
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS_KEPT) || !self.is_under_way() {
            self.keep()?;
        }
        Ok(bytes)
    }

    /// Writes down where it is.
    pub fn keep(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.progress).expect("progress is plain JSON");
        let path = self.folder.join(FILE);
        let kept = daemon::files::publish(&path, &text).map_err(std::io::Error::from);
        kept.during("write", &path)
    }

    fn end(&mut self, now: Timestamp) {
        self.progress.place = None;
        self.progress.passes += 1;
        self.progress.ended = Some(now);
        self.progress.damage_before = std::mem::take(&mut self.progress.damage);
    }

    fn read_journal(&mut self, number: u64, offset: u64) -> Result<u64> {
        let journal = self.engine.journal_folder();
        let sealed = Segments::sealed(&journal)?;
        let next = sealed.0.into_iter().find(|(sealed, _)| *sealed >= number);
        let Some((found, end)) = next else {
            self.progress.place = Some(Place::after(String::new()));
            return Ok(0);
        };
        let offset = if found == number { offset } else { 0 };
        if offset == 0 {
            forget_pages(&segment_path(&journal, found))?;
        }

        let one = Segments(vec![(found, end)]);
        let mut scan = one.scan(&journal, Some((found, offset)));
        let mut at = offset;
        loop {
            match scan.next_frame() {
                // Compaction may have removed it since it was listed.
                Err(Failure::Io { .. }) if !segment_path(&journal, found).exists() => break,
                Err(error) => self.progress.found(daemon::chain(&error)),
                Ok(Some((place, _))) => {
                    at = place.offset + place.length;
                    if at - offset < STEP_BYTES {
                        continue;
                    }
                    self.progress.place = Some(Place::Journal(found, at));
                    break;
                }
                Ok(None) => {}
            }
            self.progress.place = Some(Place::Journal(found + 1, 0));
            break;
        }
        let damage = scan.damage.into_iter();
        for damage in damage.filter(|damage| !self.given_up.has_damage(damage)) {
            self.progress.found(damage.to_string());
        }
        Ok(at.saturating_sub(offset))
    }

    fn read_file(&mut self, after: String, within: Option<(String, u64)>) -> Result<u64> {
        let from = after.clone();
        let next = self
            .engine
            .view_now(|view| view.blobs_after(&from, 1))?
            .pop();
        let Some(blob) = next else {
            self.progress.place = Some(Place::Index);
            return Ok(0);
        };
        let offset = within
            .filter(|(name, _)| *name == blob.as_str())
            .map_or(0, |(_, at)| at);
        match self.read_some(&blob, offset) {
            Ok((at, size)) if at < size => {
                let within = Some((String::from(blob), at));
                self.progress.place = Some(Place::Files { after, within });
                Ok(at - offset)
            }
            Ok((at, _)) => {
                self.progress.place = Some(Place::after(String::from(blob)));
                Ok(at - offset)
            }
            // Nobody knows; it goes on here when the store is back.
            Err(error @ Failure::Away(_)) => Err(error),
            Err(error) => {
                // What was deleted meanwhile is not damaged.
                if self.engine.view_now(|view| view.has_blob(&blob))? {
                    self.progress.found(daemon::chain(&error));
                }
                self.progress.place = Some(Place::after(String::from(blob)));
                Ok(0)
            }
        }
    }

    /// Up to where it read, and the size of the whole.
    fn read_some(&self, blob: &BlobId, offset: u64) -> Result<(u64, u64)> {
        if offset == 0 {
            self.engine.0.blobs.forget_cached(blob)?;
        }
        let reader = self.engine.0.blobs.read(blob)?;
        let (size, to) = (reader.size(), reader.size().min(offset + STEP_BYTES));
        reader.read(offset..to)?;
        Ok((to, size))
    }
}
