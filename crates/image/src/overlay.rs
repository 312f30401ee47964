//! A qcow2 overlay over a raw backing file, written as bytes: all of its tables beforehand, and
//! every part of the disk that the backing file does not hold *claimed* beforehand.
//!
//! A first write to a fresh qcow2 costs the host more than the write: clusters are allocated and
//! tables updated, in an order that takes another flush. `preallocation=metadata` leaves one
//! update, the bit that says "read this here and no longer in the backing file". But a hole of the
//! backing file reads as zeros, and so does the hole of the overlay that is set aside for it: the
//! bit can be set from the start. A guest's new files go to what its image left empty; there a
//! first write is one write of the host and its sync is one sync, as on a raw disk (`docs/disks.md`
//! has the counts). No tool of QEMU's makes such a file, so this does.
//!
//! The format is that of `docs/interop/qcow2.rst` in QEMU, version 3:
//!
//! ```text
//! header │ refcount table │ refcount blocks │ L1 table │ L2 tables │ data, in the guest's order, a hole
//! ```

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io,
    ops::Range,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
};

use crate::extents;

pub mod read;

/// Larger than any file of ext4, and more than half a million times the smallest instance's disk.
const SIZE_BYTES_MAX: u64 = 16 << 40;
/// What the format allows.
const BACKING_NAME_BYTES_MAX: usize = 1023;
/// The header of version 3 without optional fields.
const HEADER_BYTES: usize = 104;
/// The header extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Incompatible feature: L2 entries have a bitmap of subclusters.
const EXTENDED_L2: u64 = 1 << 4;
/// Compatible feature: refcounts may lag behind, and are rebuilt after a crash.
const LAZY_REFCOUNTS: u64 = 1;
/// In an L1 or L2 entry: what it points to is used once.
const COPIED: u64 = 1 << 63;
/// Subclusters of a cluster, a bit each.
const SUBCLUSTERS: u64 = 32;

/// How finely an overlay tells its own data from its backing file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// Clusters of 128 KiB in subclusters of 4 KiB, the block of guests' file systems: nothing is
    /// ever copied from the backing file. QEMU reads it from 5.2 on.
    Subclusters,
    /// Clusters of 64 KiB, which any QEMU reads. One that holds any data of the backing file is
    /// not claimed; the first write to it allocates it and copies the rest.
    Clusters,
}

impl Grain {
    const fn cluster_bits(self) -> u32 {
        match self {
            Self::Subclusters => 17,
            Self::Clusters => 16,
        }
    }

    const fn cluster(self) -> u64 {
        1 << self.cluster_bits()
    }

    const fn entry_bytes(self) -> u64 {
        match self {
            Self::Subclusters => 16,
            Self::Clusters => 8,
        }
    }

    /// The unit that is claimed or not.
    const fn unit(self) -> u64 {
        match self {
            Self::Subclusters => self.cluster() / SUBCLUSTERS,
            Self::Clusters => self.cluster(),
        }
    }
}

/// Bytes that a disk has in place of its image's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where on the disk.
    pub offset: u64,
    /// What is there.
    pub bytes: Vec<u8>,
}

/// Writes an overlay of `size_bytes` over `backing`, a raw file at the absolute path `name`, into a
/// new and empty file. The changes, which lie within the image, are in it from the start. Nothing is
/// synced.
pub fn write(
    file: &File,
    size_bytes: u64,
    name: &Path,
    backing: &File,
    grain: Grain,
    changes: &[Change],
) -> io::Result<()> {
    let name = name.as_os_str().as_bytes();
    if size_bytes > SIZE_BYTES_MAX || name.len() > BACKING_NAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let layout = Layout::plan(size_bytes, grain);
    let changed = changed_units(changes, backing, grain)?;
    let claims = Claims::of(extents::data(backing)?, grain)?.with(changed.keys());

    file.write_all_at(&layout.header(size_bytes, name), 0)?;
    let tables = layout.refcount_table.clone();
    file.write_all_at(
        &layout.pointers(&layout.refcount_blocks, 0),
        tables.start * grain.cluster(),
    )?;
    file.write_all_at(
        &layout.pointers(&layout.l2, COPIED),
        layout.l1.start * grain.cluster(),
    )?;
    for (n, block) in layout.refcount_blocks.clone().enumerate() {
        let counts = layout.refcounts(n as u64, &claims);
        file.write_all_at(&counts, block * grain.cluster())?;
    }
    for (n, table) in layout.l2.clone().enumerate() {
        let entries = layout.l2_entries(n as u64, &claims);
        file.write_all_at(&entries, table * grain.cluster())?;
    }
    for (unit, bytes) in changed {
        let offset = layout.data * grain.cluster() + unit * grain.unit();
        file.write_all_at(&bytes, offset)?;
    }
    file.set_len(layout.end() * grain.cluster())
}

/// The units that changes touch, with the image's bytes around them.
fn changed_units(
    changes: &[Change],
    backing: &File,
    grain: Grain,
) -> io::Result<BTreeMap<u64, Vec<u8>>> {
    let image_bytes = backing.metadata()?.len();
    let mut units = BTreeMap::new();
    for Change { offset, bytes } in changes {
        let mut at = *offset;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (unit, inside) = (at / grain.unit(), (at % grain.unit()) as usize);
            let content = match units.entry(unit) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(new) => {
                    let start = unit * grain.unit();
                    let mut content = vec![0; grain.unit() as usize];
                    let held = image_bytes.saturating_sub(start).min(grain.unit());
                    backing.read_exact_at(&mut content[..held as usize], start)?;
                    new.insert(content)
                }
            };
            let (now, later) = rest.split_at(rest.len().min(content.len() - inside));
            content[inside..inside + now.len()].copy_from_slice(now);
            at += now.len() as u64;
            rest = later;
        }
    }
    Ok(units)
}

/// Which clusters of the file hold what.
#[derive(Debug)]
struct Layout {
    grain: Grain,
    refcount_table: Range<u64>,
    refcount_blocks: Range<u64>,
    l1: Range<u64>,
    l2: Range<u64>,
    /// The first cluster of data; the guest's cluster `n` is at `data + n`.
    data: u64,
    /// Clusters of the guest's disk.
    clusters: u64,
}

impl Layout {
    fn plan(size_bytes: u64, grain: Grain) -> Self {
        let cluster = grain.cluster();
        let clusters = size_bytes.div_ceil(cluster);
        let l2 = clusters.div_ceil(cluster / grain.entry_bytes());
        let l1 = (l2 * 8).div_ceil(cluster).max(1);
        let mut plan = Self {
            grain,
            refcount_table: 1..1,
            refcount_blocks: 1..1,
            l1: 1..1,
            l2: 1..1,
            data: 0,
            clusters,
        };
        // Refcounts count their own clusters too; a few rounds and they cover themselves.
        let mut blocks: u64 = 1;
        loop {
            let table = (blocks * 8).div_ceil(cluster);
            let mut next = 1;
            let mut take = |count: u64| {
                let range = next..next + count;
                next = range.end;
                range
            };
            plan.refcount_table = take(table);
            plan.refcount_blocks = take(blocks);
            plan.l1 = take(l1);
            plan.l2 = take(l2);
            plan.data = next;
            let wanted = plan.end().div_ceil(plan.refcounts_of_a_block());
            if wanted <= blocks {
                return plan;
            }
            blocks = wanted;
        }
    }

    /// Clusters of the whole file.
    fn end(&self) -> u64 {
        self.data + self.clusters
    }

    /// Refcounts are of two bytes.
    fn refcounts_of_a_block(&self) -> u64 {
        self.grain.cluster() / 2
    }

    fn header(&self, size_bytes: u64, name: &[u8]) -> Vec<u8> {
        let format: &[u8] = b"raw";
        // The extension, its padding, and the extension that ends them.
        let name_at = HEADER_BYTES + 8 + format.len().next_multiple_of(8) + 8;
        let at = |cluster: u64| cluster * self.grain.cluster();
        let count = |range: &Range<u64>| range.end - range.start;
        let incompatible = match self.grain {
            Grain::Subclusters => EXTENDED_L2,
            Grain::Clusters => 0,
        };
        let mut header = Bytes::default();
        header.raw(b"QFI\xfb").u32(3);
        header.u64(name_at as u64).u32(name.len() as u64);
        header
            .u32(u64::from(self.grain.cluster_bits()))
            .u64(size_bytes);
        header.u32(0); // not encrypted
        header.u32(count(&self.l2)).u64(at(self.l1.start));
        header.u64(at(self.refcount_table.start));
        header.u32(count(&self.refcount_table));
        header.u32(0).u64(0); // no snapshots
        header.u64(incompatible).u64(LAZY_REFCOUNTS).u64(0);
        header.u32(4).u32(HEADER_BYTES as u64); // refcounts of 2⁴ bits
        header
            .u32(u64::from(BACKING_FORMAT))
            .u32(format.len() as u64);
        header.raw(format).raw(&[0; 5]).u64(0);
        header.raw(name);
        header.0
    }

    /// A table of pointers to clusters.
    fn pointers(&self, to: &Range<u64>, flags: u64) -> Vec<u8> {
        let mut table = Bytes::default();
        for cluster in to.clone() {
            table.u64(flags | (cluster * self.grain.cluster()));
        }
        table.0
    }

    /// The `n`th block of refcounts: 1 for what is used, 0 for the rest.
    fn refcounts(&self, n: u64, claims: &Claims) -> Vec<u8> {
        let first = n * self.refcounts_of_a_block();
        let used = |cluster: u64| {
            cluster < self.data
                || (cluster < self.end() && self.allocated(cluster - self.data, claims))
        };
        (first..first + self.refcounts_of_a_block())
            .flat_map(|cluster| u16::from(used(cluster)).to_be_bytes())
            .collect()
    }

    fn allocated(&self, cluster: u64, claims: &Claims) -> bool {
        match self.grain {
            Grain::Subclusters => true,
            Grain::Clusters => claims.is_claimed(cluster),
        }
    }

    /// The `n`th L2 table.
    fn l2_entries(&self, n: u64, claims: &Claims) -> Vec<u8> {
        let entries = self.grain.cluster() / self.grain.entry_bytes();
        let first = n * entries;
        let mut table = Bytes::default();
        for cluster in first..(first + entries).min(self.clusters) {
            let place = COPIED | ((self.data + cluster) * self.grain.cluster());
            match self.grain {
                Grain::Subclusters => {
                    table.u64(place).u64(claims.bitmap(cluster));
                }
                Grain::Clusters if claims.is_claimed(cluster) => {
                    table.u64(place);
                }
                Grain::Clusters => {
                    table.u64(0);
                }
            }
        }
        table.0
    }
}

/// What of the disk is the overlay's own from the start: each unit in which the backing file has no
/// data. Kept as the units that it has data in.
#[derive(Debug)]
struct Claims(Vec<Range<u64>>);

impl Claims {
    fn of(data: impl Iterator<Item = io::Result<Range<u64>>>, grain: Grain) -> io::Result<Self> {
        let mut held: Vec<Range<u64>> = Vec::new();
        for extent in data {
            let extent = extent?;
            let units = extent.start / grain.unit()..extent.end.div_ceil(grain.unit());
            match held.last_mut() {
                Some(last) if units.start <= last.end => last.end = last.end.max(units.end),
                _ => held.push(units),
            }
        }
        Ok(Self(held))
    }

    /// These units too, whatever the backing file has there.
    fn with<'a>(mut self, units: impl Iterator<Item = &'a u64>) -> Self {
        for &unit in units {
            let before = self.0.partition_point(|held| held.end <= unit);
            let Some(held) = self.0.get(before).filter(|held| held.start <= unit) else {
                continue;
            };
            let parts = [held.start..unit, unit + 1..held.end];
            let parts = parts.into_iter().filter(|part| !part.is_empty());
            self.0.splice(before..=before, parts);
        }
        self
    }

    fn is_claimed(&self, unit: u64) -> bool {
        self.are_claimed(&(unit..unit + 1))
    }

    fn are_claimed(&self, units: &Range<u64>) -> bool {
        let before = self.0.partition_point(|held| held.end <= units.start);
        self.0
            .get(before)
            .is_none_or(|held| units.end <= held.start)
    }

    /// The subclusters of a cluster, a bit each.
    fn bitmap(&self, cluster: u64) -> u64 {
        let units = cluster * SUBCLUSTERS..(cluster + 1) * SUBCLUSTERS;
        if self.are_claimed(&units) {
            return u64::from(u32::MAX);
        }
        let claimed = |bit: &u64| self.is_claimed(units.start + bit);
        (0..SUBCLUSTERS)
            .filter(claimed)
            .fold(0, |bits, bit| bits | (1 << bit))
    }
}

/// Bytes in the format's order, the network's.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u32(&mut self, value: u64) -> &mut Self {
        let value = u32::try_from(value).expect("a disk of 16 TiB has no larger table");
        self.raw(&value.to_be_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRAINS: [Grain; 2] = [Grain::Subclusters, Grain::Clusters];

    #[test]
    fn refcounts_cover_the_file_and_parts_follow_one_another() {
        for grain in GRAINS {
            for size in [1, 512, 1 << 30, (5 << 30) + 512, 320 << 30, SIZE_BYTES_MAX] {
                let plan = Layout::plan(size, grain);
                let blocks = plan.refcount_blocks.end - plan.refcount_blocks.start;
                assert!(blocks * plan.refcounts_of_a_block() >= plan.end());
                assert_eq!(plan.refcount_table.end, plan.refcount_blocks.start);
                assert_eq!(plan.refcount_blocks.end, plan.l1.start);
                assert_eq!((plan.l1.end, plan.l2.end), (plan.l2.start, plan.data));
                let named = plan.pointers(&plan.l2, COPIED).len() as u64;
                assert!(named <= (plan.l1.end - plan.l1.start) * grain.cluster());
            }
        }
    }

    #[test]
    fn what_cannot_be_an_overlay_is_refused() {
        let (file, backing) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let long = "/x".repeat(BACKING_NAME_BYTES_MAX);
        let tried =
            |size, name: &str| write(&file, size, Path::new(name), &backing, GRAINS[0], &[]);
        assert!(tried(SIZE_BYTES_MAX + 1, "/a").is_err());
        assert!(tried(1 << 20, &long).is_err());
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn a_change_is_in_its_units_among_the_images_bytes() {
        let backing = tempfile::tempfile().unwrap();
        backing.write_all_at(&[7; 6000], 0).unwrap();
        let change = Change {
            offset: 4090,
            bytes: vec![9; 10],
        };
        let units = changed_units(&[change], &backing, Grain::Subclusters).unwrap();
        assert_eq!(units.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert!(units[&0][..4090] == [7; 4090] && units[&0][4090..] == [9; 6]);
        assert!(units[&1][..4] == [9; 4] && units[&1][4..6000 - 4096] == [7; 1900]);
        assert!(units[&1][6000 - 4096..].iter().all(|byte| *byte == 0));
    }

    proptest! {
        #[test]
        fn a_unit_is_claimed_exactly_if_it_holds_no_data_or_is_changed(
            mut marks in prop::collection::vec(0_u64..4 << 20, 0..12),
            subclusters: bool,
            changed: u64,
        ) {
            let grain = if subclusters { GRAINS[0] } else { GRAINS[1] };
            marks.sort_unstable();
            marks.dedup();
            let extents: Vec<_> = marks.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
            let claims = Claims::of(extents.iter().cloned().map(Ok), grain).unwrap();
            let own = changed % ((5 << 20) / grain.unit());
            let claims = claims.with([own].iter());
            for unit in 0..(5 << 20) / grain.unit() {
                let bytes = unit * grain.unit()..(unit + 1) * grain.unit();
                let has_data = extents.iter().any(|e| e.start < bytes.end && bytes.start < e.end);
                prop_assert_eq!(claims.is_claimed(unit), !has_data || unit == own, "unit {}", unit);
            }
        }
    }
}
