//! What whole disks stand on, kept and had again: entries of the image cache, which may have lost them.
//! Disks over them are never made anew, for what the guest wrote is in them.

use std::path::{Path, PathBuf};

use control::node::InstanceWish;
use tokio::sync::watch;

use super::{DiskError, LocalDisks, shown};
use crate::{
    cache::{Form, Told},
    needs::{BootDisks, Progress},
};

impl LocalDisks {
    /// Keeps what whole disks stand on in the cache, and has it there again if that has lost it.
    pub(super) async fn stand_again(
        &self,
        disks: &BootDisks,
        wish: &InstanceWish,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), DiskError> {
        let tell = |told: &Told| {
            progress.send_replace(shown(told, "looking for the image"));
        };
        for path in stands_on(disks) {
            if !self.cache.hold_again(path, &wish.instance, &tell).await? {
                tracing::warn!(instance = %wish.instance, "the image cache has lost what its disk stands on");
                return self.fetch_again(disks, wish, progress).await;
            }
        }
        Ok(())
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
        wish: &InstanceWish,
        dir: &Path,
    ) -> Result<(), DiskError> {
        for path in self.whole(dir)?.iter().flat_map(stands_on) {
            self.cache.try_hold_again(path, &wish.instance).await?;
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
