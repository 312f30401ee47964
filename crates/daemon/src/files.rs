//! Files that appear whole or not at all.
//!
//! A crash between any two system calls leaves the old content or the new, never half of one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// A file operation that failed, and on which path.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}")]
pub struct Error {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Error {
    fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            doing,
            path,
            source,
        }
    }

    /// What the operating system said.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.kind(), error)
    }
}

/// Writes `bytes` to `path`, readable by the owner only (0600): temporary file, fsync, rename,
/// fsync of the folder. When it returns, the file is on disk.
pub fn publish(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    publish_mode(path, bytes, 0o600)
}

/// [`publish`] with another mode, for files that other users may read.
pub fn publish_mode(path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let path = path.as_ref();
    let temp = temp_beside(path);
    let written = write_synced(&temp, bytes, mode).and_then(|()| {
        fs::rename(&temp, path).map_err(Error::at("renaming to", path))?;
        sync_dir(folder_of(path))
    });
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written
}

/// Makes a folder and its parents, readable by the owner only (0700) where it is new.
pub fn make_dir(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::at("making folder", path))
}

/// Reads a whole file; the error names it.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, Error> {
    let path = path.as_ref();
    fs::read(path).map_err(Error::at("reading", path))
}

/// Reads a whole text file; the error names it.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, Error> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(Error::at("reading", path))
}

/// Flushes a folder, so that names made or renamed in it survive a power cut.
pub fn sync_dir(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::at("syncing folder", path))
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(Error::at("creating", path))?;
    file.write_all(bytes).map_err(Error::at("writing", path))?;
    file.sync_all().map_err(Error::at("syncing", path))
}

/// A name in the same folder (a rename must not cross file systems) that no other writer uses.
fn temp_beside(path: &Path) -> PathBuf {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(
        ".{}-{serial}-{:08x}.tmp",
        std::process::id(),
        rand::random::<u32>()
    ));
    path.with_file_name(name)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_published_file_is_whole_private_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        publish(&path, b"one").unwrap();
        publish(&path, b"two").unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_publish_names_the_path_and_keeps_the_folder_clean() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("taken")).unwrap();
        let error = publish(dir.path().join("taken"), b"x").unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        let missing = publish(dir.path().join("no/such/folder"), b"x").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
