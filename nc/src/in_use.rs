//! Whether a QEMU process has a disk open, asked of the kernel and not of libvirt: the last guard
//! before disks are wiped. QEMU holds shared locks on bytes 100 to 299 of every image that it has
//! open (`RAW_LOCK_PERM_BASE` in QEMU's block/file-posix.c); a lock of ours would conflict.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};

const LOCKS_FROM: i64 = 100;
const LOCKS_COUNT: i64 = 200;

/// A file in the folder that a QEMU process has open, if there is one.
pub fn find(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_file() && is_locked(path))
}

fn is_locked(path: &Path) -> bool {
    // A file that cannot be opened cannot be asked about; wiping it will fail by itself.
    let Ok(file) = File::open(path) else {
        return false;
    };
    let mut lock = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: LOCKS_FROM,
        l_len: LOCKS_COUNT,
        l_pid: 0,
    };
    let asked = fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock));
    asked.is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_locked_as_qemu_does_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.qcow2");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(find(dir.path()), None);

        let held = File::open(&path).unwrap();
        let lock = libc::flock {
            l_type: libc::F_RDLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 103,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&held, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        assert_eq!(find(dir.path()), Some(path));
        drop(held);
        assert_eq!(find(dir.path()), None);
        assert_eq!(find(&dir.path().join("nowhere")), None);
    }
}
