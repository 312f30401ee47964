//! Templates: a disk that begins the same for many instances is made once by its tool and copied
//! from then on, which is some milliseconds for the little that it holds.
//!
//! A template is never attached to anything, so nothing of a guest can be in one. They live no
//! longer than the process: a newer program or QEMU begins with its own.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{DiskError, at, blocking};

/// Templates kept at once; a disk's size and image make another one. When there are so many, all
/// are dropped: each costs its tool once more.
const TEMPLATES_MAX: usize = 64;
/// How much is copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// A folder of templates. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Templates {
    folder: Arc<PathBuf>,
    making: Arc<tokio::sync::Mutex<()>>,
}

impl Templates {
    /// Opens the folder, which is ours alone, and empties it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        daemon::files::make_dir(folder)?;
        Ok(Self {
            folder: Arc::new(folder.to_owned()),
            making: Arc::default(),
        })
    }

    /// Copies the template of that name to `to`, which becomes new. Where there is none yet, `make`
    /// makes it at the path that it is given.
    pub async fn copy<F>(
        &self,
        name: &str,
        to: &Path,
        make: impl FnOnce(PathBuf) -> F,
    ) -> Result<(), DiskError>
    where
        F: Future<Output = Result<(), DiskError>>,
    {
        let template = self.have(name, make).await?;
        let to = to.to_owned();
        blocking(move || copy_sparse(&template, &to).map_err(at(&to))).await
    }

    async fn have<F>(&self, name: &str, make: impl FnOnce(PathBuf) -> F) -> Result<File, DiskError>
    where
        F: Future<Output = Result<(), DiskError>>,
    {
        let path = self.folder.join(name);
        let _turn = self.making.lock().await;
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map_err(at(&path)),
        }
        self.make_room().map_err(at(&self.folder))?;
        let draft = self.folder.join("draft");
        make(draft.clone()).await?;
        std::fs::rename(&draft, &path).map_err(at(&path))?;
        File::open(&path).map_err(at(&path))
    }

    fn make_room(&self) -> io::Result<()> {
        let there: Vec<_> = std::fs::read_dir(&*self.folder)?.collect::<Result<_, _>>()?;
        if there.len() >= TEMPLATES_MAX {
            for template in there {
                std::fs::remove_file(template.path())?;
            }
        }
        Ok(())
    }
}

/// A new sparse file; what a crashed attempt left under its name is dropped.
pub(super) fn create(path: &Path, bytes: u64) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_len(bytes)?;
    Ok(file)
}

/// Copies what is data; holes stay holes.
fn copy_sparse(from: &File, to: &Path) -> io::Result<()> {
    let bytes = from.metadata()?.len();
    let to = create(to, bytes)?;
    let mut buffer = vec![0; COPY_BYTES];
    for extent in image::extents::data(from)? {
        let Range { mut start, end } = extent?;
        while start < end {
            let part = &mut buffer[..COPY_BYTES.min((end - start) as usize)];
            from.read_exact_at(part, start)?;
            to.write_all_at(part, start)?;
            start += part.len() as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt, sync::atomic::*};

    use super::*;

    async fn write(path: PathBuf) -> Result<(), DiskError> {
        let file = create(&path, 1 << 30).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(&vec![7; 3 << 20], 512 << 20).unwrap();
        Ok(())
    }

    #[tokio::test]
    async fn a_copy_is_the_same_and_as_sparse_and_its_tool_runs_once() {
        let folder = tempfile::tempdir().unwrap();
        let templates = Templates::open(&folder.path().join("templates")).unwrap();
        let made = AtomicUsize::new(0);
        for name in ["a", "b"] {
            let to = folder.path().join(name);
            std::fs::write(&to, "left over").unwrap();
            let make = |path| {
                made.fetch_add(1, Ordering::Relaxed);
                write(path)
            };
            templates.copy("big", &to, make).await.unwrap();
            let copy = File::open(&to).unwrap();
            assert_eq!(copy.metadata().unwrap().len(), 1 << 30);
            assert!(copy.metadata().unwrap().blocks() * 512 < 4 << 20);
            let mut head = [1; 8];
            copy.read_exact_at(&mut head, 0).unwrap();
            assert_eq!(&head, b"begin\0\0\0");
            let mut last = [0];
            copy.read_exact_at(&mut last, (515 << 20) - 1).unwrap();
            assert_eq!(last, [7]);
        }
        assert_eq!(made.into_inner(), 1);
    }

    #[tokio::test]
    async fn what_failed_leaves_no_template_and_many_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let (templates, to) = (folder.path().join("t"), folder.path().join("to"));
        let templates = Templates::open(&templates).unwrap();
        let fails = |path: PathBuf| async move {
            std::fs::write(&path, "half").unwrap();
            Err(at(&path)(io::Error::other("no")))
        };
        assert!(templates.copy("x", &to, fails).await.is_err());
        assert!(!to.exists());
        for n in 0..TEMPLATES_MAX + 2 {
            let make = |path: PathBuf| async move {
                std::fs::write(&path, n.to_string()).unwrap();
                Ok(())
            };
            templates.copy(&n.to_string(), &to, make).await.unwrap();
            assert_eq!(std::fs::read_to_string(&to).unwrap(), n.to_string());
        }
        let left = std::fs::read_dir(&*templates.folder).unwrap().count();
        assert!(left < TEMPLATES_MAX, "{left}");
    }
}
