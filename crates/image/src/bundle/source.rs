//! An image to be bundled: a stretch of a file, read front to back. Holes are not read.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
};

use rustix::fs::{SeekFrom, seek};

/// The stretch. The file's own position is of no meaning.
#[derive(Debug)]
pub struct Source {
    file: File,
    at: u64,
    end: u64,
    /// Where the data or hole that `at` stands in ends.
    run_end: u64,
    is_hole: bool,
}

impl Source {
    /// So many bytes of the file from `start` on.
    pub fn new(file: File, start: u64, bytes: u64) -> Self {
        Self {
            file,
            at: start,
            end: start.saturating_add(bytes),
            run_end: start,
            is_hole: false,
        }
    }

    /// Finds out what comes next. A file system that knows no holes has data everywhere.
    fn look(&mut self) {
        let at = self.at;
        let data = match seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // A hole up to the end of the file; past it there is nothing to read.
            Err(rustix::io::Errno::NXIO) => {
                self.file.metadata().map_or(at, |meta| meta.len().max(at))
            }
            Err(_) => at,
        };
        self.is_hole = data > at;
        self.run_end = if self.is_hole {
            data.min(self.end)
        } else {
            let hole = seek(&self.file, SeekFrom::Hole(at)).unwrap_or(self.end);
            hole.clamp(at + 1, self.end.max(at + 1))
        };
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.end || buffer.is_empty() {
            return Ok(0);
        }
        if self.at >= self.run_end {
            self.look();
        }
        let room = (self.run_end.min(self.end) - self.at).min(buffer.len() as u64) as usize;
        let read = if self.is_hole {
            buffer[..room].fill(0);
            room
        } else {
            self.file.read_at(&mut buffer[..room], self.at)?
        };
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_reads_as_it_is_holes_and_all_and_a_short_file_ends() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 << 20).unwrap();
        for (at, text) in [(0, "first"), (1 << 20, "second"), ((3 << 20) - 5, "third")] {
            file.write_all_at(text.as_bytes(), at).unwrap();
        }
        let mut whole = vec![0; 3 << 20];
        file.read_exact_at(&mut whole, 0).unwrap();
        for (start, bytes) in [(0, 3 << 20), (1 << 20, 6), (100, 2 << 20), (3 << 20, 0)] {
            let mut read = Vec::new();
            let mut source = Source::new(file.try_clone().unwrap(), start, bytes);
            source.read_to_end(&mut read).unwrap();
            assert!(read == whole[start as usize..(start + bytes) as usize]);
        }
        let mut read = Vec::new();
        Source::new(file, 2 << 20, 9 << 20)
            .read_to_end(&mut read)
            .unwrap();
        assert!(read == whole[2 << 20..]);
    }
}
