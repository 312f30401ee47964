//! Where a sparse file has data: what is between reads as zeros.

use std::{fs::File, io, ops::Range};

use nix::{
    errno::Errno,
    unistd::{Whence, lseek},
};

/// The stretches of data in a file, front to back. Where the file system keeps no holes the whole
/// file is one stretch. The file's position moves.
pub fn data(file: &File) -> io::Result<Extents<'_>> {
    Ok(Extents {
        file,
        bytes: file.metadata()?.len(),
        after: 0,
    })
}

/// See [`data`].
#[derive(Debug)]
pub struct Extents<'a> {
    file: &'a File,
    bytes: u64,
    after: u64,
}

impl Extents<'_> {
    fn seek(&self, offset: u64, whence: Whence) -> io::Result<Option<u64>> {
        let from = i64::try_from(offset).map_err(io::Error::other)?;
        match lseek(self.file, from, whence) {
            Ok(found) => u64::try_from(found).map(Some).map_err(io::Error::other),
            // Nothing but a hole from here to the end.
            Err(Errno::ENXIO) => Ok(None),
            // It has never heard of holes: data from here to the end.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                Ok(matches!(whence, Whence::SeekData).then_some(offset))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn find(&mut self) -> io::Result<Option<Range<u64>>> {
        if self.after >= self.bytes {
            return Ok(None);
        }
        let Some(start) = self.seek(self.after, Whence::SeekData)? else {
            return Ok(None);
        };
        let end = self.seek(start, Whence::SeekHole)?.unwrap_or(self.bytes);
        self.after = end;
        Ok(Some(start..end))
    }
}

impl Iterator for Extents<'_> {
    type Item = io::Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.find();
        if found.is_err() {
            self.after = self.bytes;
        }
        found.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn extents(write: impl FnOnce(&File)) -> Vec<Range<u64>> {
        let file = tempfile::tempfile().unwrap();
        write(&file);
        data(&file).unwrap().collect::<io::Result<_>>().unwrap()
    }

    #[test]
    fn data_is_found_between_holes_and_at_both_ends() {
        let found = extents(|file| {
            file.set_len(64 << 20).unwrap();
            for offset in [0, 32 << 20, (64 << 20) - 4096] {
                file.write_all_at(&[7; 4096], offset).unwrap();
            }
        });
        let covered = |at: u64| found.iter().any(|extent| extent.contains(&at));
        assert!(covered(0) && covered(32 << 20) && covered((64 << 20) - 1));
        assert!(!covered(16 << 20) && !covered(48 << 20));
    }

    #[test]
    fn a_file_of_nothing_has_no_data() {
        assert!(extents(|_| ()).is_empty());
        assert!(extents(|file| file.set_len(1 << 30).unwrap()).is_empty());
    }
}
