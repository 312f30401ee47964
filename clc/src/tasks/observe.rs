//! What peers said → rows, in one transaction. Only here does a report change a state.

use control::{
    cluster::{ClusterChange, NodeStatus, Reach},
    node::{BundleReport, InstanceReport},
    storage::{PoolReport, StorageChange, VolumeReport},
    timeline::Moment,
};
use store::{Error, Tx};
use types::{InstanceState, NodeId, StateReason, Timestamp, Zone};

use crate::{
    bundle_task,
    instance::{Event, Next},
    rows::{
        bundle_tasks,
        instances::{self, Instance},
        network, nodes,
        volumes::{self, Volume},
    },
    volume,
};

/// What others have to do about it.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Nodes, for the memory of what was last seen.
    pub(super) nodes: Vec<NodeStatus>,
    /// A network document is newer now.
    pub(super) network_changed: bool,
    /// A wish is newer now, or has to be said again.
    pub(super) wishes_changed: bool,
}

/// Writes what a cluster said. A full list comes from another life of it, which may have forgotten
/// what it took: all its instances are wished for again.
pub(super) fn cluster(
    tx: &Tx,
    zone: &Zone,
    full: bool,
    items: Vec<ClusterChange>,
    now: Timestamp,
) -> Result<Observed, Error> {
    let mut observed = Observed::default();
    if full {
        instances::forget_taken(tx, zone)?;
        observed.wishes_changed = true;
    }
    for item in items {
        match item {
            ClusterChange::Instance(report) => instance(tx, &report, now, &mut observed)?,
            ClusterChange::Node(status) => node(tx, zone, *status, now, &mut observed)?,
        }
    }
    Ok(observed)
}

fn instance(
    tx: &Tx,
    report: &InstanceReport,
    now: Timestamp,
    observed: &mut Observed,
) -> Result<(), Error> {
    let Some(instance) = instances::load(tx, &report.instance)? else {
        // Forgotten here an hour after it ended. One that still lives is for `verify` to name, and
        // for an administrator to decide about: silence on our side ends nobody's machine either.
        tracing::debug!(instance = %report.instance, "a report of an instance that is not known");
        return Ok(());
    };
    let ours = instance.node.as_ref() == Some(&report.node) && instance.epoch == report.epoch;
    if ours {
        instances::set_seen(tx, &instance.id, report, now)?;
        if let Some(told) = &report.bundle {
            bundle(tx, &instance, told, now, observed)?;
        }
    }
    follow(tx, &instance, Event::Reported(report), now, observed)
}

/// What its node says of a bundle. One that has ended is wished for no more.
fn bundle(
    tx: &Tx,
    instance: &Instance,
    told: &BundleReport,
    now: Timestamp,
    observed: &mut Observed,
) -> Result<(), Error> {
    let Some(task) = bundle_tasks::load(tx, &told.task)? else {
        return Ok(());
    };
    if task.instance != instance.id || task.state.is_final() {
        return Ok(());
    }
    let state = task.state.on(told);
    if state != task.state {
        tracing::info!(task = %task.id, instance = %instance.id, state = state.as_str(), "bundle");
    }
    if (state, told.percent) != (task.state, task.percent) {
        bundle_tasks::set_seen(tx, state, told, now)?;
    }
    if state.is_final() {
        instances::touch(tx, &instance.id)?;
        observed.wishes_changed = true;
    }
    Ok(())
}

fn follow(
    tx: &Tx,
    instance: &Instance,
    event: Event<'_>,
    now: Timestamp,
    observed: &mut Observed,
) -> Result<(), Error> {
    match instance.life().on(event) {
        Next::Same => Ok(()),
        Next::Ends(reason) => {
            observed.wishes_changed = true;
            // A reason that was given already says more.
            let reason = instance.reason.as_ref().unwrap_or(&reason);
            instances::want_terminated(tx, &instance.id, reason, &instance.transition, now)
        }
        Next::Becomes(state, reason) => {
            become_state(tx, instance, state, reason.as_ref(), now)?;
            observed.network_changed |= state == InstanceState::Terminated;
            Ok(())
        }
    }
}

fn become_state(
    tx: &Tx,
    instance: &Instance,
    state: InstanceState,
    reason: Option<&StateReason>,
    now: Timestamp,
) -> Result<(), Error> {
    tracing::info!(instance = %instance.id, state = state.as_str(), reason = reason.map(|r| r.message.as_str()), "instance");
    instances::set_state(tx, &instance.id, state, reason, now)?;
    instances::add_moment(tx, &instance.id, &moment(instance, state, reason, now))?;
    if state == InstanceState::Terminated {
        network::remove_interface_of(tx, &instance.id)?;
        bundle_tasks::fail_open_of(tx, &instance.id, &bundle_task::instance_ended(), now)?;
    }
    Ok(())
}

fn moment(
    instance: &Instance,
    state: InstanceState,
    reason: Option<&StateReason>,
    now: Timestamp,
) -> Moment {
    Moment {
        by: "clc".to_owned(),
        step: state.as_str().to_owned(),
        elapsed_ms: u64::try_from(now.millis_since(instance.launched_at)).unwrap_or(0),
        detail: reason
            .map(|reason| reason.message.clone())
            .unwrap_or_default(),
    }
}

fn node(
    tx: &Tx,
    zone: &Zone,
    status: NodeStatus,
    now: Timestamp,
    observed: &mut Observed,
) -> Result<(), Error> {
    if let Some(report) = &status.report
        && nodes::set_underlay(tx, &status.node, report.underlay)?
    {
        observed.network_changed = true;
    }
    match status.reach {
        Reach::Up => instances::set_unreachable(tx, &status.node, None)?,
        Reach::Unreachable => instances::set_unreachable(tx, &status.node, Some(now))?,
        Reach::Unknown => {}
        Reach::Dead => end_on_dead_node(tx, zone, &status.node, now, observed)?,
    }
    observed.nodes.push(status);
    Ok(())
}

/// Ends what has to end on a node that is declared dead: it will never say so itself.
pub(super) fn end_on_dead_node(
    tx: &Tx,
    zone: &Zone,
    node: &NodeId,
    now: Timestamp,
    observed: &mut Observed,
) -> Result<(), Error> {
    for instance in instances::list_alive(tx, zone)? {
        if instance.node.as_ref() == Some(node) {
            bundle_tasks::fail_open_of(tx, &instance.id, &bundle_task::node_lost(), now)?;
            follow(tx, &instance, Event::NodeLost, now, observed)?;
        }
    }
    Ok(())
}

/// Writes what a store said; gives back what it said of its pool.
pub(super) fn storage(
    tx: &Tx,
    zone: &Zone,
    full: bool,
    items: Vec<StorageChange>,
    now: Timestamp,
) -> Result<Option<PoolReport>, Error> {
    if full {
        volumes::forget_taken(tx, zone)?;
    }
    let mut pool = None;
    for item in items {
        match item {
            StorageChange::Volume(report) => volume(tx, &report, now)?,
            StorageChange::Pool(report) => pool = Some(report),
        }
    }
    Ok(pool)
}

fn volume(tx: &Tx, report: &VolumeReport, now: Timestamp) -> Result<(), Error> {
    match volumes::load(tx, &report.volume)? {
        Some(volume) => follow_volume(tx, &volume, volume::Event::Reported(report), now).map(drop),
        None => Ok(()),
    }
}

/// Writes what an event makes of a volume. Whether that is another state.
pub(super) fn follow_volume(
    tx: &Tx,
    volume: &Volume,
    event: volume::Event<'_>,
    now: Timestamp,
) -> Result<bool, Error> {
    let volume::Next::Becomes(state, reason) = volume.life().on(event) else {
        return Ok(false);
    };
    tracing::info!(volume = %volume.id, state = state.as_str(), reason, "volume");
    volumes::set_state(tx, &volume.id, state, reason.as_deref(), now)?;
    Ok(true)
}
