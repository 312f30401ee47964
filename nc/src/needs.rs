//! What a keeper needs from the rest of the node to make an instance: its disks and its network.
//!
//! Roles only. [`Disks`] is played by the cache and the disk maker, [`Bundles`] by the bundler,
//! [`Networks`] by whoever applies the network document; the fakes in [`crate::fakes`] play them all
//! in tests.
//!
//! Three rules hold for every method. It may be called again after a crash at any point of its last
//! run. Dropping its future stops it. What it does for one instance touches no other.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use control::{
    CallError,
    node::{InstanceWish, InterfaceSpec, NetworkTaken},
};
use daemon::BoxError;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use types::{BundleId, InstanceId, StateReason, network::NetworkDocument};

use crate::{network::InPlace, resources};

/// The format of a disk's file. Named to QEMU always, never found out by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// The bytes as they are.
    Raw,
    /// QEMU's copy on write.
    Qcow2,
}

impl DiskFormat {
    /// The word that QEMU and libvirt use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// A file and its format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFile {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// What it is.
    pub format: DiskFormat,
}

/// One disk of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the guest writes to.
    pub file: DiskFile,
    /// What is read where the guest has not written; raw and read-only.
    pub backing: Option<DiskFile>,
    /// The serial number that the guest sees, 20 bytes at most; none shows none.
    pub serial: Option<String>,
}

/// A kernel outside the disk (EKI, ERI).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The ramdisk's file.
    pub ramdisk: Option<PathBuf>,
    /// Where the root filesystem is on the first disk: `vda1` if it is a partition, `vda` if not.
    pub root_device: String,
}

/// Everything that an instance boots from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootDisks {
    /// The disks in the order of the guest's names for them: root (`vda`), ephemeral0, swap.
    pub disks: Vec<Disk>,
    /// The kernel; none boots from the first disk.
    pub kernel: Option<Kernel>,
    /// What the guest's firmware hands over for root's `authorized_keys`, whole lines; none where the
    /// guest gets its key in another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<String>,
}

impl BootDisks {
    /// What `mallee explain` says of them: a guest that does not take its key from the firmware is one
    /// that nobody can log in to, and that is seen here first.
    pub fn shown(&self) -> String {
        let disks = format!("{} disks", self.disks.len());
        match self.root_key {
            None => disks,
            Some(_) => format!(
                "{disks}; the key goes by SMBIOS, to systemd 252 or newer: no client of the metadata \
                 service was found, and no root file system that can be written without a mount"
            ),
        }
    }
}

/// How far a preparation is, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// `waiting for the image`, `fetching emi-…`, `making the disk`.
    pub stage: String,
    /// How far the stage is, where that is known.
    pub percent: Option<u8>,
}

/// Makes and removes the local disks of instances.
#[async_trait]
pub trait Disks: Send + Sync + 'static {
    /// Makes what the wish boots from: images into the cache, overlay and other disks into `dir`
    /// (the instance's own folder; it exists). Disks that are there and whole are kept as they are.
    /// They need not outlast a power cut before [`Disks::keep`]. `progress` may be set as often
    /// as one likes. The error is what the user will read as the instance's state reason.
    async fn prepare(
        &self,
        wish: &InstanceWish,
        dir: &Path,
        progress: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason>;

    /// Has the disks of a guest that has run, and what they stand on: images that the cache has lost
    /// are fetched again. The disks themselves are never made or changed, for what the guest wrote is
    /// in them; where they are not as they were, that is the error.
    async fn regain(
        &self,
        wish: &InstanceWish,
        dir: &Path,
        progress: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason>;

    /// Has prepared disks outlast a power cut; done while the guest starts. Nothing there is success.
    async fn keep(&self, wish: &InstanceWish, dir: &Path) -> Result<(), StateReason>;

    /// The instance was found running: what it boots from is in use and must not be evicted.
    async fn adopt(&self, wish: &InstanceWish, dir: &Path);

    /// How much the file system of `dir` has free, in MiB: what guests can still write.
    async fn free_mib(&self, dir: &Path) -> io::Result<u64> {
        let dir = dir.to_owned();
        let free = tokio::task::spawn_blocking(move || resources::free_bytes(&dir));
        Ok(free.await?? >> 20)
    }

    /// Removes every disk in `dir` and lets go of the images. Nothing there is success.
    async fn wipe(&self, instance: &InstanceId, dir: &Path) -> Result<(), BoxError>;
}

/// Makes bundles of instances' disks.
#[async_trait]
pub trait Bundles: Send + Sync + 'static {
    /// Makes and stores the bundle of the root disk in `dir`, which nobody writes to meanwhile. Begun
    /// again, it goes on where the last run broke off. The error is what the user will read.
    async fn bundle(
        &self,
        wish: &InstanceWish,
        dir: &Path,
        task: &BundleId,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), StateReason>;
}

/// Keeps the node's part of the network as the newest document says.
#[async_trait]
pub trait Networks: Send + Sync + 'static {
    /// Takes a document if it is newer than the one it has, and wakes whoever applies it.
    async fn offer(&self, document: NetworkDocument) -> Result<NetworkTaken, CallError>;

    /// What is in place, and every change of it. Starts at version 0 unless the rules of an earlier
    /// life were found in place.
    fn applied(&self) -> watch::Receiver<Arc<InPlace>>;

    /// The instance's domain runs, so that its tap exists: whatever belongs to a port and not to a
    /// document is done now (port flags, gratuitous ARP for its public address).
    async fn plugged(&self, interface: &InterfaceSpec) -> Result<(), BoxError>;

    /// The instance's domain is gone: a tap that outlived it is removed. None there is success.
    async fn unplugged(&self, interface: &InterfaceSpec) -> Result<(), BoxError>;
}

#[cfg(test)]
mod tests {
    use crate::fakes;

    #[test]
    fn a_key_that_goes_another_way_is_told_with_the_disks_and_kept_with_them() {
        let mut disks = fakes::boot_disks();
        assert_eq!(disks.shown(), "1 disks");
        let without = serde_json::to_string(&disks).unwrap();
        assert!(!without.contains("root_key"), "as older nodes wrote it");
        disks.root_key = Some("ssh-ed25519 AAAA me\n".to_owned());
        assert!(disks.shown().contains("SMBIOS"), "{}", disks.shown());
        let text = serde_json::to_string(&disks).unwrap();
        assert_eq!(
            serde_json::from_str::<super::BootDisks>(&text).unwrap(),
            disks
        );
    }
}
