//! A qcow2 overlay on a raw backing file, read as the guest saw it: for bundling an
//! instance's disk whose guest is off. No process, no mount, no copy.
//!
//! Read is what QEMU writes for our overlays: version 3, clusters of 4 KiB to 2 MiB, extended L2
//! entries or plain ones, no encryption, no compression, no internal snapshots in use, no external
//! data file. Anything else is refused by name. A guest cannot write here; but nothing is believed
//! that is not within the file all the same.
//!
//! The format is that of QEMU's `docs/interop/qcow2.txt`.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use crate::{bundle::Image, extents};

/// `QFI\xfb`.
const MAGIC: u32 = 0x5146_49fb;
const HEADER_BYTES: usize = 104;
/// Incompatible features that reading can live with: the refcounts may be out of date (they are not
/// read), and extended L2 entries.
const DIRTY: u64 = 1;
const EXTENDED_L2: u64 = 1 << 4;
const SUBCLUSTERS: u64 = 32;
/// 2 MiB of L1 are 16 TiB of disk with the smallest clusters that QEMU makes by default.
const L1_ENTRIES_MAX: u32 = 1 << 18;
/// The bits of an L1 or L2 entry that are an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// In plain L2 entries: it reads as zeros, whatever the offset says.
const ZERO: u64 = 1;

/// A file that is no overlay of ours, or is damaged.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// It cannot be read.
    #[error("the overlay cannot be read")]
    Read(#[from] io::Error),
    /// It is something else, or uses what we do not read.
    #[error("the overlay cannot be read: {0}")]
    Unsupported(&'static str),
}

use OverlayError::Unsupported;

impl From<OverlayError> for io::Error {
    fn from(error: OverlayError) -> Self {
        match error {
            OverlayError::Read(error) => error,
            unsupported => Self::new(io::ErrorKind::InvalidData, unsupported),
        }
    }
}

/// An overlay with its backing file.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    file_bytes: u64,
    backing: File,
    backing_bytes: u64,
    cluster_bits: u32,
    is_extended: bool,
    size_bytes: u64,
    l1: Vec<u64>,
    /// The L2 table that was read last, and which.
    table: Option<(usize, Vec<u8>)>,
}

/// Where the bytes at some place come from, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    /// From there on in the overlay's own file.
    Data(u64, u64),
    /// They are zeros.
    Zeros(u64),
    /// From the same place of the backing file.
    Backing(u64),
}

impl Overlay {
    /// Opens an overlay over that raw file. The name of a backing file in the overlay is not looked
    /// at: whoever made the overlay knows what it stands on.
    pub fn open(file: File, backing: File) -> Result<Self, OverlayError> {
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        let u32_at = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().expect("eight"));
        if u32_at(0) != MAGIC || u32_at(4) != 3 {
            return Err(Unsupported("it is not qcow2 of version 3"));
        }
        let (cluster_bits, incompatible) = (u32_at(20), u64_at(72));
        if !(12..=21).contains(&cluster_bits) {
            return Err(Unsupported("its cluster size"));
        }
        if u32_at(32) != 0 || incompatible & !(DIRTY | EXTENDED_L2) != 0 {
            return Err(Unsupported(
                "it uses a feature that overlays here do not have",
            ));
        }
        let (l1_entries, l1_at) = (u32_at(36), u64_at(40));
        if l1_entries > L1_ENTRIES_MAX {
            return Err(Unsupported("its L1 table is too long"));
        }
        let mut l1 = vec![0; l1_entries as usize * 8];
        file.read_exact_at(&mut l1, l1_at)?;
        let entry = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight"));
        Ok(Self {
            file_bytes: file.metadata()?.len(),
            file,
            backing_bytes: backing.metadata()?.len(),
            backing,
            cluster_bits,
            is_extended: incompatible & EXTENDED_L2 != 0,
            size_bytes: u64_at(24),
            l1: l1.chunks_exact(8).map(entry).collect(),
            table: None,
        })
    }

    /// The size of the disk.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The disk from `start` on, as an image.
    pub fn stretch(self, start: u64) -> Stretch {
        Stretch {
            overlay: self,
            start,
        }
    }

    /// Fills the buffer from the disk; all of it is within the disk.
    pub fn read_exact_at(&mut self, buffer: &mut [u8], mut at: u64) -> Result<(), OverlayError> {
        let mut done = 0;
        while done < buffer.len() {
            let read = self.read_at(&mut buffer[done..], at)?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            (done, at) = (done + read, at + read as u64);
        }
        Ok(())
    }

    fn read_at(&mut self, buffer: &mut [u8], at: u64) -> Result<usize, OverlayError> {
        let wanted = (buffer.len() as u64).min(self.size_bytes.saturating_sub(at));
        if wanted == 0 {
            return Ok(0);
        }
        match self.run(at)? {
            Run::Data(from, length) => {
                let buffer = &mut buffer[..wanted.min(length) as usize];
                // Past the end of the file are clusters that were given out and never written to.
                let there = self
                    .file_bytes
                    .saturating_sub(from)
                    .min(buffer.len() as u64) as usize;
                self.file.read_exact_at(&mut buffer[..there], from)?;
                buffer[there..].fill(0);
                Ok(buffer.len())
            }
            Run::Zeros(length) => {
                let buffer = &mut buffer[..wanted.min(length) as usize];
                buffer.fill(0);
                Ok(buffer.len())
            }
            Run::Backing(length) => {
                let buffer = &mut buffer[..wanted.min(length) as usize];
                let left = self.backing_bytes.saturating_sub(at);
                let there = left.min(buffer.len() as u64) as usize;
                self.backing.read_exact_at(&mut buffer[..there], at)?;
                // A disk may be larger than what it stands on: the rest is zeros.
                buffer[there..].fill(0);
                Ok(buffer.len())
            }
        }
    }

    /// What the disk holds at `at`, to the end of its cluster or subcluster at most. Neighbours that
    /// come from the same place are joined within a cluster.
    fn run(&mut self, at: u64) -> Result<Run, OverlayError> {
        let cluster = 1 << self.cluster_bits;
        let within = at & (cluster - 1);
        let Some((entry, bitmap)) = self.entry(at)? else {
            return Ok(Run::Backing(cluster - within));
        };
        if entry & COMPRESSED != 0 {
            return Err(Unsupported("a cluster is compressed"));
        }
        let host = entry & OFFSET;
        if !self.is_extended {
            let rest = cluster - within;
            return Ok(match (entry & ZERO != 0, host) {
                (true, _) => Run::Zeros(rest),
                (false, 0) => Run::Backing(rest),
                (false, host) => Run::Data(host + within, rest),
            });
        }
        let subcluster = cluster / SUBCLUSTERS;
        let first = within / subcluster;
        let kind = |index: u64| (bitmap >> index & 1, bitmap >> (SUBCLUSTERS + index) & 1);
        let last = (first..SUBCLUSTERS)
            .take_while(|index| kind(*index) == kind(first))
            .last()
            .unwrap_or(first);
        let rest = (last + 1) * subcluster - within;
        match kind(first) {
            (0, 0) => Ok(Run::Backing(rest)),
            (0, _) => Ok(Run::Zeros(rest)),
            (_, 0) if host != 0 => Ok(Run::Data(host + within, rest)),
            _ => Err(Unsupported("a cluster's map contradicts itself")),
        }
    }

    /// The L2 entry of a place and its bitmap; none where there is no table.
    fn entry(&mut self, at: u64) -> Result<Option<(u64, u64)>, OverlayError> {
        let entry_bytes = if self.is_extended { 16 } else { 8 };
        let entries = (1_u64 << self.cluster_bits) / entry_bytes;
        let cluster = at >> self.cluster_bits;
        let (table, index) = ((cluster / entries) as usize, (cluster % entries) as usize);
        let host = self.l1.get(table).map_or(0, |entry| entry & OFFSET);
        if host == 0 {
            return Ok(None);
        }
        if self
            .table
            .as_ref()
            .is_none_or(|(loaded, _)| *loaded != table)
        {
            let mut bytes = vec![0; 1 << self.cluster_bits];
            self.file.read_exact_at(&mut bytes, host)?;
            self.table = Some((table, bytes));
        }
        let Some((_, bytes)) = &self.table else {
            return Ok(None);
        };
        let entry = &bytes[index * entry_bytes as usize..][..entry_bytes as usize];
        let word = |at: usize| u64::from_be_bytes(entry[at..at + 8].try_into().expect("eight"));
        Ok(Some((word(0), if self.is_extended { word(8) } else { 0 })))
    }
}

/// A part of an overlay's disk, as an image to be bundled.
#[derive(Debug)]
pub struct Stretch {
    overlay: Overlay,
    start: u64,
}

impl Image for Stretch {
    fn data(&mut self, bytes: u64) -> io::Result<Vec<Range<u64>>> {
        let overlay = &mut self.overlay;
        let end = self.start.saturating_add(bytes);
        if end > overlay.size_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let own = extents::data(&overlay.file)?.collect::<io::Result<Vec<_>>>()?;
        let backing = extents::data(&overlay.backing)?.collect::<io::Result<Vec<_>>>()?;
        let mut data = Vec::new();
        let mut at = self.start;
        while at < end {
            let (extents, from, length) = match overlay.run(at).map_err(io::Error::from)? {
                Run::Data(from, length) => (&own[..], from, length),
                Run::Backing(length) => (&backing[..], at, length),
                Run::Zeros(length) => (&[][..], at, length),
            };
            let length = length.min(end - at);
            let place = at - self.start;
            for held in within(extents, from..from.saturating_add(length)) {
                let held = place + held.start - from..place + held.end - from;
                match data.last_mut() {
                    Some(Range { end, .. }) if *end == held.start => *end = held.end,
                    _ => data.push(held),
                }
            }
            at += length;
        }
        Ok(data)
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let read = self.overlay.read_exact_at(buffer, self.start + at);
        read.map_err(io::Error::from)
    }
}

/// What extents in order hold of a range.
fn within(extents: &[Range<u64>], range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let first = extents.partition_point(|extent| extent.end <= range.start);
    let Range { start, end } = range;
    extents[first..]
        .iter()
        .take_while(move |extent| extent.start < end)
        .map(move |extent| extent.start.max(start)..extent.end.min(end))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a test runs the tools it compares with
mod tests {
    use std::{path::Path, process::Command};

    use super::*;

    fn run(program: &str, words: &[&str], folder: &Path) {
        let ran = Command::new(program)
            .args(words)
            .current_dir(folder)
            .output();
        let ran = ran.expect("qemu-utils are installed");
        assert!(ran.status.success(), "{program} {words:?}: {ran:?}");
    }

    fn backing(folder: &Path, bytes: usize) {
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        std::fs::write(folder.join("raw"), noise.take(bytes).collect::<Vec<u8>>()).unwrap();
    }

    fn open(folder: &Path) -> Result<Overlay, OverlayError> {
        let open = |name| File::open(folder.join(name)).unwrap();
        Overlay::open(open("overlay"), open("raw"))
    }

    const OURS: &str = "extended_l2=on,cluster_size=128k,preallocation=metadata,lazy_refcounts=on";

    #[test]
    fn what_qemu_wrote_is_read_as_qemu_reads_it() {
        for options in [OURS, "cluster_size=64k", "extended_l2=on,cluster_size=16k"] {
            let folder = tempfile::tempdir().unwrap();
            backing(folder.path(), 5_000_000);
            let create = [
                "create", "-q", "-f", "qcow2", "-o", options, "-b", "raw", "-F", "raw", "overlay",
                "9M",
            ];
            run("qemu-img", &create, folder.path());
            // Writes that begin and end anywhere, zeros, holes, and one beyond the backing file.
            let mut words = vec!["-f", "qcow2"];
            for command in [
                "write -P 0x11 100 5",
                "write -P 0x22 131000 70000",
                "write -z 1M 300k",
                "discard 2M 256k",
                "write -P 0x33 4900000 300000",
                "write -P 0x44 8M 1k",
                "write -z -u 3M 64k",
                "write -P 0x55 3100000 10",
            ] {
                words.extend(["-c", command]);
            }
            words.push("overlay");
            run("qemu-io", &words, folder.path());
            run(
                "qemu-img",
                &["convert", "-O", "raw", "overlay", "expected"],
                folder.path(),
            );
            let expected = std::fs::read(folder.path().join("expected")).unwrap();

            let overlay = open(folder.path()).unwrap();
            assert_eq!(overlay.size_bytes(), expected.len() as u64);
            let size = overlay.size_bytes();
            let mut disk = overlay.stretch(0);
            let mut found = vec![0; size as usize];
            disk.read_exact_at(&mut found, 0).unwrap();
            assert!(found == expected, "{options}");
            // From a place within a cluster: outside the data there are zeros, and data is not all.
            let mut later = open(folder.path()).unwrap().stretch(100_003);
            let mut outside = expected[100_003..].to_vec();
            let bytes = outside.len() as u64;
            let data = later.data(bytes).unwrap();
            assert!(data.windows(2).all(|pair| pair[0].end <= pair[1].start));
            let held: u64 = data.iter().map(|data| data.end - data.start).sum();
            assert!(held < bytes - 2_000_000, "{held} of {bytes}");
            for data in data {
                outside[data.start as usize..data.end as usize].fill(0);
            }
            assert!(outside.iter().all(|byte| *byte == 0), "{options}");
            assert!(later.data(bytes + 1).is_err());
            let (mut part, mut overlay) = (vec![0; 700_000], open(folder.path()).unwrap());
            overlay.read_exact_at(&mut part, 130_000).unwrap();
            assert!(part == expected[130_000..830_000]);
            assert!(overlay.read_exact_at(&mut part, size - 10).is_err());
        }
    }

    #[test]
    fn what_is_no_overlay_of_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        backing(folder.path(), 100_000);
        std::fs::write(folder.path().join("overlay"), [0; 200]).unwrap();
        assert!(matches!(open(folder.path()), Err(Unsupported(_))));
        std::fs::write(folder.path().join("overlay"), b"QFI").unwrap();
        assert!(matches!(open(folder.path()), Err(OverlayError::Read(_))));
        let convert = ["convert", "-c", "-O", "qcow2", "raw", "overlay"];
        run("qemu-img", &convert, folder.path());
        let mut compressed = open(folder.path()).unwrap().stretch(0);
        for error in [
            compressed.data(100_000).unwrap_err(),
            compressed.read_exact_at(&mut [0; 100_000], 0).unwrap_err(),
        ] {
            assert!(error.to_string().contains("compressed"), "{error}");
        }
    }

    #[test]
    fn no_damage_makes_the_reader_panic() {
        let folder = tempfile::tempdir().unwrap();
        backing(folder.path(), 300_000);
        let create = [
            "create", "-q", "-f", "qcow2", "-o", OURS, "-b", "raw", "-F", "raw", "overlay",
        ];
        run("qemu-img", &create, folder.path());
        let whole = std::fs::read(folder.path().join("overlay")).unwrap();
        for at in (0..HEADER_BYTES).chain((0..whole.len()).step_by(4099)) {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                std::fs::write(folder.path().join("overlay"), damaged).unwrap();
                if let Ok(overlay) = open(folder.path()) {
                    let mut disk = overlay.stretch(0);
                    let _ = disk.data(300_000);
                    let _ = disk.read_exact_at(&mut vec![0; 300_000], 0);
                }
            }
        }
    }
}
