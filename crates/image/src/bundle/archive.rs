//! The tar stream of an image, with the image's data and without its holes.
//!
//! GNU's old sparse format says where the data goes. It is what `tar -S` writes, so every reader of
//! bundles knows it: GNU tar, Python's tarfile (euca2ools), libarchive. An image without holes makes
//! the plain archive that euca2ools makes.

use std::{
    io::{self, Read},
    ops::Range,
    vec,
};

use super::{Order, source::Image};
use crate::tar;

/// Holes shorter than this are read as data: so many zeros cost less than the place in the map is
/// worth, and a disk's map stays short.
const HOLE_BYTES_MIN: u64 = 64 << 10;
/// Places in the map at most: half a megabyte of it, and a reader that looks for each place from the
/// front still can.
const SEGMENTS_MAX: usize = 20_000;
/// Where data begins and ends: a whole number of tar's blocks, and of a file system's.
const ALIGN: u64 = 4096;

/// The stream, front to back.
pub(super) struct Archive<'a> {
    image: &'a mut dyn Image,
    head: io::Cursor<Vec<u8>>,
    /// What is being read of the image.
    segment: Range<u64>,
    segments: vec::IntoIter<Range<u64>>,
    padding: u64,
    size: u64,
    left: u64,
}

impl<'a> Archive<'a> {
    pub(super) fn new(order: Order<'_>, image: &'a mut dyn Image) -> io::Result<Self> {
        let size = order.size_bytes;
        let segments = segments(image.data(size)?, size);
        let head = match segments[..] {
            [Range { start: 0, end }] if end == size => tar::header(order.name, size).to_vec(),
            _ => tar::sparse_header(order.name, size, &segments),
        };
        let stored = segments.iter().map(|data| data.end - data.start).sum();
        let padding = tar::padding(head.len() as u64, stored);
        Ok(Self {
            image,
            left: head.len() as u64 + stored + padding,
            head: io::Cursor::new(head),
            segment: 0..0,
            segments: segments.into_iter(),
            padding,
            size,
        })
    }

    /// Bytes of the stream that are still to be read.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// How far in the image the reading is.
    pub(super) fn reached(&self) -> u64 {
        match self.left > self.padding {
            true => self.segment.start,
            false => self.size,
        }
    }
}

impl Read for Archive<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = self.head.read(buffer)?;
        if read == 0 && self.left > self.padding {
            while self.segment.is_empty() {
                self.segment = self.segments.next().ok_or(io::ErrorKind::UnexpectedEof)?;
            }
            let length = self.segment.end - self.segment.start;
            read = length.min(buffer.len() as u64) as usize;
            self.image
                .read_exact_at(&mut buffer[..read], self.segment.start)?;
            self.segment.start += read as u64;
        } else if read == 0 {
            read = self.left.min(buffer.len() as u64) as usize;
            buffer[..read].fill(0);
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// What goes into the map: whole blocks, and no more places than there may be.
fn segments(data: Vec<Range<u64>>, size: u64) -> Vec<Range<u64>> {
    let aligned = data.into_iter().map(|data| {
        let end = data.end.checked_next_multiple_of(ALIGN).unwrap_or(size);
        data.start / ALIGN * ALIGN..end.min(size)
    });
    let mut hole = HOLE_BYTES_MIN;
    let mut segments = joined(aligned, hole);
    while segments.len() > SEGMENTS_MAX {
        hole *= 2;
        segments = joined(segments.into_iter(), hole);
    }
    segments
}

/// Joins neighbours that have less than a hole between them.
fn joined(data: impl Iterator<Item = Range<u64>>, hole: u64) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for next in data {
        match joined.last_mut() {
            Some(last) if next.start < last.end.saturating_add(hole) => last.end = next.end,
            _ => joined.push(next),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn short_holes_are_data_and_data_is_whole_blocks() {
        let data = vec![100..200, 67 * KIB..71 * KIB, 200 * KIB..300 * KIB + 1];
        assert_eq!(
            segments(data, 301 * KIB),
            [0..72 * KIB, 200 * KIB..301 * KIB],
            "the end is the image's own"
        );
        assert_eq!(segments(vec![], 1 << 30), []);
        assert_eq!(
            segments(vec![0..4, 4..10], 10),
            std::slice::from_ref(&(0..10))
        );
    }

    #[test]
    fn a_disk_of_a_million_holes_has_a_map_that_can_be_read() {
        let data = (0..1_000_000).map(|n| n * 100 * KIB..n * 100 * KIB + 4096);
        let segments = segments(data.collect(), 100 << 30);
        assert!(segments.len() <= SEGMENTS_MAX);
        assert_eq!(segments[0].start, 0);
    }
}
