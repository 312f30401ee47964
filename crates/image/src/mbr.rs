//! The master boot record: four primary partitions, read strictly and written for one partition.
//!
//! Only what a PC BIOS and GRUB need. An extended partition is an entry like others here; what is in it
//! is read by [`crate::ebr`].

/// A sector, in which the record counts.
pub const SECTOR_BYTES: u64 = 512;
/// Bytes of boot code before the disk signature; GRUB's boot.img fills them.
pub const BOOT_CODE_BYTES: usize = 440;
/// Where our one partition begins: the first mebibyte holds the record and GRUB, as fdisk, parted
/// and every installer leave it.
pub const PARTITION_START_BYTES: u64 = 1024 * 1024;

const SIGNATURE_AT: usize = 440;
const ENTRIES_AT: usize = 446;
const MAGIC: [u8; 2] = [0x55, 0xaa];
const LINUX: u8 = 0x83;
const PROTECTIVE: u8 = 0xee;
/// What holds logical partitions: DOS's number, that for sector numbers beyond cylinders, Linux'.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// 1 to 4: its place in the record; from 5 on those of the extended partition.
    pub number: u32,
    /// Whether the boot flag is set.
    pub bootable: bool,
    /// The system's number: 0x83 Linux, 0xee a protective record before a GPT.
    pub kind: u8,
    /// First sector.
    pub start_sector: u32,
    /// Length in sectors.
    pub sectors: u32,
}

/// A partition too large for 32-bit sector numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a root partition of {bytes} bytes is more than an MBR can describe (2 TiB)")]
pub struct TooLarge {
    bytes: u64,
}

/// The partitions of a first sector, if it is a plausible record of a disk of `disk_bytes`: the
/// magic is there, flags are 0 or 0x80, and there is a partition that begins within the disk.
/// Boot code of a file system with the magic in its place is thereby told apart.
pub fn parse(sector: &[u8; 512], disk_bytes: u64) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in entries_of(sector)? {
        if entry.kind == 0 {
            continue;
        }
        let starts_within = u64::from(entry.start_sector) * SECTOR_BYTES < disk_bytes;
        if entry.start_sector == 0 || entry.sectors == 0 || !starts_within {
            return None;
        }
        entries.push(entry);
    }
    (!entries.is_empty()).then_some(entries)
}

/// The entries of an extended boot record that mean something, as they are written there.
pub(crate) fn first_two(record: &[u8; 512]) -> Option<[Entry; 2]> {
    let [partition, link, ..] = entries_of(record)?;
    Some([partition, link])
}

/// The four entries of a record, of whatever kind, if it is one and its flags are flags.
fn entries_of(sector: &[u8; 512]) -> Option<[Entry; 4]> {
    let entry = |place: usize| {
        let raw: &[u8; 16] = sector[ENTRIES_AT + 16 * place..].first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let is_a_flag = raw[0] & 0x7f == 0;
        is_a_flag.then_some(Entry {
            number: place as u32 + 1,
            bootable: raw[0] == 0x80,
            kind: raw[4],
            start_sector: word(8),
            sectors: word(12),
        })
    };
    if sector[510..] != MAGIC {
        return None;
    }
    Some([entry(0)?, entry(1)?, entry(2)?, entry(3)?])
}

impl Entry {
    /// Whether it holds others, and no file system of its own.
    pub fn is_extended(&self) -> bool {
        EXTENDED.contains(&self.kind)
    }
}

/// The bytes of our one partition from 1 MiB on, if a first sector still has it and nothing else.
pub fn own_partition_bytes(sector: &[u8; 512], disk_bytes: u64) -> Option<u64> {
    let entries = parse(sector, disk_bytes)?;
    let [entry] = entries.as_slice() else {
        return None;
    };
    let start = u64::from(entry.start_sector) * SECTOR_BYTES;
    let bytes = u64::from(entry.sectors) * SECTOR_BYTES;
    let is_ours = start == PARTITION_START_BYTES && start + bytes <= disk_bytes;
    is_ours.then_some(bytes)
}

/// Whether a parsed record only protects a GPT.
pub fn is_protective(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| entry.kind == PROTECTIVE)
}

/// Bytes of a disk with one partition of `partition_bytes`, in whole sectors.
pub fn disk_bytes(partition_bytes: u64) -> u64 {
    PARTITION_START_BYTES + partition_bytes.next_multiple_of(SECTOR_BYTES)
}

/// A record with one bootable Linux partition from 1 MiB, without boot code. `disk_signature` tells
/// disks apart (`root=PARTUUID=`); zero would mean none.
pub fn write(partition_bytes: u64, disk_signature: u32) -> Result<[u8; 512], TooLarge> {
    let sectors = u32::try_from(partition_bytes.div_ceil(SECTOR_BYTES)).map_err(|_| TooLarge {
        bytes: partition_bytes,
    })?;
    let mut record = record(&[Entry {
        number: 1,
        bootable: true,
        kind: LINUX,
        start_sector: (PARTITION_START_BYTES / SECTOR_BYTES) as u32,
        sectors,
    }]);
    record[SIGNATURE_AT..SIGNATURE_AT + 4].copy_from_slice(&disk_signature.to_le_bytes());
    Ok(record)
}

/// A record, or a link of an extended partition's chain, of at most four entries, each in the place of
/// its order, whatever its number.
pub fn record(entries: &[Entry]) -> [u8; 512] {
    // Cylinder, head and sector at their maximum say "use the sector numbers".
    const BEYOND_CHS: [u8; 3] = [0xfe, 0xff, 0xff];

    let mut record = [0; 512];
    let places = record[ENTRIES_AT..510].chunks_exact_mut(16);
    for (entry, place) in entries
        .iter()
        .zip(places)
        .filter(|(entry, _)| entry.kind != 0)
    {
        place[0] = if entry.bootable { 0x80 } else { 0 };
        place[1..4].copy_from_slice(&BEYOND_CHS);
        place[4] = entry.kind;
        place[5..8].copy_from_slice(&BEYOND_CHS);
        place[8..12].copy_from_slice(&entry.start_sector.to_le_bytes());
        place[12..16].copy_from_slice(&entry.sectors.to_le_bytes());
    }
    record[510..].copy_from_slice(&MAGIC);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_partition_is_known_on_a_disk_of_its_size_or_larger_and_nothing_else_is() {
        let (record, disk) = (write(64 << 20, 1).unwrap(), disk_bytes(64 << 20));
        assert_eq!(own_partition_bytes(&record, disk), Some(64 << 20));
        assert_eq!(own_partition_bytes(&record, disk * 2), Some(64 << 20));
        assert_eq!(own_partition_bytes(&record, disk - 1), None);
        let mut moved = record;
        moved[ENTRIES_AT + 9] = 0x10;
        let mut second = record;
        second.copy_within(ENTRIES_AT..ENTRIES_AT + 16, ENTRIES_AT + 16);
        for other in [moved, second, [0; 512]] {
            assert_eq!(own_partition_bytes(&other, disk * 2), None);
        }
    }

    #[test]
    fn the_record_that_is_written_reads_back() {
        let record = write(64 << 20, 0x1234_5678).unwrap();
        let entry = Entry {
            number: 1,
            bootable: true,
            kind: 0x83,
            start_sector: 2048,
            sectors: 131_072,
        };
        assert_eq!(parse(&record, disk_bytes(64 << 20)), Some(vec![entry]));
        assert!(!is_protective(&[entry]));
    }

    #[test]
    fn a_record_that_makes_no_sense_is_none() {
        let good = write(64 << 20, 1).unwrap();
        let disk = disk_bytes(64 << 20);
        assert_eq!(parse(&[0; 512], disk), None);
        assert_eq!(
            parse(&good, 4096),
            None,
            "the partition begins beyond the disk"
        );
        for (at, byte) in [(510, 0), (446, 0x81), (446 + 16, 1)] {
            let mut bad = good;
            bad[at] = byte;
            assert_eq!(parse(&bad, disk), None, "byte {at}");
        }
        let mut only_magic = [0; 512];
        only_magic[510..].copy_from_slice(&MAGIC);
        assert_eq!(
            parse(&only_magic, disk),
            None,
            "a record without partitions is no disk"
        );
    }

    #[test]
    fn a_partition_over_two_tebibytes_is_refused() {
        assert!(write(2 << 40, 1).is_err());
        assert!(write((2 << 40) - 512, 1).is_ok());
    }
}
