//! What an image's first sectors say of its disk, and how an instance's type divides what it gives.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use control::node::InstanceSpec;
use image::{
    ebr, gpt, mbr,
    recognise::{self, Content, FileSystem},
};

use super::{DiskError, scratch};

/// File systems of one disk that are looked into: more than any installer makes, few enough that a
/// disk of hundreds costs nobody an hour.
const ROOTS_MAX: usize = 8;

/// How large each disk is; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) root_bytes: u64,
    pub(super) ephemeral_bytes: u64,
    pub(super) swap_bytes: u64,
}

impl Layout {
    /// The layout of an instance of that image.
    pub(super) fn of(
        head: &Head,
        spec: &InstanceSpec,
        has_kernel: bool,
    ) -> Result<Self, DiskError> {
        if let (Some(feature), false) = (head.unbootable, has_kernel) {
            return Err(DiskError::Unbootable { feature });
        }
        Self::plan(head.bytes, head.is_ours(), spec.shape.disk_gib.bytes())
    }

    /// Divides the type's disk.
    fn plan(image_bytes: u64, partition: bool, disk_bytes: u64) -> Result<Self, DiskError> {
        // The MiB before a partition is ours, not the type's to pay for.
        let own_bytes = if partition {
            image_bytes - mbr::PARTITION_START_BYTES
        } else {
            image_bytes
        };
        if own_bytes > disk_bytes {
            return Err(DiskError::TooLarge {
                image_bytes: own_bytes,
                disk_bytes,
            });
        }
        if !partition {
            return Ok(Self {
                root_bytes: disk_bytes,
                ephemeral_bytes: 0,
                swap_bytes: 0,
            });
        }
        let rest = disk_bytes - own_bytes;
        let swap_bytes = if rest >= scratch::SWAP_BYTES {
            scratch::SWAP_BYTES
        } else {
            0
        };
        let ephemeral_bytes = rest - swap_bytes;
        let ephemeral_bytes = if ephemeral_bytes >= scratch::EPHEMERAL_BYTES_MIN {
            ephemeral_bytes
        } else {
            0
        };
        let ephemeral_bytes = ephemeral_bytes / mbr::SECTOR_BYTES * mbr::SECTOR_BYTES;
        Ok(Self {
            root_bytes: image_bytes,
            ephemeral_bytes,
            swap_bytes,
        })
    }
}

/// What a cached disk's first sectors say.
pub(super) struct Head {
    bytes: u64,
    table: Table,
    unbootable: Option<&'static str>,
    roots: Vec<Root>,
}

/// The partitions of a disk.
enum Table {
    None,
    Mbr(Vec<mbr::Entry>),
    Gpt(Vec<gpt::Entry>),
}

/// A file system that may be a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    /// Where it begins.
    pub(super) start: u64,
    /// What it is.
    pub(super) kind: FileSystem,
    /// Which partition; none fills the disk.
    pub(super) partition: Option<Partition>,
}

/// A partition by the number that everybody knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partition {
    /// Of a master boot record, or of the chain in its extended partition.
    Mbr(u32),
    /// Of a GUID partition table.
    Gpt(u32),
}

impl Head {
    pub(super) fn read(disk: &Path) -> io::Result<Self> {
        let file = File::open(disk)?;
        let bytes = file.metadata()?.len();
        let head = read(&file, 0, bytes, recognise::HEAD_BYTES)?;
        let table = Table::read(&file, &head, bytes)?;
        let start = mbr::PARTITION_START_BYTES;
        let unbootable = match file_system(&file, start, bytes)? {
            Some(FileSystem::Ext { unbootable }) => unbootable,
            Some(FileSystem::Xfs | FileSystem::Btrfs) | None => None,
        };
        let mut roots = Vec::new();
        for (start, partition) in table.starts() {
            if let Some(kind) = file_system(&file, start, bytes)?
                && roots.len() < ROOTS_MAX
            {
                roots.push(Root {
                    start,
                    kind,
                    partition,
                });
            }
        }
        Ok(Self {
            bytes,
            table,
            unbootable,
            roots,
        })
    }

    /// The file systems that are there, in the order of their partitions.
    pub(super) fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Whether there is a partition table.
    pub(super) fn has_table(&self) -> bool {
        !matches!(self.table, Table::None)
    }

    /// Whether this is a disk that we made around a partition: one entry, from 1 MiB to the end.
    fn is_ours(&self) -> bool {
        let Table::Mbr(entries) = &self.table else {
            return false;
        };
        let [entry] = entries.as_slice() else {
            return false;
        };
        let start = u64::from(entry.start_sector) * mbr::SECTOR_BYTES;
        let length = u64::from(entry.sectors) * mbr::SECTOR_BYTES;
        start == mbr::PARTITION_START_BYTES && start + length == self.bytes
    }
}

impl Table {
    /// A GUID partition table counts where a record protects it, or where there is no record.
    fn read(file: &File, head: &[u8], bytes: u64) -> io::Result<Self> {
        let entries = head
            .first_chunk()
            .and_then(|sector| mbr::parse(sector, bytes));
        match entries {
            Some(mut entries) if !mbr::is_protective(&entries) => {
                entries.extend(logical(file, &entries, bytes)?);
                Ok(Self::Mbr(entries))
            }
            entries => match gpt_of(file, bytes)? {
                Some(partitions) => Ok(Self::Gpt(partitions)),
                None => Ok(entries.map_or(Self::None, Self::Mbr)),
            },
        }
    }

    /// Where file systems may begin, with their partitions.
    fn starts(&self) -> Vec<(u64, Option<Partition>)> {
        match self {
            Self::None => vec![(0, None)],
            Self::Mbr(entries) => {
                let start = |entry: &mbr::Entry| {
                    let at = u64::from(entry.start_sector) * mbr::SECTOR_BYTES;
                    (at, Some(Partition::Mbr(entry.number)))
                };
                let holds_one = |entry: &&mbr::Entry| !entry.is_extended();
                entries.iter().filter(holds_one).map(start).collect()
            }
            Self::Gpt(entries) => {
                let start =
                    |entry: &gpt::Entry| (entry.start_bytes, Some(Partition::Gpt(entry.number)));
                entries.iter().map(start).collect()
            }
        }
    }
}

/// The partitions in an extended one.
fn logical(file: &File, primary: &[mbr::Entry], bytes: u64) -> io::Result<Vec<mbr::Entry>> {
    let mut chain = ebr::Chain::of(primary, bytes);
    while let Some(at) = chain.next_at() {
        let record = read(file, at, bytes, mbr::SECTOR_BYTES as usize)?;
        // It lies on the disk whole, or it would not be the next one.
        chain.take(record.first_chunk().unwrap_or(&[0; 512]));
    }
    Ok(chain.into_found())
}

/// The partitions of the first of a disk's two tables that is whole.
fn gpt_of(file: &File, bytes: u64) -> io::Result<Option<Vec<gpt::Entry>>> {
    for at in gpt::headers_at(bytes) {
        let sector = read(file, at, bytes, mbr::SECTOR_BYTES as usize)?;
        let header = sector
            .first_chunk()
            .and_then(|sector| gpt::Header::parse(sector, at, bytes));
        let Some(header) = header else { continue };
        let table = read(file, header.table_at(), bytes, header.table_bytes())?;
        if let Some(entries) = header.entries(&table) {
            return Ok(Some(entries));
        }
    }
    Ok(None)
}

fn file_system(file: &File, start: u64, bytes: u64) -> io::Result<Option<FileSystem>> {
    let head = read(file, start, bytes, recognise::HEAD_BYTES)?;
    match recognise::recognise(&head, bytes.saturating_sub(start)) {
        Ok(Content::Partition(kind)) => Ok(Some(kind)),
        Ok(Content::Disk(_) | Content::Unknown) | Err(_) => Ok(None),
    }
}

/// So many bytes from there on, or what the disk has of them.
fn read(file: &File, at: u64, disk_bytes: u64, length: usize) -> io::Result<Vec<u8>> {
    let held = disk_bytes.saturating_sub(at).min(length as u64);
    let mut bytes = vec![0; held as usize];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use daemon::run::Tool;

    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    #[test]
    fn a_partition_leaves_the_rest_to_swap_and_ephemeral() {
        let layout = Layout::plan(65 * MIB, true, 5 * GIB).unwrap();
        assert_eq!(layout.root_bytes, 65 * MIB);
        assert_eq!(layout.swap_bytes, 512 * MIB);
        assert_eq!(layout.ephemeral_bytes, 5 * GIB - 64 * MIB - 512 * MIB);
    }

    #[test]
    fn a_whole_disk_gets_all_of_it() {
        let layout = Layout::plan(2 * GIB, false, 5 * GIB).unwrap();
        assert_eq!(
            layout,
            Layout {
                root_bytes: 5 * GIB,
                ephemeral_bytes: 0,
                swap_bytes: 0
            }
        );
    }

    #[test]
    fn an_image_as_large_as_its_type_fits_and_a_larger_one_does_not() {
        let full = Layout::plan(5 * GIB + MIB, true, 5 * GIB).unwrap();
        assert_eq!((full.ephemeral_bytes, full.swap_bytes), (0, 0));
        assert!(matches!(
            Layout::plan(5 * GIB + 512, false, 5 * GIB),
            Err(DiskError::TooLarge { .. })
        ));
    }

    /// A disk with `sgdisk`'s partitions, and file systems made in two of them.
    async fn gpt_disk(dir: &Path) -> std::path::PathBuf {
        let disk = dir.join("disk.raw");
        File::create(&disk).unwrap().set_len(600 * MIB).unwrap();
        let parts = ["-n1:2048:4095", "-t1:ef02", "-n3:4096:+64M", "-n2:500M:0"];
        let made = Tool::new("sgdisk").args(parts).arg(&disk);
        made.output().await.unwrap();
        let ext4 = Tool::new("mke2fs").args(["-qF", "-text4", "-Eoffset=2097152"]);
        ext4.arg(&disk).arg("64M").output().await.unwrap();
        disk
    }

    #[tokio::test]
    async fn host_roots_are_found_in_a_gpt_by_either_of_its_tables() {
        let folder = tempfile::tempdir().unwrap();
        let disk = gpt_disk(folder.path()).await;
        let root = Root {
            start: 2 * MIB,
            kind: FileSystem::Ext { unbootable: None },
            partition: Some(Partition::Gpt(3)),
        };
        let head = Head::read(&disk).unwrap();
        assert_eq!(head.roots(), [root]);
        assert!(head.has_table() && !head.is_ours());

        let file = File::options().write(true).open(&disk).unwrap();
        file.write_all_at(&[0xff; 8], 512 + 16).unwrap();
        assert_eq!(Head::read(&disk).unwrap().roots(), [root], "by the second");
        file.write_all_at(&[0xff; 8], 600 * MIB - 512 + 16).unwrap();
        assert_eq!(Head::read(&disk).unwrap().roots(), [], "both are damaged");
    }

    #[test]
    fn a_disk_of_nothing_has_no_roots() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        for length in [0, 1, 511, 512, 4096, 2 * MIB] {
            std::fs::write(&disk, vec![0; length as usize]).unwrap();
            let head = Head::read(&disk).unwrap();
            assert!(head.roots().is_empty() && !head.has_table());
        }
    }
}
