//! Reading a file: footer and table once, then any range, every block checked before it is given.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{FOOTER_BYTES, MAGIC, crc32c};
use crate::engine::failure::{During, Failure, Result};

/// A file open for reading. It stays readable when the file is deleted.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    path: PathBuf,
    size: u64,
    block: u64,
    table: Vec<u8>,
}

impl BlobReader {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).during("open", path)?;
        let length = file.metadata().during("stat", path)?.len();
        let damaged = |why: &str| Failure::Damaged(format!("{}: {why}", path.display()));

        let at = length
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or_else(|| damaged("it is too short"))?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, at).during("read", path)?;
        let number = |at: usize| u32::from_le_bytes(footer[at..at + 4].try_into().expect("four"));
        let long = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().expect("eight"));

        let (size, block) = (long(8), u64::from(number(16)));
        let right = long(0) == MAGIC && number(24) == crc32c(&footer[..24]) && block > 0;
        let blocks = if right { size.div_ceil(block) } else { 0 };
        if !right || size + 4 * blocks + FOOTER_BYTES as u64 != length {
            return Err(damaged("its footer is wrong"));
        }

        let mut table =
            vec![0; usize::try_from(4 * blocks).map_err(|_| damaged("it is too long"))?];
        file.read_exact_at(&mut table, size).during("read", path)?;
        if crc32c(&table) != number(20) {
            return Err(damaged("its table is wrong"));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            size,
            block,
            table,
        })
    }

    /// Bytes of payload.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads a range that lies within the payload. Whole blocks are read and checked.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let first = range.start / self.block * self.block;
        let last = (range.end.div_ceil(self.block) * self.block).min(self.size);
        let size = usize::try_from(last - first).expect("callers read pieces of memory's size");

        let mut bytes = vec![0; size];
        self.file
            .read_exact_at(&mut bytes, first)
            .during("read", &self.path)?;
        self.check(&bytes, first / self.block)?;

        let cut = |at: u64| usize::try_from(at - first).expect("it lies within the piece");
        Ok(Bytes::from(bytes).slice(cut(range.start)..cut(range.end)))
    }

    fn check(&self, bytes: &[u8], first_block: u64) -> Result<()> {
        let first = usize::try_from(first_block).expect("the table is in memory") * 4;
        let sums = self.table[first..].chunks_exact(4);
        let block = usize::try_from(self.block).expect("it was a u32");

        for (at, (data, sum)) in bytes.chunks(block).zip(sums).enumerate() {
            if crc32c(data).to_le_bytes() != sum {
                let block = first_block + at as u64;
                let what = format!(
                    "{}: block {block} is not what was written",
                    self.path.display()
                );
                return Err(Failure::Damaged(what));
            }
        }
        Ok(())
    }
}
