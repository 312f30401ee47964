//! The header of a qcow2 file that somebody else made: read strictly, followed nowhere.
//!
//! A file that stands alone holds all its data and names no other file: that is all that we would ever
//! take. A backing file or an external data file names a file of the host (CVE-2015-5163,
//! CVE-2024-32498), tables without end cost its memory and time (CVE-2013-2096, CVE-2015-5162).
//! Everything is judged from the header alone, so that no table is ever read to find that out. The
//! format is `docs/interop/qcow2.txt` of QEMU.

use crate::manifest::MAX_IMAGE_BYTES;

/// What a qcow2 file begins with.
pub const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Bytes from the front that [`Header::read`] wants to see: QEMU keeps a header in one cluster, and
/// nobody needs more than this for extensions.
pub const HEAD_BYTES: usize = 64 * 1024;
/// Bytes of a header of version 2, and the least of version 3.
const V2_BYTES: usize = 72;
const V3_BYTES: usize = 104;
/// Smallest and largest clusters, as QEMU has them: 512 bytes to 2 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// QEMU's own bounds on the tables that it would load.
const L1_BYTES_MAX: u64 = 32 * 1024 * 1024;
const REFCOUNT_TABLE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Extensions of one header; QEMU writes four.
const EXTENSIONS_MAX: usize = 16;

/// Incompatible features: what must be understood to read the file at all.
const DIRTY: u64 = 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const EXTENDED_L2: u64 = 1 << 4;

const EXTENSION_END: u32 = 0;
const EXTENSION_BITMAPS: u32 = 0x2385_2875;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const EXTENSION_CRYPTO: u32 = 0x0537_be77;

/// A file that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Bytes of the disk that the file describes.
    pub virtual_bytes: u64,
    /// Bytes of a cluster.
    pub cluster_bytes: u64,
    /// Whether clusters are allocated by 32nds.
    pub extended_l2: bool,
}

/// Why a file is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no qcow2 file, or not all of its header is there.
    #[error("it has no whole qcow2 header")]
    NoHeader,
    /// A version that does not exist.
    #[error("its version is {0}, neither 2 nor 3")]
    Version(u32),
    /// It stands on another file.
    #[error("it names a backing file")]
    BackingFile,
    /// Its data is in another file.
    #[error("it names an external data file")]
    DataFile,
    /// It is encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// It holds snapshots or bitmaps, which are tables of their own.
    #[error("it holds snapshots or bitmaps")]
    Snapshots,
    /// It needs features that we do not know, or was not closed.
    #[error("it needs the features {0:#x}")]
    Features(u64),
    /// The disk that it describes is too large.
    #[error("it describes a disk of {0} bytes")]
    TooLarge(u64),
    /// A number in the header cannot be.
    #[error("its header makes no sense: {0}")]
    Nonsense(&'static str),
}

impl Header {
    /// Reads the header in the first [`HEAD_BYTES`] of a file (all of it, if it is smaller) of
    /// `file_bytes`.
    pub fn read(head: &[u8], file_bytes: u64) -> Result<Self, Refusal> {
        if !head.starts_with(MAGIC) || head.len() < V2_BYTES {
            return Err(Refusal::NoHeader);
        }
        let raw = Raw::read(head)?;
        raw.names_no_other_file()?;
        raw.extensions(head)?;
        raw.is_plain()?;
        raw.tables_fit(file_bytes)?;
        Ok(Self {
            version: raw.version,
            virtual_bytes: raw.virtual_bytes,
            cluster_bytes: raw.cluster_bytes(),
            extended_l2: raw.incompatible & EXTENDED_L2 != 0,
        })
    }
}

/// The fields as they stand there.
struct Raw {
    version: u32,
    backing_at: u64,
    backing_bytes: u32,
    cluster_bits: u32,
    virtual_bytes: u64,
    crypt_method: u32,
    l1_entries: u32,
    l1_at: u64,
    refcount_table_at: u64,
    refcount_table_clusters: u32,
    snapshots: u32,
    incompatible: u64,
    refcount_order: u32,
    header_bytes: u32,
}

impl Raw {
    fn read(head: &[u8]) -> Result<Self, Refusal> {
        let version = u32_at(head, 4)?;
        let is_3 = match version {
            2 => false,
            3 if head.len() >= V3_BYTES => true,
            3 => return Err(Refusal::NoHeader),
            other => return Err(Refusal::Version(other)),
        };
        Ok(Self {
            version,
            backing_at: u64_at(head, 8)?,
            backing_bytes: u32_at(head, 16)?,
            cluster_bits: u32_at(head, 20)?,
            virtual_bytes: u64_at(head, 24)?,
            crypt_method: u32_at(head, 32)?,
            l1_entries: u32_at(head, 36)?,
            l1_at: u64_at(head, 40)?,
            refcount_table_at: u64_at(head, 48)?,
            refcount_table_clusters: u32_at(head, 56)?,
            snapshots: u32_at(head, 60)?,
            incompatible: if is_3 { u64_at(head, 72)? } else { 0 },
            refcount_order: if is_3 { u32_at(head, 96)? } else { 4 },
            header_bytes: if is_3 {
                u32_at(head, 100)?
            } else {
                V2_BYTES as u32
            },
        })
    }

    /// First of all: whatever else is wrong with a file, that it names another is the thing to say.
    fn names_no_other_file(&self) -> Result<(), Refusal> {
        if self.backing_at != 0 || self.backing_bytes != 0 {
            return Err(Refusal::BackingFile);
        }
        if self.incompatible & EXTERNAL_DATA != 0 {
            return Err(Refusal::DataFile);
        }
        Ok(())
    }

    /// Walks over the extensions, which end in one of their own or with what is there of the file.
    fn extensions(&self, head: &[u8]) -> Result<(), Refusal> {
        let mut at = self.header_bytes as usize;
        if at < V2_BYTES || !at.is_multiple_of(8) || at > head.len() {
            return Err(Refusal::Nonsense("the length of the header"));
        }
        for _ in 0..EXTENSIONS_MAX {
            if head.len() - at < 8 {
                return Ok(());
            }
            match u32_at(head, at)? {
                EXTENSION_END => return Ok(()),
                EXTENSION_DATA_FILE => return Err(Refusal::DataFile),
                EXTENSION_CRYPTO => return Err(Refusal::Encrypted),
                EXTENSION_BITMAPS => return Err(Refusal::Snapshots),
                _ => {}
            }
            let bytes = u32_at(head, at + 4)? as usize;
            at += 8;
            if bytes > head.len() - at {
                return Err(Refusal::Nonsense("the length of an extension"));
            }
            at = (at + bytes.next_multiple_of(8)).min(head.len());
        }
        Err(Refusal::Nonsense("the number of extensions"))
    }

    fn is_plain(&self) -> Result<(), Refusal> {
        if self.crypt_method != 0 {
            return Err(Refusal::Encrypted);
        }
        if self.snapshots != 0 {
            return Err(Refusal::Snapshots);
        }
        // A file that was not closed has reference counts that are not to be trusted; we follow none.
        match self.incompatible & !(DIRTY | EXTENDED_L2) {
            0 => Ok(()),
            unknown => Err(Refusal::Features(unknown)),
        }
    }

    fn tables_fit(&self, file_bytes: u64) -> Result<(), Refusal> {
        if !CLUSTER_BITS.contains(&self.cluster_bits) {
            return Err(Refusal::Nonsense("the size of clusters"));
        }
        if self.refcount_order > 6 {
            return Err(Refusal::Nonsense("the size of reference counts"));
        }
        if self.virtual_bytes > MAX_IMAGE_BYTES {
            return Err(Refusal::TooLarge(self.virtual_bytes));
        }
        let entry_bytes = if self.incompatible & EXTENDED_L2 == 0 {
            8
        } else {
            16
        };
        let l2_covers = self.cluster_bytes() / entry_bytes * self.cluster_bytes();
        let l1_bytes = u64::from(self.l1_entries) * 8;
        if self.virtual_bytes.div_ceil(l2_covers) > u64::from(self.l1_entries)
            || l1_bytes > L1_BYTES_MAX
        {
            return Err(Refusal::Nonsense("the size of the table of tables"));
        }
        let refcount_bytes = u64::from(self.refcount_table_clusters) * self.cluster_bytes();
        if refcount_bytes == 0 || refcount_bytes > REFCOUNT_TABLE_BYTES_MAX {
            return Err(Refusal::Nonsense("the size of the reference counts' table"));
        }
        for (at, bytes) in [
            (self.l1_at, l1_bytes),
            (self.refcount_table_at, refcount_bytes),
        ] {
            let end = at.checked_add(bytes);
            let is_inside = end.is_some_and(|end| end <= file_bytes);
            if at == 0 || !at.is_multiple_of(self.cluster_bytes()) || !is_inside {
                return Err(Refusal::Nonsense("the place of a table"));
            }
        }
        Ok(())
    }

    /// Of a size that is yet to be judged: 0 if it is absurd.
    fn cluster_bytes(&self) -> u64 {
        1_u64.checked_shl(self.cluster_bits).unwrap_or(0)
    }
}

fn u32_at(head: &[u8], at: usize) -> Result<u32, Refusal> {
    let bytes = head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u32::from_be_bytes).ok_or(Refusal::NoHeader)
}

fn u64_at(head: &[u8], at: usize) -> Result<u64, Refusal> {
    let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_be_bytes).ok_or(Refusal::NoHeader)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a test runs the tool whose files it reads
mod tests {
    use std::process::Command;

    use super::*;

    const SIZE: &str = "64M";

    fn made_by_qemu(options: &str, size: &str, more: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let data = format!("data_file={}", folder.path().join("data").display());
        let options = options.replace("data_file", &data);
        let path = folder.path().join("image.qcow2");
        // Before it makes a key it measures the processor, and gives up if that seems to do nothing.
        for _ in 0..20 {
            let made = Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-o", &options])
                .args(more)
                .arg(&path)
                .arg(size)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&made.stderr);
            match made.status.success() {
                true => return std::fs::read(path).unwrap(),
                false => assert!(
                    said.contains("Unable to get accurate CPU usage"),
                    "{options}: {said}"
                ),
            }
        }
        panic!("qemu-img cannot measure this processor");
    }

    fn read(file: &[u8]) -> Result<Header, Refusal> {
        Header::read(&file[..file.len().min(HEAD_BYTES)], file.len() as u64)
    }

    #[test]
    fn what_qemu_makes_to_stand_alone_is_read() {
        for (options, version, cluster_bytes, extended_l2) in [
            ("compat=0.10", 2, 64 << 10, false),
            ("compat=1.1", 3, 64 << 10, false),
            ("extended_l2=on,cluster_size=128k", 3, 128 << 10, true),
            ("cluster_size=512", 3, 512, false),
            ("cluster_size=2M,lazy_refcounts=on", 3, 2 << 20, false),
        ] {
            let header = Header {
                version,
                virtual_bytes: 64 << 20,
                cluster_bytes,
                extended_l2,
            };
            assert_eq!(
                read(&made_by_qemu(options, SIZE, &[])),
                Ok(header),
                "{options}"
            );
        }
    }

    #[test]
    fn j6_a_backing_file_is_refused() {
        let backed = ["-u", "-b", "/etc/shadow", "-F", "raw"];
        for compat in ["compat=0.10", "compat=1.1"] {
            let file = made_by_qemu(compat, SIZE, &backed);
            assert_eq!(read(&file), Err(Refusal::BackingFile));
        }
        // With nothing else of it in order.
        let mut broken = made_by_qemu("compat=1.1", SIZE, &backed);
        broken[20..24].fill(0xff);
        assert_eq!(read(&broken), Err(Refusal::BackingFile));
    }

    #[test]
    fn j7_an_external_data_file_is_refused_by_its_feature_and_by_its_name() {
        let mut file = made_by_qemu("data_file", SIZE, &[]);
        assert_eq!(read(&file), Err(Refusal::DataFile));
        // The feature taken back: the name alone is enough.
        file[79] &= !4;
        assert_eq!(read(&file), Err(Refusal::DataFile));
    }

    #[test]
    fn j10_what_costs_without_end_is_refused_from_the_header_alone() {
        let whole = made_by_qemu("compat=1.1", SIZE, &[]);
        let with = |at: usize, bytes: &[u8]| {
            let mut file = whole.clone();
            file[at..at + bytes.len()].copy_from_slice(bytes);
            read(&file)
        };
        for (at, bytes, refusal) in [
            (
                24,
                &(1_u64 << 41).to_be_bytes()[..],
                Refusal::TooLarge(1 << 41),
            ),
            (24, &u64::MAX.to_be_bytes(), Refusal::TooLarge(u64::MAX)),
            (
                24,
                &(1_u64 << 40).to_be_bytes(),
                Refusal::Nonsense("the size of the table of tables"),
            ),
            (
                36,
                &u32::MAX.to_be_bytes(),
                Refusal::Nonsense("the size of the table of tables"),
            ),
            (
                40,
                &u64::MAX.to_be_bytes(),
                Refusal::Nonsense("the place of a table"),
            ),
            (
                40,
                &7_u64.to_be_bytes(),
                Refusal::Nonsense("the place of a table"),
            ),
            (
                48,
                &0_u64.to_be_bytes(),
                Refusal::Nonsense("the place of a table"),
            ),
            (
                56,
                &u32::MAX.to_be_bytes(),
                Refusal::Nonsense("the size of the reference counts' table"),
            ),
            (60, &1_u32.to_be_bytes(), Refusal::Snapshots),
            (32, &1_u32.to_be_bytes(), Refusal::Encrypted),
            (
                20,
                &64_u32.to_be_bytes(),
                Refusal::Nonsense("the size of clusters"),
            ),
            (
                96,
                &7_u32.to_be_bytes(),
                Refusal::Nonsense("the size of reference counts"),
            ),
            (
                100,
                &u32::MAX.to_be_bytes(),
                Refusal::Nonsense("the length of the header"),
            ),
            (72, &(1_u64 << 63).to_be_bytes(), Refusal::Features(1 << 63)),
            (4, &4_u32.to_be_bytes(), Refusal::Version(4)),
            (112, &EXTENSION_BITMAPS.to_be_bytes(), Refusal::Snapshots),
            (
                116,
                &u32::MAX.to_be_bytes(),
                Refusal::Nonsense("the length of an extension"),
            ),
        ] {
            assert_eq!(with(at, bytes), Err(refusal), "{bytes:02x?} at {at}");
        }
        for length in 0..V3_BYTES {
            assert_eq!(
                read(&whole[..length]),
                Err(Refusal::NoHeader),
                "cut at {length}"
            );
        }
    }

    #[test]
    fn snapshots_bitmaps_and_encryption_that_qemu_made_are_refused() {
        let secret = ["--object", "secret,id=s,data=x"];
        let luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
        assert_eq!(
            read(&made_by_qemu(luks, SIZE, &secret)),
            Err(Refusal::Encrypted)
        );
        let folder = tempfile::tempdir().unwrap();
        for arguments in [&["snapshot", "-c", "s"][..], &["bitmap", "--add"]] {
            let path = folder.path().join("image.qcow2");
            std::fs::write(&path, made_by_qemu("compat=1.1", SIZE, &[])).unwrap();
            let mut command = Command::new("qemu-img");
            command.args(arguments).arg(&path);
            if arguments[0] == "bitmap" {
                command.arg("b");
            }
            assert!(command.status().unwrap().success());
            assert_eq!(
                read(&std::fs::read(&path).unwrap()),
                Err(Refusal::Snapshots)
            );
        }
    }
}
