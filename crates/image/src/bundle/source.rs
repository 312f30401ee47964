//! An image to be bundled: where it has data, and its bytes. What is between the data is zeros, which
//! nobody reads, compresses or hashes.

use std::{
    fs::File,
    io::{self, Read},
    iter,
    ops::Range,
    os::unix::fs::FileExt,
};

use crate::extents;

/// An image as the bundler sees it. May block.
pub trait Image: Send {
    /// The stretches outside which all of the image's `bytes` are zeros: in order, apart from one
    /// another, within the image. Where nothing is known of holes, all of it is one stretch.
    fn data(&mut self, bytes: u64) -> io::Result<Vec<Range<u64>>>;

    /// Fills the buffer with what is in the image from `at` on.
    fn read_exact_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<()>;
}

/// A stretch of a raw file. The file's own position is of no meaning.
#[derive(Debug)]
pub struct Source {
    file: File,
    start: u64,
}

impl Source {
    /// The image that begins there in the file.
    pub fn new(file: File, start: u64) -> Self {
        Self { file, start }
    }
}

impl Image for Source {
    fn data(&mut self, bytes: u64) -> io::Result<Vec<Range<u64>>> {
        if self.file.metadata()?.len() < self.start.saturating_add(bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let within = |at: u64| at.saturating_sub(self.start).min(bytes);
        let mut data = Vec::new();
        for extent in extents::data(&self.file)? {
            let extent = extent?;
            let stretch = within(extent.start)..within(extent.end);
            if !stretch.is_empty() {
                data.push(stretch);
            }
        }
        Ok(data)
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, self.start + at)
    }
}

/// An image in memory, of which no holes are known.
impl Image for &[u8] {
    fn data(&mut self, bytes: u64) -> io::Result<Vec<Range<u64>>> {
        Ok(iter::once(0..bytes).collect())
    }

    fn read_exact_at(&mut self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).map_or(self.len(), |at| at.min(self.len()));
        (&self[at..]).read_exact(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_of_a_file_tells_its_data_and_reads_as_it_is() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 << 20).unwrap();
        for at in [0, 1 << 20, (3 << 20) - 4096] {
            file.write_all_at(&[7; 4096], at).unwrap();
        }
        let data = |start, bytes| Source::new(file.try_clone().unwrap(), start).data(bytes);
        let of = |at: u64| at..at + 4096;
        let whole = [of(0), of(1 << 20), of((3 << 20) - 4096)];
        assert_eq!(data(0, 3 << 20).unwrap(), whole);
        assert_eq!(
            data(1 << 20, 1 << 20).unwrap(),
            std::slice::from_ref(&of(0))
        );
        assert_eq!(
            data(4000, 1 << 20).unwrap(),
            [0..96, (1 << 20) - 4000..1 << 20]
        );
        assert_eq!(data(8192, 4096).unwrap(), []);
        assert!(data(1, 3 << 20).is_err(), "it ends before");

        let mut source = Source::new(file, (1 << 20) - 4);
        let mut read = [1; 8];
        source.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, [0, 0, 0, 0, 7, 7, 7, 7]);
        assert!(source.read_exact_at(&mut read, 3 << 20).is_err());
        assert!((&read[..]).read_exact_at(&mut [0; 4], 5).is_err());
    }
}
