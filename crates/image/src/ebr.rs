//! Logical partitions: the chain of extended boot records in a disk's extended partition, read strictly.
//!
//! Each record is a sector like the first one of the disk, of which the first entry is a partition, counted
//! from the record on, and the second one says where the next record is, counted from the beginning of
//! the extended partition. Records need not lie in the order of the chain, so it is a user's to close it to a
//! ring or to lead it anywhere: what makes no sense ends it, and what came before stays, as Linux and
//! GRUB have it.

use std::ops::Range;

use crate::mbr::{self, Entry, SECTOR_BYTES};

/// Records of one chain that are read. Linux never had names for more than 63 partitions of a disk.
pub const RECORDS_MAX: usize = 60;
/// The first logical partition's number, however many primary ones there are.
const FIRST: u32 = 5;

/// A chain that is being followed. The sectors are read by whoever has the disk.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The extended partition, in sectors.
    extended: Range<u64>,
    /// The records that were read, by their sectors.
    seen: Vec<u64>,
    next: Option<u64>,
    found: Vec<Entry>,
}

impl Chain {
    /// Of the extended partition among those of a disk's first sector; none leads nowhere.
    pub fn of(primary: &[Entry], disk_bytes: u64) -> Self {
        let extended = primary.iter().find(|entry| entry.is_extended());
        let extended = extended.map_or(0..0, |entry| {
            let start = u64::from(entry.start_sector);
            let end = start + u64::from(entry.sectors);
            start..end.min(disk_bytes / SECTOR_BYTES)
        });
        Self {
            next: Some(extended.start).filter(|first| extended.contains(first)),
            extended,
            seen: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Where the next record is on the disk; none at the chain's end.
    pub fn next_at(&self) -> Option<u64> {
        self.next.map(|sector| sector * SECTOR_BYTES)
    }

    /// Takes the record that is there.
    pub fn take(&mut self, record: &[u8; 512]) {
        let Some(at) = self.next.take() else { return };
        self.seen.push(at);
        let Some([partition, link]) = mbr::first_two(record) else {
            return;
        };
        if partition.kind != 0 {
            match self.placed(partition, at) {
                Some(entry) => self.found.push(entry),
                None => return,
            }
        }
        self.next = self.follow(link);
    }

    /// The logical partitions that were found, in the order of the chain.
    pub fn into_found(self) -> Vec<Entry> {
        self.found
    }

    /// A partition of the record at a sector, as it lies on the disk; none unless it is all in the
    /// extended partition, behind its record.
    fn placed(&self, partition: Entry, at: u64) -> Option<Entry> {
        let start = at + u64::from(partition.start_sector);
        let end = start + u64::from(partition.sectors);
        let is_inside = start > at && end > start && end <= self.extended.end;
        if !is_inside || partition.is_extended() {
            return None;
        }
        Some(Entry {
            number: FIRST + self.found.len() as u32,
            start_sector: u32::try_from(start).ok()?,
            ..partition
        })
    }

    fn follow(&self, link: Entry) -> Option<u64> {
        let next = self.extended.start + u64::from(link.start_sector);
        let leads_on = link.is_extended()
            && self.extended.contains(&next)
            && !self.seen.contains(&next)
            && self.seen.len() < RECORDS_MAX;
        leads_on.then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An entry of a record: its kind, first sector and length.
    type Raw = (u8, u32, u32);

    const NONE: Raw = (0, 0, 0);
    const EXTENDED: Entry = Entry {
        number: 2,
        bootable: false,
        kind: 0x05,
        start_sector: 100,
        sectors: 900,
    };
    const DISK: u64 = 1000 * SECTOR_BYTES;

    fn record(entries: [Raw; 2]) -> [u8; 512] {
        mbr::record(&entries.map(|(kind, start_sector, sectors)| Entry {
            kind,
            start_sector,
            sectors,
            ..EXTENDED
        }))
    }

    /// What is found on a disk with records at those sectors: number, first sector, length.
    fn found(extended: Entry, records: &[(u64, [u8; 512])]) -> Vec<(u32, u32, u32)> {
        let mut chain = Chain::of(&[extended], DISK);
        while let Some(at) = chain.next_at() {
            let there = records
                .iter()
                .find(|(sector, _)| sector * SECTOR_BYTES == at);
            chain.take(there.map_or(&[0; 512], |(_, record)| record));
        }
        let shown = |entry: Entry| (entry.number, entry.start_sector, entry.sectors);
        chain.into_found().into_iter().map(shown).collect()
    }

    #[test]
    fn a_chain_is_followed_forth_and_back_and_numbers_begin_at_5() {
        let records = [
            (100, record([(0x83, 10, 50), (0x05, 600, 100)])),
            (700, record([(0x82, 1, 20), (0x0f, 200, 100)])),
            // Its partition was deleted: it takes no number.
            (300, record([NONE, (0x85, 400, 100)])),
            (500, record([(0x83, 1, 500), NONE])),
        ];
        let all = [(5, 110, 50), (6, 701, 20), (7, 501, 499)];
        assert_eq!(found(EXTENDED, &records), all[..2], "501 + 500 is beyond");
        let mut fits = records;
        fits[3].1 = record([(0x83, 1, 499), NONE]);
        assert_eq!(found(EXTENDED, &fits), all);
        let none = Chain::of(
            &[Entry {
                kind: 0x83,
                ..EXTENDED
            }],
            DISK,
        );
        assert_eq!(none.next_at(), None, "no extended partition");
    }

    #[test]
    fn what_makes_no_sense_ends_the_chain_and_what_came_before_stays() {
        let good = (5, 110, 50);
        let first = |link| (100, record([(0x83, 10, 50), link]));
        let last = |partition| (200, record([partition, NONE]));
        for (record, what) in [
            (last((0x83, 0, 10)), "a partition over its record"),
            (last((0x83, 10, 0)), "of nothing"),
            (last((0x83, 10, 791)), "beyond the extended one"),
            (last((0x83, u32::MAX, u32::MAX)), "beyond all"),
            (last((0x05, 10, 10)), "that holds others again"),
            ((200, [0; 512]), "no record"),
        ] {
            let records = [first((0x05, 100, 10)), record];
            assert_eq!(found(EXTENDED, &records), [good], "{what}");
        }
        for (link, what) in [
            ((0x05, 0, 10), "to itself"),
            ((0x05, 900, 10), "out of the extended one"),
            ((0x05, u32::MAX, 10), "far out"),
            ((0x83, 100, 10), "no link"),
        ] {
            let second = (200, record([(0x83, 10, 50), NONE]));
            assert_eq!(found(EXTENDED, &[first(link), second]), [good], "{what}");
        }
    }

    #[test]
    fn a_ring_is_left_and_a_long_chain_is_followed_so_far() {
        let ring = [
            (100, record([(0x83, 1, 1), (0x05, 100, 1)])),
            (200, record([(0x83, 1, 1), (0x05, 200, 1)])),
            (300, record([(0x83, 1, 1), (0x05, 100, 1)])),
        ];
        assert_eq!(found(EXTENDED, &ring).len(), 3);
        let link = |n: u64| record([(0x83, 1, 1), (0x05, 2 * n as u32 + 2, 1)]);
        let long: Vec<_> = (0..400).map(|n| (100 + 2 * n, link(n))).collect();
        assert_eq!(found(EXTENDED, &long).len(), RECORDS_MAX);
    }

    #[test]
    fn an_extended_partition_that_leaves_the_disk_ends_with_it() {
        let extended = Entry {
            sectors: u32::MAX,
            ..EXTENDED
        };
        let fits = record([(0x83, 10, 890), NONE]);
        assert_eq!(found(extended, &[(100, fits)]), [(5, 110, 890)]);
        let beyond = record([(0x83, 10, 891), NONE]);
        assert!(found(extended, &[(100, beyond)]).is_empty());
        let outside = Entry {
            start_sector: 1000,
            ..EXTENDED
        };
        assert_eq!(Chain::of(&[outside], DISK).next_at(), None);
    }

    proptest! {
        #[test]
        fn any_records_end_and_what_is_found_lies_in_the_extended_partition(
            start in 1u32..1100, sectors: u32,
            seeds in proptest::collection::vec((any::<[u8; 2]>(), 0u32..1200, 0u32..1200, 0u32..1200), 1..40),
        ) {
            let extended = Entry { start_sector: start, sectors, ..EXTENDED };
            let mut chain = Chain::of(&[extended], DISK);
            let mut reads = 0;
            while let Some(at) = chain.next_at() {
                prop_assert!(at < DISK);
                let ([kind, link], first, length, next) = seeds[reads % seeds.len()];
                let link = if link < 200 { 0x05 } else { link };
                chain.take(&record([(kind % 4, first, length), (link, next, 1)]));
                reads += 1;
                prop_assert!(reads <= RECORDS_MAX);
            }
            for entry in chain.into_found() {
                let end = u64::from(entry.start_sector) + u64::from(entry.sectors);
                prop_assert!(entry.start_sector > start && end * SECTOR_BYTES <= DISK);
            }
        }
    }
}
