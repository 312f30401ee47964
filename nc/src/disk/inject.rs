//! An instance's key, given to images that would not fetch it from the metadata service.
//!
//! What an image holds is hostile, so nothing is mounted and nothing of it is read outside a jail
//! ([`daemon::jail`]). There are two ways, by the file system of the image's root:
//!
//! | root | way |
//! |---|---|
//! | ext2, 3, 4 ([`ext`]) | into `/root/.ssh/authorized_keys` on the instance's disk, as [`Change`]s that it has from the start; the image stays as it is |
//! | XFS, btrfs ([`look`]), and all that cannot be written or is not known | by SMBIOS, as systemd's credential `ssh.authorized_keys.root`: systemd 252 and newer put it into the same file at boot |
//!
//! The root is looked for in a partition image, and in the partitions of a disk's MBR, logical ones
//! included, or GPT. An image that has a client of the metadata service needs neither.

mod ext;
mod look;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use daemon::{jail, run};
use image::{overlay::Change, recognise::FileSystem};
use serde::{Deserialize, Serialize};

use super::{DiskError, at, layout::Root};

/// Where the job works, in the instance's folder.
const WORK: &str = "keys";
/// Programs that fetch a key from the metadata service: cloud-init from a package or from PyPI,
/// CoreOS's, Alpine's, CirrOS's, and that of `deploy/guest`.
const CLIENTS: [&str; 6] = [
    "/usr/bin/cloud-init",
    "/usr/local/bin/cloud-init",
    "/usr/bin/afterburn",
    "/usr/lib/tiny-cloud/init",
    "/usr/bin/cirros-query",
    "/sbin/metadata",
];
/// Images of which it is remembered that their disks need nothing; when there are so many, all are
/// asked again.
const SETTLED_MAX: usize = 1024;

/// Whether keys are put into images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InjectKeys {
    /// Into those that have no client of the metadata service.
    #[default]
    Auto,
    /// Into all.
    Always,
    /// Into none.
    Never,
}

/// How an instance gets its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It fetches it, or is to have none.
    Itself,
    /// It is on its disk, with these changes.
    OnDisk(Vec<Change>),
    /// The firmware hands it over.
    ByFirmware,
}

/// Gives keys to images. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    policy: InjectKeys,
    settled: Arc<Mutex<HashMap<PathBuf, Way>>>,
}

/// What came of an attempt on one file system.
enum Found {
    /// The key is in, with these changes.
    Changed(Vec<Change>),
    /// It is no root.
    NoRoot,
    /// It is one, and has a client.
    HasClient,
    /// It is one without a client, and is not written to: why.
    NotWritten(&'static str),
}

impl Keys {
    /// By that policy.
    pub fn new(policy: InjectKeys) -> Self {
        Self {
            policy,
            settled: Arc::default(),
        }
    }

    /// How an instance of that image gets its key. `roots` are the file systems on it; `dir` is the
    /// instance's folder.
    pub(super) async fn way(&self, image: &Path, roots: &[Root], key: &str, dir: &Path) -> Way {
        if self.policy == InjectKeys::Never {
            return Way::Itself;
        }
        if let Some(way) = self.settled().get(image) {
            return way.clone();
        }
        let way = match self.look_through(image, roots, key, dir).await {
            Ok(way) => way,
            // Perhaps of the host and not of the image: asked again at the next launch.
            Err(error) => {
                let error = daemon::chain(&error);
                tracing::warn!(image = %image.display(), error, "the key goes by SMBIOS");
                return Way::ByFirmware;
            }
        };
        if !matches!(way, Way::OnDisk(_)) {
            self.settle(image, &way);
        }
        way
    }

    async fn look_through(
        &self,
        image: &Path,
        roots: &[Root],
        key: &str,
        dir: &Path,
    ) -> Result<Way, DiskError> {
        let mut why = "no root file system is found in it";
        for root in roots {
            match self.attempt(image, root, key, dir).await? {
                Found::Changed(changes) => return Ok(Way::OnDisk(changes)),
                Found::HasClient => return Ok(Way::Itself),
                Found::NoRoot => {}
                Found::NotWritten(because) => {
                    why = because;
                    break;
                }
            }
        }
        tracing::info!(image = %image.display(), why, "the key goes by SMBIOS");
        Ok(Way::ByFirmware)
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Way>> {
        self.settled.lock().expect("no one panics holding it")
    }

    fn settle(&self, image: &Path, way: &Way) {
        let mut settled = self.settled();
        if settled.len() >= SETTLED_MAX {
            settled.clear();
        }
        settled.insert(image.to_owned(), way.clone());
    }

    async fn attempt(
        &self,
        image: &Path,
        root: &Root,
        key: &str,
        dir: &Path,
    ) -> Result<Found, DiskError> {
        let clients: &[&str] = match self.policy {
            InjectKeys::Auto => &CLIENTS,
            InjectKeys::Always | InjectKeys::Never => &[],
        };
        let work = dir.join(WORK);
        let folder = jail::hand_over(&work).map_err(at(&work))?;
        let outcome = match root.kind {
            FileSystem::Ext { .. } => {
                ext::put_in(image, root.start, &line(key), clients, &folder).await
            }
            FileSystem::Xfs | FileSystem::Btrfs => look::look(image, root, clients, &folder).await,
        };
        std::fs::remove_dir_all(&folder).map_err(at(&folder))?;
        outcome
    }
}

/// A key as one line, whatever it holds.
pub(super) fn line(key: &str) -> String {
    let mut line: String = key.chars().filter(|c| !c.is_control()).collect();
    line.push('\n');
    line
}

/// What a job's exit code says.
fn judged(error: run::Error) -> Result<Found, run::Error> {
    match error.code() {
        Some(10) => Ok(Found::NoRoot),
        Some(11) => Ok(Found::HasClient),
        Some(12) => Ok(Found::NotWritten("it was not unmounted cleanly")),
        Some(13) => Ok(Found::NotWritten("its /root/.ssh is odd")),
        Some(14) => Ok(Found::NotWritten(
            "nothing but a mount writes its file system",
        )),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests;
