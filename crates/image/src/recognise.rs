//! What the first bytes of a raw image say it is, by our own reading.
//!
//! QEMU is always told `raw`; this exists to put a root partition at its place on a disk, and to
//! refuse by name what a user uploaded by mistake or in malice: a qcow2 in a "raw" image is a way to
//! read files of the host (CVE-2015-1850, CVE-2024-32498 and others), were it ever probed.

use crate::{mbr, qcow2};

/// Bytes from the front that [`recognise`] wants to see: btrfs' superblock, at 64 KiB, is the last.
pub const HEAD_BYTES: usize = 128 * 1024;

/// What a machine image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A whole disk with a partition table.
    Disk(PartitionTable),
    /// A file system from the first byte: a root partition, which needs a disk around it.
    Partition(FileSystem),
    /// Nothing that we know; it is kept as it is.
    Unknown,
}

/// The partition table of a whole disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionTable {
    /// A master boot record.
    Mbr,
    /// A GUID partition table.
    Gpt,
}

/// The file system of a partition image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, ext3 or ext4.
    Ext {
        /// A feature in use that GRUB 2.06 cannot read, by name.
        unbootable: Option<&'static str>,
    },
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

/// A format that is not a raw image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the image is not raw: its first bytes are those of {name}")]
pub struct Foreign {
    /// The format: `a qcow2 image`, `gzip data`.
    pub name: &'static str,
}

/// Signatures of disk formats and of archives that someone forgot to unpack, with their places.
const FOREIGN: [(usize, &[u8], &str); 20] = [
    (0, b"QFI\xfb", "a qcow2 image"),
    (0, b"QED\0", "a QED image"),
    (0, b"KDMV", "a VMDK image"),
    (0, b"COWD", "a VMDK image"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    (0, b"conectix", "a VHD image"),
    (0, b"vhdxfile", "a VHDX image"),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI image"),
    (0, b"WithoutFreeSpace", "a Parallels image"),
    (0, b"WithouFreSpacExt", "a Parallels image"),
    (0, b"Bochs Virtual HD Image", "a Bochs image"),
    (0, b"#!/bin/sh\n#V2.0 Format", "a cloop image"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"BZh", "bzip2 data"),
    (0, b"\xfd7zXZ\0", "xz data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data"),
    (0, b"PK\x03\x04", "a zip archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"<?xml", "an XML document"),
];

/// Looks at the first [`HEAD_BYTES`] of an image of `size_bytes` (all of it, where it is smaller).
pub fn recognise(head: &[u8], size_bytes: u64) -> Result<Content, Foreign> {
    if let Some((.., name)) = FOREIGN.iter().find(|(at, magic, _)| has(head, *at, magic)) {
        return Err(match head.starts_with(qcow2::MAGIC) {
            true => Foreign {
                name: qcow2_name(head, size_bytes),
            },
            false => Foreign { name },
        });
    }
    let table = head
        .first_chunk()
        .and_then(|sector| mbr::parse(sector, size_bytes));
    Ok(match table {
        Some(entries) if mbr::is_protective(&entries) => Content::Disk(PartitionTable::Gpt),
        Some(_) => Content::Disk(PartitionTable::Mbr),
        None if has(head, 512, b"EFI PART") => Content::Disk(PartitionTable::Gpt),
        None => file_system(head).map_or(Content::Unknown, Content::Partition),
    })
}

/// Refused all the same; but which file of the host it would have had read is worth a word.
fn qcow2_name(head: &[u8], size_bytes: u64) -> &'static str {
    match qcow2::Header::read(&head[..head.len().min(qcow2::HEAD_BYTES)], size_bytes) {
        Err(qcow2::Refusal::BackingFile) => "a qcow2 image that names a backing file",
        Err(qcow2::Refusal::DataFile) => "a qcow2 image that names an external data file",
        Ok(_) | Err(_) => "a qcow2 image",
    }
}

fn file_system(head: &[u8]) -> Option<FileSystem> {
    const EXT_SUPERBLOCK: usize = 1024;
    const BTRFS_SUPERBLOCK: usize = 64 * 1024;
    if has(head, EXT_SUPERBLOCK + 0x38, &[0x53, 0xef]) {
        let incompatible = head.get(EXT_SUPERBLOCK + 0x60..EXT_SUPERBLOCK + 0x64)?;
        let incompatible = u32::from_le_bytes(incompatible.try_into().ok()?);
        return Some(FileSystem::Ext {
            unbootable: unbootable_ext(incompatible),
        });
    }
    if has(head, 0, b"XFSB") {
        return Some(FileSystem::Xfs);
    }
    has(head, BTRFS_SUPERBLOCK + 0x40, b"_BHRfS_M").then_some(FileSystem::Btrfs)
}

/// Incompatible ext4 features that GRUB 2.06 refuses (`grub-core/fs/ext2.c`).
fn unbootable_ext(incompatible: u32) -> Option<&'static str> {
    const REFUSED: [(u32, &str); 2] = [(0x8000, "inline_data"), (0x2_0000, "casefold")];
    REFUSED
        .iter()
        .find(|(bit, _)| incompatible & bit != 0)
        .map(|(_, name)| *name)
}

fn has(head: &[u8], at: usize, magic: &[u8]) -> bool {
    head.get(at..at + magic.len()) == Some(magic)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a test runs the tools it compares with
mod tests {
    use std::process::Command;

    use super::*;

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![0; HEAD_BYTES];
        head[at..at + bytes.len()].copy_from_slice(bytes);
        head
    }

    fn made_by(tool: &str, arguments: &[&str], size: u64) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        let made = Command::new(tool)
            .args(arguments)
            .arg(file.path())
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{tool}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut bytes = std::fs::read(file.path()).unwrap();
        bytes.truncate(HEAD_BYTES);
        bytes
    }

    #[test]
    fn what_is_not_raw_is_refused_by_name() {
        for (at, magic, name) in FOREIGN {
            assert_eq!(recognise(&with(at, magic), 1 << 20), Err(Foreign { name }));
        }
        let qcow2 = {
            let file = tempfile::NamedTempFile::new().unwrap();
            let arguments = ["create", "-q", "-f", "qcow2"];
            Command::new("qemu-img")
                .args(arguments)
                .arg(file.path())
                .arg("1M")
                .status()
                .unwrap();
            std::fs::read(file.path()).unwrap()
        };
        assert_eq!(
            recognise(&qcow2, 1 << 20),
            Err(Foreign {
                name: "a qcow2 image"
            })
        );
    }

    #[test]
    fn file_systems_are_partitions() {
        let ext = |unbootable| Ok(Content::Partition(FileSystem::Ext { unbootable }));
        let small = 8 << 20;
        assert_eq!(
            recognise(&made_by("mke2fs", &["-qF", "-text4"], small), small),
            ext(None)
        );
        assert_eq!(
            recognise(&made_by("mke2fs", &["-qF", "-text2"], small), small),
            ext(None)
        );
        let inline = made_by("mke2fs", &["-qF", "-text4", "-Oinline_data"], small);
        assert_eq!(recognise(&inline, small), ext(Some("inline_data")));
        let xfs = made_by("mkfs.xfs", &["-q"], 320 << 20);
        assert_eq!(
            recognise(&xfs, 320 << 20),
            Ok(Content::Partition(FileSystem::Xfs))
        );
        let btrfs = with(0x10040, b"_BHRfS_M");
        assert_eq!(
            recognise(&btrfs, 1 << 30),
            Ok(Content::Partition(FileSystem::Btrfs))
        );
    }

    #[test]
    fn partition_tables_are_disks() {
        let disk = mbr::disk_bytes(1 << 20);
        let record = mbr::write(1 << 20, 1).unwrap();
        assert_eq!(
            recognise(&record, disk),
            Ok(Content::Disk(PartitionTable::Mbr))
        );
        let mut protective = record;
        protective[450] = 0xee;
        assert_eq!(
            recognise(&protective, disk),
            Ok(Content::Disk(PartitionTable::Gpt))
        );
        assert_eq!(
            recognise(&with(512, b"EFI PART"), disk),
            Ok(Content::Disk(PartitionTable::Gpt))
        );
    }

    #[test]
    fn a_file_system_with_a_boot_sector_is_still_a_partition() {
        let mut head = with(1024 + 0x38, &[0x53, 0xef]);
        head[446..510].fill(0x90);
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        let ext = FileSystem::Ext { unbootable: None };
        assert_eq!(recognise(&head, 1 << 30), Ok(Content::Partition(ext)));
    }

    #[test]
    fn short_or_empty_images_are_unknown() {
        assert_eq!(recognise(&[], 0), Ok(Content::Unknown));
        assert_eq!(recognise(&[0; 100], 100), Ok(Content::Unknown));
        assert_eq!(
            recognise(&vec![0; HEAD_BYTES], 1 << 30),
            Ok(Content::Unknown)
        );
    }
}
