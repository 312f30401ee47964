//! A frame: the unit of the journal that is there whole or not at all. It holds facts that became
//! true together, and the bytes of the one object among them that is kept inline.
//!
//! ```text
//! 0   magic      u32   all numbers little-endian
//! 4   facts len  u32
//! 8   body len   u32
//! 12  batch      u64   which group commit wrote it
//! 20  crc32c     u32   over bytes 4..20, facts and body
//! 24  facts (JSON), body, zeros up to a multiple of 8
//! ```

use bytes::Bytes;

use super::facts::Fact;
use crate::crc32c;

/// `MWJ1`: Mallee Walrus journal, first format.
const MAGIC: u32 = u32::from_le_bytes(*b"MWJ1");
/// Bytes before the facts.
pub const HEAD_BYTES: usize = 24;
/// Frames begin at multiples of this, so that a scan can find the next one behind damage.
pub const ALIGN: usize = 8;
/// The largest frame: 10,000 parts of a completed upload are a few megabytes of JSON.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The bytes end before the frame does.
    #[error("the frame is cut off")]
    Short,
    /// These bytes were never a frame, or the head is damaged.
    #[error("there is no frame here")]
    NoMagic,
    /// The checksum is wrong.
    #[error("the checksum is wrong")]
    Checksum,
    /// The checksum is right and the facts can't be read: a newer version wrote them.
    #[error("the facts cannot be read: {0}")]
    Facts(String),
}

/// A frame that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Which group commit wrote it.
    pub batch: u64,
    /// What became true.
    pub facts: Vec<Fact>,
    /// The inline body.
    pub body: Bytes,
}

/// Appends a frame to a buffer and says how many bytes it took.
pub fn write(out: &mut Vec<u8>, batch: u64, facts: &[Fact], body: &[u8]) -> usize {
    let facts = serde_json::to_vec(facts).expect("facts hold nothing that JSON cannot say");
    let start = out.len();

    let number = |len: usize| u32::try_from(len).expect("bodies and facts are limited before");
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&number(facts.len()).to_le_bytes());
    out.extend_from_slice(&number(body.len()).to_le_bytes());
    out.extend_from_slice(&batch.to_le_bytes());
    let crc = checksum(&out[start + 4..], &facts, body);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&facts);
    out.extend_from_slice(body);
    out.resize(start + (out.len() - start).next_multiple_of(ALIGN), 0);

    out.len() - start
}

fn checksum(head: &[u8], facts: &[u8], body: &[u8]) -> u32 {
    let mut digest = crc32c::digest();
    digest.update(head);
    digest.update(facts);
    digest.update(body);
    crc32c::value(&digest)
}

/// The length that a frame's head announces, padding included.
pub fn announced(head: &[u8]) -> Result<usize, BadFrame> {
    if head.len() < HEAD_BYTES {
        return Err(BadFrame::Short);
    }
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    if number(0) != MAGIC {
        return Err(BadFrame::NoMagic);
    }
    let length = HEAD_BYTES + number(4) as usize + number(8) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(BadFrame::NoMagic);
    }
    Ok(length.next_multiple_of(ALIGN))
}

/// Reads the frame at the start of the bytes.
pub fn read(bytes: &Bytes) -> Result<Frame, BadFrame> {
    let length = announced(bytes)?;
    if bytes.len() < length {
        return Err(BadFrame::Short);
    }
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let (facts_len, body_len) = (number(4) as usize, number(8) as usize);
    let facts = &bytes[HEAD_BYTES..HEAD_BYTES + facts_len];
    let body = bytes.slice(HEAD_BYTES + facts_len..HEAD_BYTES + facts_len + body_len);

    if checksum(&bytes[4..20], facts, &body) != number(20) {
        return Err(BadFrame::Checksum);
    }
    let batch = u64::from_le_bytes(bytes[12..20].try_into().expect("eight bytes"));
    let facts =
        serde_json::from_slice(facts).map_err(|error| BadFrame::Facts(error.to_string()))?;
    Ok(Frame { batch, facts, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(key: &str) -> Fact {
        Fact::ObjectGone {
            bucket: s3::BucketName::parse("bucket").unwrap(),
            key: s3::Key::parse(key).unwrap(),
            version: s3::VersionId::null(),
        }
    }

    #[test]
    fn a_frame_comes_back_as_it_was_written() {
        let mut out = vec![];
        let first = write(&mut out, 7, &[gone("a"), gone("b")], b"body");
        write(&mut out, 8, &[], b"");
        let bytes = Bytes::from(out);

        let frame = read(&bytes).unwrap();
        assert_eq!(
            (frame.batch, frame.facts.len(), &frame.body[..]),
            (7, 2, &b"body"[..])
        );
        assert_eq!(first % ALIGN, 0);
        assert_eq!(read(&bytes.slice(first..)).unwrap().batch, 8);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let mut out = vec![];
        write(&mut out, 7, &[gone("some key")], b"some body");
        let padding = out.len() - out.iter().rposition(|&byte| byte != 0).unwrap() - 1;

        for bit in 0..(out.len() - padding) * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&Bytes::from(bad)).is_err(), "bit {bit}");
        }
        for cut in 0..out.len() {
            assert!(
                read(&Bytes::copy_from_slice(&out[..cut])).is_err(),
                "cut {cut}"
            );
        }
    }
}
