//! The disks that are compared, each made from one raw image.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
    time::Duration,
};

use daemon::run::Tool;
use image::overlay::{self, Grain};

use crate::{Failure, args::DiskKind};

/// Copying a gigabyte on a slow disk.
const COPY_LIMIT: Duration = Duration::from_secs(600);
/// The best options of qemu-img beside a backing file.
const TUNED: &str = "extended_l2=on,cluster_size=128k,preallocation=metadata,lazy_refcounts=on";

impl DiskKind {
    /// All of them, as the table lists them.
    pub(super) const ALL: [Self; 7] = [
        Self::Raw,
        Self::Qcow2,
        Self::Qcow2Metadata,
        Self::Qcow2Backed,
        Self::Qcow2Tuned,
        Self::Overlay,
        Self::Clone,
    ];

    /// What the table calls it.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Qcow2Metadata => "qcow2, metadata",
            Self::Qcow2Backed => "qcow2 over raw",
            Self::Qcow2Tuned => "the same, tuned",
            Self::Overlay => "Mallee's overlay",
            Self::Clone => "Mallee's clone",
        }
    }

    /// What QEMU calls its format.
    pub(super) const fn format(self) -> &'static str {
        match self {
            Self::Raw | Self::Clone => "raw",
            Self::Qcow2
            | Self::Qcow2Metadata
            | Self::Qcow2Backed
            | Self::Qcow2Tuned
            | Self::Overlay => "qcow2",
        }
    }

    /// Makes such a disk of `image`. A clone that the file system does not make is an error of
    /// [`io::ErrorKind::Unsupported`] inside, and `Ok(false)` here.
    pub(super) async fn make(self, image: &Path, disk: &Path) -> Result<bool, Failure> {
        let convert = |options: &'static [&'static str]| {
            qemu_img(
                &["convert", "-q", "-f", "raw", "-O", self.format()],
                options,
            )
            .arg(image)
            .arg(disk)
        };
        let create = |options: &'static str| {
            let words = ["create", "-q", "-f", "qcow2", "-F", "raw", "-o", options];
            qemu_img(&words, &["-b"]).arg(image).arg(disk)
        };
        let tool = match self {
            Self::Raw | Self::Qcow2 => convert(&[]),
            Self::Qcow2Metadata => convert(&["-o", "preallocation=metadata"]),
            Self::Qcow2Backed => create("compat=1.1"),
            Self::Qcow2Tuned => create(TUNED),
            Self::Overlay => return write_overlay(image, disk).map_err(failed).map(|()| true),
            Self::Clone => return Ok(clone(image, disk).is_ok()),
        };
        tool.output().await.map_err(failed)?;
        Ok(true)
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed("making a disk", error)
}

fn qemu_img(words: &[&str], options: &[&str]) -> Tool {
    let tool = Tool::new("qemu-img").args(words).args(options);
    tool.timeout(COPY_LIMIT)
}

/// A new file.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).open(path)
}

fn write_overlay(image: &Path, disk: &Path) -> io::Result<()> {
    let backing = File::open(image)?;
    let bytes = backing.metadata()?.len();
    overlay::write(
        &create(disk)?,
        bytes,
        image,
        &backing,
        Grain::Subclusters,
        &[],
    )
}

fn clone(image: &Path, disk: &Path) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(
        create(disk)?,
        File::open(image)?,
    )?)
}
