//! Keeps the cache in order: asks whether its folder answers, takes back marks of instances that are
//! gone, and removes what a node that died has left half made.
//!
//! Nothing here is needed for a launch; all of it may be late or happen twice.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};
use tokio::time::Instant;
use types::InstanceId;

use super::{
    Cache, CacheError, EntryName,
    folder::{Folder, Part},
    lease::{self, Beat, Lease},
};

/// How long something half made that no lease names must have stayed the same: a node that was only
/// slow has been silent for this long on top of its lease.
const ABANDONED: Duration = Duration::from_secs(600);

/// Who is on the node, for whom marks are kept.
pub trait Known: Send + Sync + 'static {
    /// Whether the instance is on this node, or its disks are. Unsure is yes.
    fn knows(&self, instance: &InstanceId) -> bool;
}

/// The reconciler.
pub struct TidyCache {
    cache: Cache,
    known: Arc<dyn Known>,
    abandoned: Duration,
    /// Leases as they were last seen.
    leases: Still<(EntryName, Beat)>,
    /// What is half made and no lease names.
    parts: Still<Part>,
}

impl TidyCache {
    /// For that cache.
    pub fn new(cache: Cache, known: Arc<dyn Known>) -> Self {
        Self {
            cache,
            known,
            abandoned: ABANDONED,
            leases: Still(HashMap::new()),
            parts: Still(HashMap::new()),
        }
    }
}

impl Reconcile for TidyCache {
    const NAME: &'static str = "tidy_cache";
    /// Also how soon a folder that does not answer is noticed while nobody needs it.
    const PERIOD: Duration = Duration::from_secs(10);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let mut summary = Summary::nothing();
        match self.tidy(&mut summary).await {
            // No failure of ours: `/readyz` says it.
            Err(error) if error.is_silence() => summary.count("silent", 1),
            outcome => outcome?,
        }
        Ok(summary)
    }
}

impl TidyCache {
    async fn tidy(&mut self, summary: &mut Summary) -> Result<(), CacheError> {
        let files = self.cache.shared.files.clone();
        // Marks first: one that is made after this list is of an instance that is known by then.
        let marked = files.run(Folder::marked).await?;
        for instance in marked {
            if !self.known.knows(&instance) {
                tracing::info!(%instance, "its marks in the image cache are taken back");
                self.cache.release(&instance).await?;
                summary.count("released", 1);
            }
        }
        let look = |folder: &Folder| Ok((folder.parts()?, lease::all(folder)?));
        let (parts, leases) = files.run(look).await?;
        for (name, silent) in self.leases.unchanged(leases.clone(), self.abandoned) {
            tracing::info!(entry = %name, node = silent.node, "a lease that nobody keeps");
            let end = move |folder: &Folder| Lease::take_over(folder, &name, &silent).map(drop);
            files.run(end).await?;
            summary.count("leases", 1);
        }
        let is_nobodys = |part: &Part| {
            let mut of_it = leases.iter().filter(|(name, _)| *name == part.name);
            !of_it.any(|(_, beat)| beat.run == part.run)
        };
        let nobodys = parts.into_iter().filter(is_nobodys).collect();
        for part in self.parts.unchanged(nobodys, self.abandoned) {
            tracing::info!(entry = %part.name, run = part.run, "half made and abandoned");
            files.run(move |folder| folder.abandon(&part)).await?;
            summary.count("abandoned", 1);
        }
        Ok(())
    }
}

/// Things that have been seen as they are, and since when, by our own clock.
struct Still<T>(HashMap<T, Instant>);

impl<T: Clone + Eq + Hash> Still<T> {
    /// Takes in what there is now; gives what has been so for that long.
    fn unchanged(&mut self, now: Vec<T>, for_long: Duration) -> Vec<T> {
        let before = std::mem::take(&mut self.0);
        let since = |thing: T| {
            let since = before.get(&thing).copied().unwrap_or_else(Instant::now);
            (thing, since)
        };
        self.0 = now.into_iter().map(since).collect();
        let old = self
            .0
            .iter()
            .filter(|(_, since)| since.elapsed() > for_long);
        old.map(|(thing, _)| thing.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::rig;

    struct Only(BTreeSet<InstanceId>);

    impl Known for Only {
        fn knows(&self, instance: &InstanceId) -> bool {
            self.0.contains(instance)
        }
    }

    fn name(n: u8) -> EntryName {
        format!("emi-000000{n:02x}_{}_r1.disk", "00".repeat(32))
            .parse()
            .unwrap()
    }

    fn folder(root: &Path, node: &str) -> Folder {
        let folder = Folder::at(root, node);
        folder.prepare().unwrap();
        folder
    }

    #[tokio::test]
    async fn marks_of_the_unknown_go_and_what_was_abandoned_goes_after_a_while() {
        let root = tempfile::tempdir().unwrap();
        let cache = rig::cache_in(root.path(), Duration::from_secs(10));
        let (here, there): (InstanceId, InstanceId) =
            ("i-00000001".parse().unwrap(), "i-00000002".parse().unwrap());
        let ours = folder(root.path(), cache.shared.files.folder().node());
        for instance in [&here, &there] {
            ours.mark(&name(1), instance).unwrap();
        }
        // Another node: one entry that it fills, one that it has left, and a lease's draft.
        let other = folder(root.path(), "node-00000009");
        let lease::Claim::Ours(lease) = Lease::claim(&other, &name(1)).unwrap() else {
            panic!("it was free")
        };
        std::mem::forget(Lease::claim(&other, &name(3)).unwrap());
        for n in [1, 2] {
            std::mem::forget(other.begin(&name(n)).unwrap());
        }
        let draft = format!(".{}.node-00000009.{}.draft", name(2), other.run());
        std::fs::write(other.filling().join(draft), "").unwrap();

        let mut tidy = TidyCache {
            abandoned: Duration::from_millis(50),
            ..TidyCache::new(cache, Arc::new(Only(BTreeSet::from([here.clone()]))))
        };
        tidy.pass().await.unwrap();
        assert_eq!(ours.marked().unwrap(), [here]);
        assert_eq!(other.parts().unwrap().len(), 3, "it may only be slow");
        tokio::time::sleep(tidy.abandoned * 2).await;
        assert!(lease.beat(10).unwrap());
        tidy.pass().await.unwrap();
        let left = other.parts().unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].name, name(1));
        assert!(lease.beat(20).unwrap(), "it is kept");
        assert_eq!(lease::all(&other).unwrap().len(), 1);
    }
}
