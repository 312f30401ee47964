//! The image cache: read-only raw files that instances' overlays stand on.
//!
//! | module | owns |
//! |---|---|
//! | [`name`] | what an entry is called |
//! | [`folder`] | the cache on disk: entries, uses, what is being filled |
//! | [`lease`] | which node fills an entry, where nodes share the folder |
//! | [`evict`] | what has to go to make room: a pure plan |
//! | [`fetch`] | parts over HTTP by a ticket, with retries and renewal |
//! | [`fill`] | one entry from ticket to rename |
//! | [`speed`] | how far that is, and how fast |
//! | [`grub`] | the boot loader for partition images, linked once |
//!
//! An entry is published by a rename after every check has passed, and never changes afterwards.
//! One run fills it however many instances wait: in one process they share a flight, between nodes
//! a lease. Whoever uses an entry leaves a mark first, so that no node evicts it. A ticket lives in
//! memory only.

pub mod evict;
pub mod fetch;
pub mod fill;
pub mod folder;
pub mod grub;
pub mod lease;
pub mod name;
pub mod speed;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use control::{CallError, node::ImageRef};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;
use types::{InstanceId, NodeId};

pub use fetch::{CloudTickets, Tickets};
pub use name::{EntryName, Form};
pub use speed::Fetched;

use evict::NoRoom;
use fill::Filler;
use folder::Folder;
use lease::{Claim, Lease, LeaseTimes};

/// Where the cache is and how much it may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder; nodes may share it.
    pub folder: PathBuf,
    /// Who we are, among those who share it.
    pub node: NodeId,
    /// How many bytes entries may take; none is a fifth of the file system.
    pub limit_bytes: Option<u64>,
    /// GRUB's modules for BIOS machines, `/usr/lib/grub/i386-pc`.
    pub grub: PathBuf,
    /// Trust for parts that come over https: the cloud's authority.
    pub tls: Arc<rustls::ClientConfig>,
    /// How a lease beats; for tests.
    pub lease: LeaseTimes,
}

/// Why an image cannot be had. Shared by all who waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// The wish names an image in a way that cannot be.
    #[error("the image's manifest digest is not a SHA-256")]
    Name,
    /// The CLC gives no ticket.
    #[error("the Cloud Controller gives no ticket for {image}: {cause}")]
    NoTicket {
        /// The image.
        image: String,
        /// What it answered.
        cause: CallError,
    },
    /// The CLC's ticket makes no sense.
    #[error("the ticket for {image} is malformed: {why}")]
    BadTicket {
        /// The image.
        image: String,
        /// What is wrong.
        why: &'static str,
    },
    /// There is no room for it, even after eviction.
    #[error("no room for {image} in the image cache: {cause}")]
    NoRoom {
        /// The image.
        image: String,
        /// The figures.
        cause: NoRoom,
    },
    /// The bundle is damaged, lies or is hostile, or cannot be fetched.
    #[error("image {image}: {cause}")]
    Image {
        /// The image.
        image: String,
        /// Which part, and why.
        cause: Arc<image::unbundle::UnbundleError>,
    },
    /// No boot loader could be made or installed.
    #[error("no boot loader for {image}: {cause}")]
    Boot {
        /// The image.
        image: String,
        /// Why.
        cause: Arc<grub::GrubError>,
    },
    /// The cache folder cannot be read or written.
    #[error("the image cache cannot be used: {0}")]
    Folder(Arc<folder::FolderError>),
    /// The run ended without a word; a bug.
    #[error("the run that filled the cache was lost")]
    Lost,
}

impl From<folder::FolderError> for CacheError {
    fn from(error: folder::FolderError) -> Self {
        Self::Folder(Arc::new(error))
    }
}

impl CacheError {
    /// Whether it is the image's fault, and not the cloud's: trying again would change nothing.
    pub fn is_the_images_fault(&self) -> bool {
        use image::unbundle::UnbundleError;
        match self {
            Self::Image { cause, .. } => !matches!(
                **cause,
                UnbundleError::Fetch { .. } | UnbundleError::Write(_) | UnbundleError::Lost
            ),
            Self::Name
            | Self::NoTicket { .. }
            | Self::BadTicket { .. }
            | Self::NoRoom { .. }
            | Self::Boot { .. }
            | Self::Folder(_)
            | Self::Lost => false,
        }
    }
}

/// The cache of one node. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    folder: Folder,
    filler: Filler,
    lease: LeaseTimes,
    flights: Mutex<HashMap<EntryName, Weak<Flight>>>,
}

/// One run that fills an entry, for all who wait for it here. It ends when the last of them goes.
struct Flight {
    _task: AbortOnDropHandle<()>,
    state: watch::Receiver<FlightState>,
}

#[derive(Debug, Clone, Default)]
struct FlightState {
    fetched: Fetched,
    landed: Option<Result<(), CacheError>>,
}

impl Cache {
    /// Opens the cache, and removes what an earlier life of this node left half made.
    pub fn open(settings: Settings, tickets: Arc<dyn Tickets>) -> Result<Self, CacheError> {
        let folder = Folder::open(&settings.folder, settings.node.as_str())?;
        folder.remove_half_made()?;
        let filler = Filler::new(&settings, folder.clone(), tickets);
        let flights = Mutex::default();
        Ok(Self {
            shared: Arc::new(Shared {
                folder,
                filler,
                lease: settings.lease,
                flights,
            }),
        })
    }

    /// The file of `image`, fetched if it is not there, and kept from eviction until `holder`
    /// [releases](Self::release) it. `progress` hears how far it is. Dropping the future is safe: the
    /// run goes on only while someone else waits for it.
    pub async fn hold(
        &self,
        image: &ImageRef,
        form: Form,
        holder: &InstanceId,
        progress: &(dyn Fn(Fetched) + Send + Sync),
    ) -> Result<PathBuf, CacheError> {
        let name = EntryName::of(image, form).ok_or(CacheError::Name)?;
        let folder = &self.shared.folder;
        folder.mark(&name, holder)?;
        if !folder.touch(&name)? {
            self.wait_for(&name, image, progress).await?;
        }
        Ok(folder.entry(&name))
    }

    /// Marks a file of the cache as used by `holder`: after a restart, for what was found running.
    /// A path that is not of this cache is none of its business.
    pub fn hold_again(&self, file: &Path, holder: &InstanceId) -> Result<(), CacheError> {
        if let Some(name) = self.shared.folder.name_of(file) {
            self.shared.folder.mark(&name, holder)?;
        }
        Ok(())
    }

    /// The bytes of its file system that it may take beyond what it has, and keeps free.
    pub fn to_come_bytes(&self) -> Result<u64, CacheError> {
        self.shared.filler.to_come_bytes()
    }

    /// `holder` uses nothing any more.
    pub fn release(&self, holder: &InstanceId) -> Result<(), CacheError> {
        Ok(self.shared.folder.unmark(holder)?)
    }

    /// The names of all whole entries, oldest use first.
    pub fn entries(&self) -> Result<Vec<folder::Entry>, CacheError> {
        Ok(self.shared.folder.entries()?)
    }

    /// Joins the flight that fills the entry, or starts it.
    async fn wait_for(
        &self,
        name: &EntryName,
        image: &ImageRef,
        progress: &(dyn Fn(Fetched) + Send + Sync),
    ) -> Result<(), CacheError> {
        let flight = self.flight(name, image);
        let mut state = flight.state.clone();
        loop {
            let now = state.borrow_and_update().clone();
            progress(now.fetched);
            if let Some(landed) = now.landed {
                return landed;
            }
            if state.changed().await.is_err() {
                return state
                    .borrow()
                    .landed
                    .clone()
                    .unwrap_or(Err(CacheError::Lost));
            }
        }
    }

    fn flight(&self, name: &EntryName, image: &ImageRef) -> Arc<Flight> {
        let mut flights = self
            .shared
            .flights
            .lock()
            .expect("no one panics holding it");
        flights.retain(|_, flight| flight.strong_count() > 0);
        let under_way = flights.get(name).and_then(Weak::upgrade);
        if let Some(flight) = under_way.filter(|flight| flight.state.borrow().landed.is_none()) {
            return flight;
        }
        let (sender, state) = watch::channel(FlightState::default());
        let (shared, name_of_run, image) = (self.shared.clone(), name.clone(), image.clone());
        let task = tokio::spawn(async move {
            let landed = shared.fill_or_wait(&name_of_run, &image, &sender).await;
            sender.send_modify(|state| state.landed = Some(landed));
        });
        let flight = Arc::new(Flight {
            _task: AbortOnDropHandle::new(task),
            state,
        });
        flights.insert(name.clone(), Arc::downgrade(&flight));
        flight
    }
}

impl Shared {
    /// Fills the entry under a lease; while another node has the lease, waits for that node's entry,
    /// or takes over when the node falls silent.
    async fn fill_or_wait(
        &self,
        name: &EntryName,
        image: &ImageRef,
        state: &watch::Sender<FlightState>,
    ) -> Result<(), CacheError> {
        let mut heard = (None, Instant::now());
        loop {
            if self.folder.touch(name)? {
                return Ok(());
            }
            match Lease::claim(&self.folder, name)? {
                Claim::Ours(lease) => return self.fill(name, image, lease, state).await,
                Claim::Held(beat) => {
                    let percent = beat.percent;
                    set_fetched(
                        state,
                        Fetched {
                            percent,
                            bytes_per_s: 0,
                        },
                    );
                    if heard.0.as_ref() != Some(&beat) {
                        heard = (Some(beat), Instant::now());
                    } else if heard.1.elapsed() > self.lease.silence {
                        tracing::warn!(entry = %name, node = beat.node, "taking over a silent fill");
                        if let Some(lease) = Lease::take_over(&self.folder, name, &beat).await? {
                            return self.fill(name, image, lease, state).await;
                        }
                    }
                }
            }
            tokio::time::sleep(self.lease.poll).await;
        }
    }

    async fn fill(
        &self,
        name: &EntryName,
        image: &ImageRef,
        lease: Lease,
        state: &watch::Sender<FlightState>,
    ) -> Result<(), CacheError> {
        // Between our look and our lease the other node may have finished.
        if self.folder.touch(name)? {
            return Ok(());
        }
        let beats = async {
            loop {
                tokio::time::sleep(self.lease.beat).await;
                let percent = state.borrow().fetched.percent;
                if let Err(error) = lease.beat(percent) {
                    tracing::warn!(entry = %name, %error, "the lease of a fill cannot be renewed");
                }
            }
        };
        let heard = state.clone();
        let hear: speed::Hear = Arc::new(move |now| set_fetched(&heard, now));
        tokio::select! {
            filled = self.filler.fill(name, image, hear) => filled,
            () = beats => Err(CacheError::Lost),
        }
    }
}

fn set_fetched(state: &watch::Sender<FlightState>, fetched: Fetched) {
    state.send_if_modified(|state| std::mem::replace(&mut state.fetched, fetched) != fetched);
}

/// How long a poll between nodes waits: launches are watched by people.
const POLL: Duration = Duration::from_millis(200);

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            beat: lease::BEAT,
            silence: lease::SILENCE,
            poll: POLL,
        }
    }
}
