//! A name is taken only where it is free, whoever does the same at the same moment: the one call that
//! decides between nodes, for file systems with hard links, without them, and with next to nothing.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};

/// Gives a file another name, if that is free, and takes its old one away; false if it is taken.
/// Nothing is ever replaced, whoever does the same at the same time.
pub(super) fn take_name(from: &Path, to: &Path) -> io::Result<bool> {
    take_name_or(from, to, rename_to_free)
}

/// The same for a name that may stand for something unfinished for a moment, which is as good as a
/// link where there are none.
pub(in super::super) fn reserve_name(from: &Path, to: &Path) -> io::Result<bool> {
    take_name_or(from, to, |from, to| {
        match OpenOptions::new().write(true).create_new(true).open(to) {
            Ok(_) => fs::rename(from, to).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    })
}

fn take_name_or(
    from: &Path,
    to: &Path,
    without_links: impl Fn(&Path, &Path) -> io::Result<bool>,
) -> io::Result<bool> {
    match fs::hard_link(from, to) {
        Ok(()) => {}
        // A repeated request may have found its own work: then both names are one file.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !is_same_file(from, to) {
                return Ok(false);
            }
        }
        Err(error) if has_no_links(&error) => return without_links(from, to),
        Err(error) => return Err(error),
    }
    match fs::remove_file(from) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    are_one(fs::metadata(a), fs::metadata(b))
}

/// Whether two names, or a name and an open file, are of one file that is there.
pub(super) fn are_one(a: io::Result<fs::Metadata>, b: io::Result<fs::Metadata>) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    matches!((a.map(identity), b.map(identity)), (Ok(a), Ok(b)) if a == b)
}

/// What file systems without hard links say.
fn has_no_links(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EPERM | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EMLINK)
    )
}

fn rename_to_free(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        // The least that a file system can do: then a moment is left in which two may both see it
        // free, and the later rename wins with the same bytes.
        Err(Errno::EINVAL | Errno::ENOSYS) => match fs::symlink_metadata(to) {
            Ok(_) => Ok(false),
            Err(_) => fs::rename(from, to).map(|()| true),
        },
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_without_hard_links_too_and_never_twice() {
        let root = tempfile::tempdir().unwrap();
        let (a, b, to) = (
            root.path().join("a"),
            root.path().join("b"),
            root.path().join("to"),
        );
        fs::write(&a, "a").unwrap();
        fs::write(&b, "b").unwrap();
        assert!(rename_to_free(&a, &to).unwrap());
        assert!(!rename_to_free(&b, &to).unwrap());
        assert!(!take_name(&b, &to).unwrap());
        assert_eq!(fs::read(&to).unwrap(), b"a");
        assert!(take_name(&root.path().join("none"), &to).is_err());
    }
}
