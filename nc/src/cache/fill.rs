//! One entry, from ticket to rename: room, pipeline, boot loader, publication. Whatever fails,
//! nothing half made stays.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use control::node::ImageRef;
use image::{
    mbr,
    unbundle::{self, Content, Unbundled, unbundle},
};

use super::{
    CacheError, EntryName, Settings,
    evict::{self, Room},
    fetch::{Http, TicketParts, Tickets, http},
    folder::Folder,
    grub::Grub,
    speed::{self, Hear},
};

/// The part of the file system that the cache may take where nothing is configured.
const DEFAULT_SHARE: u64 = 5;

/// Fills entries. One for the cache's life.
pub struct Filler {
    folder: Folder,
    tickets: Arc<dyn Tickets>,
    http: Http,
    grub: Grub,
    limit_bytes: Option<u64>,
    promised: Arc<AtomicU64>,
    /// Held while room is looked for, so that two fills do not count the same bytes.
    making_room: Mutex<()>,
}

impl Filler {
    /// A filler of that folder.
    pub fn new(settings: &Settings, folder: Folder, tickets: Arc<dyn Tickets>) -> Self {
        Self {
            grub: Grub::new(folder.boot(), settings.grub.clone()),
            folder,
            tickets,
            http: http(&settings.tls),
            limit_bytes: settings.limit_bytes,
            promised: Arc::default(),
            making_room: Mutex::new(()),
        }
    }

    /// Makes the entry.
    pub async fn fill(
        &self,
        name: &EntryName,
        image: &ImageRef,
        hear: Hear,
    ) -> Result<(), CacheError> {
        let form = name.form();
        let (parts, order) =
            TicketParts::open(image, form, self.tickets.clone(), self.http.clone()).await?;
        let _promise = self.make_room(image, order.size_bytes)?;

        let half = self.folder.begin(name)?;
        let file = half
            .file()
            .try_clone()
            .map_err(|error| image_error(image, write_error(error)))?;
        let partition_bytes = order.size_bytes;
        let (meter, bundled_bytes) = (unbundle::meter(), order.bundled_bytes);
        let done = tokio::select! {
            done = unbundle(order, Arc::new(parts), file, meter.clone()) => done,
            () = speed::tell(image.id.as_str(), &meter, bundled_bytes, &hear) => return Err(CacheError::Lost),
        };
        let done = done.map_err(|cause| image_error(image, cause))?;
        self.make_bootable(image, half.file(), partition_bytes, &done)
            .await?;

        let folder = self.folder.clone();
        let published = name.clone();
        tokio::task::spawn_blocking(move || folder.publish(half, &published))
            .await
            .map_err(|_| CacheError::Lost)??;
        tracing::info!(
            entry = %name, sha256 = %done.sha256, data_bytes = done.data_bytes,
            file_bytes = done.file_bytes, stages = %meter, "image cached"
        );
        Ok(())
    }

    /// A partition gets a partition table and a boot loader in the room before it.
    async fn make_bootable(
        &self,
        image: &ImageRef,
        file: &std::fs::File,
        partition_bytes: u64,
        done: &Unbundled,
    ) -> Result<(), CacheError> {
        if !matches!(done.content, Content::Partition(_)) {
            return Ok(());
        }
        let failed = |cause| CacheError::Boot {
            image: image.id.to_string(),
            cause: Arc::new(cause),
        };
        let loader = self.grub.loader().await.map_err(failed)?;
        loader
            .install(file, partition_bytes, done.sha256)
            .map_err(|error| failed(error.into()))
    }

    /// The bytes of the file system that the cache may take beyond what it has, and keeps free.
    pub fn to_come_bytes(&self) -> Result<u64, CacheError> {
        let (_, all_bytes) = self.folder.file_system()?;
        let has: u64 = self.folder.entries()?.iter().map(|entry| entry.bytes).sum();
        Ok(self.limit(all_bytes).saturating_sub(has) + evict::RESERVE_BYTES)
    }

    fn limit(&self, all_bytes: u64) -> u64 {
        self.limit_bytes.unwrap_or(all_bytes / DEFAULT_SHARE)
    }

    /// Promises room for the image, evicting what is not in use; refuses before a byte is fetched.
    fn make_room(&self, image: &ImageRef, size_bytes: u64) -> Result<Promise, CacheError> {
        let need_bytes = mbr::disk_bytes(size_bytes);
        let _one_at_a_time = self.making_room.lock().expect("no one panics holding it");
        let (free_bytes, all_bytes) = self.folder.file_system()?;
        let room = Room {
            limit_bytes: self.limit(all_bytes),
            free_bytes,
            promised_bytes: self.promised.load(Ordering::Relaxed),
        };
        let going = evict::plan(&self.folder.entries()?, need_bytes, room).map_err(|cause| {
            CacheError::NoRoom {
                image: image.id.to_string(),
                cause,
            }
        })?;
        for entry in going {
            let gone = self.folder.evict(&entry)?;
            tracing::info!(%entry, gone, "evicted from the image cache");
        }
        self.promised.fetch_add(need_bytes, Ordering::Relaxed);
        Ok(Promise {
            bytes: need_bytes,
            promised: self.promised.clone(),
        })
    }
}

/// Room that is promised while an entry is filled.
struct Promise {
    bytes: u64,
    promised: Arc<AtomicU64>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn write_error(error: std::io::Error) -> image::unbundle::UnbundleError {
    image::unbundle::UnbundleError::Write(error)
}

fn image_error(image: &ImageRef, cause: image::unbundle::UnbundleError) -> CacheError {
    CacheError::Image {
        image: image.id.to_string(),
        cause: Arc::new(cause),
    }
}
