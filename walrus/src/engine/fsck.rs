//! Checks a folder that no daemon uses: reads every frame, makes the index anew in memory's place
//! beside the old one, counts what buckets hold again, and reads every block of every file that a fact
//! names.

use super::{
    Places,
    blobs::BlobStore,
    failure::{Failure, Result},
    given_up::GivenUp,
    index::{IndexFile, IndexReader, Totals},
    journal::{self, Segments},
    recover,
};

pub use super::recover::Tell;

#[cfg(test)]
mod facts;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Frames of the journal.
    pub frames: u64,
    /// Files that facts name.
    pub blobs: u64,
    /// Bytes of payload in them.
    pub blob_bytes: u64,
    /// Files that no fact names; the next start deletes them.
    pub orphans: u64,
    /// Buckets and objects.
    pub totals: Totals,
    /// What is wrong, a line each.
    pub damage: Vec<String>,
    /// The same, but given up before.
    pub given_up: Vec<String>,
}

/// The index that is made anew, until it takes the old one's place.
const FRESH: &str = "index.fresh.sqlite";
/// Bytes read and checked at once.
const READ_BYTES: u64 = 4 << 20;

/// Checks everything. The index that is there is replaced by one made from the journal, unless that is
/// damaged and the index is whole: then it knows more. Of what is kept only heads are written, where
/// their checksums say what they were.
pub fn check(places: &Places, tell: Tell<'_>) -> Result<Report> {
    let folder = &places.folder;
    let _lock = recover::lock(folder)?;
    let journal_folder = folder.join(recover::JOURNAL);
    journal::settle(&journal_folder)?;
    let mended = journal::mend_heads(&journal_folder)?;
    let index = IndexFile::new(folder.join(recover::INDEX));
    let segments = Segments::open(&journal_folder, known_to(&index))?;
    let blobs = BlobStore::open(&places.blobs, folder)?;

    let fresh = IndexFile::new(folder.join(FRESH));
    fresh.remove()?;
    let mut writer = fresh.writer()?;
    let replayed = recover::replay(&journal_folder, &segments, &mut writer, None, tell)?;
    drop(writer);
    let given_up = GivenUp::read(folder);
    let mut damage = replayed.damage.iter();
    let may_know_more = !replayed.damage.is_empty() && !damage.any(|one| given_up.has_damage(one));
    let more = may_know_more
        .then(|| recover::believed(folder, &index, &segments))
        .flatten();
    if more.is_some() {
        fresh.remove()?;
    } else {
        fresh.replace(&index)?;
        recover::pardon(folder)?;
    }
    let mut writer = index.writer()?;
    if more.is_some() {
        recover::replay(&journal_folder, &segments, &mut writer, more, tell)?;
    }

    let mut report = Report {
        frames: replayed.frames,
        totals: writer.view().totals()?,
        orphans: recover::orphans(writer.view(), blobs.list()?)?.len() as u64,
        ..Report::default()
    };
    report.damage.extend(mended.iter().map(ToString::to_string));
    for damage in &replayed.damage {
        let lines = match given_up.has_damage(damage) {
            true => &mut report.given_up,
            false => &mut report.damage,
        };
        lines.push(damage.to_string());
    }
    if let Err(error) = writer.view().check_totals() {
        report.damage.push(daemon::chain(&error));
    }
    let named = writer.view().blobs()?;
    for blob in &named {
        report.blobs += 1;
        tell("files", report.blobs, named.len() as u64);
        match read_all(&blobs, blob) {
            Ok(bytes) => report.blob_bytes += bytes,
            // What cannot be asked is not damaged; it is not checked either.
            Err(error @ Failure::Away(_)) => return Err(error),
            Err(error) => report.damage.push(daemon::chain(&error)),
        }
    }
    Ok(report)
}

/// Up to where an index knows the journal, if it can be asked at all.
fn known_to(index: &IndexFile) -> Option<(u64, u64)> {
    let position = |index: &mut IndexReader| index.view(|view| view.position());
    index
        .reader()
        .and_then(|mut index| position(&mut index))
        .ok()?
}

/// Gives up what damaged places of the journal said: from the next start on they keep nothing from being
/// deleted. What can be mended is.
pub fn give_up(places: &Places) -> Result<()> {
    let folder = &places.folder;
    let _lock = recover::lock(folder)?;
    let journal_folder = folder.join(recover::JOURNAL);
    journal::settle(&journal_folder)?;
    journal::mend_heads(&journal_folder)?;
    let index = IndexFile::new(folder.join(recover::INDEX));
    let segments = Segments::open(&journal_folder, known_to(&index))?;
    let mut scan = segments.scan(&journal_folder, None);
    while scan.next_frame()?.is_some() {}
    // It may know what is given up.
    index.remove()?;
    GivenUp::add(folder, &scan.damage)
}

fn read_all(blobs: &BlobStore, blob: &super::blobs::BlobId) -> Result<u64, Failure> {
    let reader = blobs.read(blob)?;
    let mut at = 0;
    while at < reader.size() {
        let end = reader.size().min(at + READ_BYTES);
        reader.read(at..end)?;
        at = end;
    }
    Ok(at)
}
