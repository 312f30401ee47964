//! What must hold: at any instant ([`always`]), and once all is up again and quiet ([`quiet`]).
//!
//! | | from `I1` to `I8`, as far as a cloud without bytes has them |
//! |---|---|
//! | I1 | an acknowledged launch is there, and ends only for a reason |
//! | I3 | nothing is on its way for ever |
//! | I4, I8 | no node is over its capacity; an address has one owner |
//! | I5 | no guest without a record, no record without its guest |
//! | I6 | no instance on two nodes, none started twice |
//! | I7 | the same token leads to the same launch |

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use control::cluster::HOLD_LEASE_MS;

use testkit::node::FakeNode;
use types::{InstanceId, InstanceState, NodeId};

use crate::{
    cloud::{Cloud, Zone},
    front::{Row, Why},
};

/// What the campaign knows of what it did: the outside's view.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    /// What was answered to each token.
    pub(crate) answered: BTreeMap<String, Vec<InstanceId>>,
    /// Nodes that were declared dead.
    pub(crate) dead: BTreeSet<NodeId>,
    /// Nodes that lost their disks once.
    pub(crate) lost: BTreeSet<NodeId>,
    /// Zones whose Cluster Controller lost its ledger once.
    pub(crate) forgot: BTreeSet<usize>,
    /// Instances once seen terminated.
    pub(crate) terminated: BTreeSet<InstanceId>,
}

/// What must hold at any instant.
pub(crate) async fn always(cloud: &Cloud, outside: &mut Outside) -> Result<(), String> {
    let rows = cloud.clc.rows().await;
    for node in cloud.nodes() {
        if let Some(wrong) = node.wrongs().first() {
            return Err(format!("I4/I6 {wrong}"));
        }
    }
    one_owner(cloud, &rows)?;
    ended_stays_ended(cloud, outside, &rows)?;
    promises_are_kept(outside, &rows)
}

fn one_owner(cloud: &Cloud, rows: &BTreeMap<InstanceId, Row>) -> Result<(), String> {
    let mut homes = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for node in cloud.nodes() {
        for guest in node.guests() {
            if let Some(other) = homes.insert(guest.instance.clone(), node.id()) {
                return Err(format!(
                    "I6 {} is up on {other} and {}",
                    guest.instance,
                    node.id()
                ));
            }
            if let Some(other) = owners.insert(guest.address, guest.instance.clone()) {
                return Err(format!(
                    "I4 {} is {other}'s and {}'s",
                    guest.address, guest.instance
                ));
            }
        }
    }
    let mut given = BTreeMap::new();
    for (instance, row) in rows {
        let Some(address) = row.address else { continue };
        if let Some(other) = given.insert(address, instance) {
            return Err(format!("I4 {address} was given to {other} and {instance}"));
        }
    }
    Ok(())
}

fn ended_stays_ended(
    cloud: &Cloud,
    outside: &mut Outside,
    rows: &BTreeMap<InstanceId, Row>,
) -> Result<(), String> {
    for (instance, row) in rows {
        if row.state == InstanceState::Terminated {
            outside.terminated.insert(instance.clone());
            let node = cloud
                .node(&row.node)
                .filter(|n| !outside.dead.contains(n.id()));
            if node.is_some_and(|node| is_up(node, instance)) {
                let story = story(cloud, outside, instance, row);
                return Err(format!("I5 {instance} is terminated and up: {story}"));
            }
        } else if outside.terminated.contains(instance) {
            return Err(format!(
                "I1 {instance} was terminated and is {}",
                row.state.as_str()
            ));
        }
    }
    Ok(())
}

fn promises_are_kept(outside: &Outside, rows: &BTreeMap<InstanceId, Row>) -> Result<(), String> {
    for instance in outside.answered.values().flatten() {
        let Some(row) = rows.get(instance) else {
            if outside.terminated.contains(instance) {
                // Shown for an hour, then forgotten.
                continue;
            }
            return Err(format!("I1 {instance} was answered for and is unknown"));
        };
        let is_due = match &row.why {
            None | Some(Why::Asked) => true,
            Some(Why::Reported(reason)) => !reason.is_empty(),
            Some(Why::NodeDead) => outside.dead.contains(&row.node),
            // After the lease, or by a ledger that was lost, the room may have gone to another.
            Some(Why::Refused(_, after)) => {
                let lease = Duration::from_millis(HOLD_LEASE_MS);
                *after >= lease || outside.forgot.contains(&row.zone) || is_dead(outside, row)
            }
            Some(Why::TooLong) => true,
        };
        if !is_due {
            return Err(format!(
                "I1 {instance} was acknowledged, then refused: {:?}",
                row.why
            ));
        }
    }
    Ok(())
}

fn is_dead(outside: &Outside, row: &Row) -> bool {
    outside.dead.contains(&row.node)
}

fn is_up(node: &FakeNode, instance: &InstanceId) -> bool {
    node.guests()
        .iter()
        .any(|guest| guest.instance == *instance)
}

/// What must hold once everything is up and time has passed.
pub(crate) async fn quiet(cloud: &Cloud, outside: &mut Outside) -> Result<(), String> {
    always(cloud, outside).await?;
    let rows = cloud.clc.rows().await;
    for (instance, row) in &rows {
        arrived(cloud, outside, instance, row)?;
    }
    for node in cloud
        .nodes()
        .filter(|node| !outside.dead.contains(node.id()))
    {
        for guest in node.guests() {
            let row = rows.get(&guest.instance);
            if row.is_none_or(|row| row.state != InstanceState::Running) {
                let state = row.map_or("unknown", |row| row.state.as_str());
                return Err(format!("I5 {} is up, but {state}", guest.instance));
            }
        }
    }
    for zone in &cloud.zones {
        nothing_kept(zone, outside, &rows)?;
    }
    match cloud.clc.verify().await.first() {
        Some(broken) => Err(format!("its own verification says: {broken}")),
        None => Ok(()),
    }
}

/// A Cluster Controller keeps no room for what is over.
fn nothing_kept(
    zone: &Zone,
    outside: &Outside,
    rows: &BTreeMap<InstanceId, Row>,
) -> Result<(), String> {
    let saved = zone.ledger().saved();
    if !saved.holds.is_empty() {
        return Err(format!("I5 {} still holds {:?}", zone.name, saved.holds));
    }
    let kept = saved
        .placements
        .values()
        .filter(|row| !row.ended && row.takes_room && !outside.dead.contains(&row.node));
    for placed in kept {
        let row = rows.get(&placed.instance);
        if row.is_none_or(|row| row.state == InstanceState::Terminated) {
            return Err(format!("I5 {} still has room for {placed:?}", zone.name));
        }
    }
    Ok(())
}

fn arrived(
    cloud: &Cloud,
    outside: &Outside,
    instance: &InstanceId,
    row: &Row,
) -> Result<(), String> {
    let state = row.state.as_str();
    match row.state {
        InstanceState::Terminated => Ok(()),
        InstanceState::Running => {
            let node = cloud.node(&row.node);
            let up = node.is_some_and(|node| is_up(node, instance));
            let saved = cloud.zones[row.zone].ledger().saved();
            let placed = saved.placements.get(instance);
            // On a dead node a record waits for its user, or for the disk to be found.
            if outside.dead.contains(&row.node) {
                return Ok(());
            }
            if up && placed.is_some_and(|placed| !placed.ended) {
                return Ok(());
            }
            let story = story(cloud, outside, instance, row);
            Err(format!("I5 {instance} is running, but up: {up}: {story}"))
        }
        InstanceState::Pending
        | InstanceState::ShuttingDown
        | InstanceState::Stopping
        | InstanceState::Stopped => {
            let since = row.age;
            let story = story(cloud, outside, instance, row);
            Err(format!("I3 {instance} is {state} for {since:?}: {story}"))
        }
    }
}

/// All that is known of an instance, for whoever looks for the reason.
fn story(cloud: &Cloud, outside: &Outside, instance: &InstanceId, row: &Row) -> String {
    let known = cloud.zones[row.zone].ledger().saved();
    let placed = known.placements.get(instance);
    let node = &row.node;
    format!(
        "why {:?}, wish {} for {node} at {}; its cluster has {:?}; node up: {}, dead: {}, lost: {}, \
         ledger lost: {}",
        row.why,
        row.generation,
        row.epoch,
        placed.map(|p| (&p.node, p.epoch, p.generation(), p.ended, &p.report)),
        cloud.node(node).is_some_and(FakeNode::is_up),
        outside.dead.contains(node),
        outside.lost.contains(node),
        outside.forgot.contains(&row.zone),
    )
}
