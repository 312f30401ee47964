//! The cache on disk:
//!
//! ```text
//! entries/NAME            whole and read-only; its modification time is its last use
//! uses/NAME/NODE.INSTANCE one empty file for each instance that stands on the entry
//! filling/NAME.lease      who fills it now
//! filling/NAME.NODE.RUN   what is being filled
//! boot/                   GRUB's core image
//! ```
//!
//! All state is here and survives us; several nodes may share it. Only names that parse are touched.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use types::InstanceId;

use super::EntryName;

/// Published entries are never written again: QEMU is told so too, but a mistake must fail.
const READ_ONLY: u32 = 0o444;
/// A folder of marks may be removed by another node between making it and using it.
const MARK_TRIES: usize = 10;

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}: {source}")]
pub struct FolderError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

pub(super) fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError {
        doing,
        path,
        source,
    }
}

/// A whole entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: EntryName,
    /// What it takes on disk; holes take nothing.
    pub bytes: u64,
    /// When it was last used, by the file system's clock.
    pub used_at: SystemTime,
    /// Whether any instance of any node stands on it.
    pub in_use: bool,
}

/// The folder, as one run of one node's daemon sees it.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    node: String,
    run: String,
}

impl Folder {
    /// Opens or makes it.
    pub fn open(root: &Path, node: &str) -> Result<Self, FolderError> {
        for part in ["entries", "uses", "filling", "boot"] {
            let path = root.join(part);
            daemon::files::make_dir(&path)
                .map_err(io::Error::from)
                .map_err(at("making", &path))?;
        }
        let run = format!("{:016x}", rand::random::<u64>());
        Ok(Self {
            root: root.to_owned(),
            node: node.to_owned(),
            run,
        })
    }

    /// Our node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What tells this run of the daemon from all others.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Where an entry is, or will be.
    pub fn entry(&self, name: &EntryName) -> PathBuf {
        self.root.join("entries").join(name.as_str())
    }

    /// The entry that a path of ours names.
    pub fn name_of(&self, file: &Path) -> Option<EntryName> {
        let ours = file.parent() == Some(&self.root.join("entries"));
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|_| ours)?;
        name.parse().ok()
    }

    /// Where the lease of an entry is.
    pub fn lease(&self, name: &EntryName) -> PathBuf {
        self.root.join("filling").join(format!("{name}.lease"))
    }

    /// Where the boot loader is kept.
    pub fn boot(&self) -> PathBuf {
        self.root.join("boot")
    }

    fn uses(&self, name: &EntryName) -> PathBuf {
        self.root.join("uses").join(name.as_str())
    }

    /// Whether the entry is there; if so, it counts as used now.
    pub fn touch(&self, name: &EntryName) -> Result<bool, FolderError> {
        let path = self.entry(name);
        match File::open(&path) {
            Ok(file) => {
                // UTIME_NOW: the file system's own clock, the same for all who share it.
                nix::sys::stat::futimens(
                    &file,
                    &nix::sys::time::TimeSpec::UTIME_NOW,
                    &nix::sys::time::TimeSpec::UTIME_NOW,
                )
                .map_err(io::Error::from)
                .map_err(at("touching", &path))?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("opening", &path)(error)),
        }
    }

    /// Marks an entry, there or not yet, as used by an instance of ours.
    pub fn mark(&self, name: &EntryName, holder: &InstanceId) -> Result<(), FolderError> {
        let folder = self.uses(name);
        let path = folder.join(self.mark_name(holder));
        let mut tries = 0;
        loop {
            fs::create_dir_all(&folder).map_err(at("making", &folder))?;
            match OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
            {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < MARK_TRIES => {
                    tries += 1;
                }
                Err(error) => return Err(at("making", &path)(error)),
            }
        }
    }

    /// Removes all marks of an instance of ours.
    pub fn unmark(&self, holder: &InstanceId) -> Result<(), FolderError> {
        let mark = self.mark_name(holder);
        for folder in list(&self.root.join("uses"))? {
            remove_if_there(&folder.join(&mark))?;
            // Succeeds only when it is empty, which is what is wanted.
            let _still_used = fs::remove_dir(&folder);
        }
        Ok(())
    }

    fn mark_name(&self, holder: &InstanceId) -> String {
        format!("{}.{holder}", self.node)
    }

    fn in_use(&self, name: &EntryName) -> Result<bool, FolderError> {
        Ok(!list(&self.uses(name))?.is_empty())
    }

    /// All whole entries, longest unused first.
    pub fn entries(&self) -> Result<Vec<Entry>, FolderError> {
        let mut entries = Vec::new();
        for path in list(&self.root.join("entries"))? {
            let Some(name) = self.name_of(&path) else {
                continue;
            };
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let used_at = metadata.modified().map_err(at("examining", &path))?;
            let in_use = self.in_use(&name)?;
            entries.push(Entry {
                name,
                bytes: metadata.blocks() * 512,
                used_at,
                in_use,
            });
        }
        entries.sort_by(|a, b| (a.used_at, &a.name).cmp(&(b.used_at, &b.name)));
        Ok(entries)
    }

    /// Removes an entry unless someone has come to use it meanwhile: it is put aside first, and put
    /// back if a mark is there then.
    pub fn evict(&self, name: &EntryName) -> Result<bool, FolderError> {
        let (path, aside) = (self.entry(name), self.part(name));
        match fs::rename(&path, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(at("putting aside", &path)(error)),
        }
        if self.in_use(name)? {
            fs::rename(&aside, &path).map_err(at("putting back", &path))?;
            return Ok(false);
        }
        remove_if_there(&aside)?;
        Ok(true)
    }

    fn part(&self, name: &EntryName) -> PathBuf {
        self.root
            .join("filling")
            .join(format!("{name}.{}.{}", self.node, self.run))
    }

    /// A new, empty, private file in which an entry is made.
    pub fn begin(&self, name: &EntryName) -> Result<HalfMade, FolderError> {
        let path = self.part(name);
        remove_if_there(&path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(at("making", &path))?;
        Ok(HalfMade { path, file })
    }

    /// Publishes a synced file as the entry.
    pub fn publish(&self, half: HalfMade, name: &EntryName) -> Result<(), FolderError> {
        let path = self.entry(name);
        let read_only = fs::Permissions::from_mode(READ_ONLY);
        half.file
            .set_permissions(read_only)
            .map_err(at("protecting", &half.path))?;
        half.file.sync_all().map_err(at("syncing", &half.path))?;
        fs::rename(&half.path, &path).map_err(at("publishing", &path))?;
        daemon::files::sync_dir(self.root.join("entries"))
            .map_err(io::Error::from)
            .map_err(at("syncing", &path))
    }

    /// Removes what earlier runs of this node left: files being filled, and their leases.
    pub fn remove_half_made(&self) -> Result<(), FolderError> {
        for path in list(&self.root.join("filling"))? {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let ours = match name.strip_suffix(".lease") {
                Some(_) => super::lease::holder_of(&path).is_some_and(|node| node == self.node),
                None => name.contains(&format!(".{}.", self.node)) || name.starts_with('.'),
            };
            if ours {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what a node that fell silent left of an entry.
    pub fn remove_half_made_by(
        &self,
        name: &EntryName,
        node: &str,
        run: &str,
    ) -> Result<(), FolderError> {
        remove_if_there(
            &self
                .root
                .join("filling")
                .join(format!("{name}.{node}.{run}")),
        )
    }

    /// What the file system has free for us, and its size, in bytes.
    pub fn file_system(&self) -> Result<(u64, u64), FolderError> {
        let stat = nix::sys::statvfs::statvfs(&self.root)
            .map_err(io::Error::from)
            .map_err(at("examining", &self.root))?;
        let unit = stat.fragment_size();
        Ok((stat.blocks_available() * unit, stat.blocks() * unit))
    }
}

/// A file in which an entry is being made; removed when it is dropped before it was published.
#[derive(Debug)]
pub struct HalfMade {
    path: PathBuf,
    file: File,
}

impl HalfMade {
    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        // After publishing there is nothing under this name any more.
        let _published = fs::remove_file(&self.path);
    }
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("removing", path)(error)),
        _ => Ok(()),
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at("listing", folder))?,
    };
    entries
        .map(|entry| Ok(entry.map_err(at("listing", folder))?.path()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u8) -> EntryName {
        format!("emi-000000{n:02x}_{}_r1.disk", "00".repeat(32))
            .parse()
            .unwrap()
    }

    fn instance(n: u8) -> InstanceId {
        format!("i-000000{n:02x}").parse().unwrap()
    }

    fn published(folder: &Folder, n: u8) -> EntryName {
        let half = folder.begin(&name(n)).unwrap();
        half.file().set_len(1 << 20).unwrap();
        folder.publish(half, &name(n)).unwrap();
        name(n)
    }

    #[test]
    fn an_entry_is_read_only_and_leaves_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), "node-00000001").unwrap();
        let name = published(&folder, 1);
        let mode = fs::metadata(folder.entry(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o444);
        assert!(list(&root.path().join("filling")).unwrap().is_empty());
        assert!(folder.touch(&name).unwrap());
        assert_eq!(folder.name_of(&folder.entry(&name)), Some(name));
        assert_eq!(folder.name_of(Path::new("/etc/passwd")), None);
    }

    #[test]
    fn a_half_made_file_goes_when_its_maker_does() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), "node-00000001").unwrap();
        drop(folder.begin(&name(1)).unwrap());
        std::mem::forget(folder.begin(&name(2)).unwrap());
        let other = Folder::open(root.path(), "node-00000002").unwrap();
        std::mem::forget(other.begin(&name(2)).unwrap());
        assert_eq!(list(&root.path().join("filling")).unwrap().len(), 2);

        let reborn = Folder::open(root.path(), "node-00000001").unwrap();
        reborn.remove_half_made().unwrap();
        let left = list(&root.path().join("filling")).unwrap();
        assert_eq!(left.len(), 1, "the other node's work is not ours to remove");
        assert!(left[0].to_str().unwrap().contains("node-00000002"));
    }

    #[test]
    fn an_entry_in_use_by_any_node_is_not_evicted() {
        let root = tempfile::tempdir().unwrap();
        let ours = Folder::open(root.path(), "node-00000001").unwrap();
        let theirs = Folder::open(root.path(), "node-00000002").unwrap();
        let name = published(&ours, 1);
        theirs.mark(&name, &instance(7)).unwrap();
        theirs.mark(&name, &instance(7)).unwrap();

        ours.unmark(&instance(7)).unwrap();
        assert!(ours.entries().unwrap()[0].in_use);
        assert!(!ours.evict(&name).unwrap());
        assert!(ours.touch(&name).unwrap());

        theirs.unmark(&instance(7)).unwrap();
        assert!(ours.evict(&name).unwrap());
        assert!(!ours.touch(&name).unwrap());
        assert!(
            ours.evict(&name).unwrap(),
            "evicting what is gone is success"
        );
    }
}
