//! GRUB for a root partition image: what its core image is built from, and how it is put into the
//! gap before the partition. Plain writes: no loop device, no mount, no root.
//!
//! The core image itself is linked by `grub-mkimage`, once per node; running it is the caller's
//! business, which gets the typed arguments here. GRUB carries its drivers and a small menu (see
//! `boot/menu.cfg`) in the core image, and takes nothing from the image but configuration, kernel
//! and initrd.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{digest::Sha256Digest, mbr, tar};

/// Counts changes to how a disk is assembled: part of a cache entry's name, so that a disk made the
/// old way is made anew.
pub const RECIPE_VERSION: u32 = 2;

/// Drivers for what roots are on, and the commands that distributions' menus use.
const MODULES: [&str; 43] = [
    "biosdisk",
    "part_msdos",
    "part_gpt",
    "ext2",
    "xfs",
    "btrfs",
    "lvm",
    "memdisk",
    "tar",
    "normal",
    "configfile",
    "linux",
    "linux16",
    "serial",
    "terminal",
    "terminfo",
    "test",
    "regexp",
    "echo",
    "sleep",
    "probe",
    "search",
    "search_label",
    "search_fs_uuid",
    "search_fs_file",
    "gzio",
    "xzio",
    "loadenv",
    "true",
    "minicmd",
    "cat",
    "ls",
    "halt",
    "reboot",
    "boot",
    "chain",
    "help",
    "gettext",
    "date",
    "eval",
    "read",
    "all_video",
    "legacycfg",
];

/// What runs first. The language of this stage has no conditions, so it only starts the menu.
const EARLY_CONFIG: &str = "normal (memdisk)/menu.cfg\n";
const MENU: &str = include_str!("boot/menu.cfg");

/// Room for the core image: the sectors between the record and the partition.
const GAP_BYTES: u64 = mbr::PARTITION_START_BYTES - mbr::SECTOR_BYTES;
/// Where boot.img keeps the sector of the core image; it is 1 as built, which is where we put it.
const KERNEL_SECTOR_AT: usize = 0x5c;

/// Why no boot loader could be installed.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// boot.img is not what GRUB 2 ships.
    #[error("{0} is not GRUB's boot.img for i386-pc")]
    BootImage(PathBuf),
    /// The core image is empty or larger than the gap.
    #[error("{path} has {bytes} bytes; the gap before the partition holds {GAP_BYTES}")]
    CoreImage {
        /// The core image.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The partition does not fit an MBR.
    #[error(transparent)]
    TooLarge(#[from] mbr::TooLarge),
    /// The disk could not be written.
    #[error("the disk cannot be written")]
    Disk(#[source] io::Error),
}

/// The inputs of `grub-mkimage`, in a folder of ours.
#[derive(Debug, Clone)]
pub struct CoreInputs {
    folder: PathBuf,
}

impl CoreInputs {
    /// Writes the early configuration and the memdisk into `folder`.
    pub fn write(folder: &Path) -> Result<Self, BootError> {
        let inputs = Self {
            folder: folder.to_owned(),
        };
        for (path, bytes) in [
            (inputs.early_config(), EARLY_CONFIG.as_bytes().to_vec()),
            (inputs.memdisk(), memdisk()),
        ] {
            std::fs::write(&path, bytes).map_err(|source| BootError::Io { path, source })?;
        }
        Ok(inputs)
    }

    /// The arguments of `grub-mkimage` that make the core image at `output` from the modules in
    /// `grub_folder` (`/usr/lib/grub/i386-pc`).
    pub fn mkimage_arguments(&self, grub_folder: &Path, output: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        for (flag, value) in [
            ("-O", "i386-pc".into()),
            ("-d", grub_folder.into()),
            ("-p", "(hd0,msdos1)".into()),
            ("-c", self.early_config().into()),
            ("-m", self.memdisk().into()),
            ("-o", output.into()),
        ] {
            let value: OsString = value;
            arguments.extend([flag.into(), value]);
        }
        arguments.extend(MODULES.map(OsString::from));
        arguments
    }

    fn early_config(&self) -> PathBuf {
        self.folder.join("early.cfg")
    }

    fn memdisk(&self) -> PathBuf {
        self.folder.join("memdisk.tar")
    }
}

/// Names the core image that these inputs make, so that a node builds it again only when they change.
pub fn core_name() -> String {
    let inputs = format!(
        "{RECIPE_VERSION}\n{EARLY_CONFIG}\n{MENU}\n{}",
        MODULES.join(" ")
    );
    let digest = Sha256Digest::of(inputs.as_bytes()).to_string();
    format!("core-{}.img", &digest[..16])
}

fn memdisk() -> Vec<u8> {
    let size = MENU.len() as u64;
    let mut archive = tar::header("menu.cfg", size).to_vec();
    archive.extend_from_slice(MENU.as_bytes());
    archive.resize(
        archive.len() + tar::padding(tar::BLOCK as u64, size) as usize,
        0,
    );
    archive
}

/// A boot loader, ready to be put on disks: boot code and core image.
#[derive(Debug, Clone)]
pub struct BootLoader {
    boot_code: Vec<u8>,
    core: Vec<u8>,
}

impl BootLoader {
    /// Loads and checks GRUB's boot.img and a core image.
    pub fn load(boot_image: &Path, core_image: &Path) -> Result<Self, BootError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| BootError::Io {
                path: path.to_owned(),
                source,
            })
        };
        let boot_code = read(boot_image)?;
        let kernel_sector = boot_code.get(KERNEL_SECTOR_AT..KERNEL_SECTOR_AT + 8);
        if boot_code.len() != 512 || kernel_sector != Some(&1u64.to_le_bytes()) {
            return Err(BootError::BootImage(boot_image.to_owned()));
        }
        let core = read(core_image)?;
        let bytes = core.len() as u64;
        if !(mbr::SECTOR_BYTES..=GAP_BYTES).contains(&bytes) {
            return Err(BootError::CoreImage {
                path: core_image.to_owned(),
                bytes,
            });
        }
        Ok(Self { boot_code, core })
    }

    /// Makes `disk`, which holds a partition of `partition_bytes` at 1 MiB, bootable. The disk
    /// signature comes from the image's digest: the same image makes the same disk on every node.
    pub fn install(
        &self,
        disk: &File,
        partition_bytes: u64,
        image: Sha256Digest,
    ) -> Result<(), BootError> {
        let [a, b, c, d, ..] = *image.as_bytes();
        let mut record = mbr::write(partition_bytes, u32::from_le_bytes([a, b, c, d]) | 1)?;
        record[..mbr::BOOT_CODE_BYTES].copy_from_slice(&self.boot_code[..mbr::BOOT_CODE_BYTES]);
        disk.write_all_at(&self.core, mbr::SECTOR_BYTES)
            .map_err(BootError::Disk)?;
        disk.write_all_at(&record, 0).map_err(BootError::Disk)?;
        disk.sync_all().map_err(BootError::Disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_gets_record_core_and_nothing_of_the_partition_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (boot, core) = (
            folder.path().join("boot.img"),
            folder.path().join("core.img"),
        );
        let mut boot_code = vec![0xeb; 512];
        boot_code[KERNEL_SECTOR_AT..KERNEL_SECTOR_AT + 8].copy_from_slice(&1u64.to_le_bytes());
        std::fs::write(&boot, boot_code).unwrap();
        std::fs::write(&core, vec![7; 100_000]).unwrap();

        let disk = tempfile::tempfile().unwrap();
        disk.write_all_at(&[9; 4096], 1 << 20).unwrap();
        let loader = BootLoader::load(&boot, &core).unwrap();
        loader
            .install(&disk, 4096, Sha256Digest::of(b"image"))
            .unwrap();

        let mut found = vec![0; (1 << 20) + 4096];
        disk.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(
            found[..440],
            [0xeb; 440][..0x5c]
                .iter()
                .copied()
                .chain(1u64.to_le_bytes())
                .chain([0xeb; 440 - 0x64])
                .collect::<Vec<_>>()
        );
        assert!(mbr::parse(found[..512].try_into().unwrap(), 1 << 30).is_some());
        assert!(found[512..100_512].iter().all(|byte| *byte == 7));
        assert!(found[100_512..1 << 20].iter().all(|byte| *byte == 0));
        assert!(found[1 << 20..].iter().all(|byte| *byte == 9));
    }

    #[test]
    fn files_that_are_not_grubs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, vec![0; 512]).unwrap();
        assert!(matches!(
            BootLoader::load(&path, &path),
            Err(BootError::BootImage(_))
        ));
        assert!(matches!(
            BootLoader::load(&folder.path().join("y"), &path),
            Err(BootError::Io { .. })
        ));
    }
}
