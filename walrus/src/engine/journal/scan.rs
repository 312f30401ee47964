//! Reading the journal from front to back: for recovery, for compaction and for fsck.
//!
//! The last segment may end in a torn write, which is no damage: nobody was told that it is kept.
//! Anything else that is no frame is damage; the scan reports it and goes on at the next frame.

use std::{
    fs::File,
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{
    Location, SEGMENT_HEAD_BYTES,
    head::{self, Head},
    segment_path,
};
use crate::engine::{
    blobs::sync_dir,
    failure::{During, Failure, Result},
    frame::{self, ALIGN, BadFrame, Frame, HEAD_BYTES},
};

/// The segments that there are, in order, with where each ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments(pub Vec<(u64, u64)>);

/// Bytes that should be frames and are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which segment.
    pub segment: u64,
    /// From which byte.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
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

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            segment,
            offset,
            why,
        } = self;
        write!(f, "segment {segment:016x} at {offset}: {why}")
    }
}

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
        let left = self
            .0
            .iter()
            .filter(|(number, _)| *number >= segment)
            .copied();
        Scan {
            folder,
            left: left.collect::<Vec<_>>().into_iter(),
            first: (segment, offset),
            now: None,
            last: None,
            damage: Vec::new(),
        }
    }
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
fn head_of(path: &Path, number: u64) -> Result<(Head, u64)> {
    let file = File::open(path).during("open", path)?;
    let length = file.metadata().during("stat", path)?.len();
    let size = length.min(SEGMENT_HEAD_BYTES);
    let mut first = vec![0; usize::try_from(size).expect("a head is small")];
    file.read_exact_at(&mut first, 0).during("read", path)?;
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
    segment.at = SEGMENT_HEAD_BYTES;
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

/// One segment, read a window at a time.
struct Segment {
    path: PathBuf,
    file: File,
    number: u64,
    end: u64,
    at: u64,
    window: Bytes,
    window_at: u64,
}

/// Bytes read at once: a thousand frames of small facts.
const WINDOW_BYTES: u64 = 1 << 20;

impl Segment {
    fn open(folder: &Path, number: u64, end: u64) -> Result<Self> {
        let path = segment_path(folder, number);
        let file = File::open(&path).during("open", &path)?;
        Ok(Self {
            path,
            file,
            number,
            end,
            at: 0,
            window: Bytes::new(),
            window_at: 0,
        })
    }

    /// What is wrong with its head. What lies behind the head of another segment is not ours to read:
    /// it would be told a second time, and too late.
    fn check_head(&mut self) -> Result<Option<Damage>> {
        let why = match head_of(&self.path, self.number)?.0 {
            Head::Right(_) => return Ok(None),
            Head::Flipped(_) => "bits of its head are wrong, few enough to know what it was; \
                 `mallee-walrus fsck` writes it again"
                .to_owned(),
            Head::OfAnother(number) => {
                self.end = 0;
                format!("this is segment {number:016x}; nothing in it is read")
            }
            Head::Torn | Head::Wrong => {
                "its head is wrong; the end of the segment before it was found by reading that"
                    .to_owned()
            }
        };
        Ok(Some(Damage {
            segment: self.number,
            offset: 0,
            why,
        }))
    }

    /// A file may be shorter than the next one's head says: what is there is read.
    fn clamp(&mut self) -> Result<Option<Damage>> {
        let length = self.file.metadata().during("stat", &self.path)?.len();
        if length >= self.end {
            return Ok(None);
        }
        let damage = Damage {
            segment: self.number,
            offset: length,
            why: format!("the segment is cut off: it had {} bytes", self.end),
        };
        self.end = length;
        Ok(Some(damage))
    }

    /// At most `length` bytes from `offset`, fewer at the end.
    fn bytes(&mut self, offset: u64, length: u64) -> Result<Bytes> {
        let length = length.min(self.end.saturating_sub(offset));
        let inside = offset >= self.window_at
            && offset + length <= self.window_at + self.window.len() as u64;
        if !inside {
            let size = length
                .max(WINDOW_BYTES)
                .min(self.end.saturating_sub(offset));
            let mut bytes = vec![0; usize::try_from(size).expect("a window fits into memory")];
            self.file
                .read_exact_at(&mut bytes, offset)
                .during("read", &self.path)?;
            (self.window, self.window_at) = (Bytes::from(bytes), offset);
        }
        let start = usize::try_from(offset - self.window_at).expect("it lies in the window");
        Ok(self
            .window
            .slice(start..start + usize::try_from(length).expect("a window fits")))
    }

    /// The next frame, or the next bad place; after a bad place it looks for the next frame.
    fn next(&mut self) -> Result<Option<(Location, Result<Frame, BadFrame>)>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let (offset, number) = (self.at, self.number);
        let place = |length: u64| Location {
            segment: number,
            offset,
            length,
        };

        let head = self.bytes(offset, HEAD_BYTES as u64)?;
        let read = match frame::announced(&head) {
            Err(error) => Err(error),
            Ok(length) => {
                let bytes = self.bytes(offset, length as u64)?;
                frame::read(&bytes).map(|frame| (frame, length as u64))
            }
        };
        match read {
            Ok((frame, length)) => {
                self.at += length;
                Ok(Some((place(length), Ok(frame))))
            }
            Err(BadFrame::Facts(why)) => Err(Failure::Damaged(format!(
                "{} at {offset} was written by a newer version: {why}",
                self.path.display()
            ))),
            Err(error) => {
                self.at = self.find_frame(offset + ALIGN as u64)?;
                Ok(Some((place(self.at - offset), Err(error))))
            }
        }
    }

    fn find_frame(&mut self, from: u64) -> Result<u64> {
        let mut at = from;
        while at < self.end {
            let head = self.bytes(at, HEAD_BYTES as u64)?;
            if let Ok(length) = frame::announced(&head)
                && frame::read(&self.bytes(at, length as u64)?).is_ok()
            {
                return Ok(at);
            }
            at += ALIGN as u64;
        }
        Ok(self.end)
    }
}

/// Frames in order. Damage is kept aside.
pub struct Scan<'a> {
    folder: &'a Path,
    left: std::vec::IntoIter<(u64, u64)>,
    first: (u64, u64),
    now: Option<Segment>,
    /// The segment before it.
    last: Option<u64>,
    /// What was found that is no frame.
    pub damage: Vec<Damage>,
}

impl Scan<'_> {
    /// Compaction removes the oldest segment, and no other: one that is missing behind it was lost.
    fn expect(&mut self, number: u64) {
        if let Some(last) = self.last
            && last + 1 < number
        {
            let why = match number - last {
                2 => "the segment is not there".to_owned(),
                more => format!("{} segments are not there from here on", more - 1),
            };
            self.damage.push(Damage {
                segment: last + 1,
                offset: 0,
                why,
            });
        }
        self.last = Some(number);
    }

    /// The next frame, and where it lies.
    pub fn next_frame(&mut self) -> Result<Option<(Location, Frame)>> {
        loop {
            if self.now.is_none() {
                let Some((number, end)) = self.left.next() else {
                    return Ok(None);
                };
                self.expect(number);
                let mut segment = Segment::open(self.folder, number, end)?;
                self.damage.extend(segment.clamp()?);
                self.damage.extend(segment.check_head()?);
                let start = if number == self.first.0 {
                    self.first.1
                } else {
                    0
                };
                segment.at = start.max(SEGMENT_HEAD_BYTES);
                self.now = Some(segment);
            }
            let segment = self.now.as_mut().expect("it was just opened");
            match segment.next()? {
                None => self.now = None,
                Some((at, Ok(frame))) => return Ok(Some((at, frame))),
                Some((at, Err(error))) => self.damage.push(Damage {
                    segment: at.segment,
                    offset: at.offset,
                    why: format!("{error} ({} bytes skipped)", at.length),
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{facts::Fact, journal::Journal};

    fn gone(key: &str) -> Fact {
        Fact::ObjectGone {
            bucket: s3::BucketName::parse("bucket").unwrap(),
            key: s3::Key::parse(key).unwrap(),
            version: s3::VersionId::null(),
        }
    }

    /// Writes batches 1, 2, … of two frames each into the first segment.
    fn written(folder: &Path, batches: u64) -> Vec<Location> {
        let mut journal = Journal::begin(folder, 1, 0).unwrap();
        let mut places = Vec::new();
        for batch in 1..=batches {
            let mut bytes = Vec::new();
            for name in ["a", "b"] {
                let offset = journal.end() + bytes.len() as u64;
                let length = frame::write(&mut bytes, batch, &[gone(name)], b"body") as u64;
                places.push(Location {
                    segment: 1,
                    offset,
                    length,
                });
            }
            journal.append(&bytes).unwrap();
        }
        places
    }

    fn scanned(folder: &Path) -> (Vec<Location>, Vec<Damage>) {
        let segments = Segments::open(folder, None).unwrap();
        let mut scan = segments.scan(folder, None);
        let mut found = Vec::new();
        while let Some((at, _)) = scan.next_frame().unwrap() {
            found.push(at);
        }
        (found, scan.damage)
    }

    #[test]
    fn a_torn_tail_is_no_damage_wherever_it_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let places = written(folder.path(), 3);
        let path = segment_path(folder.path(), 1);
        let whole = std::fs::read(&path).unwrap();

        for cut in (SEGMENT_HEAD_BYTES as usize..whole.len()).step_by(7) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (found, damage) = scanned(folder.path());
            let expect = places
                .iter()
                .filter(|at| at.offset + at.length <= cut as u64)
                .count();
            assert_eq!((found.len(), damage), (expect, vec![]), "cut at {cut}");
        }
    }

    #[test]
    fn a_hole_in_the_last_batch_is_torn_and_in_an_earlier_one_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let places = written(folder.path(), 4);
        let path = segment_path(folder.path(), 1);
        let whole = std::fs::read(&path).unwrap();
        let with_hole = |at: &Location| {
            let mut bytes = whole.clone();
            bytes[at.offset as usize + 30] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            scanned(folder.path())
        };

        let (found, damage) = with_hole(&places[6]);
        assert_eq!(
            (found.len(), damage.len()),
            (6, 0),
            "frame 7 was never acknowledged"
        );
        let known = (1, places[7].offset + places[7].length);
        let segments = Segments::open(folder.path(), Some(known)).unwrap();
        let mut scan = segments.scan(folder.path(), None);
        while scan.next_frame().unwrap().is_some() {}
        assert_eq!(
            scan.damage.len(),
            1,
            "an index that knows it says that it was"
        );
        assert_eq!(segments.0, [known]);

        let (found, damage) = with_hole(&places[2]);
        assert_eq!(
            (found.len(), damage.len()),
            (7, 1),
            "frame 2 was: its loss is reported"
        );
    }

    /// A second segment, which says that the first one ends there; all places that count, and its path.
    fn followed(folder: &Path, end: u64) -> (Vec<Location>, PathBuf) {
        let mut next = Journal::begin(folder, 2, end).unwrap();
        let mut bytes = Vec::new();
        frame::write(&mut bytes, 3, &[gone("c")], b"body");
        next.append(&bytes).unwrap();
        (scanned(folder).0, segment_path(folder, 2))
    }

    /// The same, when the first one's last frames were refused.
    fn with_a_void_tail(folder: &Path) -> (Vec<Location>, PathBuf) {
        let places = written(folder, 2);
        followed(folder, places[2].offset)
    }

    #[test]
    fn a_flipped_bit_in_a_head_is_named_and_changes_nothing_of_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (places, path) = with_a_void_tail(folder.path());
        assert_eq!(places.len(), 3);
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..SEGMENT_HEAD_BYTES as usize * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();

            let (found, damage) = scanned(folder.path());
            assert_eq!(found, places, "bit {bit}");
            assert_eq!(
                (damage.len(), damage[0].segment, damage[0].offset),
                (1, 2, 0)
            );
            assert_eq!(mend_heads(folder.path()).unwrap().len(), 1);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "bit {bit}");
            assert_eq!(scanned(folder.path()), (places.clone(), vec![]));
        }
        assert_eq!(mend_heads(folder.path()).unwrap(), []);
    }

    #[test]
    fn a_head_that_says_nothing_is_named_and_loses_no_frame() {
        let folder = tempfile::tempdir().unwrap();
        let last = written(folder.path(), 2)[3];
        let (places, path) = followed(folder.path(), last.offset + last.length);
        assert_eq!(places.len(), 5);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..SEGMENT_HEAD_BYTES as usize].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        settle(folder.path()).unwrap();
        let (found, damage) = scanned(folder.path());
        assert_eq!((found, damage.len()), (places, 1));
        assert_eq!(mend_heads(folder.path()).unwrap(), []);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn the_frames_of_another_segment_are_not_read_a_second_time() {
        let folder = tempfile::tempdir().unwrap();
        let (places, path) = with_a_void_tail(folder.path());
        std::fs::copy(segment_path(folder.path(), 1), &path).unwrap();
        let (found, damage) = scanned(folder.path());
        assert_eq!(found.iter().filter(|at| at.segment == 2).count(), 0);
        assert!(places[..2].iter().all(|place| found.contains(place)));
        assert!(
            damage[0].why.contains("this is segment 0000000000000001"),
            "{damage:?}"
        );
    }

    #[test]
    fn only_what_was_torn_is_removed_and_never_while_somebody_writes() {
        let folder = tempfile::tempdir().unwrap();
        let places = written(folder.path(), 1);
        let path = segment_path(folder.path(), 2);
        for torn in [&[][..], &[0; 32], b"MWSEGM01"] {
            std::fs::write(&path, torn).unwrap();
            // The scrub looks while the committer begins a segment.
            assert_eq!(Segments::sealed(folder.path()).unwrap().0, []);
            assert_eq!(Segments::open(folder.path(), None).unwrap().0.len(), 2);
            assert!(path.exists());
            settle(folder.path()).unwrap();
            assert!(!path.exists());
        }
        Journal::begin(folder.path(), 2, places[1].offset + places[1].length).unwrap();
        let sealed = Segments::sealed(folder.path()).unwrap().0;
        assert_eq!(sealed, [(1, places[1].offset + places[1].length)]);
        // A segment that a start began, and that nothing was written to.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[..8].fill(7);
        std::fs::write(&path, &bytes).unwrap();
        settle(folder.path()).unwrap();
        assert!(path.exists());
    }

    #[test]
    fn what_lies_behind_a_sealed_end_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let places = written(folder.path(), 2);
        Journal::begin(folder.path(), 2, places[2].offset).unwrap();
        let (found, damage) = scanned(folder.path());
        assert_eq!((found.len(), damage), (2, vec![]));
    }
}
