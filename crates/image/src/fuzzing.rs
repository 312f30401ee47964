//! What the fuzz targets in `fuzz/` run, and what the corpus is replayed through by
//! `tests/fuzz_corpus.rs`: any bytes in, no panic, and what is accepted holds what it promises.

use std::{hint::black_box, io::Read};

use flate2::read::MultiGzDecoder;

use crate::{
    ebr, gpt,
    manifest::Manifest,
    mbr,
    member::PIECE_BYTES,
    qcow2, recognise,
    tar::{Piece, Untar},
    unbundle::gunzip::Gunzip,
};

/// The declared size of a fuzzed archive stays small: zeros are counted, not written.
const TAR_SIZE_MAX: u64 = 1 << 40;

/// What is inflated of a fuzzed stream: a few bytes may hold gigabytes.
const GZIP_SIZE_MAX: usize = 4 << 20;

/// A manifest: what is read is written, and reads the same.
pub fn manifest(bytes: &[u8]) {
    let Ok(read) = Manifest::parse(bytes) else {
        return;
    };
    let written = read
        .to_xml(None)
        .expect("an unsigned manifest needs no key");
    let unsigned = Manifest {
        signature: None,
        ..read
    };
    let again = Manifest::parse(written.as_bytes());
    assert_eq!(again, Ok(unsigned), "{written}");
}

/// A gzip stream, after two bytes that say how it is cut: what comes out is what another reader finds.
pub fn gzip(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let (mut gunzip, mut ours, mut output) = (Gunzip::new(), Vec::new(), vec![0; PIECE_BYTES]);
    // Decryption hands on nothing shorter.
    for chunk in stream.chunks(usize::from(u16::from_le_bytes(*step)) + 16) {
        let mut chunk = chunk;
        while !chunk.is_empty() {
            let Ok(length) = gunzip.run(&mut chunk, &mut output) else {
                return;
            };
            ours.extend_from_slice(&output[..length]);
            if ours.len() > GZIP_SIZE_MAX {
                return;
            }
        }
    }
    if gunzip.finish().is_err() {
        return;
    }
    let mut theirs = Vec::new();
    // It also checks the checksum of a header, which hardly anybody writes.
    if MultiGzDecoder::new(stream).read_to_end(&mut theirs).is_ok() {
        assert!(ours == theirs, "{} and {} bytes", ours.len(), theirs.len());
    }
}

/// A tar stream, after eight bytes that say the declared size and one that says how it is cut:
/// never more comes out than was declared, and all of it if it ends well.
pub fn tar(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let Some((step, stream)) = rest.split_first() else {
        return;
    };
    let declared = u64::from_le_bytes(*size) % TAR_SIZE_MAX;
    let (mut untar, mut given) = (Untar::new(declared), 0_u64);
    for chunk in stream.chunks(usize::from(*step) + 1) {
        let mut chunk = chunk;
        loop {
            match untar.next(&mut chunk) {
                Ok(Some(Piece::Data(data))) => given += data.len() as u64,
                Ok(Some(Piece::Zeros(count))) => given += count,
                Ok(None) => break,
                Err(_) => return,
            }
            assert!(given <= declared, "{given} of {declared}");
        }
    }
    if untar.finish().is_ok() {
        assert_eq!(given, declared);
    }
}

/// A qcow2 header: what is taken names no other file, and its tables are bounded.
pub fn qcow2(bytes: &[u8]) {
    let head = &bytes[..bytes.len().min(qcow2::HEAD_BYTES)];
    let Ok(header) = qcow2::Header::read(head, bytes.len() as u64) else {
        return;
    };
    assert_eq!(bytes[8..20], [0; 12], "it names a backing file");
    assert!(header.virtual_bytes <= crate::manifest::MAX_IMAGE_BYTES);
    assert!((512..=2 << 20).contains(&header.cluster_bytes));
}

/// The front of a raw image, after eight bytes that say its size: partitions begin inside the disk,
/// and what is no raw image is never taken for one.
pub fn partitions(bytes: &[u8]) {
    let Some((size, head)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let size_bytes = u64::from_le_bytes(*size);
    let recognised = recognise::recognise(head, size_bytes);
    if head.starts_with(qcow2::MAGIC) {
        assert!(recognised.is_err());
    }
    black_box(recognised.is_ok());
    let entries = head
        .first_chunk()
        .and_then(|sector| mbr::parse(sector, size_bytes));
    let entries = entries.unwrap_or_default();
    for entry in &entries {
        assert!(u64::from(entry.start_sector) * mbr::SECTOR_BYTES < size_bytes);
        assert!(entry.start_sector > 0 && entry.sectors > 0);
    }
    logical_partitions(&entries, head, size_bytes);
    guid_partitions(head, size_bytes);
}

fn logical_partitions(primary: &[mbr::Entry], head: &[u8], size_bytes: u64) {
    let (mut chain, mut reads) = (ebr::Chain::of(primary, size_bytes), 0);
    while let Some(at) = chain.next_at() {
        assert!(at + mbr::SECTOR_BYTES <= size_bytes);
        let sector = usize::try_from(at).ok().and_then(|at| head.get(at..));
        let Some(record) = sector.and_then(<[u8]>::first_chunk) else {
            break;
        };
        chain.take(record);
        reads += 1;
        assert!(reads <= ebr::RECORDS_MAX);
    }
    for (entry, number) in chain.into_found().into_iter().zip(5..) {
        let end = u64::from(entry.start_sector) + u64::from(entry.sectors);
        assert!(entry.sectors > 0 && end * mbr::SECTOR_BYTES <= size_bytes);
        assert_eq!(entry.number, number);
    }
}

fn guid_partitions(head: &[u8], size_bytes: u64) {
    for at in gpt::headers_at(size_bytes) {
        let sector = usize::try_from(at).ok().and_then(|at| head.get(at..));
        let header = sector
            .and_then(<[u8]>::first_chunk)
            .and_then(|sector| gpt::Header::parse(sector, at, size_bytes));
        let Some(header) = header else { continue };
        let table = usize::try_from(header.table_at()).ok();
        let table = table.and_then(|from| head.get(from..)?.get(..header.table_bytes()));
        for entry in table
            .and_then(|table| header.entries(table))
            .unwrap_or_default()
        {
            assert!(entry.bytes > 0 && entry.start_bytes + entry.bytes <= size_bytes);
        }
    }
}
