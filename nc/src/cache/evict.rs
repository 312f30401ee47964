//! What has to go so that a new entry fits: pure, least recently used first, never what is in use.

use super::{EntryName, folder::Entry};

/// Kept free beside any entry, so that guests and logs on the same file system do not run dry
/// because of a cache.
pub const RESERVE_BYTES: u64 = 256 * 1024 * 1024;

/// The room that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// How much entries may take together.
    pub limit_bytes: u64,
    /// What the file system has free.
    pub free_bytes: u64,
    /// What entries that are being filled may still come to need.
    pub promised_bytes: u64,
    /// What those have already.
    pub filling_bytes: u64,
}

/// Why it does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it needs {need_bytes} bytes; the cache may take {limit_bytes} in all, of which {in_use_bytes} \
     are in use by instances or being filled; the file system has {free_bytes} free, of which \
     {RESERVE_BYTES} stay free"
)]
pub struct NoRoom {
    /// What the new entry needs.
    pub need_bytes: u64,
    /// The cache's limit.
    pub limit_bytes: u64,
    /// What cannot be evicted.
    pub in_use_bytes: u64,
    /// What the file system has free.
    pub free_bytes: u64,
}

/// The entries to remove, in order, so that `need_bytes` fit.
pub fn plan(entries: &[Entry], need_bytes: u64, room: Room) -> Result<Vec<EntryName>, NoRoom> {
    let mut taken: u64 = entries.iter().map(|entry| entry.bytes).sum::<u64>()
        + room.promised_bytes
        + room.filling_bytes;
    let mut free = room
        .free_bytes
        .saturating_sub(room.promised_bytes + RESERVE_BYTES);
    let mut idle: Vec<&Entry> = entries.iter().filter(|entry| entry.uses == 0).collect();
    idle.sort_by_key(|entry| entry.used_at);
    let mut idle = idle.into_iter();

    let mut going = Vec::new();
    while taken + need_bytes > room.limit_bytes || free < need_bytes {
        let Some(entry) = idle.next() else {
            return Err(NoRoom {
                need_bytes,
                limit_bytes: room.limit_bytes,
                in_use_bytes: taken,
                free_bytes: room.free_bytes,
            });
        };
        taken -= entry.bytes;
        free += entry.bytes;
        going.push(entry.name.clone());
    }
    Ok(going)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn entry(n: u8, bytes: u64, age_s: u64, in_use: bool) -> Entry {
        let name = format!("emi-000000{n:02x}_{}_r1.disk", "00".repeat(32));
        let used_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age_s);
        Entry {
            name: name.parse().unwrap(),
            bytes,
            used_at,
            uses: usize::from(in_use),
            file_bytes: bytes,
        }
    }

    fn room(limit_bytes: u64, free_bytes: u64) -> Room {
        Room {
            limit_bytes,
            free_bytes: free_bytes + RESERVE_BYTES,
            promised_bytes: 0,
            filling_bytes: 0,
        }
    }

    #[test]
    fn nothing_goes_while_there_is_room() {
        assert_eq!(
            plan(&[entry(1, 10, 5, false)], 90, room(100, 1000)),
            Ok(vec![])
        );
    }

    #[test]
    fn the_longest_unused_goes_first_and_no_more_than_needed() {
        let entries = [
            entry(1, 40, 1, false),
            entry(2, 40, 9, false),
            entry(3, 10, 5, false),
        ];
        assert_eq!(
            plan(&entries, 45, room(100, 1000)),
            Ok(vec![entries[1].name.clone()])
        );
    }

    #[test]
    fn what_is_in_use_stays_and_the_figures_say_so() {
        let entries = [entry(1, 60, 9, true), entry(2, 30, 1, false)];
        let refusal = plan(&entries, 50, room(100, 1000)).unwrap_err();
        assert_eq!((refusal.need_bytes, refusal.in_use_bytes), (50, 60));
    }

    #[test]
    fn a_full_file_system_counts_too() {
        let entries = [entry(1, 60, 9, false)];
        assert_eq!(
            plan(&entries, 50, room(1000, 10)),
            Ok(vec![entries[0].name.clone()])
        );
        assert!(plan(&entries, 80, room(1000, 10)).is_err());
    }

    proptest! {
        #[test]
        fn a_plan_makes_room_and_touches_nothing_in_use(
            sizes in proptest::collection::vec((1u64..100, 0u64..50, any::<bool>()), 0..12),
            need in 1u64..200, limit in 1u64..400, free in 0u64..400, promised in 0u64..100,
        ) {
            let entries: Vec<Entry> = sizes.iter().enumerate()
                .map(|(n, (bytes, age, in_use))| entry(n as u8, *bytes, *age, *in_use)).collect();
            let room = Room { promised_bytes: promised, ..room(limit, free) };
            if let Ok(going) = plan(&entries, need, room) {
                let gone: Vec<&Entry> =
                    entries.iter().filter(|entry| going.contains(&entry.name)).collect();
                prop_assert!(gone.iter().all(|entry| entry.uses == 0));
                let total: u64 = entries.iter().map(|entry| entry.bytes).sum();
                let freed: u64 = gone.iter().map(|entry| entry.bytes).sum();
                prop_assert!(total - freed + promised + need <= limit);
                prop_assert!(free + freed >= need + promised || promised > free);
            }
        }
    }
}
