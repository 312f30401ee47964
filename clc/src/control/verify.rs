//! The invariants, checked on the running cloud: what the rows say against what the clusters say
//! at this moment. `users-and-reliability`, B3; numbers are those.
//!
//! A cloud at work is never still: what is on its way is left out, and what is found is worth a
//! second look before it is called a defect.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use control::{
    CallError,
    cloud::{Check, Verdict},
    cluster::{ClusterChange, NodeStatus, Reach},
    feed::Poll,
    node::{InstanceReport, Seen, Shape},
    rpc::Call,
};
use store::{Error, Tx};
use types::{InstanceId, InstanceState, NodeId, Timestamp, Zone};

use super::internal;
use crate::{
    Clc,
    rows::{
        cloud,
        instances::{self, Instance},
        network,
    },
};

/// What is on its way may be so for this long beyond its limit before it counts as stuck.
const GRACE_MS: i64 = 60_000;

/// Checks everything.
pub(super) async fn verify(clc: &Arc<Clc>, call: &Call) -> Result<Verdict, CallError> {
    let mut said = Said::default();
    for zone in clc.peers.zones() {
        said.ask(clc, call, &zone).await;
    }
    let limit_ms = i64::try_from(clc.config.limits.pending_s * 1000).unwrap_or(i64::MAX);
    let stuck_since = clc.now().plus_millis(-limit_ms - GRACE_MS);
    let rows = clc.db.read(Rows::read).await.map_err(internal)?;
    Ok(Verdict {
        checks: vec![
            readable(&rows),
            whole(&rows),
            never_stuck(&rows, stuck_since),
            one_owner(&rows, &said),
            no_orphans(&rows, &said),
            one_place(&rows, &said),
            once(&rows),
            within_limits(&said),
        ],
    })
}

/// What the clusters say now.
#[derive(Default)]
struct Said {
    reports: Vec<InstanceReport>,
    nodes: Vec<NodeStatus>,
    silent: Vec<String>,
    zones: BTreeSet<Zone>,
}

impl Said {
    /// A node that was given up: what was there keeps its record and is counted nowhere.
    fn is_dead(&self, node: &NodeId) -> bool {
        let dead = |status: &&NodeStatus| status.reach == Reach::Dead;
        self.nodes
            .iter()
            .filter(dead)
            .any(|status| status.node == *node)
    }

    async fn ask(&mut self, clc: &Clc, call: &Call, zone: &Zone) {
        let Some(cluster) = clc.peers.cluster(zone) else {
            return;
        };
        match cluster
            .changes(
                call,
                Poll {
                    after: None,
                    wait_ms: 0,
                },
            )
            .await
        {
            Ok(changes) => {
                self.zones.insert(zone.clone());
                for item in changes.items {
                    match item {
                        ClusterChange::Instance(report) => self.reports.push(*report),
                        ClusterChange::Node(status) => self.nodes.push(*status),
                    }
                }
            }
            Err(error) => self.silent.push(format!("{zone}: not looked at: {error}")),
        }
    }

    /// What is said to have a domain, a disk or a tap on a node that has not been given up.
    fn living(&self) -> impl Iterator<Item = &InstanceReport> {
        self.reports
            .iter()
            .filter(|report| report.seen != Seen::Terminated && !self.is_dead(&report.node))
    }
}

/// What the rows say.
struct Rows {
    integrity: Vec<String>,
    dangling: Vec<String>,
    instances: BTreeMap<InstanceId, Instance>,
    with_interface: BTreeSet<InstanceId>,
    addresses: Vec<String>,
    tokens_made_twice: Vec<String>,
    tokens: u64,
}

impl Rows {
    fn read(tx: &Tx) -> Result<Self, Error> {
        let instances = instances::list_all(tx)?;
        let mut with_interface = BTreeSet::new();
        let mut addresses = Vec::new();
        for instance in &instances {
            if let Some(interface) = network::interface_of(tx, &instance.id)? {
                with_interface.insert(instance.id.clone());
                addresses.push(format!(
                    "{} in {}",
                    interface.private_address, interface.subnet
                ));
                addresses.push(interface.mac.to_string());
                addresses.extend(interface.public_address.map(|address| address.to_string()));
            }
        }
        Ok(Self {
            integrity: cloud::integrity(tx)?,
            dangling: cloud::dangling(tx)?,
            instances: instances
                .into_iter()
                .map(|row| (row.id.clone(), row))
                .collect(),
            with_interface,
            addresses,
            tokens_made_twice: instances::launches_of_one_token(tx)?,
            tokens: instances::count_tokens(tx)?,
        })
    }

    fn alive(&self) -> impl Iterator<Item = &Instance> {
        self.instances
            .values()
            .filter(|row| row.state != InstanceState::Terminated)
    }
}

fn check(name: &str, says: &str, looked_at: usize, broken: Vec<String>) -> Check {
    let (name, says) = (name.to_owned(), says.to_owned());
    Check {
        name,
        says,
        looked_at: looked_at as u64,
        broken,
    }
}

fn readable(rows: &Rows) -> Check {
    let says = "what was acknowledged is readable: the database is whole";
    check("I1", says, rows.instances.len(), rows.integrity.clone())
}

fn whole(rows: &Rows) -> Check {
    let mut broken = rows.dangling.clone();
    let bare = rows
        .alive()
        .filter(|row| !rows.with_interface.contains(&row.id));
    broken.extend(bare.map(|row| format!("{} lives without an interface", row.id)));
    check(
        "I2",
        "no partial record is visible",
        rows.instances.len(),
        broken,
    )
}

fn never_stuck(rows: &Rows, since: Timestamp) -> Check {
    let on_its_way =
        |row: &&Instance| !matches!(row.state, InstanceState::Running | InstanceState::Stopped);
    let waiting: Vec<_> = rows.alive().filter(on_its_way).collect();
    let stuck = waiting
        .iter()
        .filter(|row| row.state_since < since && row.unreachable_since.is_none());
    let broken = stuck.map(|row| {
        format!(
            "{} is {} since {}",
            row.id,
            row.state.as_str(),
            row.state_since
        )
    });
    check(
        "I3",
        "nothing is on its way past its deadline",
        waiting.len(),
        broken.collect(),
    )
}

fn one_owner(rows: &Rows, said: &Said) -> Check {
    let mut broken = said.silent.clone();
    let mut seen = BTreeSet::new();
    let twice = rows
        .addresses
        .iter()
        .filter(|address| !seen.insert(address.as_str()));
    broken.extend(twice.map(|address| format!("{address} has two owners")));
    let counted = said.nodes.iter().filter(|node| node.reach != Reach::Dead);
    broken.extend(counted.filter_map(|node| wrong_sum(rows, node)));
    let says = "what a node has committed is the sum of its instances; an address has one owner";
    check("I4", says, rows.addresses.len() + said.nodes.len(), broken)
}

fn wrong_sum(rows: &Rows, node: &NodeStatus) -> Option<String> {
    let mut sum = Shape::default();
    for row in rows
        .alive()
        .filter(|row| row.node.as_ref() == Some(&node.node))
    {
        sum.vcpus += row.vcpus;
        sum.memory_mib.0 += row.memory.0;
        sum.disk_gib.0 += row.disk.0;
    }
    (sum != node.committed).then(|| {
        format!(
            "{}: committed {}, instances take {}",
            node.node,
            words(node.committed),
            words(sum)
        )
    })
}

fn words(shape: Shape) -> String {
    format!(
        "{} vcpus, {}, {}",
        shape.vcpus, shape.memory_mib, shape.disk_gib
    )
}

fn no_orphans(rows: &Rows, said: &Said) -> Check {
    let mut broken = said.silent.clone();
    for report in said.living() {
        let row = rows.instances.get(&report.instance);
        if row.is_none_or(|row| row.state == InstanceState::Terminated) {
            broken.push(format!(
                "{} lives on {} and is no record's",
                report.instance, report.node
            ));
        }
    }
    let known: BTreeSet<_> = said.living().map(|report| &report.instance).collect();
    let missing = rows.alive().filter(|row| {
        row.state == InstanceState::Running
            && said.zones.contains(&row.zone)
            && !row.node.as_ref().is_some_and(|node| said.is_dead(node))
            && !known.contains(&row.id)
    });
    broken.extend(missing.map(|row| format!("{} is running and no node has it", row.id)));
    let over = rows.with_interface.iter().filter(|id| {
        rows.instances
            .get(id)
            .is_some_and(|row| row.state == InstanceState::Terminated)
    });
    broken.extend(over.map(|id| format!("{id} is terminated and keeps an interface")));
    check(
        "I5",
        "no orphans, neither records nor machines",
        said.reports.len(),
        broken,
    )
}

fn one_place(rows: &Rows, said: &Said) -> Check {
    let mut places: BTreeMap<&InstanceId, BTreeSet<&NodeId>> = BTreeMap::new();
    for report in said.living() {
        places
            .entry(&report.instance)
            .or_default()
            .insert(&report.node);
    }
    let mut broken = said.silent.clone();
    for (instance, nodes) in &places {
        if nodes.len() > 1 {
            broken.push(format!("{instance} lives on {nodes:?}"));
        }
        let placed = rows
            .instances
            .get(instance)
            .and_then(|row| row.node.as_ref());
        if placed.is_some_and(|node| !nodes.contains(node)) {
            broken.push(format!(
                "{instance} is placed on {placed:?} and lives on {nodes:?}"
            ));
        }
    }
    check(
        "I6",
        "an instance, and so its disk, is in one place",
        places.len(),
        broken,
    )
}

fn once(rows: &Rows) -> Check {
    let says = "the same ClientToken has one result";
    check(
        "I7",
        says,
        usize::try_from(rows.tokens).unwrap_or(usize::MAX),
        rows.tokens_made_twice.clone(),
    )
}

fn within_limits(said: &Said) -> Check {
    let over = |node: &&NodeStatus| {
        node.report.as_ref().is_some_and(|report| {
            let (has, gave) = (report.capacity, node.committed);
            gave.vcpus > has.vcpus
                || gave.memory_mib > has.memory_mib
                || gave.disk_gib > has.disk_gib
        })
    };
    let mut broken = said.silent.clone();
    broken.extend(said.nodes.iter().filter(over).map(|node| {
        let has = node
            .report
            .as_ref()
            .map(|report| report.capacity)
            .unwrap_or_default();
        format!(
            "{}: committed {} of {}",
            node.node,
            words(node.committed),
            words(has)
        )
    }));
    check(
        "I8",
        "no node gives more than it has",
        said.nodes.len(),
        broken,
    )
}
