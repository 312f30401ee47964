//! The Storage Controller as one thing: records in SQLite, bytes in a pool, a feed in front.
//!
//! A wish is recorded and answered; the reconciler `tend_volumes` makes it so. At each start it
//! first looks what there is: half-made files go, volumes whose file is missing are told of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use control::{
    CallError, Changes, Code, Feed, Storage,
    feed::Poll,
    node::Taken,
    rpc::Call,
    storage::{PoolReport, StorageChange, VolumeSeen, VolumeWanted, VolumeWish},
};
use daemon::{
    BoxError, Context,
    ready::Condition,
    reconcile::{Reconcile, Summary, Wake},
};
use store::{Db, Error, Tx};
use types::{Gib, VolumeId};

use crate::{
    metrics::Metrics,
    pool::{Facts, Pool, PoolError},
    rows,
    volume::{self, Event, Todo, Volume},
};

/// How long the record of a deleted volume is kept: readers of the feed have seen it long before.
const REMEMBER_MS: u64 = 60 * 60 * 1000;

/// What the feed speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Pool,
    Volume(VolumeId),
}

/// A running Storage Controller. Cheap to clone.
#[derive(Clone)]
pub struct Sc(Arc<Inner>);

struct Inner {
    db: Db,
    pool: Arc<dyn Pool>,
    feed: Feed<Key, StorageChange>,
    overcommit_percent: u64,
    wake: Wake,
    pool_answers: Condition,
    metrics: Metrics,
    context: Context,
}

impl Sc {
    /// Starts from the records and the pool: the one path, after a stop and after a kill.
    /// Volumes may be promised `overcommit_percent` of the pool.
    pub async fn start(
        context: &Context,
        db: Db,
        pool: Arc<dyn Pool>,
        overcommit_percent: u64,
    ) -> Result<Self, BoxError> {
        let sc = Self(Arc::new(Inner {
            db,
            pool,
            feed: Feed::new(format!("{:016x}", rand::random::<u64>())),
            overcommit_percent,
            wake: Wake::new(),
            pool_answers: context.ready.condition("pool"),
            metrics: Metrics::new(&context.metrics),
            context: context.clone(),
        }));
        sc.adopt().await?;
        let tend = TendVolumes {
            sc: sc.clone(),
            deleted_at: BTreeMap::new(),
        };
        context.reconcile(tend, sc.0.wake.clone());
        Ok(sc)
    }

    /// Looks what is there after whatever happened.
    async fn adopt(&self) -> Result<(), BoxError> {
        let half_made = self.0.pool.tidy().await?;
        let files: BTreeMap<VolumeId, u64> = self.0.pool.list().await?.into_iter().collect();
        let volumes = self.volumes().await?;
        let known: BTreeSet<&VolumeId> = volumes.iter().map(|volume| &volume.id).collect();
        for stranger in files.keys().filter(|id| !known.contains(id)) {
            // Somebody's data whose record we lost; no rule of ours removes that.
            tracing::warn!(volume = %stranger, "a file in the pool is of no volume known here");
        }
        for volume in &volumes {
            if volume.seen == VolumeSeen::Available && !files.contains_key(&volume.id) {
                self.happen(&volume.id, Event::Vanished).await?;
            } else {
                self.tell(volume, files.get(&volume.id).copied().unwrap_or(0));
            }
        }
        self.tell_pool().await;
        tracing::info!(volumes = volumes.len(), half_made, "adopted what is there");
        Ok(())
    }

    async fn volumes(&self) -> Result<Vec<Volume>, Error> {
        self.0.db.read(rows::list).await
    }

    /// Records what happened to a volume, and tells.
    async fn happen(&self, id: &VolumeId, event: Event) -> Result<(), Error> {
        let of = id.clone();
        let write = move |tx: &Tx| -> Result<Option<Volume>, Error> {
            let Some(known) = rows::find(tx, &of)? else {
                return Ok(None);
            };
            let next = known.after(event);
            if next != known {
                rows::keep(tx, &next)?;
            }
            Ok(Some(next))
        };
        if let Some(volume) = self.0.db.write(write).await? {
            self.tell(&volume, 0);
        }
        Ok(())
    }

    fn tell(&self, volume: &Volume, allocated_bytes: u64) {
        let report = StorageChange::Volume(volume.report(allocated_bytes));
        self.0.feed.set(Key::Volume(volume.id.clone()), report);
    }

    async fn tell_pool(&self) {
        let provisioned_bytes = self.0.db.read(rows::provisioned_bytes).await.unwrap_or(0);
        let (facts, not_ready) = match self.0.pool.facts().await {
            Ok(facts) => (facts, None),
            Err(PoolError(why)) => {
                let kind = "unknown".to_owned();
                (
                    Facts {
                        kind,
                        total_bytes: 0,
                        free_bytes: 0,
                    },
                    Some(why),
                )
            }
        };
        match &not_ready {
            None => self.0.pool_answers.met(),
            Some(why) => self.0.pool_answers.unmet(why.clone()),
        }
        let report = PoolReport {
            kind: facts.kind,
            total_bytes: facts.total_bytes,
            // A figure for people and for admission: a few blocks more or less are no news.
            free_bytes: facts.free_bytes & !((1 << 20) - 1),
            provisioned_bytes,
            not_ready,
        };
        self.0.metrics.show(&report);
        self.0.feed.set(Key::Pool, StorageChange::Pool(report));
    }

    /// Takes a wish: on disk when it is answered. Not cut off by the caller's deadline.
    async fn take(&self, wish: VolumeWish) -> Result<Taken, CallError> {
        let limit = self.limit_bytes(&wish).await?;
        let write = move |tx: &Tx| -> Result<(Option<Volume>, Taken), Refused> {
            let known = rows::find(tx, &wish.volume)?;
            let (next, taken) = volume::wish(known.as_ref(), &wish)?;
            if known.is_none() && wish.wanted == VolumeWanted::Present {
                check_room(rows::provisioned_bytes(tx)?, wish.size_gib, limit)?;
            }
            if let Some(next) = &next {
                rows::keep(tx, next)?;
            }
            Ok((next, taken))
        };
        let (next, taken) = self.0.db.write(write).await.map_err(CallError::from)?;
        if let Some(volume) = next {
            let (id, seen, generation) = (&volume.id, volume.seen, volume.generation);
            tracing::info!(volume = %id, generation, ?seen, "wish taken");
            self.tell(&volume, 0);
            self.0.wake.wake();
        }
        Ok(taken)
    }

    /// What volumes may be promised in all.
    async fn limit_bytes(&self, wish: &VolumeWish) -> Result<u64, CallError> {
        if wish.wanted == VolumeWanted::Absent {
            return Ok(0);
        }
        let facts = self.0.pool.facts().await;
        let facts = facts.map_err(|error| CallError::new(Code::NotReady, error.to_string()))?;
        Ok(facts.total_bytes / 100 * self.0.overcommit_percent)
    }
}

fn check_room(provisioned_bytes: u64, size: Gib, limit_bytes: u64) -> Result<(), CallError> {
    if provisioned_bytes + size.bytes() <= limit_bytes {
        return Ok(());
    }
    let left = limit_bytes.saturating_sub(provisioned_bytes) >> 30;
    let what = format!("{size} asked, the pool can promise {left} GiB more");
    Err(CallError::new(Code::NoRoom, what))
}

/// Why a wish was not recorded.
enum Refused {
    Call(CallError),
    Store(Error),
}

impl From<CallError> for Refused {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Call(error) => error,
            Refused::Store(error) => Self::internal(&error),
        }
    }
}

#[async_trait]
impl Storage for Sc {
    async fn volume(&self, _: &Call, wish: VolumeWish) -> Result<Taken, CallError> {
        let sc = self.clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        self.0.context.detach(async move {
            let _caller_gone = tell.send(sc.take(wish).await);
        });
        told.await
            .unwrap_or_else(|_| Err(CallError::new(Code::Internal, "the daemon is stopping")))
    }

    async fn changes(&self, _: &Call, poll: Poll) -> Result<Changes<StorageChange>, CallError> {
        Ok(self.0.feed.poll(&poll).await)
    }
}

/// Makes volumes what they are wished to be, and keeps the report of the pool fresh.
struct TendVolumes {
    sc: Sc,
    deleted_at: BTreeMap<VolumeId, u64>,
}

impl Reconcile for TendVolumes {
    const NAME: &'static str = "tend_volumes";
    const PERIOD: Duration = Duration::from_secs(10);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let mut summary = Summary::nothing();
        let mut failed = None;
        for volume in self.sc.volumes().await? {
            match volume::todo(volume.seen) {
                Todo::Make => self.make(&volume, &mut summary).await?,
                // One that cannot be removed now does not keep the others waiting.
                Todo::Remove => match self.sc.0.pool.remove(&volume.id).await {
                    Ok(()) => {
                        self.sc.happen(&volume.id, Event::Removed).await?;
                        summary.count("removed", 1);
                    }
                    Err(error) => failed = Some(error),
                },
                Todo::Nothing => {}
            }
        }
        self.forget().await?;
        self.show_sizes().await?;
        self.sc.tell_pool().await;
        failed.map_or(Ok(summary), |error| Err(error.into()))
    }
}

impl TendVolumes {
    async fn make(&self, volume: &Volume, summary: &mut Summary) -> Result<(), Error> {
        let made = self.sc.0.pool.make(&volume.id, volume.size_gib).await;
        summary.count(if made.is_ok() { "made" } else { "not made" }, 1);
        let event = match made {
            Ok(()) => Event::Made,
            Err(PoolError(why)) => {
                tracing::error!(volume = %volume.id, why, "volume not made");
                Event::NotMade(why)
            }
        };
        self.sc.happen(&volume.id, event).await
    }

    /// Drops the records of volumes that are long gone.
    async fn forget(&mut self) -> Result<(), Error> {
        let now = self.sc.0.context.clock.monotonic_ms();
        for volume in self.sc.volumes().await? {
            if volume.seen == VolumeSeen::Deleted {
                self.deleted_at.entry(volume.id).or_insert(now);
            }
        }
        let over = |at: &u64| now.saturating_sub(*at) >= REMEMBER_MS;
        let gone: Vec<VolumeId> = self
            .deleted_at
            .iter()
            .filter(|(_, at)| over(at))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            let of = id.clone();
            self.sc.0.db.write(move |tx| rows::forget(tx, &of)).await?;
            self.sc.0.feed.forget(&Key::Volume(id.clone()));
            self.deleted_at.remove(&id);
        }
        Ok(())
    }

    async fn show_sizes(&self) -> Result<(), BoxError> {
        let files: BTreeMap<VolumeId, u64> = self.sc.0.pool.list().await?.into_iter().collect();
        for volume in self.sc.volumes().await? {
            self.sc
                .tell(&volume, files.get(&volume.id).copied().unwrap_or(0));
        }
        Ok(())
    }
}
