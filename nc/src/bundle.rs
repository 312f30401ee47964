//! The bundler: an instance's root disk, whose guest is off, becomes a bundle in S3 in one pass.
//!
//! ```text
//! overlay on its image ─▶ tar ─▶ gzip ─▶ AES ─▶ parts ─▶ PUT, a few at once ─▶ the manifest, last
//! ```
//!
//! Nothing is copied on the host and nothing is mounted: the overlay is read as bytes. What is
//! allowed, and where it goes, is in the ticket of the Cloud Controller, which has it from the
//! client's signed policy; it is asked for again and again and is never on disk. The ticket's key is
//! the same each time, so a run that was killed makes the same parts again, and those that the store
//! has already are not sent.
//!
//! A root partition that we made a disk of is bundled as the partition it was.

mod paced;
mod store;

use std::{fs::File, io, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use control::{
    CallError, Cloud,
    cloud::{BundleLabel, BundleTicket, BundleTicketAsk},
    node::InstanceWish,
    rpc::Call,
};
use image::{
    bundle::{self, BundleError, Image, Label, Order, PartSink, Source},
    keys::{BundleKey, KeyError, WrappedKey},
    manifest::Kind,
    mbr,
    overlay::read::{Overlay, OverlayError},
};
use tokio::sync::{mpsc, watch};
use types::{BundleId, InstanceId, StateReason};

use crate::{
    bandwidth::Direction,
    disk::{DiskError, LocalDisks},
    needs::{Bundles, Disk, DiskFormat, Progress},
};
use store::{Store, StoreError};

/// The stage while parts are made.
pub const BUNDLING: &str = "bundling";
/// The stage while the last parts and the manifest are stored.
pub const STORING: &str = "storing the bundle";
/// A disk's first sector, which holds the partition table.
const HEAD_BYTES: usize = 512;
/// Parts made and not yet taken by an upload: 10 MiB each.
const WAITING_MAX: usize = 1;

/// Who gives tickets for bundles.
#[async_trait]
pub trait BundleTickets: Send + Sync + 'static {
    /// A ticket with addresses from that part on.
    async fn ticket(&self, ask: BundleTicketAsk) -> Result<BundleTicket, CallError>;
}

/// The Cloud Controller as giver of tickets.
pub struct CloudBundleTickets(pub Arc<dyn Cloud>);

#[async_trait]
impl BundleTickets for CloudBundleTickets {
    async fn ticket(&self, ask: BundleTicketAsk) -> Result<BundleTicket, CallError> {
        let call = Call::new(format!("bundle-{}", ask.task));
        self.0.bundle_ticket(&call, ask).await
    }
}

/// Makes bundles of local disks. Cheap to clone.
#[derive(Clone)]
pub struct Bundler {
    tickets: Arc<dyn BundleTickets>,
    http: store::Http,
    outgoing: Direction,
    disks: LocalDisks,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Its disks are not whole.
    #[error("the instance has no whole root disk")]
    NoDisk,
    /// Whether they are cannot be known.
    #[error(transparent)]
    Disks(#[from] DiskError),
    /// Its root disk cannot be read.
    #[error("the root disk cannot be read: {0}")]
    Disk(#[from] io::Error),
    /// Its overlay cannot be read.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The ticket makes no sense.
    #[error("the ticket of the Cloud Controller is malformed")]
    Ticket,
    /// No ticket, or the store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pipeline failed.
    #[error("the disk could not be bundled: {0}")]
    Bundle(#[from] BundleError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The bundling thread died; a bug.
    #[error("the bundler stopped without a reason")]
    Lost,
}

impl Failure {
    fn reason(&self) -> StateReason {
        let code = match self {
            Self::Store(error) if error.is_the_clients() => "Client.UploadFailed",
            Self::Store(_)
            | Self::NoDisk
            | Self::Disks(_)
            | Self::Disk(_)
            | Self::Overlay(_)
            | Self::Ticket
            | Self::Bundle(_)
            | Self::Key(_)
            | Self::Lost => "Server.InternalError",
        };
        StateReason::new(code, format!("{code}: {self}"))
    }
}

impl Bundler {
    /// A bundler of those disks, which trusts what the cloud's authority has signed.
    pub fn new(
        tickets: Arc<dyn BundleTickets>,
        tls: &rustls::ClientConfig,
        disks: LocalDisks,
        outgoing: Direction,
    ) -> Self {
        Self {
            tickets,
            outgoing,
            http: store::http(tls),
            disks,
        }
    }

    async fn make(
        &self,
        instance: &InstanceId,
        dir: &Path,
        task: &BundleId,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), Failure> {
        let root = self.disks.root(dir)?.ok_or(Failure::NoDisk)?;
        let store = Store::open(
            self.tickets.clone(),
            (self.http.clone(), self.outgoing.clone()),
            BundleTicketAsk {
                instance: instance.clone(),
                task: task.clone(),
                first_part: 0,
            },
        )
        .await?;
        let (key, label) = of_ticket(store.ticket())?;
        let name = store.ticket().label.name.clone();

        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let told = progress.clone();
        // Ends by itself when the receiver is gone: the run was stopped, or the store took no more.
        let making =
            tokio::task::spawn_blocking(move || run(&root, &name, &key, label, sender, &told));
        let stored = store.put_parts(receiver).await;
        let made = making.await.unwrap_or(Err(Failure::Lost));
        stored?;
        let manifest = made?;
        store.put_manifest(manifest.into()).await?;
        Ok(())
    }
}

#[async_trait]
impl Bundles for Bundler {
    async fn bundle(
        &self,
        wish: &InstanceWish,
        dir: &Path,
        task: &BundleId,
        progress: &watch::Sender<Progress>,
    ) -> Result<(), StateReason> {
        let made = self.make(&wish.instance, dir, task, progress).await;
        made.map_err(|failure| {
            let error = daemon::chain(&failure);
            tracing::warn!(instance = %wish.instance, %task, error, "no bundle");
            failure.reason()
        })
    }
}

fn of_ticket(ticket: &BundleTicket) -> Result<(BundleKey, Label), Failure> {
    let BundleLabel {
        name: _,
        architecture,
        account,
        kernel,
        ramdisk,
        cloud_key,
        user_key,
    } = ticket.label.clone();
    let wrapped = |[key, iv]: [String; 2]| {
        let half = |text: String| hex::decode(text).map_err(|_| Failure::Ticket);
        Ok::<_, Failure>(WrappedKey {
            key: half(key)?,
            iv: half(iv)?,
        })
    };
    let label = Label {
        kind: Kind::Machine,
        architecture: architecture.parse().map_err(|_| Failure::Ticket)?,
        user: account,
        kernel_id: kernel.map(|id| id.to_string()),
        ramdisk_id: ramdisk.map(|id| id.to_string()),
        block_device_mapping: Vec::new(),
        cloud_key: wrapped(cloud_key)?,
        user_key: wrapped(user_key)?,
    };
    let key = BundleKey::from_hex(ticket.key.reveal(), ticket.iv.reveal())?;
    Ok((key, label))
}

/// Parts as they are made, for the uploads.
struct Channel(mpsc::Sender<(usize, Bytes)>, usize);

impl PartSink for Channel {
    fn put(&mut self, _: &str, bytes: Vec<u8>) -> io::Result<()> {
        let part = (self.1, Bytes::from(bytes));
        self.1 += 1;
        let sent = self.0.blocking_send(part);
        sent.map_err(|_| io::Error::other("the upload has stopped"))
    }
}

/// Reads the disk and makes the parts; gives the manifest. Blocks.
fn run(
    root: &Disk,
    name: &str,
    key: &BundleKey,
    label: Label,
    parts: mpsc::Sender<(usize, Bytes)>,
    progress: &watch::Sender<Progress>,
) -> Result<String, Failure> {
    let (mut image, size_bytes) = open(root)?;
    let order = Order {
        name,
        size_bytes,
        key,
    };
    let mut told = None;
    let mut tell = |stage: &str, percent: u8| {
        if told.replace(percent) != Some(percent) || stage == STORING {
            progress.send_replace(Progress {
                stage: stage.to_owned(),
                percent: Some(percent),
            });
        }
    };
    let mut heard = |bytes: u64| tell(BUNDLING, (bytes * 100 / size_bytes.max(1)) as u8);
    let bundled = bundle::bundle(order, &mut *image, &mut Channel(parts, 0), &mut heard)?;
    tell(STORING, 100);
    Ok(bundled.manifest(order, label).to_xml(None)?)
}

/// The disk as its guest sees it, or the partition in it that it was made of; and how large that is.
fn open(root: &Disk) -> Result<(Box<dyn Image>, u64), Failure> {
    let file = File::open(&root.file.path)?;
    match (root.file.format, &root.backing) {
        (DiskFormat::Raw, _) => {
            let disk_bytes = file.metadata()?.len();
            let mut head = [0; HEAD_BYTES];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut head, 0)?;
            let (start, bytes) = stretch(&head, disk_bytes);
            Ok((Box::new(Source::new(file, start)), bytes))
        }
        (DiskFormat::Qcow2, Some(backing)) => {
            let mut overlay = Overlay::open(file, File::open(&backing.path)?)?;
            let mut head = [0; HEAD_BYTES];
            overlay.read_exact_at(&mut head, 0)?;
            let (start, bytes) = stretch(&head, overlay.size_bytes());
            Ok((Box::new(overlay.stretch(start)), bytes))
        }
        (DiskFormat::Qcow2, None) => Err(Failure::NoDisk),
    }
}

/// Which part of a disk is bundled: our one partition at 1 MiB, if the table still says so and it
/// fits, else all of it.
fn stretch(head: &[u8; HEAD_BYTES], disk_bytes: u64) -> (u64, u64) {
    mbr::own_partition_bytes(head, disk_bytes)
        .map_or((0, disk_bytes), |bytes| (mbr::PARTITION_START_BYTES, bytes))
}
