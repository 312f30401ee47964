//! Makes what there is and what is known agree: at start, whenever the hypervisor was out of reach,
//! and now and then. There is no other recovery.
//!
//! Three sources are laid side by side: keepers, records beside disks, domains that bear our mark.
//! A record without a keeper is adopted. A running instance without a domain has ended, unless a
//! QEMU process still has its disks open. A domain of a terminated instance is ended. One that
//! nothing is known of gets time to be wished for. What bears no mark of ours is never touched.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    time::Duration,
};

use control::node::{InstanceReport, Seen};
use daemon::{
    BoxError, chain,
    reconcile::{Reconcile, Summary},
};
use tokio::time::Instant;
use types::InstanceId;

use crate::{
    hypervisor::Error,
    in_use,
    instance::{Cause, End, Event},
    keeper::Message,
    keepers::Keepers,
    record::{self, Record},
};

/// How long a domain of ours that nothing is known of may run: the state folder was lost, and
/// whoever placed it there may be restarting too. Its user's work is worth the wait.
const ORPHAN_GRACE: Duration = Duration::from_secs(600);
/// What people read while we cannot be sure.
const UNSURE: &str = "libvirt does not know the domain, but a QEMU process has its disk open";

/// The reconciler.
pub struct AdoptInstances {
    keepers: Keepers,
    /// Domains that nothing is known of, and since when.
    orphans: HashMap<InstanceId, Instant>,
}

/// A record, and whether a QEMU process has disks beside it open.
struct Kept {
    record: Record,
    in_use: bool,
}

/// What lies below the folder of instances.
#[derive(Default)]
struct Records {
    kept: Vec<Kept>,
    /// Instances that have a record which we cannot use: they are known, and not ours to end.
    unreadable: BTreeSet<InstanceId>,
}

impl AdoptInstances {
    /// For these keepers.
    pub fn new(keepers: Keepers) -> Self {
        Self {
            keepers,
            orphans: HashMap::new(),
        }
    }
}

impl Reconcile for AdoptInstances {
    const NAME: &'static str = "adopt_instances";
    const PERIOD: Duration = Duration::from_secs(30);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let site = self.keepers.site().clone();
        let mut summary = Summary::nothing();
        // Reports first: an instance that ran before the list was made must be on it.
        let before = self.keepers.reports();
        let listed = match site.hypervisor.list().await {
            Ok(listed) => listed,
            // No failure of ours: `/readyz` says it, and we are woken when it is back.
            Err(Error::Unreachable(_)) => {
                summary.count("hypervisor_unreachable", 1);
                return Ok(summary);
            }
            Err(error) => return Err(error.into()),
        };
        let domains: BTreeMap<InstanceId, Option<Cause>> = listed
            .into_iter()
            .filter_map(|found| Some((found.ours(&site.node)?, found.paused)))
            .collect();

        let instances = site.instances.clone();
        let records = tokio::task::spawn_blocking(move || read_records(&instances)).await??;
        for Kept { record, in_use } in records.kept {
            let instance = &record.wish.instance;
            if self.keepers.get(instance).is_none() {
                summary.count("adopted", 1);
                // A guest that libvirt has lost runs on: the next pass says that we are unsure.
                let there = domains.contains_key(instance) || in_use;
                let (instance, paused) = (instance.clone(), domains.get(instance).cloned());
                self.keepers.adopt(record, there);
                self.note_paused(&instance, paused.flatten()).await;
            }
        }
        self.keepers.adopted_all();

        for (instance, report) in &before {
            summary.count("vanished", self.compare(instance, report, &domains).await);
        }
        summary.count("unreadable", records.unreadable.len() as u64);
        let unreadable = &records.unreadable;
        let endable = domains.into_keys().filter(|id| !unreadable.contains(id));
        let endable = endable.collect();
        summary.count("ended", self.end_unwanted(&endable, &before).await);
        Ok(summary)
    }
}

impl AdoptInstances {
    /// An instance that ran is looked for among the domains. Counts it if it is gone.
    async fn compare(
        &self,
        instance: &InstanceId,
        report: &InstanceReport,
        domains: &BTreeMap<InstanceId, Option<Cause>>,
    ) -> u64 {
        let Some(keeper) = self.keepers.get(instance) else {
            return 0;
        };
        match (report.seen, domains.get(instance)) {
            (Seen::Running, Some(paused)) => {
                if report.stage == UNSURE {
                    keeper.mention(Message::Unsure(String::new()));
                }
                match paused {
                    Some(cause) => self.note_paused(instance, Some(cause.clone())).await,
                    // Whoever was resumed since the list was made will say so.
                    None if report.impaired.is_some() && keeper.report() == *report => {
                        let _ = keeper.tell(Message::Happened(Event::Resumed)).await;
                    }
                    None => {}
                }
                0
            }
            (Seen::Running, None) => {
                let dir = record::folder(&self.keepers.site().instances, instance);
                let held = tokio::task::spawn_blocking(move || in_use::find(&dir)).await;
                if matches!(held, Ok(None)) {
                    let _ = keeper
                        .tell(Message::Happened(Event::Gone(End::Vanished)))
                        .await;
                    return 1;
                }
                keeper.mention(Message::Unsure(UNSURE.to_owned()));
                0
            }
            (Seen::Pending | Seen::ShuttingDown | Seen::Terminated, _) => 0,
        }
    }

    /// Tells a keeper that its guest stands still: one that it was told before changes nothing.
    async fn note_paused(&self, instance: &InstanceId, paused: Option<Cause>) {
        if let (Some(cause), Some(keeper)) = (paused, self.keepers.get(instance)) {
            let _ = keeper.tell(Message::Happened(Event::Paused(cause))).await;
        }
    }

    /// Ends those of these domains that are not to be: of terminated instances, and of nobody for
    /// too long.
    async fn end_unwanted(
        &mut self,
        domains: &BTreeSet<InstanceId>,
        before: &HashMap<InstanceId, InstanceReport>,
    ) -> u64 {
        let mut ended = 0;
        self.orphans
            .retain(|instance, _| domains.contains(instance));
        for instance in domains {
            let was_terminated = before
                .get(instance)
                .is_some_and(|report| report.seen == Seen::Terminated);
            let unwanted = match self.keepers.get(instance) {
                Some(keeper) => was_terminated && keeper.report().seen == Seen::Terminated,
                None => {
                    let since = *self
                        .orphans
                        .entry(instance.clone())
                        .or_insert_with(Instant::now);
                    since.elapsed() >= ORPHAN_GRACE
                }
            };
            if unwanted {
                ended += self.end(instance).await;
            }
        }
        ended
    }

    async fn end(&self, instance: &InstanceId) -> u64 {
        tracing::warn!(%instance, "ending a domain that nobody wishes");
        match self.keepers.site().hypervisor.destroy(instance).await {
            Ok(()) => 1,
            Err(error) => {
                tracing::warn!(%instance, error = chain(&error), "it is still there");
                0
            }
        }
    }
}

/// Every record below the folder. What is no instance's folder is left alone; an empty folder of
/// one is what a crash before the first record leaves, and goes. One that holds more has lost its record:
/// what its guest wrote is left to people.
fn read_records(instances: &Path) -> Result<Records, BoxError> {
    let mut records = Records::default();
    for entry in std::fs::read_dir(instances)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(instance) = name
            .to_str()
            .and_then(|name| name.parse::<InstanceId>().ok())
        else {
            continue;
        };
        match Record::read(&entry.path()) {
            Ok(Some(record)) if record.wish.instance == instance => {
                let in_use = in_use::find(&entry.path()).is_some();
                records.kept.push(Kept { record, in_use });
            }
            Ok(Some(record)) => {
                tracing::error!(%instance, holds = %record.wish.instance, "another's record");
                records.unreadable.insert(instance);
            }
            Ok(None) if record::has_more(&entry.path())? => {
                tracing::error!(%instance, "its record is lost, and its disks are left alone");
                records.unreadable.insert(instance);
            }
            Ok(None) => remove(&entry.path()),
            Err(error) => {
                tracing::error!(%instance, error = chain(&error), "left alone");
                records.unreadable.insert(instance);
            }
        }
    }
    Ok(records)
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "a folder without a record stays");
    }
}

#[cfg(test)]
mod tests;
