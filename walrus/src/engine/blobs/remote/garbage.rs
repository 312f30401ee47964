//! What nobody needs any more in the other store. It is deleted one after the other, by requests that
//! nobody waits for, and kept in mind while the store is away. What a crash makes us forget is found
//! by the sweep after the next start.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::Method;
use tokio::sync::{Semaphore, mpsc};

use super::{Shared, client::Ask, upload::is_not_found, worker::Worker};
use crate::engine::failure::Failure;

/// Deletions at once.
const AT_ONCE: usize = 8;
/// Deletions that are kept in mind; what comes beyond is left to the sweep.
const WAITING_MAX: usize = 100_000;
/// Between two tries while the store is away.
const REST: Duration = Duration::from_secs(2);
/// How often somebody who waits looks again.
const LOOK: Duration = Duration::from_millis(10);

/// Something to be deleted.
#[derive(Debug)]
pub(super) enum Garbage {
    /// An object, by its key.
    Object(String),
    /// An upload that was begun.
    Upload { key: String, id: String },
}

impl Garbage {
    fn ask(&self) -> Ask {
        match self {
            Self::Object(key) => Ask::new(Method::DELETE, key.clone()),
            Self::Upload { key, id } => Ask::new(Method::DELETE, key.clone())
                .query(format!("uploadId={}", sigv4::encode(id.as_bytes()))),
        }
    }
}

/// What waits to be deleted.
#[derive(Debug)]
pub(super) struct Bin {
    thrown: mpsc::Sender<Garbage>,
    left: Arc<AtomicUsize>,
}

/// The other end of a [`Bin`].
pub(super) struct Emptying {
    waiting: mpsc::Receiver<Garbage>,
    left: Arc<AtomicUsize>,
}

impl Bin {
    pub(super) fn new() -> (Self, Emptying) {
        let (thrown, waiting) = mpsc::channel(WAITING_MAX);
        let left = Arc::new(AtomicUsize::new(0));
        let emptying = Emptying {
            waiting,
            left: left.clone(),
        };
        (Self { thrown, left }, emptying)
    }

    /// Throws something away; never waits.
    pub(super) fn throw(&self, garbage: Garbage) {
        self.left.fetch_add(1, Ordering::Relaxed);
        if self.thrown.try_send(garbage).is_err() {
            self.left.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("too much waits to be deleted; the next sweep finds it");
        }
    }

    /// Blocks until nothing is left, or so long.
    pub(super) fn until_empty(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while self.left.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }
}

impl Emptying {
    /// Deletes what comes, until nobody can throw anything any more.
    pub(super) fn start(mut self, shared: &Arc<Shared>, worker: &Worker) {
        let (shared, permits) = (Arc::downgrade(shared), Arc::new(Semaphore::new(AT_ONCE)));
        worker.spawn(async move {
            while let Some(garbage) = self.waiting.recv().await {
                let Ok(permit) = permits.clone().acquire_owned().await else {
                    return;
                };
                let (shared, left) = (shared.clone(), self.left.clone());
                tokio::spawn(async move {
                    delete(&shared, garbage).await;
                    left.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                });
            }
        });
    }
}

async fn delete(shared: &Weak<Shared>, garbage: Garbage) {
    let ask = garbage.ask();
    while let Some(shared) = shared.upgrade() {
        match shared.client.send(&ask).await {
            Err(Failure::Away(_)) => {}
            Err(error) if !is_not_found(&error) => {
                let error = daemon::chain(&error);
                tracing::warn!(error, "what nobody needs stays until the next sweep");
                return;
            }
            _ => return,
        }
        drop(shared);
        tokio::time::sleep(REST).await;
    }
}
