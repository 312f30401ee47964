//! What is kept of an instance beside its disks, in `INSTANCES/<id>/instance.json`: the wish and as
//! much progress as cannot be found by looking. Published whole, so a crash leaves the old or the
//! new. It holds what the metadata service shows anyway, and no other secret.

use std::path::{Path, PathBuf};

use control::{node::InstanceWish, timeline::Moment};
use daemon::files;
use serde::{Deserialize, Serialize};
use types::{InstanceId, StateReason};

use crate::instance::{Bundled, Instance, Saved};

/// The file's name.
const FILE: &str = "instance.json";
/// The version of the form; a newer one is not touched.
const FORM: u32 = 1;
/// QEMU runs as another user and must reach the disks, not list the folder.
const FOLDER_MODE: u32 = 0o711;

/// The record of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    form: u32,
    /// The newest wish.
    pub wish: InstanceWish,
    /// The epoch of the placement that this life began with.
    pub life: u64,
    /// Where it is in its life.
    pub saved: Saved,
    /// How many reboots were done.
    pub reboots_done: u32,
    /// Why it went down.
    pub reason: Option<StateReason>,
    /// The bundle that was made of it last.
    #[serde(default)]
    pub bundled: Option<Bundled>,
    /// Which boot of the host it was written in.
    pub boot_id: String,
    /// When the node first heard of it, by the node's clock.
    pub heard_at_ms: i64,
    /// What happened so far.
    pub timeline: Vec<Moment>,
}

/// A record that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// Reading failed.
    #[error(transparent)]
    File(#[from] files::Error),
    /// It is no record.
    #[error("{path} is no instance record")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A newer version wrote it.
    #[error("{path} was written by a newer mallee-nc (form {form})")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its form.
        form: u32,
    },
}

impl Record {
    /// The record of an instance as it is now.
    pub fn of(instance: &Instance, boot_id: &str, heard_at_ms: i64, timeline: Vec<Moment>) -> Self {
        Self {
            form: FORM,
            wish: InstanceWish::clone(&instance.wish),
            life: instance.life,
            saved: instance.saved(),
            reboots_done: instance.reboots_done,
            reason: instance.reason.clone(),
            bundled: instance.bundled.clone(),
            boot_id: boot_id.to_owned(),
            heard_at_ms,
            timeline,
        }
    }

    /// Writes the record; on disk when it returns. Makes the folder if need be.
    pub fn publish(&self, dir: &Path) -> Result<(), files::Error> {
        make_reachable(dir)?;
        let json = serde_json::to_vec_pretty(self).expect("plain values with text keys");
        files::publish(dir.join(FILE), &json)
    }

    /// Reads the record in a folder; none if there is none.
    pub fn read(dir: &Path) -> Result<Option<Self>, BadRecord> {
        let path = dir.join(FILE);
        let json = match files::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let unreadable = |source| BadRecord::Unreadable {
            path: path.clone(),
            source,
        };
        #[derive(Deserialize)]
        struct Form {
            form: u32,
        }
        let Form { form } = serde_json::from_slice(&json).map_err(unreadable)?;
        if form > FORM {
            return Err(BadRecord::Newer { path, form });
        }
        serde_json::from_slice(&json).map_err(unreadable).map(Some)
    }
}

/// The folder of an instance. Its id is well formed, so it is one name below `instances`.
pub fn folder(instances: &Path, instance: &InstanceId) -> PathBuf {
    instances.join(instance.as_str())
}

/// Makes a folder whose files can be reached, by name, by users who may read them.
pub fn make_reachable(dir: &Path) -> Result<(), files::Error> {
    use std::os::unix::fs::PermissionsExt;
    files::make_dir(dir)?;
    if let Err(error) = std::fs::set_permissions(dir, PermissionsExt::from_mode(FOLDER_MODE)) {
        tracing::warn!(dir = %dir.display(), %error, "QEMU may not be able to reach the disks");
    }
    Ok(())
}

/// Whether an instance's folder holds more than what is, or was to be, its record.
pub fn has_more(dir: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        if !entry?.file_name().to_string_lossy().contains(FILE) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes every file of an instance but its record. Nothing there is success.
pub fn clear(dir: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name() == FILE {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fakes;

    fn record() -> Record {
        let (instance, _) = Instance::new(Arc::new(fakes::wish(1)));
        Record::of(&instance, "boot-1", 5, Vec::new())
    }

    #[test]
    fn a_record_reads_back_and_none_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Record::read(dir.path()).unwrap().is_none());
        record().publish(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record()));
    }

    #[test]
    fn half_a_record_and_a_newer_one_are_errors_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{\"form\": 1}", "{\"form\": 99}"] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let error = Record::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains("instance.json"), "{error}");
        }
    }

    #[test]
    fn clearing_leaves_the_record_alone() {
        let dir = tempfile::tempdir().unwrap();
        record().publish(dir.path()).unwrap();
        std::fs::write(dir.path().join("disk.qcow2"), "x").unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        clear(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        clear(&dir.path().join("nowhere")).unwrap();
    }
}
