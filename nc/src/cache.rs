//! The image cache: read-only raw files that instances' overlays stand on.
//!
//! | module | owns |
//! |---|---|
//! | [`name`] | what an entry is called |
//! | [`folder`] | the cache on disk: entries, uses, what is being filled |
//! | [`files`] | calls into it, off the async threads, each with its own time limit |
//! | [`lease`] | which node fills an entry, where nodes share the folder |
//! | [`evict`] | what has to go to make room: a pure plan |
//! | [`tidy`] | what nobody needs any more, and whether the folder answers |
//! | [`fetch`] | parts over HTTP by a ticket, with retries and renewal |
//! | [`obtain`] | where an entry comes from: peers, or the bundle when it is our turn |
//! | [`blocks`], [`peers`] | an entry as blocks; from and to other nodes |
//! | [`fill`] | one entry from its bundle to its place |
//! | [`speed`] | how far that is, and how fast |
//! | [`inventory`] | what there is, for people; fetched before it is needed, and removed |
//! | [`grub`] | the boot loader for partition images, linked once |
//!
//! An entry is published by a rename after every check has passed, and never changes afterwards.
//! One run fills it however many instances wait: in one process they share a flight, between nodes
//! a lease. Whoever uses an entry leaves a mark first, so that no node evicts it. A ticket lives in
//! memory only. A folder that does not answer is waited for, visibly, by those who need it and by
//! nobody else.

pub mod blocks;
pub mod evict;
pub mod fetch;
pub mod files;
pub mod fill;
pub mod folder;
pub mod grub;
pub mod inventory;
pub mod lease;
pub mod name;
pub mod obtain;
pub mod peers;
pub mod speed;
pub mod tidy;

use std::{
    collections::HashMap,
    io,
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

use crate::bandwidth::Bandwidth;
use evict::NoRoom;
use files::{Files, Owned};
use fill::Filler;
use folder::{Folder, FolderError, Published};
use inventory::Warming;
use lease::{Beat, Claim, Lease, LeaseTimes};
use obtain::Obtaining;
use peers::{PeerTimes, Serving};

/// How often those who wait for a folder that does not answer ask it again.
const SILENT_RETRY: Duration = Duration::from_secs(2);

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
    /// How long one call into the folder may take.
    pub patience: Duration,
    /// How patient one is with peers; for tests.
    pub peers: PeerTimes,
    /// How much of the network it may take.
    pub bandwidth: Bandwidth,
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
    /// There was room, and then there was none.
    #[error(
        "the file system of the image cache filled up under {image}: it needs {need_bytes} bytes in \
         all, {free_bytes} are free"
    )]
    FilledUp {
        /// The image.
        image: String,
        /// What the whole entry needs.
        need_bytes: u64,
        /// What was free when it broke off.
        free_bytes: u64,
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
    Folder(Arc<FolderError>),
    /// The run ended without a word; a bug.
    #[error("the run that filled the cache was lost")]
    Lost,
}

impl From<FolderError> for CacheError {
    fn from(error: FolderError) -> Self {
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
            | Self::FilledUp { .. }
            | Self::Boot { .. }
            | Self::Folder(_)
            | Self::Lost => false,
        }
    }

    /// Whether it is for want of room: another node may have it.
    pub fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::NoRoom { .. } | Self::FilledUp { .. } => true,
            Self::Folder(error) => error.is_full(),
            Self::Name
            | Self::NoTicket { .. }
            | Self::BadTicket { .. }
            | Self::Image { .. }
            | Self::Boot { .. }
            | Self::Lost => false,
        }
    }

    /// Whether the folder did not answer in time: it is there, or will be.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Folder(error) if error.is_silence())
    }
}

/// How far an image is, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// What is done for it, where it is not simply fetched: `waiting for node-2, which fetches it`.
    pub doing: String,
    /// How far, where that is known.
    pub percent: Option<u8>,
    /// Bytes in a second, lately; 0 where that is not known.
    pub bytes_per_s: u64,
}

/// Hears how far an image is.
pub type Tell<'a> = &'a (dyn Fn(&Told) + Send + Sync);

/// The cache of one node. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    files: Files,
    filler: Arc<Filler>,
    obtaining: Obtaining,
    lease: LeaseTimes,
    warming: Warming,
    flights: Mutex<HashMap<EntryName, Weak<Flight>>>,
}

/// One run that fills an entry, for all who wait for it here. It ends when the last of them goes.
struct Flight {
    _task: AbortOnDropHandle<()>,
    state: watch::Receiver<FlightState>,
}

#[derive(Debug, Clone, Default)]
struct FlightState {
    told: Told,
    landed: Option<Result<(), CacheError>>,
}

impl Cache {
    /// The cache there. Nothing is touched before it is first needed, so that a folder that hangs
    /// holds up nobody else.
    pub fn new(settings: Settings, tickets: Arc<dyn Tickets>) -> Self {
        let folder = Folder::at(&settings.folder, settings.node.as_str());
        let files = Files::new(folder, settings.patience);
        let filler = Arc::new(Filler::new(&settings, files.clone(), tickets.clone()));
        let obtaining = Obtaining::new(&settings, files.clone(), tickets, filler.clone());
        Self {
            shared: Arc::new(Shared {
                files,
                filler,
                obtaining,
                lease: settings.lease,
                warming: Warming::default(),
                flights: Mutex::default(),
            }),
        }
    }

    /// The file of `image`, fetched if it is not there, and kept from eviction until `holder`
    /// [releases](Self::release) it. While the folder does not answer it waits, and says so.
    /// Dropping the future is safe: the run goes on only while someone else waits for it.
    pub async fn hold(
        &self,
        image: &ImageRef,
        form: Form,
        holder: &InstanceId,
        tell: Tell<'_>,
    ) -> Result<PathBuf, CacheError> {
        let name = EntryName::of(image, form).ok_or(CacheError::Name)?;
        let held = || async {
            if !self.mark_and_touch(&name, holder).await? {
                self.wait_for(&name, image, tell).await?;
            }
            Ok(self.shared.files.folder().entry(&name))
        };
        self.patiently(tell, held).await
    }

    /// Has a file of the cache count as used by `holder` again: after a restart, for what it was
    /// found to stand on. False if it is not there any more. A path that is not of this cache is
    /// none of its business. Waits for a folder that does not answer, and says so.
    pub async fn hold_again(
        &self,
        file: &Path,
        holder: &InstanceId,
        tell: Tell<'_>,
    ) -> Result<bool, CacheError> {
        self.patiently(tell, || self.try_hold_again(file, holder))
            .await
    }

    /// The same without waiting for long.
    pub async fn try_hold_again(
        &self,
        file: &Path,
        holder: &InstanceId,
    ) -> Result<bool, CacheError> {
        match self.shared.files.folder().name_of(file) {
            Some(name) => self.mark_and_touch(&name, holder).await,
            None => Ok(true),
        }
    }

    async fn mark_and_touch(
        &self,
        name: &EntryName,
        holder: &InstanceId,
    ) -> Result<bool, CacheError> {
        let (name, holder) = (name.clone(), holder.clone());
        let marked = self.shared.files.run(move |folder| {
            folder.mark(&name, &holder)?;
            folder.touch(&name)
        });
        Ok(marked.await?)
    }

    /// Does it again while the folder does not answer.
    async fn patiently<T, F: Future<Output = Result<T, CacheError>>>(
        &self,
        tell: Tell<'_>,
        attempt: impl Fn() -> F,
    ) -> Result<T, CacheError> {
        let mut silent_since = self.shared.files.silent_since();
        loop {
            match attempt().await {
                Err(error) if error.is_silence() => {
                    tracing::warn!(%error, "waiting for the image cache");
                    tell(&Told {
                        doing: self.silence().unwrap_or_else(|| error.to_string()),
                        ..Told::default()
                    });
                    let answers = silent_since.wait_for(Option::is_none);
                    let _either = tokio::time::timeout(SILENT_RETRY, answers).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// What other nodes of the cluster may read here.
    pub fn serving(&self) -> Arc<Serving> {
        self.shared.obtaining.serving()
    }

    /// What people read while the folder does not answer.
    pub fn silence(&self) -> Option<String> {
        let since = (*self.shared.files.silent_since().borrow())?;
        Some(format!(
            "the image cache {} has not answered for {} s",
            self.shared.files.folder().root().display(),
            since.elapsed().as_secs()
        ))
    }

    /// Changes when the folder ceases to answer, and when it answers again.
    pub fn silent_since(&self) -> watch::Receiver<Option<Instant>> {
        self.shared.files.silent_since()
    }

    /// Looks into a file of the cache, where that may take its time.
    pub async fn look<T: Send + 'static>(
        &self,
        file: &Path,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, CacheError> {
        let file = file.to_owned();
        let looked = self.shared.files.run(move |_| {
            let outcome = work(&file);
            outcome.map_err(folder::at("reading", &file))
        });
        Ok(looked.await?)
    }

    /// The bytes of that file system that the cache may take beyond what it has, and keeps free;
    /// none if it is on another one.
    pub async fn to_come_bytes_beside(&self, path: &Path) -> Result<u64, CacheError> {
        self.shared.filler.to_come_bytes_beside(path).await
    }

    /// `holder` uses nothing any more. What cannot be done now is done when the cache is
    /// [tidied up](tidy).
    pub async fn release(&self, holder: &InstanceId) -> Result<(), CacheError> {
        let holder = holder.clone();
        let unmark = move |folder: &Folder| folder.unmark(&holder);
        Ok(self.shared.files.run(unmark).await?)
    }

    /// All whole entries, oldest use first.
    pub async fn entries(&self) -> Result<Vec<folder::Entry>, CacheError> {
        Ok(self.shared.files.run(Folder::entries).await?)
    }

    /// Has the entry, whoever comes to use it.
    async fn fetch(&self, name: &EntryName, image: &ImageRef) -> Result<(), CacheError> {
        let look = name.clone();
        if self
            .shared
            .files
            .run(move |folder| folder.touch(&look))
            .await?
        {
            return Ok(());
        }
        self.wait_for(name, image, &|_| {}).await
    }

    /// Joins the flight that fills the entry, or starts it.
    async fn wait_for(
        &self,
        name: &EntryName,
        image: &ImageRef,
        tell: Tell<'_>,
    ) -> Result<(), CacheError> {
        let flight = self.flight(name, image);
        let mut state = flight.state.clone();
        loop {
            let now = state.borrow_and_update().clone();
            tell(&now.told);
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
    /// or takes over when the node falls silent. Whoever is taken over waits like the others.
    async fn fill_or_wait(
        &self,
        name: &EntryName,
        image: &ImageRef,
        state: &watch::Sender<FlightState>,
    ) -> Result<(), CacheError> {
        let mut heard = (None, Instant::now());
        // Somebody may have removed it, or mounted another one in its place, since we started.
        self.files.run(Folder::make).await?;
        loop {
            let look = name.clone();
            if self.files.run(move |folder| folder.touch(&look)).await? {
                return Ok(());
            }
            let claim = name.clone();
            let claimed = self.files.run(move |folder| Lease::claim(folder, &claim));
            match claimed.await? {
                Claim::Ours(lease) => {
                    if self.fill(name, image, self.files.own(lease), state).await? {
                        return Ok(());
                    }
                }
                Claim::Held(beat) => {
                    tell(state, waiting_for(&beat));
                    if heard.0.as_ref() != Some(&beat) {
                        heard = (Some(beat), Instant::now());
                    } else if heard.1.elapsed() > self.lease.silence {
                        tracing::warn!(entry = %name, node = beat.node, "taking over a silent fill");
                        let of = name.clone();
                        let taken = move |folder: &Folder| Lease::take_over(folder, &of, &beat);
                        if let Some(lease) = self.files.run(taken).await?
                            && self.fill(name, image, self.files.own(lease), state).await?
                        {
                            return Ok(());
                        }
                    }
                }
            }
            tokio::time::sleep(self.lease.poll).await;
        }
    }

    /// Fills the entry while the lease is ours. False if it was taken from us.
    async fn fill(
        &self,
        name: &EntryName,
        image: &ImageRef,
        lease: Owned<Lease>,
        state: &watch::Sender<FlightState>,
    ) -> Result<bool, CacheError> {
        // Between our look and our lease the other node may have finished.
        let look = name.clone();
        if self.files.run(move |folder| folder.touch(&look)).await? {
            return Ok(true);
        }
        let told = state.clone();
        let heard = Arc::new(move |now: Told| tell(&told, now));
        let filled = tokio::select! {
            filled = self.obtaining.obtain(name, image, &lease, heard) => filled.map(|made| match made {
                Published::Ours | Published::Theirs => true,
                Published::Lost => false,
            }),
            ended = self.beats(name, &lease, state) => ended.map(|()| false),
        };
        lease.end().await;
        filled
    }

    /// Keeps the lease. Ends when it was taken from us, or when the folder ceases to answer: what is
    /// being written into it then waits in the kernel, and is scrap.
    async fn beats(
        &self,
        name: &EntryName,
        lease: &Owned<Lease>,
        state: &watch::Sender<FlightState>,
    ) -> Result<(), CacheError> {
        loop {
            tokio::time::sleep(self.lease.beat).await;
            let percent = state.borrow().told.percent.unwrap_or_default();
            let lease = lease.share();
            match self.files.run(move |_| lease.beat(percent)).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(entry = %name, "another node has taken over this fill");
                    return Ok(());
                }
                Err(error) if error.is_silence() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(entry = %name, %error, "the lease of a fill cannot be renewed");
                }
            }
        }
    }
}

fn waiting_for(beat: &Beat) -> Told {
    Told {
        doing: format!("waiting for {}, which fetches it", beat.node),
        percent: Some(beat.percent),
        ..Told::default()
    }
}

fn tell(state: &watch::Sender<FlightState>, told: Told) {
    state.send_if_modified(|state| {
        let news = state.told != told;
        state.told = told;
        news
    });
}
