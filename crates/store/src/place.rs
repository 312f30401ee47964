//! Which file systems a database may be on.
//!
//! WAL needs a memory map shared between connections and locks that hold; over a network neither
//! can be relied on, and what is lost is lost silently.

use std::path::Path;

use nix::sys::statfs::statfs;

use crate::OpenError;

/// `statfs` magic numbers (linux/magic.h, and the file systems' own headers).
const REFUSED: [(u64, &str); 7] = [
    (0x6969, "NFS"),
    (0x4750_4653, "GPFS"),
    (0x0BD0_0BD0, "Lustre"),
    (0x00C3_6400, "CephFS"),
    (0x6573_5546, "FUSE"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
];

/// Refuses a folder on a file system that is not local.
pub fn check(folder: &Path) -> Result<(), OpenError> {
    let path = folder.display().to_string();
    let found = statfs(folder).map_err(|errno| OpenError::Io {
        path: path.clone(),
        source: errno.into(),
    })?;
    match refused(found.filesystem_type().0 as u64) {
        Some(kind) => Err(OpenError::Place { path, kind }),
        None => Ok(()),
    }
}

fn refused(magic: u64) -> Option<&'static str> {
    // 32 bits are significant; a signed field extends the sign of those that have the top bit.
    let magic = magic & 0xFFFF_FFFF;
    REFUSED
        .iter()
        .find(|(number, _)| *number == magic)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_and_local_ones_pass() {
        assert_eq!(refused(0x6969), Some("NFS"));
        assert_eq!(refused(0xFFFF_FFFF_FF53_4D42), Some("CIFS"));
        assert_eq!(refused(0xEF53), None); // ext4
        check(&std::env::temp_dir()).unwrap();
    }
}
