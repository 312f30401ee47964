//! An instance's local disks: made from the cache in milliseconds, removed with the instance.
//!
//! The root is a clone of, or an overlay on, a read-only raw file of the cache ([`root`]); nothing is
//! copied. Beside a root *partition* the instance gets the rest of its type's disk, as Eucalyptus laid it out: `ephemeral0`
//! with a file system, and swap. A whole-disk image gets all of it as its root, for its own tools to
//! grow into.
//!
//! `disks.made` is written when the disks are whole, and holds for this boot of the host;
//! `disks.json` when they are on disk as well, which is waited for while the guest starts. While one
//! of them holds, the disks stay as they are, whatever recipe this version of the program would use.

mod again;
pub mod inject;
mod layout;
pub mod root;
pub mod scratch;
pub mod template;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use control::node::{ImageRef, InstanceWish};
use daemon::BoxError;
use image::overlay::Change;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use types::{InstanceId, StateReason};

use crate::{
    cache::{Cache, CacheError, Form, Told},
    needs::{BootDisks, Disk, DiskFile, DiskFormat, Disks, Kernel, Progress},
};
use inject::{InjectKeys, Keys, Way};
use layout::{Head, Layout};
use root::Roots;
use template::Templates;

const EPHEMERAL: &str = "ephemeral0.raw";
const SWAP: &str = "swap.raw";
/// Says that the disks beside it are whole and on disk, and what they are.
const WHOLE: &str = "disks.json";
/// Says that they are whole as far as this boot of the host knows: a power cut may undo them.
const MADE: &str = "disks.made";

/// Makes disks from the image cache.
#[derive(Clone)]
pub struct LocalDisks {
    cache: Cache,
    roots: Roots,
    keys: Keys,
    templates: Templates,
    boot_id: String,
}

/// What is in [`MADE`].
#[derive(Serialize, Deserialize)]
struct Made {
    boot_id: String,
    disks: BootDisks,
}

/// Why there are no disks.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// An image cannot be had.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The image does not fit the instance's type.
    #[error("the image needs a disk of {image_bytes} bytes, the instance's type has {disk_bytes}")]
    TooLarge {
        /// What the image needs.
        image_bytes: u64,
        /// What the type gives.
        disk_bytes: u64,
    },
    /// The image can only boot with a kernel of its own registration.
    #[error(
        "the image's ext4 file system uses {feature}, which GRUB cannot read: make it without \
         (mke2fs -O ^{feature}), or run it with a kernel image"
    )]
    Unbootable {
        /// The file system's feature.
        feature: &'static str,
    },
    /// A guest has run from disks that are not all there as they were.
    #[error(
        "the disks that its guest has written to are not all in {folder}, or not said to be whole: \
         none are made in their place"
    )]
    NotWhole {
        /// Where they ought to be.
        folder: PathBuf,
    },
    /// What the disk stands on cannot be made again as it was.
    #[error(
        "the image cache has lost {path}, which the instance's disk stands on, and its image makes \
         another one now"
    )]
    Gone {
        /// What was lost.
        path: PathBuf,
    },
    /// A tool of the host failed.
    #[error(transparent)]
    Tool(#[from] daemon::run::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError::Io { path, source }
}

impl DiskError {
    /// What the user reads.
    fn reason(&self) -> StateReason {
        let code = match self {
            Self::Cache(error) if error.is_for_want_of_room() => {
                "Server.InsufficientInstanceCapacity"
            }
            Self::Cache(error) if error.is_the_images_fault() => "Client.InternalError",
            Self::TooLarge { .. } | Self::Unbootable { .. } => "Client.InternalError",
            Self::Cache(_)
            | Self::NotWhole { .. }
            | Self::Gone { .. }
            | Self::Tool(_)
            | Self::Io { .. } => "Server.InternalError",
        };
        StateReason::new(code, format!("{code}: {self}"))
    }
}

impl LocalDisks {
    /// Disks over that cache, in this boot of the host, with templates in a folder that is ours.
    pub fn new(cache: Cache, templates: &Path, boot_id: &str) -> io::Result<Self> {
        Ok(Self {
            cache,
            roots: Roots::new("qemu-img"),
            keys: Keys::default(),
            templates: Templates::open(templates)?,
            boot_id: boot_id.to_owned(),
        })
    }

    /// Puts instances' keys into their disks by another policy than `auto`.
    pub fn injecting(mut self, policy: InjectKeys) -> Self {
        self.keys = Keys::new(policy);
        self
    }

    /// What an instance's root has in place of its image's bytes, and what its firmware hands over:
    /// its key, if it needs to be in one of them.
    async fn key(
        &self,
        wish: &InstanceWish,
        image: &Path,
        dir: &Path,
    ) -> Result<(Vec<Change>, Option<String>), DiskError> {
        let Some((_, key)) = &wish.spec.metadata.key else {
            return Ok((Vec::new(), None));
        };
        let head = self.cache.look(image, Head::read).await?;
        Ok(match self.keys.way(image, head.roots(), key, dir).await {
            Way::Itself => (Vec::new(), None),
            Way::OnDisk(changes) => (changes, None),
            Way::ByFirmware => (Vec::new(), Some(inject::line(key))),
        })
    }

    async fn make(
        &self,
        wish: &InstanceWish,
        dir: &Path,
        progress: &watch::Sender<Progress>,
    ) -> Result<BootDisks, DiskError> {
        if let Some(disks) = self.whole(dir)? {
            self.stand_again(&disks, wish, progress).await?;
            return Ok(disks);
        }
        let spec = &wish.spec;
        let image = self
            .fetch(&spec.image, Form::Disk, &wish.instance, progress)
            .await?;
        let kernel = self.kernel(wish, &image, progress).await?;
        progress.send_replace(Progress {
            stage: "making the disk".to_owned(),
            percent: None,
        });

        let head = self.cache.look(&image, Head::read).await?;
        let layout = Layout::of(&head, spec, kernel.is_some())?;
        let (changes, root_key) = self.key(wish, &image, dir).await?;
        let disks = self.write(&layout, &image, changes, dir).await?;
        let disks = BootDisks {
            disks,
            kernel,
            root_key,
        };
        self.note_made(&disks, dir).await?;
        Ok(disks)
    }

    async fn have_again(
        &self,
        wish: &InstanceWish,
        dir: &Path,
        progress: &watch::Sender<Progress>,
    ) -> Result<BootDisks, DiskError> {
        let disks = self.whole(dir)?.ok_or_else(|| DiskError::NotWhole {
            folder: dir.to_owned(),
        })?;
        self.stand_again(&disks, wish, progress).await?;
        Ok(disks)
    }

    /// Says that the disks are whole, to whoever comes after us in this boot of the host.
    async fn note_made(&self, disks: &BootDisks, dir: &Path) -> Result<(), DiskError> {
        let made = Made {
            boot_id: self.boot_id.clone(),
            disks: disks.clone(),
        };
        let text = serde_json::to_vec(&made).expect("plain data");
        let (path, draft) = (dir.join(MADE), dir.join(MADE).with_extension("new"));
        blocking(move || {
            std::fs::write(&draft, text).map_err(at(&draft))?;
            std::fs::rename(&draft, &path).map_err(at(&path))
        })
        .await
    }

    /// The root disk in `dir`, if the disks there are whole.
    pub fn root(&self, dir: &Path) -> Result<Option<Disk>, DiskError> {
        let disks = self.whole(dir)?;
        Ok(disks.and_then(|disks| disks.disks.into_iter().next()))
    }

    /// The disks in `dir`, if they were finished, are all there, and no power cut has undone them. What
    /// cannot be read is an error, and not absent. Whether what they stand on is still in the cache is
    /// another question.
    fn whole(&self, dir: &Path) -> Result<Option<BootDisks>, DiskError> {
        let disks = match read(&dir.join(WHOLE))? {
            Some(disks) => disks,
            None => match read::<Made>(&dir.join(MADE))? {
                Some(made) if made.boot_id == self.boot_id => made.disks,
                Some(_) | None => return Ok(None),
            },
        };
        for Disk { file, .. } in &disks.disks {
            if !file.path.try_exists().map_err(at(&file.path))? {
                return Ok(None);
            }
        }
        Ok(Some(disks))
    }

    /// Has whole disks survive a power cut, and says so.
    async fn sync(&self, dir: &Path) -> Result<(), DiskError> {
        if dir.join(WHOLE).exists() {
            return Ok(());
        }
        let Some(disks) = self.whole(dir)? else {
            return Ok(());
        };
        let path = dir.join(WHOLE);
        blocking(move || {
            for Disk { file, .. } in &disks.disks {
                let synced = File::open(&file.path).and_then(|file| file.sync_all());
                synced.map_err(at(&file.path))?;
            }
            let text = serde_json::to_vec(&disks).expect("plain data");
            // Publishing also syncs the folder, and with it the names of the disks.
            daemon::files::publish(&path, &text).map_err(|error| at(&path)(error.into()))
        })
        .await
    }

    async fn fetch(
        &self,
        image: &ImageRef,
        form: Form,
        holder: &InstanceId,
        progress: &watch::Sender<Progress>,
    ) -> Result<PathBuf, DiskError> {
        let tell = |told: &Told| {
            progress.send_replace(shown(told, &fetching(image, told.bytes_per_s)));
        };
        Ok(self.cache.hold(image, form, holder, &tell).await?)
    }

    async fn kernel(
        &self,
        wish: &InstanceWish,
        image: &Path,
        progress: &watch::Sender<Progress>,
    ) -> Result<Option<Kernel>, DiskError> {
        let Some(kernel) = &wish.spec.kernel else {
            return Ok(None);
        };
        let kernel = self
            .fetch(kernel, Form::Plain, &wish.instance, progress)
            .await?;
        let ramdisk = match &wish.spec.ramdisk {
            Some(ramdisk) => Some(
                self.fetch(ramdisk, Form::Plain, &wish.instance, progress)
                    .await?,
            ),
            None => None,
        };
        let has_table = self.cache.look(image, Head::read).await?.has_table();
        let root_device = if has_table { "vda1" } else { "vda" }.to_owned();
        Ok(Some(Kernel {
            kernel,
            ramdisk,
            root_device,
        }))
    }

    /// Writes the disks side by side: each is small work of its own. An overlay says nothing but what
    /// it stands on and how large it is; a file system made for nobody in particular is everybody's,
    /// and has one UUID, as the root has that came with the image.
    async fn write(
        &self,
        layout: &Layout,
        image: &Path,
        changes: Vec<Change>,
        dir: &Path,
    ) -> Result<Vec<Disk>, DiskError> {
        let (ephemeral, swap) = (dir.join(EPHEMERAL), dir.join(SWAP));
        let Layout {
            root_bytes,
            ephemeral_bytes,
            swap_bytes,
        } = *layout;
        let (root, (), ()) = tokio::try_join!(
            self.roots
                .make(image, root_bytes, changes, dir, &self.templates),
            async {
                if ephemeral_bytes == 0 {
                    return Ok(());
                }
                let name = format!("ephemeral.{ephemeral_bytes}");
                let make =
                    |path: PathBuf| async move { scratch::ephemeral(&path, ephemeral_bytes).await };
                self.templates.copy(&name, &ephemeral, make).await
            },
            async { scratch::swap(&swap, swap_bytes) },
        )?;

        let file = |path: &Path, format| DiskFile {
            path: path.to_owned(),
            format,
        };
        let mut disks = vec![root];
        for (path, bytes, serial) in [
            (&ephemeral, layout.ephemeral_bytes, "ephemeral0"),
            (&swap, layout.swap_bytes, "swap"),
        ] {
            if bytes > 0 {
                let serial = Some(serial.to_owned());
                disks.push(Disk {
                    file: file(path, DiskFormat::Raw),
                    backing: None,
                    serial,
                });
            }
        }
        Ok(disks)
    }
}

/// What is shown of how far an image is, where `stage` is what is usually done.
fn shown(told: &Told, stage: &str) -> Progress {
    let stage = if told.doing.is_empty() {
        stage
    } else {
        &told.doing
    };
    Progress {
        stage: stage.to_owned(),
        percent: told.percent,
    }
}

#[async_trait]
impl Disks for LocalDisks {
    async fn prepare(
        &self,
        wish: &InstanceWish,
        dir: &Path,
        progress: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason> {
        self.make(wish, dir, progress).await.map_err(|error| {
            tracing::warn!(instance = %wish.instance, error = daemon::chain(&error), "no disks");
            error.reason()
        })
    }

    async fn regain(
        &self,
        wish: &InstanceWish,
        dir: &Path,
        progress: &watch::Sender<Progress>,
    ) -> Result<BootDisks, StateReason> {
        let had = self.have_again(wish, dir, progress).await;
        had.map_err(|error| {
            tracing::warn!(instance = %wish.instance, error = daemon::chain(&error), "its disks");
            error.reason()
        })
    }

    async fn keep(&self, wish: &InstanceWish, dir: &Path) -> Result<(), StateReason> {
        self.sync(dir).await.map_err(|error| {
            tracing::error!(instance = %wish.instance, error = daemon::chain(&error), "not on disk");
            error.reason()
        })
    }

    async fn adopt(&self, wish: &InstanceWish, dir: &Path) {
        if let Err(error) = self.mark_again(wish, dir).await {
            tracing::error!(instance = %wish.instance, %error, "its images are not marked as used");
        }
        // What is not on disk is said; the guest runs all the same.
        let _said = self.keep(wish, dir).await;
    }

    async fn wipe(&self, instance: &InstanceId, dir: &Path) -> Result<(), BoxError> {
        let dir = dir.to_owned();
        blocking(move || {
            // First what says that the disks are whole, so that half of them is never taken for all.
            let disks = root::NAMES.into_iter().chain([EPHEMERAL, SWAP]);
            for name in [WHOLE, MADE].into_iter().chain(disks) {
                let path = dir.join(name);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(at(&path)(error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await?;
        // A mark that stays keeps an entry too long and no more; the cache is tidied up later.
        if let Err(error) = self.cache.release(instance).await {
            tracing::warn!(%instance, %error, "its images stay marked as used for now");
        }
        Ok(())
    }
}

/// `fetching emi-…, 87 MB/s`; without a speed where none is known.
fn fetching(image: &ImageRef, bytes_per_s: u64) -> String {
    match bytes_per_s / 1_000_000 {
        0 => format!("fetching {}", image.id),
        megabytes => format!("fetching {}, {megabytes} MB/s", image.id),
    }
}

/// Runs what waits for a disk where it holds up nothing else.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, DiskError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(at(Path::new("a disk"))(io::Error::other(error))))
}

/// What a file says; nothing if it is not there, or a power cut has left it half written.
fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, DiskError> {
    match std::fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}
