//! The head of a segment: which one it is, and where the segment before it ends.
//!
//! ```text
//! 0 magic u64 | 8 number u64 | 16 previous end u64 | 24 crc32c u32 | 28 zero u32
//! ```
//!
//! Any two heads differ in more than four bits, by their checksums alone: a head of which one or two
//! bits were flipped is nearer to what it was than to any other, and says as much as a whole one.

use crate::crc32c;

/// Where frames begin.
pub const SEGMENT_HEAD_BYTES: u64 = 32;
const MAGIC: u64 = u64::from_le_bytes(*b"MWSEGM01");
/// Bits that may be wrong.
const FLIPPED_MAX: u32 = 2;

pub(super) type Bytes = [u8; SEGMENT_HEAD_BYTES as usize];

/// What the first bytes of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Where the segment before it ends.
    Right(u64),
    /// The same, though bits of it are wrong.
    Flipped(u64),
    /// It is the head of that segment, and not of the one that the file is named after.
    OfAnother(u64),
    /// It was being written when the power went: nothing was written behind it.
    Torn,
    /// Nothing that can be believed.
    Wrong,
}

impl Head {
    /// Reads the head of the segment of that number: the first bytes of a file, as many as there are,
    /// of so many in all.
    pub(super) fn read(first: &[u8], length: u64, number: u64) -> Self {
        let is_empty = first.iter().all(|byte| *byte == 0);
        let Ok(bytes) = Bytes::try_from(first) else {
            return Self::Torn;
        };
        let (named, end) = (long(&bytes, 8), long(&bytes, 16));
        if bytes == written(named, end) {
            return match named == number {
                true => Self::Right(end),
                false => Self::OfAnother(named),
            };
        }
        match without_flips(&bytes, number) {
            Some(end) => Self::Flipped(end),
            None if is_empty && length == SEGMENT_HEAD_BYTES => Self::Torn,
            None => Self::Wrong,
        }
    }

    /// Where the segment before it ends, if that is certain.
    pub(super) fn previous_end(self) -> Option<u64> {
        match self {
            Self::Right(end) | Self::Flipped(end) => Some(end),
            Self::OfAnother(_) | Self::Torn | Self::Wrong => None,
        }
    }
}

/// The head of a segment.
pub(super) fn written(number: u64, previous_end: u64) -> Bytes {
    let mut head = [0; SEGMENT_HEAD_BYTES as usize];
    head[0..8].copy_from_slice(&MAGIC.to_le_bytes());
    head[8..16].copy_from_slice(&number.to_le_bytes());
    head[16..24].copy_from_slice(&previous_end.to_le_bytes());
    let crc = crc32c::of(&head[..24]);
    head[24..28].copy_from_slice(&crc.to_le_bytes());
    head
}

fn long(bytes: &Bytes, at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The end in the one head of that segment that is near enough. Only its end and its checksum are not
/// known, and a wrong bit of the checksum needs no search.
fn without_flips(bytes: &Bytes, number: u64) -> Option<u64> {
    let end = long(bytes, 16);
    let none_and_each = || std::iter::once(0).chain((0..64).map(|bit| 1 << bit));
    let pairs = none_and_each().flat_map(|one| none_and_each().map(move |other| one ^ other));
    let mut ends = pairs.map(|flips: u64| end ^ flips);
    ends.find(|end| distance(bytes, &written(number, *end)) <= FLIPPED_MAX)
}

fn distance(one: &Bytes, other: &Bytes) -> u32 {
    let bytes = one.iter().zip(other);
    bytes.map(|(one, other)| (one ^ other).count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use testkit::seed;

    use super::*;

    const BITS: usize = SEGMENT_HEAD_BYTES as usize * 8;

    fn flipped(head: &Bytes, bits: &[usize]) -> Bytes {
        let mut head = *head;
        bits.iter().for_each(|bit| head[bit / 8] ^= 1 << (bit % 8));
        head
    }

    fn read(head: &[u8]) -> Head {
        Head::read(head, 1 << 20, 7)
    }

    #[test]
    fn a_head_with_any_one_or_two_bits_flipped_is_noticed_and_says_the_same() {
        let head = written(7, 67_109_000);
        assert_eq!(read(&head), Head::Right(67_109_000));
        for one in 0..BITS {
            assert_eq!(read(&flipped(&head, &[one])), Head::Flipped(67_109_000));
            for other in (0..one).step_by(3) {
                let bad = flipped(&head, &[one, other]);
                assert_eq!(read(&bad), Head::Flipped(67_109_000), "{one} {other}");
            }
        }
    }

    #[test]
    fn a_head_with_more_bits_flipped_says_nothing() {
        let mut rng = seed::rng(seed::asked().unwrap_or(1));
        let head = written(7, 67_109_000);
        for _ in 0..100 {
            // Three different ones: two more would be needed to come near to another head.
            let one = seed::below(&mut rng, 80) as usize;
            let bits = [one, one + 1 + seed::below(&mut rng, 80) as usize, one + 90];
            assert_eq!(read(&flipped(&head, &bits)), Head::Wrong, "{bits:?}");
        }
        assert_eq!(read(&[0; 32]), Head::Wrong);
        assert_eq!(read(&[0xff; 32]), Head::Wrong);
        assert_eq!(read(&written(9, 64)), Head::OfAnother(9));
    }

    #[test]
    fn a_head_is_torn_only_if_nothing_can_lie_behind_it() {
        let head = written(7, 64);
        for length in 0..head.len() {
            assert_eq!(Head::read(&head[..length], length as u64, 7), Head::Torn);
        }
        assert_eq!(Head::read(&[0; 32], 32, 7), Head::Torn);
        assert_eq!(Head::read(&[0; 32], 33, 7), Head::Wrong);
        assert_eq!(Head::read(&head, 32, 7), Head::Right(64));
        assert_eq!(Head::read(&flipped(&head, &[77]), 32, 7), Head::Flipped(64));
    }
}
