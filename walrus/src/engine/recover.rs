//! Start-up is recovery; there is no other path. The index says up to where it knows the journal;
//! what follows is replayed. An index that cannot be right is made anew from the first frame on.
//! Then files that no fact names are swept.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::{
    Places,
    blobs::{BlobId, BlobStore},
    failure::{During, Failure, Result},
    given_up::GivenUp,
    index::{IndexFile, IndexWriter, View},
    journal::{self, Damage, Journal, SEGMENT_HEAD_BYTES, Segments},
    pins::Pins,
};

/// The folder of the segments.
pub(super) const JOURNAL: &str = "journal";
/// The index.
pub(super) const INDEX: &str = "index.sqlite";
/// While it is there the index is not to be believed.
const CONDEMNED: &str = "index.condemned";
const LOCK: &str = "lock";
/// Frames replayed in one transaction.
const REPLAY_FRAMES: usize = 10_000;

pub(super) struct Recovered {
    pub(super) journal_folder: PathBuf,
    pub(super) segments: Segments,
    pub(super) journal: Journal,
    pub(super) index: IndexFile,
    pub(super) writer: IndexWriter,
    pub(super) blobs: BlobStore,
    pub(super) batch: u64,
    /// Whether there is damage that was not given up.
    pub(super) is_damaged: bool,
    pub(super) given_up: GivenUp,
}

/// Two processes on one folder would both believe that they are the one writer.
pub(super) fn lock(folder: &Path) -> Result<Flock<File>> {
    std::fs::create_dir_all(folder).during("make", folder)?;
    // First of all: over a network the lock itself means nothing.
    store::place::check(folder).map_err(|error| Failure::Place(Box::new(error)))?;
    let path = folder.join(LOCK);
    let file = File::create(&path).during("open", &path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| Failure::Io {
        what: format!("{}: another process uses this folder", path.display()),
        source: error.into(),
    })
}

pub(super) fn recover(places: &Places) -> Result<Recovered> {
    let folder = &places.folder;
    let journal_folder = folder.join(JOURNAL);
    std::fs::create_dir_all(&journal_folder).during("make", &journal_folder)?;
    let blobs = BlobStore::open(&places.blobs, folder)?;
    super::blobs::sync_dir(folder)?;

    journal::settle(&journal_folder)?;
    let index = IndexFile::new(folder.join(INDEX));
    if folder.join(CONDEMNED).exists() {
        tracing::warn!("the index was found damaged and is made anew");
        index.remove()?;
        pardon(folder)?;
    }
    let mut writer = index.writer()?;
    let from = writer.view().position()?;
    let segments = Segments::open(&journal_folder, from)?;
    if !is_in(&segments, from) {
        if from.is_some() {
            tracing::warn!("the index does not fit the journal and is made anew");
        }
        drop(writer);
        index.remove()?;
        writer = index.writer()?;
    }

    let from = from.filter(|_| is_in(&segments, from));
    let tell = |what: &'static str, done: u64, of: u64| {
        tracing::info!(what, done, of, "replaying into the index");
    };
    let replayed = replay(&journal_folder, &segments, &mut writer, from, &tell)?;
    let mut damage = segments.check_heads(&journal_folder)?;
    damage.retain(|head| !replayed.damage.contains(head));
    damage.extend(replayed.damage);
    let given_up = GivenUp::read(folder);
    damage.retain(|damage| !given_up.has_damage(damage));
    for damage in &damage {
        tracing::error!(%damage, "the journal is damaged; run `mallee-walrus fsck`");
    }
    let mut holes = writer.view().holes()?.into_iter();
    let has_holes = holes.any(|(segment, offset)| !given_up.has(segment, offset));
    if has_holes {
        tracing::error!(
            "the index was made from a damaged journal: nothing is deleted; \
             restore what `mallee-walrus fsck` names, and run it again"
        );
    }
    let last = segments.0.last().copied().unwrap_or_default();
    let journal = Journal::begin(&journal_folder, last.0 + 1, last.1)?;
    Ok(Recovered {
        journal_folder,
        segments,
        journal,
        index,
        writer,
        blobs,
        batch: replayed.batch,
        is_damaged: has_holes || !damage.is_empty(),
        given_up,
    })
}

/// The next start makes the index anew.
pub(super) fn condemn(folder: &Path) {
    if let Err(error) = File::create(folder.join(CONDEMNED)) {
        tracing::error!(%error, "the damaged index could not be marked; run `mallee-walrus fsck`");
    }
}

/// The index was removed.
pub(super) fn pardon(folder: &Path) -> Result<()> {
    let path = folder.join(CONDEMNED);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).during("remove", &path)
        }
        _ => Ok(()),
    }
}

/// Up to where an index knows the journal, if it is whole and nothing was unreadable to it.
pub(super) fn believed(
    folder: &Path,
    index: &IndexFile,
    segments: &Segments,
) -> Option<(u64, u64)> {
    let look = |view: View<'_>| {
        view.check()?;
        let is_full = view.holes()?.is_empty();
        Ok(view.position()?.filter(|_| is_full))
    };
    let position = index.reader().and_then(|mut index| index.view(look));
    let is_condemned = folder.join(CONDEMNED).exists();
    position
        .ok()?
        .filter(|position| !is_condemned && is_in(segments, Some(*position)))
}

fn is_in(segments: &Segments, place: Option<(u64, u64)>) -> bool {
    let Some((segment, offset)) = place else {
        return segments.0.is_empty();
    };
    let mut ends = segments.0.iter();
    ends.any(|(number, end)| *number == segment && (SEGMENT_HEAD_BYTES..=*end).contains(&offset))
}

/// What a replay found.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) frames: u64,
    pub(super) batch: u64,
    pub(super) damage: Vec<Damage>,
}

/// How far a long work is: what, how much of it is done, how much there is.
pub type Tell<'a> = &'a dyn Fn(&'static str, u64, u64);

/// Applies every frame from a place on.
pub(super) fn replay(
    folder: &Path,
    segments: &Segments,
    index: &mut IndexWriter,
    from: Option<(u64, u64)>,
    tell: Tell<'_>,
) -> Result<Replayed> {
    let bytes_up_to = |(segment, offset): (u64, u64)| {
        let before = segments
            .0
            .iter()
            .take_while(|(number, _)| *number < segment);
        before.map(|(_, end)| end).sum::<u64>() + offset
    };
    let all = bytes_up_to((u64::MAX, 0));
    let mut replayed = Replayed::default();
    let mut scan = segments.scan(folder, from);
    let (mut open, mut noted) = (0, 0);
    let mut place = from.unwrap_or((0, 0));

    while let Some((at, frame)) = scan.next_frame()? {
        if open == 0 {
            index.begin()?;
        }
        index.apply(&frame.facts, at)?;
        replayed.batch = replayed.batch.max(frame.batch);
        replayed.frames += 1;
        place = (at.segment, at.offset + at.length);
        open += 1;
        if open == REPLAY_FRAMES {
            tell("journal", bytes_up_to(place), all);
            noted = note_holes(index, &scan.damage, noted)?;
            index.commit(place)?;
            open = 0;
        }
    }
    // Up to the very end, so that whatever stood there is known to have been there.
    let end = segments.0.last().copied().unwrap_or(place);
    if open == 0 && (noted < scan.damage.len() || place != end) {
        index.begin()?;
        open = 1;
    }
    if open > 0 {
        note_holes(index, &scan.damage, noted)?;
        index.commit(end)?;
    }
    replayed.damage = scan.damage;
    if replayed.frames > 0 {
        tracing::info!(
            frames = replayed.frames,
            "the journal was replayed into the index"
        );
    }
    Ok(replayed)
}

/// What could not be read may have named files: as long as the index does not know what that was, they
/// are no orphans.
fn note_holes(index: &IndexWriter, damage: &[Damage], noted: usize) -> Result<usize> {
    for damage in &damage[noted..] {
        index.add_hole(damage.segment, damage.offset)?;
    }
    Ok(damage.len())
}

/// Those of some files that no fact names. The list of names is checked whole before it is believed:
/// a file that it forgot would be deleted.
pub(super) fn orphans(view: View<'_>, listed: Vec<BlobId>) -> Result<Vec<BlobId>> {
    let mut found = Vec::new();
    for blob in listed {
        if !view.has_blob(&blob)? {
            found.push(blob);
        }
    }
    if !found.is_empty() {
        view.check_blobs()?;
    }
    Ok(found)
}

/// Deletes what crashes have left behind, before anything new can be written.
pub(super) fn sweep(recovered: &Recovered, pins: &Pins) -> Result<()> {
    let orphans = orphans(recovered.writer.view(), recovered.blobs.list()?)?;
    if !orphans.is_empty() {
        tracing::info!(files = orphans.len(), "files that no object has are swept");
        pins.doom(orphans);
    }
    Ok(())
}
