//! All keepers of the node: finds the one for an instance, or makes it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use control::{
    CallError, Code,
    node::{InstanceReport, InstanceWish, Seen, Taken},
};
use daemon::{Context, reconcile::Wake};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use types::InstanceId;

use crate::{
    cache::tidy::Known,
    keeper::{Handle, Keeper, Message},
    record::{self, Record},
    site::Site,
};

/// Instances that a node knows, the terminated ones that it still reports included. A host runs a
/// few hundred.
const INSTANCES_MAX: usize = 4096;
/// A keeper may forget its instance just as a wish arrives; the next one is new.
const TRIES: u32 = 3;

/// The keepers. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Keepers {
    site: Arc<Site>,
    context: Context,
    all: Arc<Mutex<HashMap<InstanceId, Handle>>>,
    adopted: Arc<AtomicBool>,
    /// Wakes whoever looks for what has no keeper.
    pub look: Wake,
}

enum Found {
    Known(Handle),
    New(oneshot::Receiver<Result<Taken, CallError>>),
}

impl Keepers {
    /// No keepers yet. Wishes are refused until [`Keepers::adopted_all`].
    pub fn new(site: Arc<Site>, context: Context) -> Self {
        Self {
            site,
            context,
            all: Arc::default(),
            adopted: Arc::default(),
            look: Wake::new(),
        }
    }

    /// Cancelled when the node stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.context.cancel
    }

    /// What the keepers share.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// The instances of earlier processes have their keepers: from now on what has none is new.
    pub fn adopted_all(&self) {
        self.adopted.store(true, Ordering::SeqCst);
    }

    /// Whether the instances of earlier processes have their keepers.
    pub fn has_adopted(&self) -> bool {
        self.adopted.load(Ordering::SeqCst)
    }

    /// Says what an instance is to be. Returns when that is on disk.
    pub async fn wish(&self, wish: InstanceWish) -> Result<Taken, CallError> {
        if wish.node != self.site.node {
            let why = format!(
                "{} is placed on {}, this is {}",
                wish.instance, wish.node, self.site.node
            );
            return Err(CallError::new(Code::Invalid, why));
        }
        if !self.has_adopted() {
            let why = "still looking for the instances of an earlier life";
            return Err(CallError::new(Code::NotReady, why));
        }
        for _ in 0..TRIES {
            let taken = match self.find_or_make(&wish)? {
                Found::New(taken) => taken.await,
                Found::Known(keeper) => {
                    let (answer, taken) = oneshot::channel();
                    let _ = keeper
                        .tell(Message::Wish(Box::new(wish.clone()), answer))
                        .await;
                    taken.await
                }
            };
            if let Ok(taken) = taken {
                return taken;
            }
        }
        Err(CallError::new(
            Code::NotReady,
            "the instance's keeper is on its way out",
        ))
    }

    fn find_or_make(&self, wish: &InstanceWish) -> Result<Found, CallError> {
        let mut all = self.lock();
        if let Some(handle) = all.get(&wish.instance).filter(|handle| !handle.is_gone()) {
            return Ok(Found::Known(handle.clone()));
        }
        if all.len() >= INSTANCES_MAX {
            let why = format!("this node knows {INSTANCES_MAX} instances already");
            return Err(CallError::new(Code::NoRoom, why));
        }
        let dir = record::folder(&self.site.instances, &wish.instance);
        if dir.exists() && !matches!(Record::read(&dir), Ok(None)) {
            // Its keeper was lost to a defect. Starting anew could wipe what still runs.
            self.look.wake();
            return Err(CallError::new(
                Code::NotReady,
                "the instance is being taken up again",
            ));
        }
        let (keeper, handle) = Keeper::new(self.site.clone(), wish.clone());
        all.insert(wish.instance.clone(), handle);
        Ok(Found::New(self.run(keeper, wish.instance.clone(), true)))
    }

    /// Takes up an instance of an earlier process, unless somebody keeps it.
    pub fn adopt(&self, record: Record, domain_is_there: bool) {
        let mut all = self.lock();
        let instance = record.wish.instance.clone();
        if all.get(&instance).is_some_and(|handle| !handle.is_gone()) {
            return;
        }
        let (keeper, handle) = Keeper::adopt(self.site.clone(), record, domain_is_there);
        all.insert(instance.clone(), handle);
        drop(self.run(keeper, instance, false));
    }

    fn run(
        &self,
        mut keeper: Keeper,
        instance: InstanceId,
        new: bool,
    ) -> oneshot::Receiver<Result<Taken, CallError>> {
        let (settled, taken) = oneshot::channel();
        let (keepers, stop) = (self.clone(), self.context.cancel.clone());
        let kept = tokio::spawn(async move {
            let taken = keeper.settle_in(new).await;
            let refused = new && taken.is_err();
            if refused {
                drop(keeper);
                let _ = settled.send(taken);
                return true;
            }
            let _ = settled.send(taken);
            keeper.run(stop).await
        });
        self.context.detach(async move {
            match kept.await {
                Ok(true) => keepers.drop_if_gone(&instance),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%instance, %error, "a keeper broke; taking the instance up again");
                    keepers.look.wake();
                }
            }
        });
        taken
    }

    fn drop_if_gone(&self, instance: &InstanceId) {
        let mut all = self.lock();
        if all.get(instance).is_some_and(Handle::is_gone) {
            all.remove(instance);
        }
    }

    /// The keeper of an instance, if it has one.
    pub fn get(&self, instance: &InstanceId) -> Option<Handle> {
        self.lock()
            .get(instance)
            .filter(|handle| !handle.is_gone())
            .cloned()
    }

    /// The last report of every instance that has a keeper.
    pub fn reports(&self) -> HashMap<InstanceId, InstanceReport> {
        let all = self.lock();
        let kept = all.iter().filter(|(_, handle)| !handle.is_gone());
        kept.map(|(instance, handle)| (instance.clone(), handle.report()))
            .collect()
    }

    /// Whether the instance has anything on this node. Before all are adopted, any may have.
    fn may_have(&self, instance: &InstanceId) -> bool {
        match self.get(instance) {
            _ if !self.has_adopted() => true,
            Some(keeper) => keeper.report().seen != Seen::Terminated,
            // A record that cannot be read is somebody's.
            None => record::folder(&self.site.instances, instance).exists(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Handle>> {
        self.all
            .lock()
            .expect("no one panics while holding this lock")
    }
}

impl Known for Keepers {
    fn knows(&self, instance: &InstanceId) -> bool {
        self.may_have(instance)
    }
}
