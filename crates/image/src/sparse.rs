//! A file written front to back in which blocks of zeros become holes, and which is hashed on its way,
//! block by block ([`blocks`](crate::blocks)). Zeros, which are most of a file system's image, cost
//! nothing.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::{blocks::BlockDigests, digest::Sha256Digest, write_behind::WriteBehind};

/// The unit that is kept or skipped: the block size of the file systems that hold images.
const BLOCK: usize = 4096;

/// A file that is complete and durable.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Bytes that were not holes.
    pub(crate) data_bytes: u64,
    /// The digests of the blocks of [`BLOCK_BYTES`](crate::blocks::BLOCK_BYTES) that are not all zeros.
    pub(crate) blocks: Vec<(u64, Sha256Digest)>,
}

/// The writer. The file must be new and empty, so that what is skipped reads as zeros.
#[derive(Debug)]
pub(crate) struct SparseFile {
    file: File,
    /// Where `pending` begins in the file; a multiple of [`BLOCK`].
    start: u64,
    /// The beginning of a block whose rest has not come; whole blocks are written from where they are.
    pending: Vec<u8>,
    data_bytes: u64,
    digests: BlockDigests,
    behind: WriteBehind,
}

impl SparseFile {
    /// Begins at `start`, which is a whole number of blocks.
    pub(crate) fn new(file: File, start: u64) -> Self {
        debug_assert!(start.is_multiple_of(BLOCK as u64));
        Self {
            file,
            start,
            pending: Vec::with_capacity(BLOCK),
            data_bytes: 0,
            digests: BlockDigests::default(),
            behind: WriteBehind::default(),
        }
    }

    /// Appends `data`.
    pub(crate) fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        if !self.pending.is_empty() {
            let (now, later) = data.split_at(data.len().min(BLOCK - self.pending.len()));
            self.pending.extend_from_slice(now);
            data = later;
            if self.pending.len() < BLOCK {
                return Ok(());
            }
            self.flush()?;
        }
        let (whole, rest) = data.split_at(data.len() / BLOCK * BLOCK);
        self.put(whole)?;
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    /// Appends `count` zeros; whole blocks of them cost nothing.
    pub(crate) fn write_zeros(&mut self, mut count: u64) -> io::Result<()> {
        let to_block = self.pending.len().next_multiple_of(BLOCK) - self.pending.len();
        let pad = count.min(to_block as u64);
        self.write(&[0; BLOCK][..pad as usize])?;
        count -= pad;
        let tail = count % BLOCK as u64;
        // Nothing is pending where there are whole blocks to skip.
        self.start += count - tail;
        self.write(&[0; BLOCK][..tail as usize])
    }

    /// Writes what is pending, sets the file's length, and makes both durable.
    pub(crate) fn finish(mut self, length: u64) -> io::Result<Finished> {
        self.flush()?;
        self.file.set_len(length)?;
        self.behind.finish()?;
        self.file.sync_all()?;
        Ok(Finished {
            data_bytes: self.data_bytes,
            blocks: self.digests.finish(length),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        self.put(&pending)?;
        pending.clear();
        self.pending = pending;
        Ok(())
    }

    /// Writes each run of blocks that are not all zero.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let skip = is_zero(&bytes[..bytes.len().min(BLOCK)]);
            let blocks = bytes
                .chunks(BLOCK)
                .take_while(|block| is_zero(block) == skip);
            let length = blocks.map(<[u8]>::len).sum();
            let (run, rest) = bytes.split_at(length);
            if !skip {
                self.file.write_all_at(run, self.start)?;
                self.data_bytes += length as u64;
                self.behind.wrote(&self.file, length as u64)?;
                self.digests.take(self.start, run);
            }
            self.start += length as u64;
            bytes = rest;
        }
        Ok(())
    }
}

/// Whether all bytes are zero, by comparing with zeros: as fast as memory.
fn is_zero(block: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    block == &ZEROS[..block.len()]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gibibyte_of_zeros_takes_no_room() {
        let file = tempfile::tempfile().unwrap();
        let mut sparse = SparseFile::new(file.try_clone().unwrap(), 0);
        sparse.write(b"start").unwrap();
        sparse.write_zeros(1 << 30).unwrap();
        sparse.write(&[0; 1 << 20]).unwrap();
        sparse.write(b"end").unwrap();
        let done = sparse.finish((1 << 30) + (1 << 20) + 8).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 < 64 * 1024);
        assert!(done.data_bytes <= 2 * BLOCK as u64);
        let mut end = [0; 3];
        file.read_exact_at(&mut end, (1 << 30) + (1 << 20) + 5)
            .unwrap();
        assert_eq!(&end, b"end");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_written_is_read(
            pieces in proptest::collection::vec((any::<bool>(), 0usize..300_000), 1..8)
        ) {
            let file = tempfile::tempfile().unwrap();
            let mut sparse = SparseFile::new(file.try_clone().unwrap(), 0);
            let mut expected = Vec::new();
            for (index, (zero, length)) in pieces.into_iter().enumerate() {
                let fill = if zero { 0 } else { index as u8 + 1 };
                expected.resize(expected.len() + length, fill);
                match zero {
                    true => sparse.write_zeros(length as u64).unwrap(),
                    false => sparse.write(&vec![fill; length]).unwrap(),
                }
            }
            let done = sparse.finish(expected.len() as u64).unwrap();
            let mut whole = SparseFile::new(tempfile::tempfile().unwrap(), 0);
            whole.write(&expected).unwrap();
            let whole = whole.finish(expected.len() as u64).unwrap();
            prop_assert_eq!(whole.blocks, done.blocks, "however it came");
            let mut found = vec![0; expected.len()];
            file.read_exact_at(&mut found, 0).unwrap();
            prop_assert!(found == expected);
        }
    }
}
