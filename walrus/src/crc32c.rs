//! CRC-32C (Castagnoli), the checksum of all that lies on the disk: any one or two flipped bits of a
//! stretch as long as ours are noticed.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of bytes that are all there.
pub(crate) fn of(bytes: &[u8]) -> u32 {
    let mut digest = digest();
    digest.update(bytes);
    value(&digest)
}

/// One in the making.
pub(crate) fn digest() -> Digest {
    Digest::new(CrcAlgorithm::Crc32Iscsi)
}

/// What it has come to.
pub(crate) fn value(digest: &Digest) -> u32 {
    u32::try_from(digest.finalize()).expect("a CRC-32 has 32 bits")
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_published_one() {
        // The check value of the catalogue.
        assert_eq!(super::of(b"123456789"), 0xe306_9283);
    }
}
