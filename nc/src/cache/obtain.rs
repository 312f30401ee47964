//! Where an entry comes from: from peers where the Cloud Controller knows some, from the bundle where
//! it is our turn to read that, after a wait where it is another's. So that N nodes cost Walrus about
//! one read, also when they begin at the same moment.
//!
//! What is made from the bundle is told to the cloud block by block, for those who take it from us.
//! All of that is for speed: whoever is told nothing, or wrong things, ends at the bundle.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use control::{
    caches::{Copied, CopyPeer, CopyReport, FilledBy},
    cloud::{Ticket, TicketAsk},
    node::ImageRef,
};
use types::ImageId;

use super::{
    CacheError, EntryName, Settings, Told,
    blocks::BlockMap,
    fetch::{Tickets, first_ticket},
    files::{Files, Owned},
    fill::Filler,
    folder::{Published, at},
    lease::Lease,
    peers::{Fetching, Partial, Serving},
    speed::Hear,
};

/// How often the CLC hears of a copy that is being made: it gives up waiting after six of these.
const REPORT: Duration = Duration::from_secs(5);
/// The shortest and the longest wait between two questions to the CLC.
const AGAIN_MS: std::ops::RangeInclusive<u64> = 100..=10_000;

/// Obtains entries. One for the cache's life.
pub struct Obtaining {
    files: Files,
    tickets: Arc<dyn Tickets>,
    filler: Arc<Filler>,
    fetching: Fetching,
    serving: Arc<Serving>,
}

/// What a ticket comes to.
enum Source {
    /// Another node reads the bundle.
    Wait(FilledBy),
    /// Peers have it.
    Peers(BlockMap, Vec<CopyPeer>),
    /// It is ours to read the bundle.
    Bundle(Box<Ticket>),
    /// Peers have it, and it is said to be what cannot be.
    Nonsense(&'static str),
}

impl Source {
    fn of(ticket: Ticket) -> Self {
        if let Some(by) = ticket.filled_by {
            return Self::Wait(by);
        }
        match ticket.blocks.as_ref().map(BlockMap::parse) {
            Some(Ok(map)) if !ticket.peers.is_empty() => Self::Peers(map, ticket.peers),
            Some(Err(why)) => Self::Nonsense(why),
            Some(Ok(_)) | None => Self::Bundle(Box::new(ticket)),
        }
    }
}

/// A copy that is being made, for the CLC; told to be gone unless it was finished.
struct Underway {
    tickets: Arc<dyn Tickets>,
    image: ImageId,
    entry: String,
    percent: Arc<AtomicU8>,
    is_over: bool,
}

impl Underway {
    fn report(&self, copy: Copied) -> CopyReport {
        CopyReport {
            image: self.image.clone(),
            entry: self.entry.clone(),
            copy,
        }
    }

    /// Passes on what is heard, and remembers how far it is.
    fn hear(&self, hear: &Hear) -> Hear {
        let (hear, percent) = (hear.clone(), self.percent.clone());
        Arc::new(move |told: Told| {
            percent.store(told.percent.unwrap_or_default(), Ordering::Relaxed);
            hear(told);
        })
    }

    /// Says every now and then how far it is.
    async fn keep_saying(&self) -> Infallible {
        loop {
            tokio::time::sleep(REPORT).await;
            let percent = self.percent.load(Ordering::Relaxed);
            self.say(Copied::Filling { percent }).await;
        }
    }

    async fn say(&self, copy: Copied) {
        if let Err(error) = self.tickets.copied(self.report(copy)).await {
            tracing::debug!(entry = self.entry, %error, "the CLC did not hear of a copy");
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if !self.is_over {
            let (tickets, gone) = (self.tickets.clone(), self.report(Copied::Gone));
            runtime.spawn(async move { tickets.copied(gone).await });
        }
    }
}

impl Obtaining {
    /// Into that folder.
    pub fn new(
        settings: &Settings,
        files: Files,
        tickets: Arc<dyn Tickets>,
        filler: Arc<Filler>,
    ) -> Self {
        Self {
            fetching: Fetching::new(files.clone(), settings),
            serving: Serving::new(files.clone(), settings),
            files,
            tickets,
            filler,
        }
    }

    /// What peers read from.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.clone()
    }

    /// Makes the entry, as the holder of its lease.
    pub async fn obtain(
        &self,
        name: &EntryName,
        image: &ImageRef,
        lease: &Owned<Lease>,
        hear: Hear,
    ) -> Result<Published, CacheError> {
        let mut underway = Underway {
            tickets: self.tickets.clone(),
            image: image.id.clone(),
            entry: name.to_string(),
            percent: Arc::default(),
            is_over: false,
        };
        let hear = underway.hear(&hear);
        let obtained = tokio::select! {
            obtained = self.by_turns(name, image, lease, &hear) => obtained?,
            never = underway.keep_saying() => match never {},
        };
        let (published, map) = obtained;
        underway.is_over = true;
        let copy = match published {
            Published::Lost => Copied::Gone,
            Published::Ours | Published::Theirs => Copied::Whole {
                blocks: map.map(|map| map.to_message()),
            },
        };
        // On the side: the launch does not wait for it.
        tokio::spawn(async move { underway.say(copy).await });
        Ok(published)
    }

    /// What came of it; with its blocks if it is from the bundle, and the cloud does not know them.
    async fn by_turns(
        &self,
        name: &EntryName,
        image: &ImageRef,
        lease: &Owned<Lease>,
        hear: &Hear,
    ) -> Result<(Published, Option<BlockMap>), CacheError> {
        let mut partial: Option<Arc<Partial>> = None;
        let mut peers_failed = false;
        loop {
            let ask = TicketAsk {
                image: image.clone(),
                entry: Some(name.to_string()),
                peers_failed,
            };
            peers_failed = false;
            match Source::of(first_ticket(ask, &*self.tickets).await?) {
                Source::Wait(by) => {
                    hear(Told {
                        doing: format!("waiting for {}, which fetches it", by.node),
                        percent: Some(by.percent),
                        ..Told::default()
                    });
                    let again_ms = by.again_ms.clamp(*AGAIN_MS.start(), *AGAIN_MS.end());
                    tokio::time::sleep(Duration::from_millis(again_ms)).await;
                }
                Source::Peers(map, peers) => {
                    let begun = match partial.take().filter(|begun| *begun.map == map) {
                        Some(begun) => begun,
                        None => self.begin(name, image, map, lease).await?,
                    };
                    if self.ask_peers(name, image, &begun, peers, hear).await? {
                        let published = self.filler.publish(&begun.half, name).await?;
                        tracing::info!(entry = %name, ?published, "image cached from other nodes");
                        return Ok((published, None));
                    }
                    // What there is stays, for the next peers.
                    (peers_failed, partial) = (true, Some(begun));
                }
                Source::Nonsense(why) => {
                    tracing::warn!(entry = %name, why, "the blocks that were told are none");
                    peers_failed = true;
                }
                Source::Bundle(ticket) => {
                    drop(partial);
                    let filled = self.filler.fill(name, image, *ticket, lease, hear.clone());
                    let (published, map) = filled.await?;
                    return Ok((published, Some(map)));
                }
            }
        }
    }

    async fn begin(
        &self,
        name: &EntryName,
        image: &ImageRef,
        map: BlockMap,
        lease: &Owned<Lease>,
    ) -> Result<Arc<Partial>, CacheError> {
        self.filler
            .make_room(image, map.data_bytes(), lease)
            .await?;
        let half = self.filler.begin(name).await?;
        let (made, file_bytes) = (half.share(), map.file_bytes());
        let sized = self.files.run(move |folder| {
            let sized = made.file().set_len(file_bytes);
            sized.map_err(at("sizing a file in", &folder.filling()))
        });
        sized.await?;
        let partial = Arc::new(Partial::new(map, half));
        self.serving.also(name, &partial);
        Ok(partial)
    }

    /// False if no peer is left.
    async fn ask_peers(
        &self,
        name: &EntryName,
        image: &ImageRef,
        partial: &Partial,
        peers: Vec<CopyPeer>,
        hear: &Hear,
    ) -> Result<bool, CacheError> {
        match self.fetching.fetch(name, partial, peers, hear).await {
            Err(error) if error.is_for_want_of_room() => {
                Err(self.filler.filled_up(image, partial.map.data_bytes()).await)
            }
            fetched => fetched,
        }
    }
}
