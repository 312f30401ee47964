//! An entry as blocks: what a node tells the cloud of an entry that it made from a bundle, and how a
//! block travels from node to node.
//!
//! A block is 4 MiB, named by the SHA-256 of its bytes; blocks of zeros are not named and never
//! travel. A block on its way is a bit for each of its pages that is not all zeros, and then those
//! pages: an image is mostly holes, and they cost neither network nor disk.

use std::{fs::File, io, os::unix::fs::FileExt};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use control::caches::Blocks;
use image::{blocks::BLOCK_BYTES, digest::Sha256Digest};

/// The unit that is sent or left out: the block size of the file systems that hold images.
const PAGE_BYTES: usize = 4096;
/// A packed block at most: all its pages, and their bits.
pub const PACKED_BYTES_MAX: usize = BLOCK_BYTES as usize + BLOCK_BYTES as usize / PAGE_BYTES / 8;
/// The largest entry that is taken from peers: 64 TiB, beyond any disk of a lab.
const FILE_BYTES_MAX: u64 = 64 << 40;

/// What an entry must come to, block by block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    file_bytes: u64,
    /// The blocks that are not all zeros, in order.
    data: Vec<(u64, Sha256Digest)>,
}

impl BlockMap {
    /// The map of a file of which these are the blocks that are not all zeros, in order.
    pub fn new(file_bytes: u64, data: Vec<(u64, Sha256Digest)>) -> Self {
        Self { file_bytes, data }
    }

    /// Reads a block of the file again, which has changed.
    pub fn reread(&mut self, file: &File, number: u64) -> io::Result<()> {
        let mut block = vec![0; length(self.file_bytes, number)];
        file.read_exact_at(&mut block, number * BLOCK_BYTES)?;
        let found = self
            .data
            .binary_search_by_key(&number, |(number, _)| *number);
        match (found, block.chunks(PAGE_BYTES).all(is_zero)) {
            (Ok(at), true) => drop(self.data.remove(at)),
            (Ok(at), false) => self.data[at].1 = Sha256Digest::of(&block),
            (Err(at), false) => self.data.insert(at, (number, Sha256Digest::of(&block))),
            (Err(_), true) => {}
        }
        Ok(())
    }

    /// As the cloud keeps it.
    pub fn to_message(&self) -> Blocks {
        let numbers: Vec<u64> = self.data.iter().map(|(number, _)| *number).collect();
        let runs = numbers.chunk_by(|a, b| a + 1 == *b);
        let digests: Vec<u8> = self
            .data
            .iter()
            .flat_map(|(_, digest)| *digest.as_bytes())
            .collect();
        Blocks {
            block_bytes: BLOCK_BYTES,
            file_bytes: self.file_bytes,
            runs: runs.map(|run| (run[0], run.len() as u64)).collect(),
            sha256: STANDARD.encode(digests),
        }
    }

    /// Reads what the cloud told.
    pub fn parse(message: &Blocks) -> Result<Self, &'static str> {
        if message.block_bytes != BLOCK_BYTES {
            return Err("its blocks have another size than ours");
        }
        if message.file_bytes > FILE_BYTES_MAX {
            return Err("it is larger than any image");
        }
        let digests = STANDARD
            .decode(&message.sha256)
            .map_err(|_| "its digests are not base64")?;
        let (digests, rest) = digests.as_chunks::<32>();
        let count = message.file_bytes.div_ceil(BLOCK_BYTES);
        let mut numbers = Vec::with_capacity(digests.len());
        let mut free = 0;
        for (first, length) in &message.runs {
            let end = first.checked_add(*length).filter(|end| *end <= count);
            let end = end.ok_or("it has blocks beyond its end")?;
            if *first < free || end - first > (digests.len() - numbers.len()) as u64 {
                return Err("its blocks and its digests do not go together");
            }
            numbers.extend(*first..end);
            free = end;
        }
        if !rest.is_empty() || numbers.len() != digests.len() {
            return Err("its blocks and its digests do not go together");
        }
        let digests = digests.iter().map(|digest| Sha256Digest::from(*digest));
        Ok(Self {
            file_bytes: message.file_bytes,
            data: numbers.into_iter().zip(digests).collect(),
        })
    }

    /// The size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// What the file takes on disk at most.
    pub fn data_bytes(&self) -> u64 {
        let of = |(number, _): &(u64, Sha256Digest)| length(self.file_bytes, *number) as u64;
        self.data.iter().map(of).sum()
    }

    /// The blocks that are not all zeros, in order.
    pub fn data(&self) -> &[(u64, Sha256Digest)] {
        &self.data
    }

    /// Unpacks a block that came from a peer, if it is the one it is to be.
    pub fn check(&self, number: u64, packed: &[u8]) -> Result<Vec<u8>, &'static str> {
        let at = self
            .data
            .binary_search_by_key(&number, |(number, _)| *number);
        let (_, digest) = self.data[at.map_err(|_| "it is a hole")?];
        let block = unpack(packed, length(self.file_bytes, number))?;
        match Sha256Digest::of(&block) == digest {
            true => Ok(block),
            false => Err("it has another digest"),
        }
    }
}

/// How long a block of a file is.
fn length(file_bytes: u64, number: u64) -> usize {
    (file_bytes.saturating_sub(number * BLOCK_BYTES)).min(BLOCK_BYTES) as usize
}

/// A block of a file, packed; none beyond its end.
pub fn read_packed(file: &File, number: u64) -> io::Result<Option<Bytes>> {
    let file_bytes = file.metadata()?.len();
    if number
        .checked_mul(BLOCK_BYTES)
        .is_none_or(|at| at >= file_bytes)
    {
        return Ok(None);
    }
    let mut block = vec![0; length(file_bytes, number)];
    file.read_exact_at(&mut block, number * BLOCK_BYTES)?;
    Ok(Some(pack(&block)))
}

/// Writes a checked block; pages of zeros stay holes.
pub fn write(file: &File, number: u64, block: &[u8]) -> io::Result<()> {
    let pages: Vec<&[u8]> = block.chunks(PAGE_BYTES).collect();
    let mut at = 0;
    for run in pages.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
        let length = run.iter().map(|page| page.len()).sum::<usize>();
        if !is_zero(run[0]) {
            file.write_all_at(&block[at..at + length], number * BLOCK_BYTES + at as u64)?;
        }
        at += length;
    }
    Ok(())
}

fn pack(block: &[u8]) -> Bytes {
    let pages = block.chunks(PAGE_BYTES);
    let bits = pages.len().div_ceil(8);
    // Room for all of it: most blocks are full, and one that grows is copied again and again.
    let mut packed = Vec::with_capacity(bits + block.len());
    packed.resize(bits, 0);
    for (index, page) in pages.enumerate() {
        if !is_zero(page) {
            packed[index / 8] |= 1 << (index % 8);
            packed.extend_from_slice(page);
        }
    }
    packed.into()
}

fn unpack(packed: &[u8], length: usize) -> Result<Vec<u8>, &'static str> {
    let pages = length.div_ceil(PAGE_BYTES);
    let (bits, mut rest) = packed
        .split_at_checked(pages.div_ceil(8))
        .ok_or("it is cut short")?;
    let mut block = vec![0; length];
    for (index, page) in block.chunks_mut(PAGE_BYTES).enumerate() {
        if bits[index / 8] & (1 << (index % 8)) != 0 {
            let (now, later) = rest.split_at_checked(page.len()).ok_or("it is cut short")?;
            page.copy_from_slice(now);
            rest = later;
        }
    }
    match rest.is_empty() {
        true => Ok(block),
        false => Err("it is longer than it says"),
    }
}

fn is_zero(page: &[u8]) -> bool {
    static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
    page == &ZEROS[..page.len()]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    impl BlockMap {
        /// The map of a file, read whole.
        fn of(file: &File) -> io::Result<Self> {
            let mut map = Self::new(file.metadata()?.len(), Vec::new());
            (0..map.file_bytes.div_ceil(BLOCK_BYTES))
                .try_for_each(|number| map.reread(file, number))?;
            Ok(map)
        }
    }

    /// A sparse file: some blocks whole, some with one page, some holes, and a short end.
    fn sparse(pieces: &[(u64, &[u8])], file_bytes: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(file_bytes).unwrap();
        for (at, bytes) in pieces {
            file.write_all_at(bytes, *at).unwrap();
        }
        file
    }

    #[test]
    fn an_entry_that_is_copied_by_its_blocks_is_the_same_and_as_sparse() {
        let noise: Vec<u8> = (0..BLOCK_BYTES).map(|n| ((n * n) >> 7) as u8 | 1).collect();
        let end = 5 * BLOCK_BYTES + 1000;
        let pieces = [
            (0, &noise[..]),
            (2 * BLOCK_BYTES + 8192, b"x"),
            (end - 3, b"end"),
        ];
        let original = sparse(&pieces, end);
        let map = BlockMap::of(&original).unwrap();
        assert_eq!(BlockMap::parse(&map.to_message()), Ok(map.clone()));
        assert_eq!(map.to_message().runs, [(0, 1), (2, 1), (5, 1)]);

        let copy = tempfile::tempfile().unwrap();
        copy.set_len(map.file_bytes()).unwrap();
        let mut travelled = 0;
        for (number, _) in map.data() {
            let packed = read_packed(&original, *number).unwrap().unwrap();
            travelled += packed.len() as u64;
            write(&copy, *number, &map.check(*number, &packed).unwrap()).unwrap();
        }
        assert_eq!(BlockMap::of(&copy).unwrap(), map);
        assert!(
            travelled < BLOCK_BYTES + 20_000,
            "{travelled} bytes travelled"
        );
        assert!(copy.metadata().unwrap().blocks() <= original.metadata().unwrap().blocks());
        assert_eq!(read_packed(&original, 6).unwrap(), None);
        assert_eq!(read_packed(&original, u64::MAX).unwrap(), None);
    }

    #[test]
    fn a_block_that_changed_is_read_again() {
        let file = sparse(&[(BLOCK_BYTES, b"data")], 3 * BLOCK_BYTES);
        let mut map = BlockMap::of(&file).unwrap();
        let changes = [
            (0, b"boot", 2),
            (BLOCK_BYTES, b"atad", 2),
            (BLOCK_BYTES, b"\0\0\0\0", 1),
        ];
        for (at, bytes, blocks) in changes {
            file.write_all_at(bytes, at).unwrap();
            map.reread(&file, at / BLOCK_BYTES).unwrap();
            assert_eq!(map, BlockMap::of(&file).unwrap());
            assert_eq!(map.data().len(), blocks);
        }
    }

    #[test]
    fn what_is_not_the_block_is_refused() {
        let file = sparse(&[(0, b"data")], 2 * BLOCK_BYTES);
        let map = BlockMap::of(&file).unwrap();
        let good = read_packed(&file, 0).unwrap().unwrap();
        assert!(map.check(0, &good).is_ok());
        let mut bad = good.to_vec();
        bad[200] ^= 1;
        let longer = [&good[..], b"x"].concat();
        for wrong in [&bad[..], &longer, &good[..good.len() - 1], b"", &[0; 128]] {
            assert!(map.check(0, wrong).is_err());
        }
        assert!(map.check(1, &good).is_err());
    }

    #[test]
    fn what_is_not_a_map_is_refused() {
        let file = sparse(&[(0, b"data"), (BLOCK_BYTES, b"data")], 3 * BLOCK_BYTES);
        let good = BlockMap::of(&file).unwrap().to_message();
        assert!(BlockMap::parse(&good).is_ok());
        let with = |edit: &dyn Fn(&mut Blocks)| {
            let mut bad = good.clone();
            edit(&mut bad);
            BlockMap::parse(&bad)
        };
        for (bad, says) in [
            (with(&|map| map.block_bytes = 4096), "size"),
            (with(&|map| map.file_bytes = u64::MAX), "larger"),
            (with(&|map| map.sha256 = "%".into()), "base64"),
            (with(&|map| map.sha256.clear()), "go together"),
            (with(&|map| map.runs = vec![(2, 2)]), "end"),
            (with(&|map| map.runs = vec![(u64::MAX, 2)]), "end"),
            (with(&|map| map.runs = vec![(1, 1), (0, 1)]), "go together"),
            (with(&|map| map.runs = vec![(0, 3)]), "go together"),
        ] {
            assert!(bad.unwrap_err().contains(says));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_unpack_or_are_refused(
            packed in proptest::collection::vec(any::<u8>(), 0..9000), length in 0usize..20_000,
        ) {
            if let Ok(block) = unpack(&packed, length) {
                prop_assert_eq!(block.len(), length);
            }
        }

        #[test]
        fn a_packed_block_unpacks(
            pages in proptest::collection::vec(any::<bool>(), 1..40), tail in 1usize..4096,
        ) {
            let of = |full: &bool| vec![u8::from(*full); PAGE_BYTES];
            let mut block: Vec<u8> = pages.iter().flat_map(of).collect();
            block.truncate((pages.len() - 1) * PAGE_BYTES + tail);
            prop_assert_eq!(unpack(&pack(&block), block.len()).unwrap(), block);
        }
    }
}
