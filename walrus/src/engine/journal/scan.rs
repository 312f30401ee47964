//! Reading the journal from front to back: for recovery, for compaction and for fsck.
//!
//! The last segment may end in a torn write, which is no damage: nobody was told that it is kept.
//! Anything else that is no frame is damage; the scan reports it and goes on at the next frame. What the
//! disk does not give is neither: nobody knows what it is, and the scan stops.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{Location, SEGMENT_HEAD_BYTES, head::Head, segment_path, segments::head_of};
use crate::engine::{
    failure::{During, Failure, Result},
    frame::{self, ALIGN, BadFrame, Frame, HEAD_BYTES},
};

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

pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::Unreadable { path, source }
}

/// One segment, read a window at a time.
pub(super) struct Segment {
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
    /// The frames of the segment of that number, up to there.
    pub(super) fn open(folder: &Path, number: u64, end: u64) -> Result<Self> {
        let path = segment_path(folder, number);
        let file = File::open(&path).during("open", &path)?;
        Ok(Self {
            path,
            file,
            number,
            end,
            at: SEGMENT_HEAD_BYTES,
            window: Bytes::new(),
            window_at: 0,
        })
    }

    /// What is wrong with its head. What lies behind the head of another segment is not ours to read:
    /// it would be told a second time, and too late.
    pub(super) fn check_head(&mut self) -> Result<Option<Damage>> {
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
                .map_err(unreadable(&self.path))?;
            (self.window, self.window_at) = (Bytes::from(bytes), offset);
        }
        let start = usize::try_from(offset - self.window_at).expect("it lies in the window");
        Ok(self
            .window
            .slice(start..start + usize::try_from(length).expect("a window fits")))
    }

    /// The next frame, or the next bad place; after a bad place it looks for the next frame.
    pub(super) fn next(&mut self) -> Result<Option<(Location, Result<Frame, BadFrame>)>> {
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

impl<'a> Scan<'a> {
    /// Those segments, from a byte of the first one on.
    pub(super) fn over(folder: &'a Path, segments: Vec<(u64, u64)>, first: (u64, u64)) -> Self {
        Self {
            folder,
            left: segments.into_iter(),
            first,
            now: None,
            last: None,
            damage: Vec::new(),
        }
    }
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
                if number == self.first.0 {
                    segment.at = self.first.1.max(SEGMENT_HEAD_BYTES);
                }
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
