//! The disks that begin empty: `ephemeral0` with a file system, and swap. Sparse raw files, new for
//! each instance: nothing of a former guest can be read in them.

use std::{os::unix::fs::FileExt, path::Path};

use daemon::run::Tool;

use super::{DiskError, at, template::create};

/// Swap, as Eucalyptus gives it.
pub const SWAP_BYTES: u64 = 512 << 20;
/// An ephemeral disk smaller than this is of no use to anyone.
pub const EPHEMERAL_BYTES_MIN: u64 = 64 << 20;

/// The page that a swap area counts in.
const PAGE: usize = 4096;

/// Makes an ephemeral disk with ext4 on it. Tables are initialised by the guest, if it ever mounts
/// it: this takes some 20 ms whatever the size.
pub async fn ephemeral(path: &Path, bytes: u64) -> Result<(), DiskError> {
    create(path, bytes).map_err(at(path))?;
    Tool::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", "ephemeral0", "-m", "0"])
        .args(["-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"])
        .arg(path)
        .output()
        .await?;
    Ok(())
}

/// Makes the swap disk; nothing for 0 bytes.
pub fn swap(path: &Path, bytes: u64) -> Result<(), DiskError> {
    if bytes == 0 {
        return Ok(());
    }
    let file = create(path, bytes).map_err(at(path))?;
    file.write_all_at(&swap_header(bytes, rand::random()), 0)
        .map_err(at(path))
}

/// The first page of a swap area (`linux/swap.h`, version 1).
fn swap_header(bytes: u64, uuid: [u8; 16]) -> [u8; PAGE] {
    let last_page = u32::try_from(bytes / PAGE as u64 - 1).unwrap_or(u32::MAX);
    let mut page = [0; PAGE];
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_le_bytes());
    page[1036..1052].copy_from_slice(&uuid);
    page[1052..1056].copy_from_slice(b"swap");
    page[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn host_scratch_disks_are_sparse_and_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let (ephemeral_path, swap_path) = (folder.path().join("e"), folder.path().join("s"));
        ephemeral(&ephemeral_path, 4 << 30).await.unwrap();
        swap(&swap_path, SWAP_BYTES).unwrap();
        swap(&swap_path, SWAP_BYTES).unwrap();

        for (path, kind) in [(&ephemeral_path, "ext4"), (&swap_path, "swap")] {
            let tool = Tool::new("blkid")
                .args(["-p", "-o", "value", "-s", "TYPE"])
                .arg(path);
            assert_eq!(tool.text().await.unwrap().trim(), kind);
            assert!(std::fs::metadata(path).unwrap().blocks() * 512 < 16 << 20);
        }
        assert_eq!(std::fs::metadata(&swap_path).unwrap().len(), SWAP_BYTES);
    }

    #[test]
    fn no_bytes_make_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        swap(&folder.path().join("s"), 0).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
