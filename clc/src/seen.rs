//! What clusters and stores last said of themselves. Memory only: after a restart they say it again.
//!
//! What they say of instances and volumes goes into the rows; here is what the rows do not need.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use control::{cluster::NodeStatus, objects::ObjectsStatus, storage::PoolReport};
use types::{NodeId, Timestamp, Zone};

/// Whether a peer answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Answers {
    /// Not asked yet since we started.
    #[default]
    NotYet,
    /// It did at that time.
    At(Timestamp),
    /// It does not, and why; when it last did.
    Not(String, Option<Timestamp>),
}

impl Answers {
    /// When it last answered.
    pub fn last(&self) -> Option<Timestamp> {
        match self {
            Self::NotYet => None,
            Self::At(at) => Some(*at),
            Self::Not(_, at) => *at,
        }
    }

    /// `up`, or why not, for people.
    pub fn word(&self) -> String {
        match self {
            Self::NotYet => "not heard from yet".to_owned(),
            Self::At(_) => "up".to_owned(),
            Self::Not(why, _) => why.clone(),
        }
    }
}

/// What is known of one zone's cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterSeen {
    /// Whether its CC answers.
    pub answers: Answers,
    /// Since when it has answered without a pause, its first full report being written: before that,
    /// what was not heard is our own silence. Nothing while it is silent.
    pub answering_since: Option<Timestamp>,
    /// How many lives of it we have seen: each must be told everything.
    pub lives: u64,
    /// Its nodes, as the CC sees them.
    pub nodes: BTreeMap<NodeId, NodeStatus>,
}

/// What is known of one zone's storage.
#[derive(Debug, Clone, Default)]
pub struct StorageSeen {
    /// Whether its SC answers.
    pub answers: Answers,
    /// Its pool.
    pub pool: Option<PoolReport>,
}

/// What is known of Walrus.
#[derive(Debug, Clone, Default)]
pub struct ObjectsSeen {
    /// Whether it answers.
    pub answers: Answers,
    /// How it last said it was.
    pub status: Option<ObjectsStatus>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Seen {
    objects: Mutex<ObjectsSeen>,
    clusters: Mutex<BTreeMap<Zone, ClusterSeen>>,
    storages: Mutex<BTreeMap<Zone, StorageSeen>>,
}

impl Seen {
    /// A copy of what is known of a zone's cluster.
    pub fn cluster(&self, zone: &Zone) -> ClusterSeen {
        held(&self.clusters).get(zone).cloned().unwrap_or_default()
    }

    /// A copy of what is known of a zone's storage.
    pub fn storage(&self, zone: &Zone) -> StorageSeen {
        held(&self.storages).get(zone).cloned().unwrap_or_default()
    }

    /// Every node of every zone, as its CC sees it.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        held(&self.clusters)
            .values()
            .flat_map(|cluster| cluster.nodes.values().cloned())
            .collect()
    }

    /// A copy of what is known of Walrus.
    pub fn objects(&self) -> ObjectsSeen {
        held(&self.objects).clone()
    }

    /// Notes something of Walrus.
    pub fn note_objects(&self, note: impl FnOnce(&mut ObjectsSeen)) {
        note(&mut held(&self.objects));
    }

    /// Notes something of a cluster.
    pub fn note_cluster(&self, zone: &Zone, note: impl FnOnce(&mut ClusterSeen)) {
        note(held(&self.clusters).entry(zone.clone()).or_default());
    }

    /// Notes something of a store.
    pub fn note_storage(&self, zone: &Zone, note: impl FnOnce(&mut StorageSeen)) {
        note(held(&self.storages).entry(zone.clone()).or_default());
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().expect("notes do not panic")
}
