//! GUID partition tables, read strictly (UEFI 2.10, 5.3): which partitions a disk has, where they begin.
//!
//! A disk has its table twice, behind its first sector and before its end, each with a header of one
//! sector. What does not pass both checksums, or says what cannot be, is no table.

use std::ops::RangeInclusive;

use crc_fast::CrcAlgorithm::Crc32IsoHdlc;

use crate::mbr::SECTOR_BYTES;

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Version 1.0, the only one that there is.
const REVISION: u32 = 0x0001_0000;
const HEADER_BYTES: usize = 92;
/// The size of an entry: 128 times a power of two.
const ENTRY_BYTES: RangeInclusive<usize> = 128..=4096;
/// Tables have 128 entries of 128 bytes; sixteen times that is read, and no more.
const TABLE_BYTES_MAX: usize = 256 << 10;

/// A header, of which the checksum holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    table_sector: u64,
    entries: usize,
    entry_bytes: usize,
    table_crc: u32,
    usable: RangeInclusive<u64>,
}

/// A partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the table, from 1 on.
    pub number: u32,
    /// Its first byte on the disk.
    pub start_bytes: u64,
    /// Its length.
    pub bytes: u64,
}

/// Where a disk of that size has its headers, in the order in which they are believed.
pub fn headers_at(disk_bytes: u64) -> impl Iterator<Item = u64> {
    let last = (disk_bytes / SECTOR_BYTES).checked_sub(1);
    let second = last.map(|sector| sector * SECTOR_BYTES);
    let behind = |at: &u64| *at > SECTOR_BYTES;
    std::iter::once(SECTOR_BYTES).chain(second.filter(behind))
}

impl Header {
    /// Reads the sector at `at_bytes` of a disk of `disk_bytes`.
    pub fn parse(sector: &[u8; 512], at_bytes: u64, disk_bytes: u64) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*sector[at..].first_chunk()?));
        let long = |at: usize| Some(u64::from_le_bytes(*sector[at..].first_chunk()?));
        let length = word(12)? as usize;
        if sector[..8] != *SIGNATURE
            || word(8)? != REVISION
            || !(HEADER_BYTES..=sector.len()).contains(&length)
            || long(24)?.checked_mul(SECTOR_BYTES) != Some(at_bytes)
        {
            return None;
        }
        // The checksum is of the header with zeros in the checksum's own place.
        let mut header = *sector;
        header[16..20].fill(0);
        if crc(&header[..length]) != word(16)? {
            return None;
        }
        let new = Self {
            table_sector: long(72)?,
            entries: word(80)? as usize,
            entry_bytes: word(84)? as usize,
            table_crc: word(88)?,
            usable: long(40)?..=long(48)?,
        };
        new.makes_sense(disk_bytes / SECTOR_BYTES).then_some(new)
    }

    fn makes_sense(&self, sectors: u64) -> bool {
        let is_a_size =
            ENTRY_BYTES.contains(&self.entry_bytes) && self.entry_bytes.is_power_of_two();
        let table = self.entry_bytes.checked_mul(self.entries);
        let table = table.filter(|bytes| (1..=TABLE_BYTES_MAX).contains(bytes));
        let table_end = table.and_then(|bytes| {
            let length = (bytes as u64).div_ceil(SECTOR_BYTES);
            self.table_sector.checked_add(length)
        });
        // Sector 0 is the protective record's, and one more is the header's.
        let is_inside = self.table_sector > 1 && table_end.is_some_and(|end| end <= sectors);
        is_a_size && is_inside && *self.usable.end() < sectors
    }

    /// Where the entries are.
    pub fn table_at(&self) -> u64 {
        self.table_sector * SECTOR_BYTES
    }

    /// How long they are, at most 256 KiB.
    pub fn table_bytes(&self) -> usize {
        self.entries * self.entry_bytes
    }

    /// The partitions, in the order of their numbers; none if these are not the entries, or one lies
    /// outside of what the header says may be used.
    pub fn entries(&self, table: &[u8]) -> Option<Vec<Entry>> {
        if table.len() != self.table_bytes() || crc(table) != self.table_crc {
            return None;
        }
        let mut found = Vec::new();
        for (raw, number) in table.chunks_exact(self.entry_bytes).zip(1..) {
            // An entry without a type is not in use.
            if raw[..16] == [0; 16] {
                continue;
            }
            let long = |at: usize| Some(u64::from_le_bytes(*raw[at..].first_chunk()?));
            let (first, last) = (long(32)?, long(40)?);
            if first > last || first < *self.usable.start() || last > *self.usable.end() {
                return None;
            }
            found.push(Entry {
                number,
                start_bytes: first * SECTOR_BYTES,
                bytes: (last - first + 1) * SECTOR_BYTES,
            });
        }
        Some(found)
    }
}

fn crc(bytes: &[u8]) -> u32 {
    // The checksum has 32 bits of the 64 that hold any.
    crc_fast::checksum(Crc32IsoHdlc, bytes) as u32
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a test runs the tool that it compares with
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const DISK: u64 = 64 * MIB;

    /// A disk as `sgdisk` divides it.
    fn disk(words: &[&str]) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(DISK).unwrap();
        let made = Command::new("sgdisk").args(words).arg(file.path()).output();
        let made = made.unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        std::fs::read(file.path()).unwrap()
    }

    fn header(disk: &[u8], at: u64) -> Option<Header> {
        let sector = disk[at as usize..].first_chunk().unwrap();
        Header::parse(sector, at, disk.len() as u64)
    }

    fn entries(disk: &[u8], at: u64) -> Option<Vec<Entry>> {
        let header = header(disk, at)?;
        let table = &disk[header.table_at() as usize..][..header.table_bytes()];
        header.entries(table)
    }

    /// Has both checksums hold again after an edit.
    fn signed(disk: &mut [u8]) {
        let table = crc(&disk[1024..1024 + 128 * 128]);
        disk[512 + 88..512 + 92].copy_from_slice(&table.to_le_bytes());
        disk[512 + 16..512 + 20].fill(0);
        let header = crc(&disk[512..512 + 92]);
        disk[512 + 16..512 + 20].copy_from_slice(&header.to_le_bytes());
    }

    #[test]
    fn both_tables_of_a_disk_say_the_same_and_numbers_stay() {
        let disk = disk(&["-n1:2048:4095", "-t1:ef02", "-n5:4096:+8M", "-n3:20M:0"]);
        let at: Vec<u64> = headers_at(DISK).collect();
        assert_eq!(at, [512, DISK - 512]);
        let found = entries(&disk, at[0]).unwrap();
        assert_eq!(entries(&disk, at[1]).unwrap(), found);
        let shown: Vec<(u32, u64, u64)> = found
            .iter()
            .map(|entry| (entry.number, entry.start_bytes, entry.bytes))
            .collect();
        let rest = DISK - 20 * MIB - 33 * 512;
        // sgdisk ends the last one at a mebibyte, or with the disk.
        assert_eq!(shown[0], (1, MIB, MIB));
        assert_eq!(shown[1].0, 3);
        assert_eq!(shown[1].1, 20 * MIB);
        assert!(shown[1].2 <= rest && shown[1].2 > rest - MIB);
        assert_eq!(shown[2], (5, 2 * MIB, 8 * MIB));
    }

    #[test]
    fn what_is_damaged_or_says_what_cannot_be_is_no_table() {
        let good = disk(&["-n1:2048:+8M"]);
        let with = |at: usize, bytes: &[u8], sign: bool| {
            let mut disk = good.clone();
            disk[at..at + bytes.len()].copy_from_slice(bytes);
            if sign {
                signed(&mut disk);
            }
            entries(&disk, 512)
        };
        assert!(with(512, b"EFI PART", true).is_some(), "as it was");
        assert!(
            with(512 + 60, &[9], false).is_none(),
            "the header's checksum"
        );
        assert!(
            with(1024 + 60, &[9], false).is_none(),
            "the entries' checksum"
        );
        let huge = u64::MAX.to_le_bytes();
        for (at, bytes, what) in [
            (512, &b"EFI PARX"[..], "another signature"),
            (512 + 8, &[9], "another version"),
            (512 + 12, &[91, 0, 0, 0], "a header that is too short"),
            (512 + 12, &[1, 2, 0, 0], "or longer than its sector"),
            (512 + 24, &[2], "a header for another place"),
            (512 + 48, &huge, "a disk that is larger than it is"),
            (512 + 72, &huge, "entries beyond the end"),
            (512 + 72, &[1, 0], "entries over the header"),
            (512 + 80, &[0, 0, 0, 0], "no entries"),
            (512 + 80, &[0xff; 4], "four milliards of them"),
            (512 + 84, &[0, 0, 0, 0], "entries of nothing"),
            (512 + 84, &[0x81, 0, 0, 0], "entries of an odd size"),
            (1024 + 32, &huge, "a partition that begins beyond the end"),
            (1024 + 40, &huge, "or ends there"),
            (
                1024 + 32,
                &[1, 0, 0, 0, 0, 0, 0, 0],
                "or begins in the table",
            ),
        ] {
            assert!(with(at, bytes, true).is_none(), "{what}");
        }
        assert!(header(&good[..8192], 512).is_none(), "a disk cut short");
    }

    #[test]
    fn the_smallest_disks_have_the_headers_that_they_have_room_for() {
        let at = |bytes| headers_at(bytes).collect::<Vec<_>>();
        assert_eq!(at(0), [512]);
        assert_eq!(at(1024), [512]);
        assert_eq!(at(1536), [512, 1024]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_table_or_none(
            at in 0usize..1024 + 256, byte: u8, sign: bool,
        ) {
            let mut disk = vec![0; MIB as usize];
            disk[512..520].copy_from_slice(SIGNATURE);
            disk[512 + 10] = 1;
            disk[512 + 12] = 92;
            disk[512 + 24] = 1;
            disk[512 + 40] = 34;
            disk[512 + 48] = 0xff;
            disk[512 + 72] = 2;
            disk[512 + 80] = 128;
            disk[512 + 84] = 128;
            disk[1024] = 1;
            disk[1024 + 32] = 40;
            disk[1024 + 40] = 50;
            disk[at] = byte;
            if sign {
                signed(&mut disk);
            }
            for entry in entries(&disk, 512).unwrap_or_default() {
                prop_assert!(entry.bytes > 0);
                prop_assert!(entry.start_bytes >= 1024);
                prop_assert!(entry.start_bytes + entry.bytes <= MIB);
            }
        }
    }
}
