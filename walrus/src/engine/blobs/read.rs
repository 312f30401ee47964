//! Reading a file: its end once, then any range, every block checked before it is given.

use std::ops::Range;

use bytes::Bytes;

use super::{Reading, format::Layout};
use crate::engine::failure::{Failure, Result};

/// A file open for reading. It stays readable when the file is deleted while somebody has it pinned.
#[derive(Debug)]
pub struct BlobReader {
    file: Box<dyn Reading>,
    layout: Layout,
}

impl BlobReader {
    pub(super) fn open(file: Box<dyn Reading>) -> Result<Self> {
        let layout = Layout::read(&*file)?;
        Ok(Self { file, layout })
    }

    /// Bytes of payload.
    pub fn size(&self) -> u64 {
        self.layout.size
    }

    /// Reads a range that lies within the payload. Whole blocks are read and checked.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let block = self.layout.block;
        let first = range.start / block * block;
        let last = (range.end.div_ceil(block) * block).min(self.layout.size);
        let bytes = self.file.read(first..last)?;
        self.check(&bytes, first / block)?;

        let cut = |at: u64| usize::try_from(at - first).expect("it lies within the piece");
        Ok(bytes.slice(cut(range.start)..cut(range.end)))
    }

    fn check(&self, bytes: &[u8], first_block: u64) -> Result<()> {
        self.layout.check(bytes, first_block).map_err(|block| {
            let place = self.file.place();
            Failure::Damaged(format!("{place}: block {block} is not what was written"))
        })
    }
}
