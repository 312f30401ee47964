//! Gzip members that say how long they are, and so can be inflated in one go.
//!
//! A reader of gzip learns where a member ends only by inflating it, piece by piece. One that is told
//! beforehand, and that no member holds more than [`PIECE_BYTES`], inflates from one buffer to another
//! without looking for the end of either at each symbol: half as fast again. The length stands in a
//! subfield of the header's extra field (RFC 1952, 2.3.1.1), as in BGZF's members, which cannot be
//! longer than 64 KiB; whoever does not know it passes over it.
//!
//! ```text
//! 1f 8b 08 04  time = 0  04 ff   08 00   'M' 'L' 04 00 length   deflate   CRC-32  length of the piece
//! ```

use crc_fast::{CrcAlgorithm, checksum};
use libdeflater::{CompressionLvl, Compressor};

/// What a member holds at most. A new dictionary for each costs a hundredth of it.
pub(crate) const PIECE_BYTES: usize = 256 << 10;
/// Bytes of a member at most: a piece that does not compress becomes a little longer.
pub(crate) const MEMBER_BYTES_MAX: usize = PIECE_BYTES + PIECE_BYTES / 512 + 64;
/// The checksum and the length at a member's end.
pub(crate) const TRAILER_BYTES: usize = 8;

/// Deflate, an extra field, no time, the fastest way of packing, no known system; then the extra
/// field's length and the subfield's name and length.
const HEADER: [u8; 16] = [
    0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 4, 255, 8, 0, NAME[0], NAME[1], 4, 0,
];
/// The subfield's name: member length.
const NAME: [u8; 2] = *b"ML";
const LENGTH_BYTES: usize = size_of::<u32>();
/// libdeflate's 1 packs better than zlib's and as fast; its 2 takes a quarter longer for a twenty-fifth.
const LEVEL: i32 = 1;

/// Packs pieces into members.
pub(crate) struct Packer(Compressor);

impl Packer {
    pub(crate) fn new() -> Self {
        let level = CompressionLvl::new(LEVEL).expect("libdeflate has levels 0 to 12");
        Self(Compressor::new(level))
    }

    /// Makes `member` the member of a piece of at most [`PIECE_BYTES`]. The same piece makes the same.
    pub(crate) fn pack(&mut self, piece: &[u8], member: &mut Vec<u8>) {
        debug_assert!(piece.len() <= PIECE_BYTES);
        let start = HEADER.len() + LENGTH_BYTES;
        member.clear();
        member.resize(start + self.0.deflate_compress_bound(piece.len()), 0);
        let packed = self
            .0
            .deflate_compress(piece, &mut member[start..])
            .expect("the bound on what comes out is libdeflate's own");
        member.truncate(start + packed);
        member
            .extend_from_slice(&(checksum(CrcAlgorithm::Crc32IsoHdlc, piece) as u32).to_le_bytes());
        member.extend_from_slice(&(piece.len() as u32).to_le_bytes());

        let length = member.len() as u32;
        member[..HEADER.len()].copy_from_slice(&HEADER);
        member[HEADER.len()..start].copy_from_slice(&length.to_le_bytes());
    }
}

/// How long a member with this extra field says that it is, from its first byte to its last.
pub(crate) fn announced(mut extra: &[u8]) -> Option<usize> {
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (field, after) = rest.split_at_checked(length)?;
        if head[..2] == NAME {
            let length = u32::from_le_bytes(field.try_into().ok()?);
            return usize::try_from(length).ok();
        }
        extra = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    fn packed(piece: &[u8]) -> Vec<u8> {
        let mut member = vec![9; 3];
        Packer::new().pack(piece, &mut member);
        member
    }

    #[test]
    fn the_longest_member_is_one_of_noise() {
        let mut noise = vec![0; PIECE_BYTES];
        rand::fill(&mut noise[..]);
        let length = packed(&noise).len();
        assert!(
            (PIECE_BYTES..=MEMBER_BYTES_MAX).contains(&length),
            "{length}"
        );
    }

    #[test]
    fn the_length_is_found_among_other_fields_and_nothing_is_read_beyond_them() {
        let field = |name: &[u8], content: &[u8]| {
            [name, &(content.len() as u16).to_le_bytes(), content].concat()
        };
        let ours = field(b"ML", &[1, 2, 0, 0]);
        assert_eq!(announced(&ours), Some(513));
        assert_eq!(
            announced(&[field(b"Ap", &[7; 9]), ours.clone()].concat()),
            Some(513)
        );
        assert_eq!(announced(&field(b"Ap", &ours)), None);
        assert_eq!(announced(&field(b"ML", &[1, 2, 0])), None);
        for cut in 0..ours.len() {
            assert_eq!(announced(&ours[..cut]), None, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_reader_unpacks_a_member_and_it_is_as_long_as_it_says(
            piece in proptest::collection::vec(any::<u8>(), 0..5000),
        ) {
            let member = packed(&piece);
            let mut gzip = GzDecoder::new(member.as_slice());
            let mut found = Vec::new();
            gzip.read_to_end(&mut found).unwrap();
            prop_assert_eq!(found, piece);
            let extra = gzip.header().and_then(|header| header.extra()).unwrap();
            prop_assert_eq!(announced(extra), Some(member.len()));
        }
    }
}
