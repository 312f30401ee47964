//! Files that appear whole or not at all.
//!
//! A crash between any two system calls leaves the old content or the new, never half of one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
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

/// Makes a folder, readable by the owner only (0700) where it is new. Parents that are new may be
/// passed by everybody (0755): other users' folders will be beside this one.
pub fn make_dir(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    make_passable(folder_of(path)).map_err(Error::at("making the parents of folder", path))?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::at("making folder", path))
}

fn make_passable(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    make_passable(folder_of(dir))?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Not by the mode at its making, which the umask cuts.
        made => made.and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o755))),
    }
}

/// From now on this process is whoever owns the folder, if it is root now and the folder is there: a
/// daemon that runs as that user can read what a command of the administrator's has made there.
pub fn act_as_owner_of(folder: &Path) -> Result<(), Error> {
    use nix::unistd::{Gid, Uid, geteuid, setegid, seteuid, setgroups};
    let owner = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(Error::at("examining folder", folder))?,
    };
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    if !geteuid().is_root() || user.is_root() {
        return Ok(());
    }
    setgroups(&[group])
        .and_then(|()| setegid(group))
        .and_then(|()| seteuid(user))
        .map_err(io::Error::from)
        .map_err(Error::at("becoming the owner of folder", folder))
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

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_folder_is_private_and_its_new_parents_may_be_passed() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("lib/mallee/cc");
        let before = mode(dir.path());
        // As in a unit with UMask=0077; each test has a process of its own.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        make_dir(&own).unwrap();
        make_dir(&own).unwrap();
        assert_eq!(mode(&own), 0o700);
        for parent in [dir.path().join("lib"), dir.path().join("lib/mallee")] {
            assert_eq!(mode(&parent), 0o755, "{}", parent.display());
        }
        assert_eq!(mode(dir.path()), before, "what was there stays as it was");
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(make_dir(dir.path().join("file/cc")).is_err());
    }
}
