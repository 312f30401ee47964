//! Who stands on which entry: `uses/NAME/NODE.INSTANCE`, an empty file for each instance. A mark is
//! made before its entry is looked for, by whichever node, and an entry with marks is not evicted.

use std::{
    fs::{self, OpenOptions},
    io,
    path::PathBuf,
};

use types::InstanceId;

use super::{EntryName, Folder, FolderError, at, list, remove_if_there};

/// A folder of marks may be removed by another node between making it and using it.
const MARK_TRIES: usize = 10;

impl Folder {
    fn all_uses(&self) -> PathBuf {
        self.root.join("uses")
    }

    fn uses(&self, name: &EntryName) -> PathBuf {
        self.all_uses().join(name.as_str())
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
        for folder in list(&self.all_uses())? {
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
        for folder in list(&self.all_uses())? {
            for mark in list(&folder)? {
                let name = mark.file_name().and_then(|name| name.to_str());
                let ours = name.and_then(|name| name.strip_prefix(&format!("{}.", self.node)));
                found.extend(ours.and_then(|instance| instance.parse().ok()));
            }
        }
        Ok(found)
    }

    /// How many instances of all nodes stand on an entry.
    pub(super) fn uses_of(&self, name: &EntryName) -> Result<usize, FolderError> {
        Ok(list(&self.uses(name))?.len())
    }

    /// Removes an entry's folder of marks, which works only while there is none; whether it did.
    pub(super) fn forget_uses(&self, name: &EntryName) -> Result<bool, FolderError> {
        let uses = self.uses(name);
        match fs::remove_dir(&uses) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(at("removing", &uses)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{instance, open, published};

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
}
