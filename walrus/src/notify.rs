//! Events are told: each destination that the administrator named gets what waits for it, oldest
//! first, until it has it.
//!
//! ```text
//! change + its events, one commit → index → POST to the destination's address → removed
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`document`] | an event as S3 writes it |
//! | [`destination`] | an address, and one try to tell it something |
//! | [`retry`] | what to do with an outcome, and how long to wait. Pure |
//!
//! Addresses stand in the configuration and nowhere else: a bucket's owner names a destination by its
//! name, and can make Walrus call nothing that its administrator did not write down. Clients never
//! wait for a destination: their part is done when the event is queued.

pub mod destination;
pub mod document;
pub mod retry;

use std::{sync::Arc, time::Duration};

use daemon::{BoxError, Context};
use types::{AccountId, Timestamp};

use crate::{
    api::Api,
    engine::{Change, Result, events::TEST, facts::Event},
};
use destination::Destination;
use retry::{Next, Outcome, Retry};

/// Events of one message.
const BATCH: u32 = 100;
/// Events that are given up in one commit.
const DROP: u32 = 1_000;
/// An event that could not be delivered for so long is given up: as long as a queue of AWS keeps a
/// message if nobody says otherwise.
const AGE_MAX_MS: i64 = 4 * 24 * 3_600_000;
/// How often what waits for nobody is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// All destinations. What owners of buckets may name.
#[derive(Debug, Clone, Default)]
pub struct Destinations(pub Arc<[Destination]>);

impl Destinations {
    /// A destination that an account may name.
    pub fn find(&self, name: &str, account: &AccountId) -> Option<&Destination> {
        let found = self.0.iter().find(|known| known.name == name);
        found.filter(|known| known.may_be_named_by(account))
    }
}

/// Tells one destination what waits for it, for as long as the daemon runs.
pub async fn follow(
    api: Arc<Api>,
    destination: Destination,
    context: Context,
) -> Result<(), BoxError> {
    let mut news = api.engine.events();
    let mut retry = Retry::new(BATCH);
    while !context.cancel.is_cancelled() {
        news.mark_unchanged();
        let (to, limit) = (destination.name.clone(), retry.batch());
        let waiting = api
            .engine
            .view(move |view| view.events_for(&to, limit))
            .await?;
        if waiting.is_empty() {
            tokio::select! {
                changed = news.changed() => if changed.is_err() {
                    // The engine is closed: there will be no more.
                    return Ok(());
                },
                () = context.cancel.cancelled() => {}
            }
            continue;
        }
        let now = Timestamp(context.clock.now_ms());
        let events = message(waiting);
        let pause = tell(&api, &destination, events, &mut retry, now).await?;
        if let Some(pause) = pause {
            tokio::select! {
                () = context.clock.sleep(pause) => {}
                () = context.cancel.cancelled() => {}
            }
        }
    }
    Ok(())
}

/// The first of those that wait, as many as go into one message: a test event goes alone.
fn message(mut waiting: Vec<Event>) -> Vec<Event> {
    let is_test = |event: &Event| event.name == TEST;
    let alone = waiting.first().is_some_and(is_test);
    let end = waiting.iter().position(is_test).filter(|at| *at > 0);
    waiting.truncate(if alone {
        1
    } else {
        end.unwrap_or(waiting.len())
    });
    waiting
}

/// One try; answers how long to wait before the next one.
async fn tell(
    api: &Api,
    destination: &Destination,
    events: Vec<Event>,
    retry: &mut Retry,
    now: Timestamp,
) -> Result<Option<Duration>, BoxError> {
    let expired = events
        .iter()
        .take_while(|event| now.millis_since(event.at) > AGE_MAX_MS);
    let expired: Vec<u64> = expired.map(|event| event.id).collect();
    let name = destination.name.as_str();
    if !expired.is_empty() {
        tracing::warn!(
            destination = name,
            events = expired.len(),
            "events are too old and given up"
        );
        give_up(api, name, expired, "expired").await?;
        return Ok(None);
    }
    let ids: Vec<u64> = events.iter().map(|event| event.id).collect();
    let people = api.identity.directory();
    let text = match events.as_slice() {
        [test] if test.name == TEST => document::test(test),
        events => document::records(events, &api.region, &people),
    };
    let outcome = destination.tell(text).await;
    if let Outcome::Later(why) | Outcome::Refused(why) = &outcome {
        tracing::warn!(destination = name, why, "events could not be delivered");
        api.metrics.notified(name, "failed", 1);
    }
    match retry.on(&outcome, ids.len(), rand::random()) {
        Next::Done => {
            give_up(api, name, ids, "delivered").await?;
            Ok(None)
        }
        Next::GiveUp => {
            give_up(api, name, ids, "refused").await?;
            Ok(None)
        }
        Next::Again(pause) => Ok(Some(pause)),
    }
}

/// They wait no longer.
async fn give_up(api: &Api, to: &str, ids: Vec<u64>, outcome: &'static str) -> Result<()> {
    let count = ids.len() as u64;
    let to_forget = to.to_owned();
    api.engine
        .commit(Change::RemoveEvents { to: to_forget, ids })
        .await?;
    api.metrics.notified(to, outcome, count);
    Ok(())
}

/// What waits for a destination that the configuration does not know any more is given up.
pub async fn sweep(api: Arc<Api>, context: Context) -> Result<(), BoxError> {
    while !context.cancel.is_cancelled() {
        for waiting in api.engine.view(|view| view.waiting()).await? {
            if api
                .destinations
                .0
                .iter()
                .all(|known| known.name != waiting.to)
            {
                forget(&api, &waiting.to).await?;
            }
        }
        tokio::select! {
            () = context.clock.sleep(SWEEP) => {}
            () = context.cancel.cancelled() => {}
        }
    }
    Ok(())
}

async fn forget(api: &Api, to: &str) -> Result<()> {
    tracing::warn!(
        destination = to,
        "events for a destination that is not configured are given up"
    );
    loop {
        let name = to.to_owned();
        let events = api
            .engine
            .view(move |view| view.events_for(&name, DROP))
            .await?;
        if events.is_empty() {
            return Ok(());
        }
        let ids = events.iter().map(|event| event.id).collect();
        give_up(api, to, ids, "unknown").await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::events::Cause;

    fn event(name: &str) -> Event {
        Event {
            id: 1,
            to: "hook".into(),
            rule: "r".into(),
            name: name.into(),
            at: Timestamp(0),
            bucket: s3::BucketName::parse("photos").unwrap(),
            owner: "111111111111".parse().unwrap(),
            key: None,
            size: None,
            etag: None,
            version: None,
            cause: Cause::clone(&Cause::service("t", Timestamp(0))),
        }
    }

    #[test]
    fn a_test_event_goes_alone_and_in_its_turn() {
        let sizes = |names: &[&str]| message(names.iter().map(|name| event(name)).collect()).len();
        assert_eq!(sizes(&["a", "b"]), 2);
        assert_eq!(sizes(&["a", "b", TEST, "c"]), 2);
        assert_eq!(sizes(&[TEST, "c"]), 1);
        assert_eq!(sizes(&[TEST, TEST]), 1);
    }
}
