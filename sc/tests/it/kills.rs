//! Killed before and after each thing that it does to the pool, it loses nothing and leaves nothing.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use control::storage::{VolumeSeen, VolumeWanted};
use sc::pool::{Facts, FilePool, Pool, PoolError};
use tokio::sync::Notify;
use types::{Gib, VolumeId};

use crate::rig::{Rig, wish};

/// A pool whose daemon dies at the nth change: at it, the call never returns.
struct Dying {
    pool: FilePool,
    left: AtomicI64,
    after: bool,
    died: Arc<Notify>,
}

impl Dying {
    async fn at(&self, after: bool) {
        if after == self.after && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.died.notify_one();
            pending().await
        }
    }
}

#[async_trait]
impl Pool for Dying {
    async fn facts(&self) -> Result<Facts, PoolError> {
        self.pool.facts().await
    }

    async fn make(&self, volume: &VolumeId, size: Gib) -> Result<(), PoolError> {
        self.at(false).await;
        let made = self.pool.make(volume, size).await;
        self.at(true).await;
        made
    }

    async fn remove(&self, volume: &VolumeId) -> Result<(), PoolError> {
        self.at(false).await;
        let removed = self.pool.remove(volume).await;
        self.at(true).await;
        removed
    }

    async fn list(&self) -> Result<Vec<(VolumeId, u64)>, PoolError> {
        self.pool.list().await
    }

    async fn tidy(&self) -> Result<u64, PoolError> {
        self.pool.tidy().await
    }
}

#[tokio::test]
async fn a_kill_at_any_change_of_the_pool_is_made_good_at_the_next_start() {
    for nth in 0..4 {
        for after in [false, true] {
            check(nth, after).await;
        }
    }
}

/// Three volumes are made, one of them removed; the daemon dies at the nth of these.
async fn check(nth: i64, after: bool) {
    let died = Arc::new(Notify::new());
    let mut rig = Rig::over(|pool| {
        let died = died.clone();
        Arc::new(Dying {
            pool,
            left: AtomicI64::new(nth),
            after,
            died,
        })
    })
    .await;
    for number in 1..=3 {
        rig.say(wish(number, 1, VolumeWanted::Present))
            .await
            .unwrap();
    }
    if nth == 3 {
        rig.until(2, VolumeSeen::Available).await;
        rig.until(3, VolumeSeen::Available).await;
    }
    // Answered even while the pool hangs: the wish is on disk.
    rig.say(wish(2, 2, VolumeWanted::Absent)).await.unwrap();
    died.notified().await;

    rig.restart().await;
    rig.until(1, VolumeSeen::Available).await;
    rig.until(2, VolumeSeen::Deleted).await;
    rig.until(3, VolumeSeen::Available).await;
    assert_eq!(
        rig.files(),
        ["vol-00000001.raw", "vol-00000003.raw"],
        "{nth} {after}"
    );
    rig.context.cancel.cancel();
}
