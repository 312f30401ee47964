//! What whole disks stand on, kept and had again: entries of the image cache, which may have lost them.
//! Disks over them are never made anew, for what the guest wrote is in them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use control::node::InstanceWish;
use tokio::sync::watch;
use types::InstanceId;

use super::{DiskError, LocalDisks};
use crate::{
    cache::{CacheError, Form, Tell},
    needs::{BootDisks, Progress},
};

/// Between two attempts to have again what a guest's disk stands on.
const AGAIN: Duration = Duration::from_secs(2);

impl LocalDisks {
    /// Keeps what whole disks stand on. False if some of it is not in the cache any more.
    pub(super) async fn hold_again(
        &self,
        disks: &BootDisks,
        holder: &InstanceId,
        tell: Tell<'_>,
    ) -> Result<bool, CacheError> {
        for path in stands_on(disks) {
            if !self.cache.hold_again(path, holder, tell).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has what whole disks stand on in the cache again, which has lost it. The disks are never made
    /// anew, for what the guest wrote is in them; so a store that is away, or a lack of room, is waited
    /// for as long as whoever asks for the disks does.
    pub(super) async fn until_there_again(
        &self,
        disks: &BootDisks,
        wish: &InstanceWish,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), DiskError> {
        tracing::warn!(instance = %wish.instance, "the image cache has lost what its disk stands on");
        loop {
            match self.fetch_again(disks, wish, progress).await {
                Err(DiskError::Cache(error)) if !error.is_the_images_fault() => {
                    tracing::warn!(instance = %wish.instance, %error, "to be tried again");
                    progress.send_replace(Progress {
                        stage: format!("waiting for what its disk stands on: {error}"),
                        percent: None,
                    });
                    tokio::time::sleep(AGAIN).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn fetch_again(
        &self,
        disks: &BootDisks,
        wish: &InstanceWish,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), DiskError> {
        let (spec, mut there) = (&wish.spec, Vec::new());
        // A clone needs its image no more.
        if disks.disks.iter().any(|disk| disk.backing.is_some()) {
            let image = self.fetch(&spec.image, Form::Disk, &wish.instance, progress);
            there.push(image.await?);
        }
        for kernel in [&spec.kernel, &spec.ramdisk].into_iter().flatten() {
            let kernel = self.fetch(kernel, Form::Plain, &wish.instance, progress);
            there.push(kernel.await?);
        }
        let mut needed = stands_on(disks);
        match needed.find(|path| !there.iter().any(|has| has == path)) {
            None => Ok(()),
            Some(path) => Err(DiskError::Gone {
                path: path.to_owned(),
            }),
        }
    }

    /// Marks what a running guest stands on as in use, without waiting for a cache that is silent:
    /// the marks of its launch are still there.
    pub(super) async fn mark_again(
        &self,
        disks: &BootDisks,
        holder: &InstanceId,
    ) -> Result<(), CacheError> {
        for path in stands_on(disks) {
            self.cache.try_hold_again(path, holder).await?;
        }
        Ok(())
    }
}

/// The files of the cache under these disks.
fn stands_on(disks: &BootDisks) -> impl Iterator<Item = &Path> {
    let backing = disks.disks.iter().filter_map(|disk| disk.backing.as_ref());
    let kernels = disks.kernel.iter();
    let kernels = kernels.flat_map(|kernel| [Some(&kernel.kernel), kernel.ramdisk.as_ref()]);
    let files = backing.map(|file| &file.path).chain(kernels.flatten());
    files.map(PathBuf::as_path)
}
