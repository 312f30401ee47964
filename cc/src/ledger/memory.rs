//! The ledger of simulations: keeps what was committed while its daemon is killed and started
//! again, and kills it at a chosen commit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Change, Ledger, LedgerError, Saved};

/// When a daemon is to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Before the commit: nothing of it is durable.
    Before,
    /// After the commit, before anyone hears of it.
    After,
}

/// A ledger in memory: one life of a daemon on a disk that outlives it.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    disk: Arc<Mutex<Saved>>,
    life: Mutex<Life>,
}

#[derive(Debug, Default)]
struct Life {
    crash: Option<(u64, Crash)>,
    dead: bool,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryLedger {
    /// From the commit after so many more on, every call fails, as in a daemon that was killed.
    pub fn crash_after(&self, commits: u64, crash: Crash) {
        lock(&self.life).crash = Some((commits, crash));
    }

    /// Ends this life: nothing that its daemon still does becomes durable.
    pub fn kill(&self) {
        lock(&self.life).dead = true;
    }

    /// Whether this life is over.
    pub fn is_dead(&self) -> bool {
        lock(&self.life).dead
    }

    /// The next life on the same disk. This one is over.
    #[must_use]
    pub fn next_life(&self) -> Arc<Self> {
        self.kill();
        Arc::new(Self {
            disk: self.disk.clone(),
            life: Mutex::default(),
        })
    }

    /// Forgets everything: the disk was lost.
    pub fn lose(&self) {
        *lock(&self.disk) = Saved::default();
    }

    /// What is durable now.
    pub fn saved(&self) -> Saved {
        lock(&self.disk).clone()
    }
}

impl Life {
    /// Counts down to the crash; says whether this commit is the one.
    fn crashes_now(&mut self) -> Option<Crash> {
        let (left, crash) = self.crash?;
        if left > 0 {
            self.crash = Some((left - 1, crash));
            return None;
        }
        self.dead = true;
        Some(crash)
    }
}

fn killed() -> LedgerError {
    LedgerError("the daemon was killed".to_owned())
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn load(&self) -> Result<Saved, LedgerError> {
        Ok(self.saved())
    }

    async fn commit(&self, changes: &[Change]) -> Result<(), LedgerError> {
        let mut life = lock(&self.life);
        if life.dead {
            return Err(killed());
        }
        let crash = life.crashes_now();
        if crash != Some(Crash::Before) {
            let mut disk = lock(&self.disk);
            for change in changes {
                disk.apply(change.clone());
            }
        }
        crash.map_or(Ok(()), |_| Err(killed()))
    }
}
