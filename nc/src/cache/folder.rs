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
//!
//! What decides between nodes is always one call that the file system itself decides, for what a
//! node has listed may be a minute old on NFS: a name is taken only where it is free, and a folder
//! of marks can be removed only while it is empty.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};
use types::InstanceId;

use super::{EntryName, lease};
use crate::record;

/// Published entries are never written again: QEMU is told so too, but a mistake must fail.
const READ_ONLY: u32 = 0o444;
/// A folder of marks may be removed by another node between making it and using it.
const MARK_TRIES: usize = 10;
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

/// Something on its way in or out, or what is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    /// The entry that it is to be.
    pub name: EntryName,
    /// Which node makes it.
    pub node: String,
    /// Which run of the node's daemon; for what is no half entry with its ending.
    pub run: String,
    /// Changes as long as it is written to.
    pub stamp: (u64, Duration),
    /// What it takes on disk.
    pub bytes: u64,
    path: PathBuf,
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
        self.remove_half_made()
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

    fn uses(&self, name: &EntryName) -> PathBuf {
        self.root.join("uses").join(name.as_str())
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

    /// The instances of ours that have marks.
    pub fn marked(&self) -> Result<Vec<InstanceId>, FolderError> {
        let mut found = Vec::new();
        for folder in list(&self.root.join("uses"))? {
            for mark in list(&folder)? {
                let name = mark.file_name().and_then(|name| name.to_str());
                let ours = name.and_then(|name| name.strip_prefix(&format!("{}.", self.node)));
                found.extend(ours.and_then(|instance| instance.parse().ok()));
            }
        }
        Ok(found)
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
            let uses = list(&self.uses(&name))?.len();
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
        if !list(&self.uses(name))?.is_empty() {
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
        let uses = self.uses(name);
        let unused = match fs::remove_dir(&uses) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => false,
            Err(error) => return Err(at("removing", &uses)(error)),
        };
        if !unused {
            let path = self.entry(name);
            take_name(aside, &path).map_err(at("putting back", &path))?;
        }
        remove_if_there(aside)?;
        Ok(unused)
    }

    fn part(&self, name: &EntryName) -> PathBuf {
        self.filling()
            .join(format!("{name}.{}.{}", self.node, self.run))
    }

    fn aside(&self, name: &EntryName) -> PathBuf {
        self.filling()
            .join(format!("{name}.{}.{}{ASIDE}", self.node, self.run))
    }

    /// Where entries are made and evicted.
    pub(super) fn filling(&self) -> PathBuf {
        self.root.join("filling")
    }

    /// A new, empty, private file in which an entry is made.
    pub fn begin(&self, name: &EntryName) -> Result<HalfMade, FolderError> {
        let path = self.part(name);
        let naming = self.naming.clone();
        let _held = lock(&naming);
        remove_if_there(&path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(at("making", &path))?;
        Ok(HalfMade {
            path,
            file,
            naming: self.naming.clone(),
        })
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
        half.file.sync_all().map_err(at("syncing", &half.path))?;
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

    /// What is being filled or evicted by any node, and what was left behind.
    pub fn parts(&self) -> Result<Vec<Part>, FolderError> {
        let part = |path: PathBuf| {
            let text = path.file_name()?.to_str()?.trim_start_matches('.');
            // NAME has one dot, NODE and RUN have none.
            let (name, maker) = text
                .match_indices('.')
                .nth(1)
                .map(|(at, _)| text.split_at(at))?;
            let name = name.parse().ok()?;
            let (node, run) = maker.strip_prefix('.')?.split_once('.')?;
            let (node, run) = (node.to_owned(), run.to_owned());
            let metadata = fs::metadata(&path).ok()?;
            let changed = Duration::new(metadata.mtime() as u64, metadata.mtime_nsec() as u32);
            Some(Part {
                name,
                node,
                run,
                stamp: (metadata.blocks(), changed),
                bytes: metadata.blocks() * 512,
                path,
            })
        };
        Ok(list(&self.filling())?
            .into_iter()
            .filter_map(part)
            .collect())
    }

    /// Removes what nobody fills any more. An entry that a dead node was evicting is evicted.
    pub fn abandon(&self, part: &Part) -> Result<(), FolderError> {
        match part.run.ends_with(ASIDE) {
            true => self.settle(&part.name, &part.path).map(drop),
            false => remove_if_there(&part.path),
        }
    }

    /// Removes what earlier runs of this node left: files being filled, and their leases.
    pub fn remove_half_made(&self) -> Result<(), FolderError> {
        for part in self.parts()? {
            if part.node == self.node {
                self.abandon(&part)?;
            }
        }
        for (name, beat) in lease::all(self)? {
            if beat.node == self.node {
                remove_if_there(&self.lease(&name))?;
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
        remove_if_there(&self.filling().join(format!("{name}.{node}.{run}")))
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
    naming: Arc<Mutex<()>>,
}

impl HalfMade {
    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for HalfMade {
    fn drop(&mut self) {
        // After publishing there is nothing under this name any more; or, as an end may come late,
        // the next that we make.
        let _held = lock(&self.naming);
        if are_one(fs::metadata(&self.path), self.file.metadata()) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

fn lock(naming: &Mutex<()>) -> MutexGuard<'_, ()> {
    naming.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a file another name, if that is free, and takes its old one away; false if it is taken.
/// Nothing is ever replaced, whoever does the same at the same time.
pub(super) fn take_name(from: &Path, to: &Path) -> io::Result<bool> {
    take_name_or(from, to, rename_to_free)
}

/// The same for a name that may stand for something unfinished for a moment, which is as good as a
/// link where there are none.
pub(super) fn reserve_name(from: &Path, to: &Path) -> io::Result<bool> {
    take_name_or(from, to, |from, to| {
        match OpenOptions::new().write(true).create_new(true).open(to) {
            Ok(_) => fs::rename(from, to).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    })
}

fn take_name_or(
    from: &Path,
    to: &Path,
    without_links: impl Fn(&Path, &Path) -> io::Result<bool>,
) -> io::Result<bool> {
    match fs::hard_link(from, to) {
        Ok(()) => {}
        // A repeated request may have found its own work: then both names are one file.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !is_same_file(from, to) {
                return Ok(false);
            }
        }
        Err(error) if has_no_links(&error) => return without_links(from, to),
        Err(error) => return Err(error),
    }
    match fs::remove_file(from) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    are_one(fs::metadata(a), fs::metadata(b))
}

/// Whether two names, or a name and an open file, are of one file that is there.
fn are_one(a: io::Result<fs::Metadata>, b: io::Result<fs::Metadata>) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    matches!((a.map(identity), b.map(identity)), (Ok(a), Ok(b)) if a == b)
}

/// What file systems without hard links say.
fn has_no_links(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EPERM | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EMLINK)
    )
}

fn rename_to_free(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        // The least that a file system can do: then a moment is left in which two may both see it
        // free, and the later rename wins with the same bytes.
        Err(Errno::EINVAL | Errno::ENOSYS) => match fs::symlink_metadata(to) {
            Ok(_) => Ok(false),
            Err(_) => fs::rename(from, to).map(|()| true),
        },
        Err(error) => Err(error.into()),
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
    use super::*;

    fn name(n: u8) -> EntryName {
        format!("emi-000000{n:02x}_{}_r1.disk", "00".repeat(32))
            .parse()
            .unwrap()
    }

    fn instance(n: u8) -> InstanceId {
        format!("i-000000{n:02x}").parse().unwrap()
    }

    fn open(root: &Path, node: u8) -> Folder {
        let folder = Folder::at(root, &format!("node-000000{node:02x}"));
        folder.prepare().unwrap();
        folder
    }

    fn published(folder: &Folder, n: u8) -> EntryName {
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
    fn a_name_is_taken_without_hard_links_too_and_never_twice() {
        let root = tempfile::tempdir().unwrap();
        let (a, b, to) = (
            root.path().join("a"),
            root.path().join("b"),
            root.path().join("to"),
        );
        fs::write(&a, "a").unwrap();
        fs::write(&b, "b").unwrap();
        assert!(rename_to_free(&a, &to).unwrap());
        assert!(!rename_to_free(&b, &to).unwrap());
        assert!(!take_name(&b, &to).unwrap());
        assert_eq!(fs::read(&to).unwrap(), b"a");
        assert!(take_name(&root.path().join("none"), &to).is_err());
    }

    #[test]
    fn a_half_made_file_goes_when_its_maker_does() {
        let root = tempfile::tempdir().unwrap();
        let folder = open(root.path(), 1);
        drop(folder.begin(&name(1)).unwrap());
        std::mem::forget(folder.begin(&name(2)).unwrap());
        let other = open(root.path(), 2);
        std::mem::forget(other.begin(&name(2)).unwrap());
        assert_eq!(folder.parts().unwrap().len(), 2);

        open(root.path(), 1);
        let left = folder.parts().unwrap();
        assert_eq!(left.len(), 1, "the other node's work is not ours to remove");
        assert_eq!(left[0].run, other.run());
    }

    #[test]
    fn one_that_is_dropped_late_leaves_the_next_of_its_name_alone() {
        let root = tempfile::tempdir().unwrap();
        let folder = open(root.path(), 1);
        let first = folder.begin(&name(1)).unwrap();
        let second = folder.begin(&name(1)).unwrap();
        drop(first);
        assert_eq!(folder.publish(&second, &name(1)).unwrap(), Published::Ours);
    }

    #[test]
    fn an_entry_in_use_by_any_node_is_not_evicted() {
        let root = tempfile::tempdir().unwrap();
        let (ours, theirs) = (open(root.path(), 1), open(root.path(), 2));
        let name = published(&ours, 1);
        theirs.mark(&name, &instance(7)).unwrap();
        theirs.mark(&name, &instance(7)).unwrap();
        assert_eq!(theirs.marked().unwrap(), [instance(7)]);
        assert_eq!(ours.marked().unwrap(), []);

        ours.unmark(&instance(7)).unwrap();
        assert_eq!(ours.entries().unwrap()[0].uses, 1);
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
