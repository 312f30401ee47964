//! A pool of sparse raw files in one folder: `vol-….raw`. Names come from volume ids and nothing
//! else. A file is made beside its name and renamed, so a whole name is a whole file.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use daemon::files;
use nix::sys::{statfs::statfs, statvfs::statvfs};
use types::{Gib, VolumeId};

use super::{Facts, Pool, PoolError};

const WHOLE: &str = "raw";
const HALF: &str = "making";
/// `st_blocks` counts these, whatever the file system's own blocks are (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// Magic numbers of statfs(2) that an operator would like to read as a name.
const KINDS: [(i64, &str); 9] = [
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0xEF53, "ext4"),
    (0x0102_1994, "tmpfs"),
    (0x6969, "nfs"),
    (0x00C3_6400, "cephfs"),
    (0x4750_4653, "gpfs"),
    (0x0BD0_0BD0, "lustre"),
    (0x794C_7630, "overlay"),
];

/// Sparse files in a folder.
#[derive(Debug, Clone)]
pub struct FilePool(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    kind: String,
}

impl FilePool {
    /// Opens the folder, making it if need be, and finds out whether files in it can be cloned.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PoolError> {
        let path = path.as_ref().to_owned();
        files::make_dir(&path).map_err(|error| PoolError(daemon::chain(&error)))?;
        let system = kind_of(&path).map_err(failed("asking for the file system of", &path))?;
        let clones = clones(&path).map_err(failed("trying a clone in", &path))?;
        let word = if clones { "clones" } else { "no clones" };
        let kind = format!("file on {system}, {word}");
        Ok(Self(Arc::new(Folder { path, kind })))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, PoolError> + Send + 'static,
    ) -> Result<T, PoolError> {
        let folder = self.0.clone();
        tokio::task::spawn_blocking(move || work(&folder))
            .await
            .unwrap_or_else(|error| Err(PoolError(format!("a pool operation died: {error}"))))
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PoolError {
    let path = path.display().to_string();
    move |error| PoolError(format!("{doing} {path}: {error}"))
}

impl Folder {
    fn name(&self, volume: &VolumeId, extension: &str) -> PathBuf {
        self.path.join(format!("{volume}.{extension}"))
    }

    fn make(&self, volume: &VolumeId, size: Gib) -> Result<(), PoolError> {
        let (half, whole) = (self.name(volume, HALF), self.name(volume, WHOLE));
        if whole
            .metadata()
            .is_ok_and(|found| found.len() == size.bytes())
        {
            return Ok(());
        }
        let made = lay_out(&half, size)
            .map_err(failed("making", &half))
            .and_then(|()| {
                fs::rename(&half, &whole).map_err(failed("naming", &whole))?;
                self.sync()
            });
        if made.is_err() {
            let _left_for_tidy = fs::remove_file(&half);
        }
        made
    }

    fn remove(&self, volume: &VolumeId) -> Result<(), PoolError> {
        for extension in [HALF, WHOLE] {
            let path = self.name(volume, extension);
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("removing", &path)(error)),
            }
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), PoolError> {
        files::sync_dir(&self.path).map_err(|error| PoolError(daemon::chain(&error)))
    }

    /// The volumes whose names end so, with the bytes that each takes.
    fn list(&self, extension: &str) -> Result<Vec<(VolumeId, u64)>, PoolError> {
        let reading = || failed("reading", &self.path);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(reading())? {
            let entry = entry.map_err(reading())?;
            if let Some(volume) = volume_of(&entry.path(), extension) {
                let metadata = entry.metadata().map_err(reading())?;
                found.push((volume, metadata.blocks() * BLOCK_BYTES));
            }
        }
        Ok(found)
    }

    fn facts(&self) -> Result<Facts, PoolError> {
        let found = statvfs(&self.path).map_err(|error| {
            PoolError(format!(
                "asking for the room of {}: {error}",
                self.path.display()
            ))
        })?;
        Ok(Facts {
            kind: self.kind.clone(),
            total_bytes: found.blocks() * found.fragment_size(),
            free_bytes: found.blocks_available() * found.fragment_size(),
        })
    }
}

fn volume_of(path: &Path, extension: &str) -> Option<VolumeId> {
    let ends_so = path.extension().is_some_and(|found| found == extension);
    path.file_stem()
        .filter(|_| ends_so)
        .and_then(|stem| stem.to_str()?.parse().ok())
}

fn lay_out(path: &Path, size: Gib) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.set_len(size.bytes())?;
    file.sync_all()
}

fn kind_of(path: &Path) -> io::Result<String> {
    let magic = statfs(path)?.filesystem_type().0;
    let name = KINDS.iter().find(|(number, _)| *number == magic);
    Ok(name.map_or_else(
        || format!("file system {magic:#x}"),
        |(_, name)| (*name).to_owned(),
    ))
}

/// Whether FICLONE works here: a copy that takes no time and no room.
fn clones(folder: &Path) -> io::Result<bool> {
    let name = |what: &str| folder.join(format!(".clone-{what}.{HALF}"));
    let (from, to) = (name("from"), name("to"));
    // Read as well as written: FICLONE reads its source.
    let mut both = OpenOptions::new();
    both.read(true).write(true).create(true).truncate(true);
    let cloned = both.open(&from).and_then(|source| {
        source.set_len(4096)?;
        Ok(rustix::fs::ioctl_ficlone(both.open(&to)?, &source).is_ok())
    });
    for path in [from, to] {
        let _absent_is_fine = fs::remove_file(path);
    }
    cloned
}

#[async_trait]
impl Pool for FilePool {
    async fn facts(&self) -> Result<Facts, PoolError> {
        self.run(Folder::facts).await
    }

    async fn make(&self, volume: &VolumeId, size: Gib) -> Result<(), PoolError> {
        let volume = volume.clone();
        self.run(move |folder| folder.make(&volume, size)).await
    }

    async fn remove(&self, volume: &VolumeId) -> Result<(), PoolError> {
        let volume = volume.clone();
        self.run(move |folder| folder.remove(&volume)).await
    }

    async fn list(&self) -> Result<Vec<(VolumeId, u64)>, PoolError> {
        self.run(|folder| folder.list(WHOLE)).await
    }

    async fn tidy(&self) -> Result<u64, PoolError> {
        self.run(|folder| {
            let half = folder.list(HALF)?;
            for (volume, _) in &half {
                let path = folder.name(volume, HALF);
                fs::remove_file(&path).map_err(failed("removing", &path))?;
            }
            Ok(half.len() as u64)
        })
        .await
    }
}
