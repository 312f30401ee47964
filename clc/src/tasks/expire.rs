//! What is gone is forgotten; what waits too long is given up.

use std::{sync::Arc, time::Duration};

use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};
use store::{Error, Tx};
use types::{InstanceState, Timestamp, Zone};

use super::{
    millis,
    observe::{self, Observed},
};
use crate::{
    Clc, bundle_task,
    config::Limits,
    instance::{Event, Next},
    rows::{
        bundle_tasks, client_tokens, instances, nodes, services, used_signatures,
        volumes::{self, Volume},
    },
    seen::Answers,
    volume,
};

/// How long a client's token is remembered: longer than any SDK retries.
const CLIENT_TOKEN_MS: i64 = 24 * 60 * 60 * 1000;
/// How long an expired join token is kept, so that its late user reads why.
const JOIN_TOKEN_MS: i64 = 24 * 60 * 60 * 1000;

/// How long a bundle task that has ended is shown: as long as its policy may hold.
const BUNDLE_TASK_MS: i64 = 24 * 60 * 60 * 1000;
/// A node gives a bundle up after a day and says so; one that says nothing gets so much longer.
const BUNDLE_GRACE_MS: i64 = 60 * 60 * 1000;

/// See the module.
pub struct Expire {
    clc: Arc<Clc>,
    /// Since when we have been here: what our own absence took is nobody's delay.
    since: Timestamp,
}

impl Expire {
    /// Counts from now on.
    pub fn new(clc: Arc<Clc>) -> Self {
        let since = clc.now();
        Self { clc, since }
    }
}

impl Reconcile for Expire {
    const NAME: &'static str = "expire";
    const PERIOD: Duration = Duration::from_secs(10);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let clc = &self.clc;
        let due = Due {
            limits: clc.config.limits.clone(),
            answering: answering(clc),
            silent: silent_stores(clc),
            since: self.since,
            now: clc.now(),
        };
        let summary = clc.db.write(move |tx| expire(tx, &due)).await?;
        let wishes = ["given_up", "overdue_bundles", "wishes"];
        if wishes.iter().any(|what| summary.0.contains_key(what)) {
            self.clc.wakes.instances.wake();
        }
        if summary.0.contains_key("networks") {
            self.clc.wakes.network.wake();
        }
        Ok(summary)
    }
}

/// The zones whose cluster answers, and since when.
fn answering(clc: &Clc) -> Vec<(Zone, Timestamp)> {
    let since = |zone: Zone| {
        let since = clc.seen.cluster(&zone).answering_since?;
        Some((zone, since))
    };
    clc.peers.zones().into_iter().filter_map(since).collect()
}

/// The zones whose store is known not to answer, with why.
fn silent_stores(clc: &Clc) -> Vec<(Zone, String)> {
    let why = |zone: Zone| match clc.seen.storage(&zone).answers {
        Answers::Not(why, ..) => Some((zone, why)),
        Answers::NotYet | Answers::At(_) => None,
    };
    clc.peers
        .storage_zones()
        .into_iter()
        .filter_map(why)
        .collect()
}

/// What is looked at to say what is due.
struct Due {
    limits: Limits,
    /// Clusters that answer, and since when.
    answering: Vec<(Zone, Timestamp)>,
    /// Stores that do not, and why.
    silent: Vec<(Zone, String)>,
    /// Since when we have been here.
    since: Timestamp,
    now: Timestamp,
}

fn expire(tx: &Tx, due: &Due) -> Result<Summary, Error> {
    let (limits, now) = (&due.limits, due.now);
    let mut summary = Summary::nothing();
    let shown_since = now.plus_millis(-millis(limits.terminated_shown_s));
    summary.count(
        "forgotten",
        instances::forget_terminated(tx, shown_since, now)? as u64,
    );
    let signatures = used_signatures::expire(tx, now)? as u64;
    summary.count("used_signatures", signatures);
    let tokens = client_tokens::expire(tx, now.plus_millis(-CLIENT_TOKEN_MS))? as u64;
    summary.count("client_tokens", tokens);
    instances::remove_forgotten(tx)?;
    let volumes = volumes::forget_deleted(tx, now.plus_millis(-CLIENT_TOKEN_MS))? as u64;
    summary.count("volumes", volumes);
    summary.count(
        "join_tokens",
        services::expire_tokens(tx, now.plus_millis(-JOIN_TOKEN_MS))?,
    );
    let bundles = bundle_tasks::forget_ended(tx, now.plus_millis(-BUNDLE_TASK_MS))? as u64;
    summary.count("bundle_tasks", bundles);
    let overdue = now.plus_millis(-BUNDLE_TASK_MS - BUNDLE_GRACE_MS);
    let given_up = bundle_tasks::fail_overdue(tx, overdue, &bundle_task::overdue(), now)?;
    for instance in &given_up {
        instances::touch(tx, instance)?;
    }
    summary.count("overdue_bundles", given_up.len() as u64);
    summary.count(
        "given_up",
        give_up(
            tx,
            &due.answering,
            now.plus_millis(-millis(limits.pending_s)),
            now,
        )?,
    );
    summary.count("overdue_volumes", overdue_volumes(tx, due)?);
    let mut observed = Observed::default();
    for node in nodes::list(tx)?.into_iter().filter(|node| node.dead) {
        observe::end_on_dead_node(tx, &node.zone, &node.id, now, &mut observed)?;
    }
    summary.count("networks", u64::from(observed.network_changed));
    summary.count("wishes", u64::from(observed.wishes_changed));
    Ok(summary)
}

/// Launches whose node has said nothing new since then. A node or a cluster that is silent is no
/// reason, nor that we did not listen: the instance may run.
fn give_up(
    tx: &Tx,
    answering: &[(Zone, Timestamp)],
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, Error> {
    let mut given_up = 0;
    let listened = answering.iter().filter(|(_, begun)| *begun < since);
    for (zone, _) in listened {
        for instance in instances::list_alive(tx, zone)? {
            let heard = instances::seen_at(tx, &instance.id)?.unwrap_or(instance.state_since);
            let waits = instance.state == InstanceState::Pending && heard < since;
            if !waits || instance.unreachable_since.is_some() {
                continue;
            }
            if let Next::Ends(reason) = instance.life().on(Event::Overdue) {
                instances::want_terminated(tx, &instance.id, &reason, "", now)?;
                given_up += 1;
            }
        }
    }
    Ok(given_up)
}

/// Tells the users of volumes that nothing comes of them, and why as far as it is known.
fn overdue_volumes(tx: &Tx, due: &Due) -> Result<u64, Error> {
    let since = due.now.plus_millis(-millis(due.limits.volume_s));
    if since < due.since {
        return Ok(0);
    }
    let mut overdue = 0;
    for volume in volumes::list_under_way(tx, since)? {
        let known = why_overdue(&volume, due);
        let event = volume::Event::Overdue(&known);
        overdue += u64::from(observe::follow_volume(tx, &volume, event, due.now)?);
    }
    Ok(overdue)
}

fn why_overdue(volume: &Volume, due: &Due) -> String {
    let of_zone = due.silent.iter().find(|(zone, _)| *zone == volume.zone);
    let zone = &volume.zone;
    match of_zone {
        Some((_, why)) => format!("the Storage Controller of {zone} does not answer: {why}"),
        None if volume.taken_generation < volume.generation => {
            format!("the Storage Controller of {zone} does not take the request")
        }
        None => format!("the Storage Controller of {zone} has it and has not said that it is done"),
    }
}
