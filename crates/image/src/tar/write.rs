//! The writer: the header of an archive's one member, as GNU tar makes it, and what follows the member.

use std::ops::Range;

use super::{BLOCK, checksum};

/// GNU tar pads an archive to whole records of this size.
const RECORD: u64 = 10_240;
/// Places of a sparse map in the header, and in each block after it.
const SEGMENTS_IN_HEADER: usize = 4;
const SEGMENTS_IN_BLOCK: usize = 21;

/// The header of an archive whose one member is called `name`, as GNU tar writes it.
pub(crate) fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = unsealed(name, size, b'0');
    seal(&mut block);
    block
}

/// The same of a member of which only the `data` follows, with the map that says where it belongs: as
/// `tar -S` writes it. All but the last stretch are whole blocks.
pub(crate) fn sparse_header(name: &str, size: u64, data: &[Range<u64>]) -> Vec<u8> {
    let stored = data.iter().map(|data| data.end - data.start).sum();
    // The end of the file comes last, for a file that ends in a hole.
    let places = data
        .iter()
        .map(|data| (data.start, data.end - data.start))
        .chain([(size, 0)])
        .collect::<Vec<_>>();
    let (first, more) = places.split_at(places.len().min(SEGMENTS_IN_HEADER));
    let mut block = unsealed(name, stored, b'S');
    put_places(&mut block[386..482], first);
    block[482] = u8::from(!more.is_empty());
    put_size(&mut block[483..495], size);
    seal(&mut block);
    let mut head = block.to_vec();
    let blocks = more.chunks(SEGMENTS_IN_BLOCK);
    let last = blocks.len().saturating_sub(1);
    for (index, places) in blocks.enumerate() {
        let mut block = [0; BLOCK];
        put_places(&mut block[..504], places);
        block[504] = u8::from(index < last);
        head.extend_from_slice(&block);
    }
    head
}

fn put_places(fields: &mut [u8], places: &[(u64, u64)]) {
    for (field, (start, length)) in fields.chunks_exact_mut(24).zip(places) {
        put_size(&mut field[..12], *start);
        put_size(&mut field[12..], *length);
    }
}

fn unsealed(name: &str, size: u64, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let name = &name.as_bytes()[..name.len().min(100)];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    put_size(&mut block[124..136], size);
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar  \0");
    block
}

fn seal(block: &mut [u8; BLOCK]) {
    let sum = checksum(block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Zero bytes that follow the member's `stored` bytes after a head of so many: to a whole block, two
/// end blocks, to a record.
pub(crate) fn padding(head: u64, stored: u64) -> u64 {
    let used = head + stored;
    (used.next_multiple_of(BLOCK as u64) + 2 * BLOCK as u64).next_multiple_of(RECORD) - used
}

/// Octal up to 8 GiB; GNU's base 256 beyond.
fn put_size(field: &mut [u8], size: u64) {
    if size < 1 << 33 {
        field.copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        field.fill(0);
        field[0] = 0x80;
        field[4..].copy_from_slice(&size.to_be_bytes());
    }
}
