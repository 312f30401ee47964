//! What stands in a file, wherever it lies: data, then a checksum of each block, then a footer.
//!
//! ```text
//! data | crc32c of each 64 KiB of data (u32 each) | footer, 32 bytes
//! footer: magic u64, data length u64, block size u32, crc32c of the table u32, crc32c of the footer u32, zero u32
//! ```

use super::Reading;
use crate::{
    crc32c,
    engine::failure::{Failure, Result},
};

/// Bytes under one checksum: what a range read must at least read and check.
pub const BLOCK_BYTES: usize = 64 << 10;
const FOOTER_BYTES: usize = 32;
const MAGIC: u64 = u64::from_le_bytes(*b"MWBLOB01");

/// The checksums of data that comes in pieces of any size.
#[derive(Debug)]
pub(super) struct Sums {
    size: u64,
    table: Vec<u8>,
    block: crc_fast::Digest,
    in_block: usize,
}

impl Sums {
    pub(super) fn new() -> Self {
        Self {
            size: 0,
            table: Vec::new(),
            block: crc32c::digest(),
            in_block: 0,
        }
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        self.size += data.len() as u64;
        let mut rest = data;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK_BYTES - self.in_block));
            self.block.update(now);
            self.in_block += now.len();
            if self.in_block == BLOCK_BYTES {
                self.end_block();
            }
            rest = later;
        }
    }

    fn end_block(&mut self) {
        let block = std::mem::replace(&mut self.block, crc32c::digest());
        self.table
            .extend_from_slice(&crc32c::value(&block).to_le_bytes());
        self.in_block = 0;
    }

    /// What stands behind the data: table and footer.
    pub(super) fn trailer(mut self) -> Vec<u8> {
        if self.in_block > 0 {
            self.end_block();
        }
        let footer = footer(self.size, crc32c::of(&self.table));
        self.table.extend_from_slice(&footer);
        self.table
    }
}

/// How a file is laid out, as its own end says.
#[derive(Debug)]
pub(super) struct Layout {
    /// Bytes of data.
    pub(super) size: u64,
    /// Bytes of a block.
    pub(super) block: u64,
    table: Vec<u8>,
}

impl Layout {
    /// Reads and checks the end of a file.
    pub(super) fn read(file: &dyn Reading) -> Result<Self> {
        let length = file.length();
        let damaged = |why: &str| Failure::Damaged(format!("{}: {why}", file.place()));

        let at = length
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or_else(|| damaged("it is too short"))?;
        let footer = file.read(at..length)?;
        let number = |at: usize| u32::from_le_bytes(footer[at..at + 4].try_into().expect("four"));
        let long = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().expect("eight"));

        let (size, block) = (long(8), u64::from(number(16)));
        let right = long(0) == MAGIC && number(24) == crc32c::of(&footer[..24]) && block > 0;
        let blocks = if right { size.div_ceil(block) } else { 0 };
        if !right || size + 4 * blocks + FOOTER_BYTES as u64 != length {
            return Err(damaged("its footer is wrong"));
        }
        let table = file.read(size..at)?;
        if crc32c::of(&table) != number(20) {
            return Err(damaged("its table is wrong"));
        }
        Ok(Self {
            size,
            block,
            table: table.to_vec(),
        })
    }

    /// Checks whole blocks; the number of the first that is not what was written comes back.
    pub(super) fn check(&self, bytes: &[u8], first_block: u64) -> Result<(), u64> {
        let first = usize::try_from(first_block).expect("the table is in memory") * 4;
        let sums = self.table[first..].chunks_exact(4);
        let block = usize::try_from(self.block).expect("it was a u32");
        let wrong = bytes
            .chunks(block)
            .zip(sums)
            .position(|(data, sum)| crc32c::of(data).to_le_bytes() != sum);
        match wrong {
            None => Ok(()),
            Some(at) => Err(first_block + at as u64),
        }
    }
}

fn footer(size: u64, table_crc: u32) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[0..8].copy_from_slice(&MAGIC.to_le_bytes());
    footer[8..16].copy_from_slice(&size.to_le_bytes());
    footer[16..20].copy_from_slice(&(BLOCK_BYTES as u32).to_le_bytes());
    footer[20..24].copy_from_slice(&table_crc.to_le_bytes());
    let crc = crc32c::of(&footer[..24]);
    footer[24..28].copy_from_slice(&crc.to_le_bytes());
    footer
}
