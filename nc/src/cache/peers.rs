//! Entries from and to other nodes of the cluster, block by block.
//!
//! ```text
//! Walrus ─▶ node 1 ─▶ node 2 ─▶ node 3 ─▶ …      each a block or so behind the one before it
//! ```
//!
//! A node serves what it has checked, also of an entry that it is still fetching itself; so all nodes
//! that want an image at once form a chain, in the order that the Cloud Controller tells them, and
//! each sends it once. A peer that lies, is slow or dies is left for the next one, and what was
//! checked stays: nothing is fetched twice. What comes of it is the same file as from the bundle.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use control::{CallError, Client, Code, Role, blocks::Blockwise, caches::CopyPeer, rpc::Call};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{
    CacheError, EntryName, Settings, Told,
    blocks::{self, BlockMap, PACKED_BYTES_MAX},
    files::{Files, Owned},
    folder::{HalfMade, at},
    speed::Hear,
};
use crate::bandwidth::Direction;

/// Blocks asked for at once: enough to keep a link busy while one is checked and written.
const FETCH_AHEAD: usize = 4;
/// How long a block may take, its peer's own wait for it included: 4 MiB in ten seconds is slower
/// than any network of a lab.
const BLOCK_LIMIT: Duration = Duration::from_secs(10);
/// How long a peer waits for a block that it is fetching itself, before it says so.
const SERVE_WAIT: Duration = Duration::from_secs(6);
/// Blocks read for peers at once: what is held in memory for them.
const SERVED_AT_ONCE: usize = 8;

/// How patient one is with peers.
#[derive(Debug, Clone, Copy)]
pub struct PeerTimes {
    /// How long a block may take.
    pub block: Duration,
    /// How long one waits, as a peer, for a block that one is fetching oneself.
    pub serve: Duration,
}

impl Default for PeerTimes {
    fn default() -> Self {
        Self {
            block: BLOCK_LIMIT,
            serve: SERVE_WAIT,
        }
    }
}

/// An entry on its way from peers.
#[derive(Debug)]
pub struct Partial {
    /// What it is to become.
    pub map: Arc<BlockMap>,
    /// The file.
    pub half: Owned<HalfMade>,
    /// The blocks that are there and checked.
    have: watch::Sender<HashSet<u64>>,
}

impl Partial {
    /// Nothing of it yet.
    pub fn new(map: BlockMap, half: Owned<HalfMade>) -> Self {
        Self {
            map: Arc::new(map),
            half,
            have: watch::Sender::default(),
        }
    }

    fn percent(&self) -> u8 {
        let all = self.map.data().len().max(1);
        (self.have.borrow().len() * 100 / all) as u8
    }
}

/// Serves blocks to peers.
pub struct Serving {
    files: Files,
    times: PeerTimes,
    outgoing: Direction,
    partials: Mutex<HashMap<EntryName, Weak<Partial>>>,
    at_once: Semaphore,
}

impl Serving {
    /// Of that folder.
    pub fn new(files: Files, settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            files,
            times: settings.peers,
            outgoing: settings.bandwidth.outgoing.clone(),
            partials: Mutex::default(),
            at_once: Semaphore::new(SERVED_AT_ONCE),
        })
    }

    /// From now on also serves what there is of this, while it lives.
    pub fn also(&self, name: &EntryName, partial: &Arc<Partial>) {
        let mut partials = self.partials.lock().expect("no one panics holding it");
        partials.retain(|_, partial| partial.strong_count() > 0);
        partials.insert(name.clone(), Arc::downgrade(partial));
    }

    fn partial(&self, name: &EntryName) -> Option<Arc<Partial>> {
        let partials = self.partials.lock().expect("no one panics holding it");
        partials.get(name).and_then(Weak::upgrade)
    }

    /// Waits for a block that is on its way here itself.
    async fn come(&self, partial: &Partial, number: u64, until: Instant) -> Result<(), CallError> {
        let mut have = partial.have.subscribe();
        let come = have.wait_for(|have| have.contains(&number));
        match tokio::time::timeout_at(until, come).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                let what = "this block has not come here yet";
                Err(CallError::new(Code::NotReady, what))
            }
        }
    }

    async fn of_partial(&self, partial: &Partial, number: u64) -> Result<Option<Bytes>, CallError> {
        let half = partial.half.share();
        let read = self.files.run(move |folder| {
            let read = blocks::read_packed(half.file(), number);
            read.map_err(at("reading", &folder.filling()))
        });
        read.await.map_err(|error| CallError::internal(&error))
    }

    async fn of_entry(&self, name: EntryName, number: u64) -> Result<Option<Bytes>, CallError> {
        let read = self.files.run(move |folder| {
            let path = folder.entry(&name);
            match File::open(&path) {
                Ok(file) => blocks::read_packed(&file, number).map_err(at("reading", &path)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(at("opening", &path)(error)),
            }
        });
        read.await.map_err(|error| CallError::internal(&error))
    }
}

#[async_trait]
impl Blockwise for Serving {
    async fn block(&self, entry: &str, number: u64) -> Result<Bytes, CallError> {
        let name: EntryName = entry
            .parse()
            .map_err(|_| CallError::new(Code::Invalid, "that names no entry"))?;
        // All waits together, so that whoever asks hears from us before he gives us up.
        let until = Instant::now() + self.times.serve;
        let partial = self.partial(&name);
        if let Some(partial) = &partial {
            self.come(partial, number, until).await?;
        }
        let busy = || CallError::new(Code::NotReady, "this node sends as much as it may");
        let memory = tokio::time::timeout_at(until, self.at_once.acquire()).await;
        let _memory = memory.map_err(|_| busy())?;
        let found = match partial {
            Some(partial) => self.of_partial(&partial, number).await?,
            None => self.of_entry(name, number).await?,
        };
        let found =
            found.ok_or_else(|| CallError::not_found(format!("block {number} of {entry}")))?;
        let patience = until.saturating_duration_since(Instant::now());
        match self.outgoing.pass_within(found.len(), patience).await {
            true => Ok(found),
            false => Err(busy()),
        }
    }
}

/// Takes blocks from peers.
pub struct Fetching {
    files: Files,
    tls: Arc<rustls::ClientConfig>,
    times: PeerTimes,
    incoming: Direction,
}

/// The peers of one fetch, of which the first that was not left is asked.
struct Queue {
    peers: Vec<(CopyPeer, Client)>,
    /// How many were left.
    left: Mutex<usize>,
}

impl Queue {
    fn first(&self) -> Option<(usize, &(CopyPeer, Client))> {
        let left = *self.left.lock().expect("no one panics holding it");
        Some((left, self.peers.get(left)?))
    }

    /// Leaves a peer, unless another block's failure did so already.
    fn leave(&self, index: usize, why: &str) {
        let mut left = self.left.lock().expect("no one panics holding it");
        if *left == index {
            *left += 1;
            tracing::warn!(node = %self.peers[index].0.node, why, "left as a source of an image");
        }
    }
}

impl Fetching {
    /// Into that folder, with our certificate.
    pub fn new(files: Files, settings: &Settings) -> Self {
        Self {
            files,
            tls: settings.tls.clone(),
            times: settings.peers,
            incoming: settings.bandwidth.incoming.clone(),
        }
    }

    /// Fetches what is missing; false if no peer is left before all of it is there. What is under way
    /// then is still kept: the next peers need not send it again. The error is our own disk's.
    pub async fn fetch(
        &self,
        name: &EntryName,
        partial: &Partial,
        peers: Vec<CopyPeer>,
        hear: &Hear,
    ) -> Result<bool, CacheError> {
        let client = |peer: CopyPeer| {
            let client = Client::new(&self.tls, peer.address, Role::Nc, Some(peer.node.as_str()));
            (peer, client)
        };
        let queue = Queue {
            peers: peers.into_iter().map(client).collect(),
            left: Mutex::new(0),
        };
        let missing: Vec<u64> = {
            let have = partial.have.borrow();
            let numbers = partial.map.data().iter().map(|(number, _)| *number);
            numbers.filter(|number| !have.contains(number)).collect()
        };
        let fetched = stream::iter(missing)
            .map(|number| self.fetch_block(name, partial, &queue, number, hear))
            .buffered(FETCH_AHEAD);
        fetched
            .try_fold(true, async |all, got| Ok(all && got))
            .await
    }

    /// False if no peer is left.
    async fn fetch_block(
        &self,
        name: &EntryName,
        partial: &Partial,
        queue: &Queue,
        number: u64,
        hear: &Hear,
    ) -> Result<bool, CacheError> {
        while let Some((index, (peer, client))) = queue.first() {
            let call =
                Call::new(format!("block-{number}")).within_ms(self.times.block.as_millis() as u64);
            let packed = client.block(&call, name.as_str(), number, PACKED_BYTES_MAX);
            let packed = match packed.await {
                Ok(packed) => packed,
                Err(error) => {
                    queue.leave(index, &error.message);
                    continue;
                }
            };
            // After it has come, for nobody knows before how long it is: the next one waits.
            self.incoming.pass(packed.len()).await;
            match self.keep(partial, number, packed).await? {
                Ok(()) => {
                    hear(Told {
                        doing: format!("fetching from {}", peer.node),
                        percent: Some(partial.percent()),
                        ..Told::default()
                    });
                    return Ok(true);
                }
                Err(why) => queue.leave(index, why),
            }
        }
        Ok(false)
    }

    /// Checks and writes a block; the inner error is the peer's fault.
    async fn keep(
        &self,
        partial: &Partial,
        number: u64,
        packed: Bytes,
    ) -> Result<Result<(), &'static str>, CacheError> {
        let (half, map) = (partial.half.share(), partial.map.clone());
        let kept = self
            .files
            .run(move |folder| match map.check(number, &packed) {
                Ok(block) => {
                    let written = blocks::write(half.file(), number, &block)
                        .and_then(|()| half.wrote(block.len() as u64));
                    written.map_err(at("writing to", &folder.filling()))?;
                    Ok(Ok(()))
                }
                Err(why) => Ok(Err(why)),
            });
        let kept = kept.await?;
        if kept.is_ok() {
            partial.have.send_modify(|have| {
                have.insert(number);
            });
        }
        Ok(kept)
    }
}
