//! What reaches the host, counted by QEMU: `blklogwrites`, a filter of QEMU's that sits between a
//! disk's format and its file and logs each write and each flush. The counters of
//! `query-blockstats` belong to the guest's device; below the format QEMU keeps none.
//!
//! The log is that of Linux's `dm-log-writes`: a superblock, then entries, each a header of one
//! sector and the data that was written.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use serde::Serialize;

/// The first eight bytes of the superblock.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// Writes and flushes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// Writes of any size.
    pub(super) writes: u64,
    /// Flushes; on the host each is an fdatasync.
    pub(super) flushes: u64,
}

impl Counts {
    /// What came since.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            writes: self.writes - earlier.writes,
            flushes: self.flushes - earlier.flushes,
        }
    }
}

/// Counts what a log holds so far. An empty file is a log of nothing.
pub(super) fn read(path: &Path) -> io::Result<Counts> {
    let log = File::open(path)?;
    let mut counts = Counts::default();
    if log.metadata()?.len() == 0 {
        return Ok(counts);
    }
    let [magic, _version, entries, sector] = words(&log, 0)?;
    // The sector's size is a word of 32 bits.
    let sector = sector & u64::from(u32::MAX);
    if magic != MAGIC || !(512..=65_536).contains(&sector) {
        return Err(io::Error::other("not a log of blklogwrites"));
    }
    let mut at = sector;
    for _ in 0..entries {
        let [_, sectors, flags, _] = words(&log, at)?;
        let has_data = flags & DISCARD == 0;
        counts.writes += u64::from(has_data && sectors > 0);
        counts.flushes += flags & FLUSH;
        at += sector;
        if has_data {
            at += sectors * sector;
        }
    }
    Ok(counts)
}

fn words(log: &File, at: u64) -> io::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    log.read_exact_at(&mut bytes, at)?;
    let word = |n: usize| {
        let bytes = bytes[8 * n..][..8].try_into();
        u64::from_le_bytes(bytes.expect("eight bytes"))
    };
    Ok([word(0), word(1), word(2), word(3)])
}

#[cfg(test)]
mod tests {
    use daemon::run::Tool;
    use image::overlay::{self, Grain};

    use super::*;

    const MIB: u64 = 1 << 20;
    const WRITES: u64 = 64;

    /// Writes and flushes of the host for each of `WRITES` writes of 1 MiB with a flush after it.
    async fn costs(folder: &Path, disk: &Path, offset: u64) -> [f64; 2] {
        let log = folder.join("log");
        std::fs::write(&log, "").unwrap();
        let chain = format!(
            "driver=qcow2,file.driver=blklogwrites,file.file.driver=file,file.file.filename={},\
             file.log.driver=file,file.log.filename={},file.log.cache.no-flush=on",
            disk.display(),
            log.display()
        );
        let tool = Tool::new("qemu-img")
            .args(["bench", "-w", "-d", "1", "-s", "1M", "--flush-interval=1"])
            .args(["-c", &WRITES.to_string(), "-o", &offset.to_string()])
            .args(["--image-opts", &chain]);
        tool.output().await.unwrap();
        let Counts { writes, flushes } = read(&log).unwrap();
        [writes, flushes].map(|count| count as f64 / WRITES as f64)
    }

    /// An image with a hole of 64 MiB before 64 MiB of data.
    fn image(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("image");
        let file = File::create(&path).unwrap();
        for n in WRITES..2 * WRITES {
            file.write_all_at(&vec![7; MIB as usize], n * MIB).unwrap();
        }
        path
    }

    /// What the paper found for qcow2 with a backing file, and what it hoped for. The few writes
    /// above one for each are those of opening and closing.
    #[tokio::test]
    async fn host_a_first_write_costs_our_overlay_one_write_and_one_flush() {
        let folder = tempfile::tempdir().unwrap();
        let (image, disk) = (image(folder.path()), folder.path().join("disk"));
        let plain = Tool::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&image, &disk]);
        plain.output().await.unwrap();
        let [writes, flushes] = costs(folder.path(), &disk, 0).await;
        assert!(writes > 3.0 && flushes > 2.0, "{writes} {flushes}");

        for grain in [Grain::Subclusters, Grain::Clusters] {
            let (file, backing) = (File::create(&disk).unwrap(), File::open(&image).unwrap());
            overlay::write(&file, 2 * WRITES * MIB, &image, &backing, grain, &[]).unwrap();
            let [empty, data] = [0, WRITES * MIB];
            for (offset, writes_max, flushes_max) in [
                (empty, 1.1, 1.1),
                (data, 2.1, 1.1),
                (empty, 1.1, 1.1),
                (data, 1.1, 1.1),
            ] {
                let [writes, flushes] = costs(folder.path(), &disk, offset).await;
                assert!(
                    writes <= writes_max && flushes <= flushes_max,
                    "{grain:?} at {offset}: {writes} writes, {flushes} flushes"
                );
            }
        }
    }

    #[test]
    fn an_empty_log_counts_nothing_and_another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "").unwrap();
        assert_eq!(read(&path).unwrap(), Counts::default());
        std::fs::write(&path, [7; 4096]).unwrap();
        assert!(read(&path).is_err());
    }
}
