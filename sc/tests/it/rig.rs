//! A Storage Controller in a temporary folder, killed and started again at will.

use std::{path::PathBuf, sync::Arc};

use control::{
    CallError, Storage,
    feed::Poll,
    node::Taken,
    rpc::Call,
    storage::{PoolReport, StorageChange, VolumeReport, VolumeSeen, VolumeWanted, VolumeWish},
};
use daemon::Context;
use sc::{
    Sc,
    pool::{FilePool, Pool},
    rows::MIGRATIONS,
};
use store::Db;
use tempfile::TempDir;
use types::{Gib, VolumeId};

pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) context: Context,
    pub(crate) sc: Sc,
}

/// How long a test waits for a state: far longer than any takes.
const PATIENCE_POLLS: usize = 50;

pub(crate) fn volume(number: u32) -> VolumeId {
    format!("vol-{number:08x}").parse().unwrap()
}

pub(crate) fn wish(number: u32, generation: u64, wanted: VolumeWanted) -> VolumeWish {
    VolumeWish {
        volume: volume(number),
        generation,
        wanted,
        size_gib: Gib(2),
        snapshot: None,
    }
}

async fn started(folder: &TempDir, wrap: impl FnOnce(FilePool) -> Arc<dyn Pool>) -> (Context, Sc) {
    let context = Context::new("sc", "0", folder.path());
    let db = Db::open(folder.path().join("sc.db"), MIGRATIONS).unwrap();
    let pool = wrap(FilePool::open(folder.path().join("volumes")).unwrap());
    let sc = Sc::start(&context, db, pool, 100).await.unwrap();
    (context, sc)
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::over(|pool| Arc::new(pool)).await
    }

    pub(crate) async fn over(wrap: impl FnOnce(FilePool) -> Arc<dyn Pool>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (context, sc) = started(&folder, wrap).await;
        Self {
            folder,
            context,
            sc,
        }
    }

    /// Stops the daemon where it is, and starts it on what is there.
    pub(crate) async fn restart(&mut self) {
        self.context.cancel.cancel();
        (self.context, self.sc) = started(&self.folder, |pool| Arc::new(pool)).await;
    }

    pub(crate) fn file(&self, number: u32, extension: &str) -> PathBuf {
        self.folder
            .path()
            .join(format!("volumes/{}.{extension}", volume(number)))
    }

    /// Everything in the pool's folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("volumes")).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub(crate) async fn say(&self, wish: VolumeWish) -> Result<Taken, CallError> {
        self.sc.volume(&Call::new("test"), wish).await
    }

    pub(crate) async fn all(&self) -> Vec<StorageChange> {
        let poll = Poll {
            after: None,
            wait_ms: 0,
        };
        self.sc
            .changes(&Call::new("test"), poll)
            .await
            .unwrap()
            .items
    }

    pub(crate) async fn report(&self, number: u32) -> Option<VolumeReport> {
        self.all()
            .await
            .into_iter()
            .find_map(|change| match change {
                StorageChange::Volume(report) if report.volume == volume(number) => Some(report),
                StorageChange::Volume(_) | StorageChange::Pool(_) => None,
            })
    }

    pub(crate) async fn pool(&self) -> PoolReport {
        let find = |change| match change {
            StorageChange::Pool(report) => Some(report),
            StorageChange::Volume(_) => None,
        };
        self.all().await.into_iter().find_map(find).unwrap()
    }

    /// Waits until a volume is seen so.
    pub(crate) async fn until(&self, number: u32, seen: VolumeSeen) -> VolumeReport {
        for _ in 0..PATIENCE_POLLS {
            if let Some(report) = self.report(number).await.filter(|r| r.seen == seen) {
                return report;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!(
            "{} is {:?}, not {seen:?}",
            volume(number),
            self.report(number).await
        );
    }
}
