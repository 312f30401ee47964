//! One entry, from ticket to rename: room, pipeline, boot loader, publication. Whatever fails,
//! nothing half made stays.

use std::{collections::HashMap, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use control::{
    caches::{Copied, CopyReport},
    cloud::Ticket,
    node::ImageRef,
};
use image::{
    boot::BootError,
    digest::Sha256Digest,
    mbr,
    unbundle::{self, Content, Order, UnbundleError, unbundle},
};
use tokio::sync::Mutex;

use super::{
    CacheError, EntryName, Settings,
    blocks::BlockMap,
    evict::{self, Room},
    fetch::{Http, TicketParts, Tickets, http},
    files::{Files, Owned, SYNC_PATIENCE},
    folder::{self, Folder, FolderError, HalfMade, Published},
    grub::Grub,
    lease::{self, Lease},
    speed::{self, Hear},
};
use crate::bandwidth::Direction;

/// The part of the file system that the cache may take where nothing is configured.
const DEFAULT_SHARE: u64 = 5;

/// Fills entries. One for the cache's life.
pub struct Filler {
    files: Files,
    tickets: Arc<dyn Tickets>,
    http: Http,
    incoming: Direction,
    grub: Grub,
    limit_bytes: Option<u64>,
    /// Held while room is looked for, so that two fills do not count the same bytes.
    making_room: Mutex<()>,
}

impl Filler {
    /// A filler of that folder.
    pub fn new(settings: &Settings, files: Files, tickets: Arc<dyn Tickets>) -> Self {
        Self {
            grub: Grub::new(files.clone(), settings.grub.clone()),
            files,
            tickets,
            http: http(&settings.tls),
            incoming: settings.bandwidth.incoming.clone(),
            limit_bytes: settings.limit_bytes,
            making_room: Mutex::new(()),
        }
    }

    /// Makes the entry from its bundle, as the holder of its lease; says what it is, for those who
    /// take it from here.
    pub async fn fill(
        &self,
        name: &EntryName,
        image: &ImageRef,
        ticket: Ticket,
        lease: &Owned<Lease>,
        hear: Hear,
    ) -> Result<(Published, BlockMap), CacheError> {
        let (tickets, by) = (
            self.tickets.clone(),
            (self.http.clone(), self.incoming.clone()),
        );
        let (parts, order) = TicketParts::open(image, name.form(), ticket, tickets, by)?;
        self.make_room(image, mbr::disk_bytes(order.size_bytes), lease)
            .await?;
        let half = self.begin(name).await?;
        let made = self.make(name, image, &half, parts, order, hear).await;
        half.end().await;
        made
    }

    async fn make(
        &self,
        name: &EntryName,
        image: &ImageRef,
        half: &Owned<HalfMade>,
        parts: TicketParts,
        order: Order,
        hear: Hear,
    ) -> Result<(Published, BlockMap), CacheError> {
        let file = half
            .file()
            .try_clone()
            .map_err(|error| image_error(image, UnbundleError::Write(error)))?;
        let partition_bytes = order.size_bytes;
        let (meter, bundled_bytes) = (unbundle::meter(), order.bundled_bytes);
        let done = tokio::select! {
            done = unbundle(order, Arc::new(parts), file, meter.clone()) => done,
            () = speed::tell(image.id.as_str(), &meter, bundled_bytes, &hear) => return Err(CacheError::Lost),
        };
        let mut done = match done {
            Ok(done) => done,
            Err(UnbundleError::Write(error)) if folder::is_full(&error) => {
                let need_bytes = mbr::disk_bytes(partition_bytes);
                return Err(self.filled_up(image, need_bytes).await);
            }
            Err(cause) => return Err(image_error(image, cause)),
        };
        let mut map = BlockMap::new(done.file_bytes, std::mem::take(&mut done.blocks));
        if matches!(done.content, Content::Partition(_)) {
            map = self
                .make_bootable(image, half, partition_bytes, done.sha256, map)
                .await?;
        }
        let published = self.publish(half, name).await?;
        tracing::info!(
            entry = %name, sha256 = %done.sha256, data_bytes = done.data_bytes,
            file_bytes = done.file_bytes, ?published, stages = %meter, "image cached"
        );
        Ok((published, map))
    }

    /// A new file for the entry.
    pub(super) async fn begin(&self, name: &EntryName) -> Result<Owned<HalfMade>, CacheError> {
        let name = name.clone();
        let half = self.files.run(move |folder| folder.begin(&name)).await?;
        Ok(self.files.own(half))
    }

    /// Publishes a file that has passed every check.
    pub(super) async fn publish(
        &self,
        half: &Owned<HalfMade>,
        name: &EntryName,
    ) -> Result<Published, CacheError> {
        let (made, name) = (half.share(), name.clone());
        let publish = move |folder: &Folder| folder.publish(&made, &name);
        Ok(self.files.run_within(SYNC_PATIENCE, publish).await?)
    }

    /// There is no room any more: with the figures.
    pub(super) async fn filled_up(&self, image: &ImageRef, need_bytes: u64) -> CacheError {
        match self.files.run(Folder::file_system).await {
            Ok((free_bytes, _)) => CacheError::FilledUp {
                image: image.id.to_string(),
                need_bytes,
                free_bytes,
            },
            Err(error) => error.into(),
        }
    }

    /// A partition gets a partition table and a boot loader in the room before it: the first block
    /// is another one then.
    async fn make_bootable(
        &self,
        image: &ImageRef,
        half: &Owned<HalfMade>,
        partition_bytes: u64,
        sha256: Sha256Digest,
        mut map: BlockMap,
    ) -> Result<BlockMap, CacheError> {
        let failed = |cause| CacheError::Boot {
            image: image.id.to_string(),
            cause: Arc::new(cause),
        };
        let loader = self.grub.loader().await.map_err(failed)?;
        let half = half.share();
        let install = move |_: &Folder| {
            let installed = loader
                .install(half.file(), partition_bytes, sha256)
                .and_then(|()| map.reread(half.file(), 0).map_err(BootError::Disk));
            Ok(installed.map(|()| map))
        };
        let installed = self.files.run(install).await?;
        installed.map_err(|error| failed(error.into()))
    }

    /// The bytes of that file system that the cache may take beyond what it has, and keeps free;
    /// none if it is on another one.
    pub async fn to_come_bytes_beside(&self, path: &Path) -> Result<u64, CacheError> {
        let (path, limit_bytes) = (path.to_owned(), self.limit_bytes);
        let to_come = self.files.run(move |folder| {
            let device = |path: &Path| -> Result<u64, FolderError> {
                let found = std::fs::metadata(path);
                Ok(found.map_err(folder::at("examining", path))?.dev())
            };
            if device(&path)? != device(folder.root())? {
                return Ok(0);
            }
            let (_, all_bytes) = folder.file_system()?;
            let has: u64 = folder.entries()?.iter().map(|entry| entry.bytes).sum();
            let limit_bytes = limit(limit_bytes, all_bytes);
            Ok(limit_bytes.saturating_sub(has) + evict::RESERVE_BYTES)
        });
        Ok(to_come.await?)
    }

    /// Makes room for the image, evicting what is not in use, and has all who share the folder leave
    /// it free; refuses before a byte is fetched.
    pub(super) async fn make_room(
        &self,
        image: &ImageRef,
        need_bytes: u64,
        lease: &Owned<Lease>,
    ) -> Result<(), CacheError> {
        let _one_at_a_time = self.making_room.lock().await;
        let (lease, limit_bytes) = (lease.share(), self.limit_bytes);
        let made = self.files.run(move |folder| {
            let room = room(folder, limit_bytes)?;
            let going = match evict::plan(&folder.entries()?, need_bytes, room) {
                Ok(going) => going,
                Err(cause) => return Ok(Err(cause)),
            };
            let mut gone = Vec::new();
            for entry in going {
                if folder.evict(&entry)? {
                    tracing::info!(%entry, "evicted from the image cache");
                    gone.push(entry);
                }
            }
            lease.will_need(need_bytes).map(|_| Ok(gone))
        });
        let gone = made.await?.map_err(|cause| CacheError::NoRoom {
            image: image.id.to_string(),
            cause,
        })?;
        self.tell_gone(gone);
        Ok(())
    }

    /// Has nobody look here for what was evicted.
    pub(super) fn tell_gone(&self, gone: Vec<EntryName>) {
        let tickets = self.tickets.clone();
        tokio::spawn(async move {
            for entry in gone {
                let report = CopyReport {
                    image: entry.image(),
                    entry: entry.to_string(),
                    copy: Copied::Gone,
                };
                if let Err(error) = tickets.copied(report).await {
                    tracing::debug!(%entry, %error, "the CLC did not hear of an eviction");
                }
            }
        });
    }

    /// How much entries may take together, and the free bytes.
    pub(super) fn limits(&self, folder: &Folder) -> Result<(u64, u64), FolderError> {
        let (free_bytes, all_bytes) = folder.file_system()?;
        Ok((limit(self.limit_bytes, all_bytes), free_bytes))
    }
}

/// The room that there is, less what is on its way by anybody's hand.
fn room(folder: &Folder, limit_bytes: Option<u64>) -> Result<Room, FolderError> {
    let (free_bytes, all_bytes) = folder.file_system()?;
    let parts = folder.parts()?;
    let written: HashMap<(&EntryName, &str), u64> = parts
        .iter()
        .map(|part| ((&part.name, part.run.as_str()), part.bytes))
        .collect();
    let promised = lease::all(folder)?.into_iter().map(|(name, beat)| {
        let has = written.get(&(&name, beat.run.as_str())).copied();
        beat.need_bytes.saturating_sub(has.unwrap_or_default())
    });
    Ok(Room {
        limit_bytes: limit(limit_bytes, all_bytes),
        free_bytes,
        promised_bytes: promised.sum(),
        filling_bytes: written.values().sum(),
    })
}

fn limit(limit_bytes: Option<u64>, all_bytes: u64) -> u64 {
    limit_bytes.unwrap_or(all_bytes / DEFAULT_SHARE)
}

fn image_error(image: &ImageRef, cause: UnbundleError) -> CacheError {
    CacheError::Image {
        image: image.id.to_string(),
        cause: Arc::new(cause),
    }
}
