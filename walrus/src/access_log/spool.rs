//! Lines on their way to their objects: JSON, a line each, appended to one file and synced. A file
//! that is full or old is sealed; sealed ones are delivered in their order and then removed. What a
//! killed process left is sealed at the next start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use types::Timestamp;

use super::Entry;

/// A file of lines at most, and so an object: fits into memory while it is delivered.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// The folder of lines.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    number: u64,
    current: Option<(File, u64)>,
}

/// A file that nobody appends to any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Where it is.
    pub path: PathBuf,
    /// When it was first to be delivered, or last written to if nobody came to that: of a delivery
    /// that is done twice both times the same.
    pub at: Timestamp,
}

impl Sealed {
    /// What makes its objects' names its own.
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Its lines. One that was cut off by a kill is the last, and left out.
    pub fn read(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for line in BufReader::new(File::open(&self.path)?).split(b'\n') {
            match serde_json::from_slice(&line?) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "a line of the spool is cut off");
                }
            }
        }
        Ok(entries)
    }

    /// Its lines are delivered.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

impl Spool {
    /// Opens the folder, which is made if it is not there.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut spool = Self {
            folder: folder.to_owned(),
            bytes_max,
            number: 0,
            current: None,
        };
        let last = spool.files()?.pop();
        spool.number = last.map_or(0, |(number, _)| number);
        Ok(spool)
    }

    /// Its files, the oldest first.
    fn files(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let Some(number) = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok()) {
                files.push((number, path));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn bytes(&self) -> io::Result<u64> {
        let files = self.files()?.into_iter();
        files.map(|(_, path)| Ok(fs::metadata(path)?.len())).sum()
    }

    /// Appends lines and puts them on disk; says how many. When the folder is full, none.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<u64> {
        if self.bytes()? >= self.bytes_max {
            return Ok(0);
        }
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        if self.current.is_none() {
            self.number += 1;
            let path = self.folder.join(format!("{:016x}.log", self.number));
            let file = OpenOptions::new()
                .append(true)
                .create_new(true)
                .open(path)?;
            File::open(&self.folder)?.sync_all()?;
            self.current = Some((file, 0));
        }
        let written = self.current.as_mut().map_or(Ok(()), |(file, bytes)| {
            *bytes += text.len() as u64;
            file.write_all(&text)?;
            file.sync_data()
        });
        if written.is_err() {
            // Its end may be cut off: the next lines go into another file.
            self.current = None;
        }
        written.map(|()| entries.len() as u64)
    }

    /// Whether lines wait in a file that grows.
    pub fn has_begun(&self) -> bool {
        self.current.is_some()
    }

    /// Whether the current file should not grow any more.
    pub fn is_large(&self) -> bool {
        let bytes = self.current.as_ref().map_or(0, |(_, bytes)| *bytes);
        bytes >= FILE_BYTES_MAX
    }

    /// Begins a new file with the next line, and lists all that there are.
    pub fn seal(&mut self, now: Timestamp) -> io::Result<Vec<Sealed>> {
        if let Some((file, _)) = self.current.take() {
            let since = Duration::from_millis(now.as_millis().unsigned_abs());
            file.set_modified(UNIX_EPOCH + since)?;
        }
        let files = self.files()?.into_iter();
        let sealed = files.map(|(_, path)| {
            let changed = fs::metadata(&path)?.modified()?;
            let since = changed.duration_since(UNIX_EPOCH);
            let ms = since.unwrap_or_default().as_millis();
            let at = Timestamp(i64::try_from(ms).unwrap_or(i64::MAX));
            Ok(Sealed { path, at })
        });
        sealed.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use s3::documents::logging::{KeyFormat, Logging};

    use super::*;
    use crate::access_log::Source;

    fn entry(line: &str) -> Entry {
        Entry {
            source: Arc::new(Source {
                bucket: s3::BucketName::parse("photos").unwrap(),
                owner: "111111111111".parse().unwrap(),
                logging: Logging {
                    target: s3::BucketName::parse("logs").unwrap(),
                    prefix: "p/".into(),
                    grants: Vec::new(),
                    format: KeyFormat::Simple,
                },
            }),
            at: Timestamp(1),
            line: line.into(),
        }
    }

    #[test]
    fn lines_survive_a_kill_and_a_cut_off_one_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(spool.append(&[entry("a"), entry("b")]).unwrap(), 2);
        drop(spool);
        let path = folder.path().join(format!("{:016x}.log", 1));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &whole[..40]].concat()).unwrap();

        let mut again = Spool::open(folder.path(), 1 << 20).unwrap();
        again.append(&[entry("c")]).unwrap();
        let sealed = again.seal(Timestamp(1)).unwrap();
        assert_eq!(sealed.len(), 2);
        assert_eq!(sealed[0].read().unwrap(), [entry("a"), entry("b")]);
        assert_eq!(sealed[1].read().unwrap(), [entry("c")]);
        sealed[0].remove().unwrap();
        assert_eq!(again.seal(Timestamp(1)).unwrap(), sealed[1..]);
    }

    #[test]
    fn a_file_is_of_the_time_at_which_it_was_first_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 20).unwrap();
        spool.append(&[entry("a")]).unwrap();
        assert!(spool.has_begun());
        let sealed = spool.seal(Timestamp(1234)).unwrap();
        assert!(sealed[0].at == Timestamp(1234) && !spool.has_begun());
        assert_eq!(spool.seal(Timestamp(5678)).unwrap(), sealed);
    }

    #[test]
    fn a_full_spool_takes_no_more_until_something_is_delivered() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 100).unwrap();
        assert_eq!(spool.append(&[entry("a")]).unwrap(), 1);
        assert_eq!(spool.append(&[entry("b")]).unwrap(), 0);
        spool.seal(Timestamp(1)).unwrap()[0].remove().unwrap();
        assert_eq!(spool.append(&[entry("c")]).unwrap(), 1);
    }
}
