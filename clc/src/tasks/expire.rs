//! What is gone is forgotten; what waits too long is given up.

use std::{sync::Arc, time::Duration};

use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};
use store::{Error, Tx};
use types::{InstanceState, Timestamp, Zone};

use super::observe::{self, Observed};
use crate::{
    Clc,
    config::Limits,
    instance::{Event, Next},
    rows::{client_tokens, instances, nodes, services},
};

/// How long a client's token is remembered: longer than any SDK retries.
const CLIENT_TOKEN_MS: i64 = 24 * 60 * 60 * 1000;
/// How long an expired join token is kept, so that its late user reads why.
const JOIN_TOKEN_MS: i64 = 24 * 60 * 60 * 1000;

/// See the module.
pub struct Expire(pub Arc<Clc>);

impl Reconcile for Expire {
    const NAME: &'static str = "expire";
    const PERIOD: Duration = Duration::from_secs(10);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let (now, limits) = (self.0.now(), self.0.config.limits.clone());
        let answering = answering(&self.0);
        let write = move |tx: &Tx| expire(tx, &limits, &answering, now);
        let summary = self.0.db.write(write).await?;
        if summary.0.contains_key("given_up") || summary.0.contains_key("wishes") {
            self.0.wakes.instances.wake();
        }
        if summary.0.contains_key("networks") {
            self.0.wakes.network.wake();
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

fn expire(
    tx: &Tx,
    limits: &Limits,
    answering: &[(Zone, Timestamp)],
    now: Timestamp,
) -> Result<Summary, Error> {
    let mut summary = Summary::nothing();
    let shown_since = now.plus_millis(-millis(limits.terminated_shown_s));
    summary.count(
        "forgotten",
        instances::forget_terminated(tx, shown_since, now)? as u64,
    );
    let tokens = client_tokens::expire(tx, now.plus_millis(-CLIENT_TOKEN_MS))? as u64;
    summary.count("client_tokens", tokens);
    summary.count(
        "join_tokens",
        services::expire_tokens(tx, now.plus_millis(-JOIN_TOKEN_MS))?,
    );
    summary.count(
        "given_up",
        give_up(
            tx,
            answering,
            now.plus_millis(-millis(limits.pending_s)),
            now,
        )?,
    );
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

fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}
