//! Which segments there are and where each ends: the journal listed, and settled before it is believed.

use std::{fs::File, io::ErrorKind, os::unix::fs::FileExt, path::Path};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{
    SEGMENT_HEAD_BYTES,
    head::{self, Head},
    scan::{Damage, Scan, Segment, unreadable},
    segment_path,
};
use crate::engine::{
    blobs::sync_dir,
    failure::{During, Failure, Result},
};

/// The segments that there are, in order, with where each ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments(pub Vec<(u64, u64)>);

impl Segments {
    /// Lists a folder. Where the next head does not say where a segment ends, as behind the last one,
    /// it is found by reading it. What an index knows up to a place was on disk before: up to there
    /// nothing is a torn write.
    pub fn open(folder: &Path, known: Option<(u64, u64)>) -> Result<Self> {
        let ends = listed(folder)?.into_iter().map(|listed| {
            let number = listed.number;
            let end = match listed.end {
                Some(end) => end,
                None => {
                    let known = known.filter(|(segment, _)| *segment == number);
                    let least = known.map_or(0, |(_, offset)| offset);
                    end_by_reading(folder, number, listed.length)?.max(least)
                }
            };
            Ok((number, end))
        });
        ends.collect::<Result<_>>().map(Self)
    }

    /// The segments that nobody writes to any more, while another thread may begin the next one.
    pub fn sealed(folder: &Path) -> Result<Self> {
        let mut found = listed(folder)?;
        if let Some(last) = found.pop()
            && last.head.previous_end().is_none()
        {
            // Whether it seals the one before it is not certain yet.
            found.pop();
        }
        let ends = found.into_iter();
        let ends = ends.map(|listed| (listed.number, listed.end.unwrap_or(listed.length)));
        Ok(Self(ends.collect()))
    }

    /// Heads that are not as they were written.
    pub fn check_heads(&self, folder: &Path) -> Result<Vec<Damage>> {
        let mut damage = Vec::new();
        for (number, end) in &self.0 {
            damage.extend(Segment::open(folder, *number, *end)?.check_head()?);
        }
        Ok(damage)
    }

    /// Reads every frame from a place on: `None` is the very beginning.
    pub fn scan<'a>(&'a self, folder: &'a Path, from: Option<(u64, u64)>) -> Scan<'a> {
        let (segment, offset) = from.unwrap_or((0, 0));
        let left = self.0.iter().filter(|(number, _)| *number >= segment);
        Scan::over(folder, left.copied().collect(), (segment, offset))
    }
}

fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).during("list", folder)? {
        let name = entry.during("list", folder)?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        numbers.extend(stem.and_then(|stem| u64::from_str_radix(stem, 16).ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Before the journal is believed after a start. A process that was killed may have left a tail
/// that is only in the page cache: what is shown from now on must survive the next power cut, or a
/// sealed end would lie behind the bytes that are there. And a sync that failed leaves pages that
/// look written: they are forgotten, so that what is read is what the disk has.
///
/// A last segment whose head was being written when the power went is removed: nothing is in it.
pub fn settle(folder: &Path) -> Result<()> {
    let mut numbers = numbers(folder)?;
    while let Some(last) = numbers.pop_if(|last| is_torn(folder, *last)) {
        let path = segment_path(folder, last);
        std::fs::remove_file(&path).during("remove", &path)?;
    }
    if let Some(last) = numbers.last() {
        let path = segment_path(folder, *last);
        let file = File::open(&path).during("open", &path)?;
        file.sync_all().during("sync", &path)?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
            .during("forget the cached pages of", &path)?;
    }
    sync_dir(folder)
}

/// Writes heads with few wrong bits again as they were, and says which those are.
pub fn mend_heads(folder: &Path) -> Result<Vec<Damage>> {
    let mut mended = Vec::new();
    for Listed { number, head, .. } in listed(folder)? {
        let Head::Flipped(previous_end) = head else {
            continue;
        };
        let path = segment_path(folder, number);
        let file = File::options().write(true).open(&path);
        let file = file.during("open", &path)?;
        file.write_all_at(&head::written(number, previous_end), 0)
            .during("write", &path)?;
        file.sync_all().during("sync", &path)?;
        mended.push(Damage {
            segment: number,
            offset: 0,
            why: "bits of its head were wrong; it was written again as it had been".to_owned(),
        });
    }
    Ok(mended)
}

/// A segment, as names and heads tell.
struct Listed {
    number: u64,
    length: u64,
    head: Head,
    /// What the next one's head says.
    end: Option<u64>,
}

fn listed(folder: &Path) -> Result<Vec<Listed>> {
    let mut found: Vec<Listed> = Vec::new();
    for number in numbers(folder)? {
        let (head, length) = match head_of(&segment_path(folder, number), number) {
            // Compaction has removed it meanwhile.
            Err(Failure::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            read => read?,
        };
        if let Some(before) = found.last_mut()
            && before.number + 1 == number
        {
            before.end = head.previous_end();
        }
        found.push(Listed {
            number,
            length,
            head,
            end: None,
        });
    }
    Ok(found)
}

/// A head, and the length of the whole file.
pub(super) fn head_of(path: &Path, number: u64) -> Result<(Head, u64)> {
    let file = File::open(path).during("open", path)?;
    let length = file.metadata().during("stat", path)?.len();
    let size = length.min(SEGMENT_HEAD_BYTES);
    let mut first = vec![0; usize::try_from(size).expect("a head is small")];
    file.read_exact_at(&mut first, 0)
        .map_err(unreadable(path))?;
    Ok((Head::read(&first, length, number), length))
}

fn is_torn(folder: &Path, number: u64) -> bool {
    matches!(
        head_of(&segment_path(folder, number), number),
        Ok((Head::Torn, _))
    )
}

/// Where the good frames of a segment end that no next one seals. Frames behind a bad place that are of
/// a later batch than the one that could have been torn prove that the bad place was once on disk: that
/// is damage, left to the scan to report, and the end is behind them.
fn end_by_reading(folder: &Path, number: u64, length: u64) -> Result<u64> {
    let mut segment = Segment::open(folder, number, length)?;
    let (mut end, mut batch) = (SEGMENT_HEAD_BYTES, None);
    loop {
        match segment.next()? {
            Some((at, Ok(frame))) => {
                end = at.offset + at.length;
                batch = Some(frame.batch);
            }
            None => return Ok(end),
            Some((_, Err(_))) => break,
        }
    }

    let mut torn = batch.map(|batch| batch + 1);
    while let Some((at, read)) = segment.next()? {
        if let Ok(frame) = read
            && frame.batch > *torn.get_or_insert(frame.batch)
        {
            end = at.offset + at.length;
        }
    }
    Ok(end)
}
