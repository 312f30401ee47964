//! The cache on disk:
//!
//! ```text
//! entries/NAME                  whole and read-only; its modification time is its last use
//! uses/NAME/NODE.INSTANCE       one empty file for each instance that stands on the entry
//! filling/NAME.lease            who fills it now
//! filling/NAME.NODE.RUN         what is being filled
//! filling/NAME.NODE.RUN.aside   an entry that is being evicted
//! boot/                         GRUB's core image
//! ```
//!
//! All state is here and survives us; several nodes may share it. Only names that parse are touched.
//! The calls are plain and may take their time: [`super::files`] runs them where that hurts nobody.
//! Here are the entries, there and on their way out; [`parts`] are on their way in, or left over;
//! who stands on an entry is in [`uses`].
//!
//! What decides between nodes is always one call that the file system itself decides, for what a
//! node has listed may be a minute old on NFS: a name is taken only where it is free ([`names`]), and
//! a folder of marks can be removed only while it is empty.

mod names;
mod parts;
mod uses;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use super::EntryName;
use crate::record;

pub(super) use names::reserve_name;
use names::take_name;
pub use parts::{HalfMade, Part};

/// Published entries are never written again: QEMU is told so too, but a mistake must fail.
const READ_ONLY: u32 = 0o444;
/// The end of the name of an entry that is being evicted.
const ASIDE: &str = ".aside";

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}: {source}")]
pub struct FolderError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FolderError {
    /// Whether the file system gave no answer in time: it may later.
    pub fn is_silence(&self) -> bool {
        self.source.kind() == io::ErrorKind::TimedOut
    }

    /// Whether the file system is full, or our quota of it is.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }
}

/// Whether there was no room to write.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
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
    /// How long the file is.
    pub file_bytes: u64,
    /// When it was last used, by the file system's clock.
    pub used_at: SystemTime,
    /// How many instances of all nodes stand on it.
    pub uses: usize,
}

/// What came of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// What we made is the entry.
    Ours,
    /// Another node's was there first; ours is gone.
    Theirs,
    /// Whoever took over from us has removed ours.
    Lost,
}

/// The folder, as one run of one node's daemon sees it.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    node: String,
    run: String,
    /// Held while a file of ours that is being made is given its name or loses it.
    naming: Arc<Mutex<()>>,
}

impl Folder {
    /// The folder there, in a new run of that node. Nothing is touched yet.
    pub fn at(root: &Path, node: &str) -> Self {
        Self {
            root: root.to_owned(),
            node: node.to_owned(),
            run: format!("{:016x}", rand::random::<u64>()),
            naming: Arc::default(),
        }
    }

    /// Makes the folder, lets QEMU's user through to it, and removes what earlier runs of this node
    /// left half made.
    pub fn prepare(&self) -> Result<(), FolderError> {
        self.make()?;
        self.remove_half_made()
    }

    /// Makes the folder if it is not there, or not any more, and lets QEMU's user through to it.
    pub fn make(&self) -> Result<(), FolderError> {
        for part in ["entries", "uses", "filling", "boot"] {
            let path = self.root.join(part);
            daemon::files::make_dir(&path)
                .map_err(io::Error::from)
                .map_err(at("making", &path))?;
        }
        for path in [&self.root, &self.root.join("entries")] {
            record::make_reachable(path)
                .map_err(io::Error::from)
                .map_err(at("opening up", path))?;
        }
        Ok(())
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// An error that is about the folder as a whole.
    pub(super) fn error(&self, doing: &'static str, source: io::Error) -> FolderError {
        at(doing, &self.root)(source)
    }

    /// It gave no answer.
    pub(super) fn silence(&self, patience: Duration) -> FolderError {
        let what = format!("no answer within {patience:?}");
        self.error("waiting for", io::Error::new(io::ErrorKind::TimedOut, what))
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

    /// Whether the entry is there; if so, it counts as used now.
    pub fn touch(&self, name: &EntryName) -> Result<bool, FolderError> {
        let path = self.entry(name);
        match File::open(&path) {
            Ok(file) => {
                // UTIME_NOW: the file system's own clock, the same for all who share it. Where it
                // may not be set (read-only, another's file) the entry serves all the same.
                let _best_effort = nix::sys::stat::futimens(
                    &file,
                    &nix::sys::time::TimeSpec::UTIME_NOW,
                    &nix::sys::time::TimeSpec::UTIME_NOW,
                );
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at("opening", &path)(error)),
        }
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
            let uses = self.uses_of(&name)?;
            entries.push(Entry {
                name,
                bytes: metadata.blocks() * 512,
                file_bytes: metadata.len(),
                used_at,
                uses,
            });
        }
        entries.sort_by(|a, b| (a.used_at, &a.name).cmp(&(b.used_at, &b.name)));
        Ok(entries)
    }

    /// Removes an entry unless an instance stands on it or has come to use it meanwhile: it is put
    /// aside first, and put back if a mark is there then. Whoever looks for it in that moment finds
    /// nothing and fetches it again, which costs time and no more.
    pub fn evict(&self, name: &EntryName) -> Result<bool, FolderError> {
        if self.uses_of(name)? > 0 {
            return Ok(false);
        }
        let (path, aside) = (self.entry(name), self.aside(name));
        match fs::rename(&path, &aside) {
            Ok(()) => self.settle(name, &aside),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(at("putting aside", &path)(error)),
        }
    }

    /// Removes what was put aside, or puts it back if a mark has come.
    fn settle(&self, name: &EntryName, aside: &Path) -> Result<bool, FolderError> {
        let unused = self.forget_uses(name)?;
        if !unused {
            let path = self.entry(name);
            take_name(aside, &path).map_err(at("putting back", &path))?;
        }
        remove_if_there(aside)?;
        Ok(unused)
    }

    fn aside(&self, name: &EntryName) -> PathBuf {
        self.filling()
            .join(format!("{name}.{}.{}{ASIDE}", self.node, self.run))
    }

    /// Where entries are made and evicted.
    pub(super) fn filling(&self) -> PathBuf {
        self.root.join("filling")
    }

    /// Publishes a synced file as the entry, unless one is there: an entry that is there is never
    /// replaced, for a guest may stand on it, and on NFS would lose it. So the one that was only
    /// slow does no harm when it comes back after somebody took over.
    pub fn publish(&self, half: &HalfMade, name: &EntryName) -> Result<Published, FolderError> {
        let path = self.entry(name);
        let read_only = fs::Permissions::from_mode(READ_ONLY);
        half.file
            .set_permissions(read_only)
            .map_err(at("protecting", &half.path))?;
        let synced = half.behind.finish().and_then(|()| half.file.sync_all());
        synced.map_err(at("syncing", &half.path))?;
        match take_name(&half.path, &path) {
            Ok(true) => {}
            Ok(false) => return Ok(Published::Theirs),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Published::Lost),
            Err(error) => return Err(at("publishing", &path)(error)),
        }
        daemon::files::sync_dir(self.root.join("entries"))
            .map_err(io::Error::from)
            .map_err(at("syncing", &path))?;
        Ok(Published::Ours)
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

pub(super) fn remove_if_there(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("removing", path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
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
    use types::InstanceId;

    use super::*;

    pub(super) fn name(n: u8) -> EntryName {
        format!("emi-000000{n:02x}_{}_r1.disk", "00".repeat(32))
            .parse()
            .unwrap()
    }

    pub(super) fn instance(n: u8) -> InstanceId {
        format!("i-000000{n:02x}").parse().unwrap()
    }

    pub(super) fn open(root: &Path, node: u8) -> Folder {
        let folder = Folder::at(root, &format!("node-000000{node:02x}"));
        folder.prepare().unwrap();
        folder
    }

    pub(super) fn published(folder: &Folder, n: u8) -> EntryName {
        let half = folder.begin(&name(n)).unwrap();
        half.file().set_len(1 << 20).unwrap();
        assert_eq!(folder.publish(&half, &name(n)).unwrap(), Published::Ours);
        name(n)
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn an_entry_is_read_only_and_leaves_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = open(root.path(), 1);
        let name = published(&folder, 1);
        let mode = fs::metadata(folder.entry(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o444);
        let entries = fs::metadata(root.path().join("entries")).unwrap();
        let passes = entries.permissions().mode() & 0o777;
        assert_eq!(passes, 0o711, "QEMU's user passes through");
        assert!(list(&folder.filling()).unwrap().is_empty());
        assert!(folder.touch(&name).unwrap());
        assert_eq!(folder.name_of(&folder.entry(&name)), Some(name));
        assert_eq!(folder.name_of(Path::new("/etc/passwd")), None);
    }

    #[test]
    fn an_entry_is_never_replaced_and_the_one_who_lost_his_half_is_told() {
        let root = tempfile::tempdir().unwrap();
        let (slow, quick) = (open(root.path(), 1), open(root.path(), 2));
        let (halted, robbed) = (slow.begin(&name(1)).unwrap(), slow.begin(&name(2)).unwrap());
        let entry = quick.entry(&published(&quick, 1));
        let first = inode(&entry);

        assert_eq!(slow.publish(&halted, &name(1)).unwrap(), Published::Theirs);
        drop(halted);
        assert_eq!(inode(&entry), first, "guests stand on it");

        let (node, run) = (slow.node(), slow.run());
        quick.remove_half_made_by(&name(2), node, run).unwrap();
        assert_eq!(slow.publish(&robbed, &name(2)).unwrap(), Published::Lost);
        assert!(!slow.touch(&name(2)).unwrap());
    }

    #[test]
    fn an_eviction_that_broke_off_is_finished_unless_a_mark_has_come() {
        let root = tempfile::tempdir().unwrap();
        let folder = open(root.path(), 1);
        let (used, unused) = (published(&folder, 1), published(&folder, 2));
        for name in [&used, &unused] {
            fs::rename(folder.entry(name), folder.aside(name)).unwrap();
        }
        folder.mark(&used, &instance(1)).unwrap();

        let reborn = open(root.path(), 1);
        assert!(reborn.touch(&used).unwrap());
        assert!(!reborn.touch(&unused).unwrap());
        assert_eq!(reborn.parts().unwrap(), []);
    }
}
