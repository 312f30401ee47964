//! What is on its way in or out: `filling/NAME.NODE.RUN`, whose maker names itself, so that what is
//! left of one that died can be told from what another still makes.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use image::write_behind::WriteBehind;

use super::{ASIDE, EntryName, Folder, FolderError, at, list, names::are_one, remove_if_there};
use crate::cache::lease;

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

/// A file in which an entry is being made; removed when it is dropped before it was published.
#[derive(Debug)]
pub struct HalfMade {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) behind: WriteBehind,
    naming: Arc<Mutex<()>>,
}

impl HalfMade {
    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Hears of bytes that were written to the file bit by bit.
    pub fn wrote(&self, bytes: u64) -> io::Result<()> {
        self.behind.wrote(&self.file, bytes)
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

impl Folder {
    pub(super) fn part(&self, name: &EntryName) -> PathBuf {
        self.filling()
            .join(format!("{name}.{}.{}", self.node, self.run))
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
            behind: WriteBehind::default(),
            naming: self.naming.clone(),
        })
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
}

#[cfg(test)]
mod tests {
    use super::super::{
        Published,
        tests::{name, open},
    };

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
}
