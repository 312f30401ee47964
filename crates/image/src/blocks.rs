//! A file as blocks, each named by its SHA-256, while the file is written front to back: what a node
//! tells others of a disk that it made, without reading it again.

use std::mem;

use crate::digest::{Sha256, Sha256Digest};

/// The size of a block: a thousand digests for a 4 GB image, and a fraction of a second on any
/// network.
pub const BLOCK_BYTES: u64 = 4 << 20;

/// Digests of a file's blocks. What is passed over is zeros, and a block in which nothing else is has
/// no digest.
#[derive(Debug, Default)]
pub(crate) struct BlockDigests {
    /// The block at work.
    number: u64,
    sha256: Sha256,
    /// Bytes of it that were hashed; a block is at work if there are any.
    hashed: u64,
    done: Vec<(u64, Sha256Digest)>,
}

impl BlockDigests {
    /// Takes bytes that lie behind all that came before.
    pub(crate) fn take(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (number, within) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            if number != self.number {
                self.end(BLOCK_BYTES);
                self.number = number;
            }
            let length = bytes.len().min((BLOCK_BYTES - within) as usize);
            let (now, later) = bytes.split_at(length);
            self.zeros_up_to(within);
            self.sha256.update(now);
            self.hashed += length as u64;
            (at, bytes) = (at + length as u64, later);
        }
    }

    /// The blocks of a file of that length which are not all zeros, in order.
    pub(crate) fn finish(mut self, file_bytes: u64) -> Vec<(u64, Sha256Digest)> {
        self.end(file_bytes - (self.number * BLOCK_BYTES).min(file_bytes));
        self.done
    }

    /// Ends the block at work, which is so long at most.
    fn end(&mut self, length: u64) {
        if self.hashed > 0 {
            self.zeros_up_to(length.min(BLOCK_BYTES));
            self.hashed = 0;
            let digest = Sha256Digest::from_hasher(mem::take(&mut self.sha256));
            self.done.push((self.number, digest));
        }
    }

    fn zeros_up_to(&mut self, within: u64) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while self.hashed < within {
            let now = (within - self.hashed).min(ZEROS.len() as u64);
            self.sha256.update(&ZEROS[..now as usize]);
            self.hashed += now;
        }
    }
}

/// One digest of a whole file from those of its blocks: SHA-256 over each block's number (eight bytes,
/// little-endian) and digest, and the file's length in the same form.
pub(crate) fn whole(blocks: &[(u64, Sha256Digest)], file_bytes: u64) -> Sha256Digest {
    let mut sha256 = Sha256::default();
    for (number, digest) in blocks {
        sha256.update(&number.to_le_bytes());
        sha256.update(digest.as_bytes());
    }
    sha256.update(&file_bytes.to_le_bytes());
    Sha256Digest::from_hasher(sha256)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What reading the file again would find.
    fn read_again(file: &[u8]) -> Vec<(u64, Sha256Digest)> {
        let blocks = file.chunks(BLOCK_BYTES as usize).zip(0..);
        let data = blocks.filter(|(block, _)| block.iter().any(|byte| *byte != 0));
        data.map(|(block, number)| (number, Sha256Digest::of(block)))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn digests_made_on_the_way_are_those_of_the_file(
            pieces in proptest::collection::vec((0usize..9_000_000, 1usize..6_000_000), 0..4),
            tail in 0usize..5_000_000,
        ) {
            let (mut digests, mut file) = (BlockDigests::default(), Vec::new());
            for (index, (hole, length)) in pieces.into_iter().enumerate() {
                file.resize(file.len() + hole, 0);
                let at = file.len();
                file.resize(at + length, index as u8 + 1);
                for (step, part) in file[at..].chunks(1_000_000).enumerate() {
                    digests.take((at + step * 1_000_000) as u64, part);
                }
            }
            file.resize(file.len() + tail, 0);
            prop_assert_eq!(digests.finish(file.len() as u64), read_again(&file));
        }
    }

    #[test]
    fn the_digest_of_a_whole_tells_length_and_place_apart() {
        let block = |number| (number, Sha256Digest::of(b"a block"));
        let digests = [
            whole(&[], 0),
            whole(&[], 1),
            whole(&[block(0)], BLOCK_BYTES),
            whole(&[block(1)], 2 * BLOCK_BYTES),
            whole(&[block(0)], 2 * BLOCK_BYTES),
            whole(&[block(0), block(1)], 2 * BLOCK_BYTES),
        ];
        let mut different = digests.to_vec();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), digests.len());
    }
}
